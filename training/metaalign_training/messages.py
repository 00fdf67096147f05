"""Chat messages. The tiers of the Meta-Prompt come before the dialogue, with the roles `system` and `user_info`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

from metaalign import Preferences, parse_preferences
from metaalign.prompt import MetaPrompt, fold, render, request_layers, resolve

__all__ = ["Message", "MetaPromptView", "ask", "folded", "meta_prompt", "tool_definition", "view", "written"]


class Message(TypedDict):
    """One message, in the form that chat templates, TRL and OpenAI's protocol share."""

    role: str
    content: str
    name: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[Any]]
    tool_call_id: NotRequired[str]


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


def written(message: Mapping[str, Any]) -> Message:
    """The message as the server gives it to a chat template: arguments of calls are objects, and nothing is null."""
    kept: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
    for name in ("name", "tool_call_id"):
        if message.get(name) is not None:
            kept[name] = message[name]
    if message.get("tool_calls"):
        kept["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _arguments(call["function"])}}
            for call in message["tool_calls"]
        ]
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought is not None:
        kept["reasoning_content"] = kept["reasoning"] = thought
    return cast(Message, kept)


def _arguments(function: Mapping[str, Any]) -> Any:
    given = function["arguments"]
    return json.loads(given) if isinstance(given, str) else given


def tool_definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as the server gives it to a chat template: its fields in one order, unknown ones left out."""
    function = tool["function"]
    kept = {name: function.get(name) for name in ("name", "description", "parameters")}
    kept |= {name: function[name] for name in ("strict",) if function.get(name) is not None}
    return {"type": "function", "function": kept}


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
