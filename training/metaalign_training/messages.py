"""Chat messages. The tiers of the Meta-Prompt come before the dialogue, with the roles `system` and `user_info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from metaalign import Preferences, parse_preferences
from metaalign.prompt import MetaPrompt, fold, render, request_layers, resolve

__all__ = ["Message", "MetaPromptView", "ask", "folded", "meta_prompt", "view"]


class Message(TypedDict):
    """One message, in the form that chat templates, TRL and OpenAI's protocol share."""

    role: str
    content: str
    tool_calls: NotRequired[list[object]]


MetaPromptView = Literal["full", "system", "none"]
"""Which tiers a model sees: both, System Info only, or neither (a static model)."""


def meta_prompt(preferences: Preferences | Mapping[str, Any]) -> MetaPrompt:
    """The text of both tiers, written by the functions that the server uses.

    Raises:
        metaalign.InvalidPreferences: a field is wrong; the message names it.
    """
    parsed = preferences if isinstance(preferences, Preferences) else parse_preferences(dict(preferences))
    return render(resolve(request_layers(parsed)))


def ask(preferences: Preferences | Mapping[str, Any], *dialogue: Message) -> list[Message]:
    """The tiers as messages, followed by the dialogue; raises as `meta_prompt`."""
    tiers = meta_prompt(preferences).messages()
    return [*(Message(role=tier["role"], content=tier["content"]) for tier in tiers), *dialogue]


def view(messages: Sequence[Message], meta_prompt: MetaPromptView) -> list[Message]:
    """The messages without the tiers that the model does not see."""
    hidden = {"full": (), "system": ("user_info",), "none": ("system", "user_info")}[meta_prompt]
    return [m for m in messages if m["role"] not in hidden]


def folded(messages: Sequence[Message]) -> list[Message]:
    """Messages with both tiers folded into one system message, for templates and servers without `user_info`."""
    user = next((str(m["content"]) for m in messages if m["role"] == "user_info"), None)
    if user is None:
        return list(messages)
    system = next((str(m["content"]) for m in messages if m["role"] == "system"), "")
    rest = [m for m in messages if m["role"] not in ("system", "user_info")]
    return [{"role": "system", "content": fold(MetaPrompt(system, user, ""))}, *rest]
