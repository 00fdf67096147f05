"""How a chat template keeps the roles apart, found by rendering probes when the assembler is built.

Two things decide what text from outside can reach, and no one says them of a template:

- Whether roles are told apart by control tokens. If the marker of a role is ordinary text (`[INST]` or `<|user|>` in a
  tokenizer that does not know them), any text can write it, and no tokenisation tells it from the template's own.
- What besides system messages the template writes into its system turn, such as descriptions of tools.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaalign.errors import InvalidPrompt

__all__ = ["ROLES", "Turns", "find_turns", "probe_conversations"]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "user_info"})
"""The roles that a message may have, compared exactly."""

Render = Callable[..., str]
Conversation = Sequence[Mapping[str, Any]]

# Letters and digits only, so that no template and no tokenizer has a reason to treat them specially.
_SYSTEM, _USER, _ASSISTANT, _USER_AGAIN, _ELSEWHERE = (
    "zq1system",
    "zq2user",
    "zq3answer",
    "zq4again",
    "zq5other",
)
_WORD = re.compile(r"[^\W\d_]\w*")
_CALL_ID = "zq6call01"  # nine characters, which is what Mistral's templates insist on


def _message(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


_QUESTION, _ANSWER = _message("user", _USER), _message("assistant", _ASSISTANT)
_INSTRUCTION = _message("system", _SYSTEM)
_DIALOGUE = [_QUESTION, _ANSWER, _message("user", _USER_AGAIN)]
_CALL = {
    "id": _CALL_ID,
    "type": "function",
    "function": {"name": "zq7name", "arguments": {"zq8key": "zq9value"}},
}
_CALLING = _message("assistant", "", tool_calls=[_CALL])
_TOOL = {
    "type": "function",
    "function": {
        "name": "zq7name",
        "description": _ELSEWHERE,
        "parameters": {
            "type": "object",
            "properties": {"zq8key": {"type": "string", "description": "zq9value"}},
        },
    },
}
_VARIABLES: dict[str, Any] = {"tools": [_TOOL], "documents": [{"title": _ELSEWHERE, "text": _ELSEWHERE}]}


@dataclass(frozen=True, slots=True)
class Turns:
    """What the probes have found.

    Attributes:
        accepts_system: Whether the template renders a system message.
        text_marker: Ordinary text that alone separates two roles, empty if nothing could be found out; None if control
            tokens separate all of them.
        system_sources: Roles and template variables, other than `system`, whose text stands in the system turn.
    """

    accepts_system: bool
    text_marker: str | None
    system_sources: frozenset[str]


def probe_conversations() -> list[tuple[Conversation, dict[str, Any]]]:
    """Return harmless conversations of every shape, with the template's variables; a template may refuse some."""
    tool = [_message("tool", _ELSEWHERE, tool_call_id=_CALL_ID, name="zq7name")]
    shapes: list[tuple[Conversation, dict[str, Any]]] = [
        ([_QUESTION], {}),
        (_DIALOGUE, {}),
        ([_INSTRUCTION, *_DIALOGUE], {}),
        ([*_DIALOGUE[:1], _CALLING, *tool, _ANSWER], _VARIABLES),
        ([_INSTRUCTION, _QUESTION], _VARIABLES),
    ]
    return [
        (messages, {**more, "add_generation_prompt": open_})
        for messages, more in shapes
        for open_ in (True, False)
    ]


def find_turns(render: Render, controls: re.Pattern[str]) -> Turns:
    """Probe a template.

    Args:
        render: Renders messages and template variables; raises InvalidPrompt if the template refuses them.
        controls: Matches the control strings of the checkpoint's tokenizer.
    """
    split = re.compile(f"({controls.pattern})").split
    # Tiers are texts, so it counts whether the template renders a text.
    accepts_system = _SYSTEM in (_try(render, [_INSTRUCTION, _QUESTION]) or "")
    if _USER not in (_try(render, [_QUESTION]) or ""):
        render = _with_parts(render)

    def gaps(messages: Conversation, *texts: str) -> list[list[str]]:
        """The template's own text before each of `texts`, as text, control string, text, …; none if one is missing."""
        rendered = _try(render, messages)
        ends = [-1 if rendered is None else rendered.find(text) for text in texts]
        if rendered is None or -1 in ends or ends != sorted(ends):
            return []
        starts = [0, *(end + len(text) for end, text in zip(ends, texts, strict=True))]
        return [split(rendered[start:end]) for start, end in zip(starts, ends, strict=False)]

    alone, dialogue = gaps([_QUESTION], _USER), gaps(_DIALOGUE, _USER, _ASSISTANT, _USER_AGAIN)
    instructed = gaps([_INSTRUCTION, _QUESTION], _SYSTEM, _USER)
    if not alone:
        return Turns(
            accepts_system, "", frozenset()
        )  # it shows no question by itself: nothing is known of it
    for between in [*dialogue[1:], *instructed[1:]]:
        if len(between) == 1:
            return Turns(accepts_system, between[0].strip() or between[0], frozenset())
    if dialogue and _signs(*dialogue[1:]) is None:
        return Turns(accepts_system, _named(dialogue[2]), frozenset())
    if not instructed:
        if _SYSTEM in (_try(render, [_INSTRUCTION, _QUESTION]) or ""):
            return Turns(
                accepts_system, "", frozenset()
            )  # it shows system text behind the question, or alone
        return Turns(accepts_system, None, frozenset())
    if (signs := _signs(instructed[0], alone[0])) is None:
        return Turns(accepts_system, _named(instructed[0]), frozenset())
    sign, closer = signs[0], instructed[1][1]

    def in_system_turn(name: str, messages: Conversation, variables: Mapping[str, Any]) -> bool:
        rendered = _try(render, messages, **variables) or ""
        for found in re.finditer(_ELSEWHERE, rendered):
            start = rendered.rfind(sign, 0, found.start()) if sign else 0
            between = rendered[start + len(sign) : found.start()]
            # Tools may be introduced by words about `<tool_call>`; a message's text follows its own header.
            ended = closer in between if name in _VARIABLES else controls.search(between)
            if start >= 0 and not ended:
                return True
        return False

    sources = {
        name for name, shapes in _shapes().items() if any(in_system_turn(name, *shape) for shape in shapes)
    }
    return Turns(accepts_system, None, frozenset(sources))


def _shapes() -> dict[str, list[tuple[Conversation, Mapping[str, Any]]]]:
    """Conversations with `_ELSEWHERE` in one role or template variable each."""
    shapes: dict[str, list[tuple[Conversation, Mapping[str, Any]]]] = {
        name: [
            ([*head, *_DIALOGUE[:length]], {name: value})
            for head in ([], [_INSTRUCTION])
            for length in (1, 3)
        ]
        for name, value in _VARIABLES.items()
    }
    for role in ROLES - {"system", "user", "assistant"}:
        other = _message(role, _ELSEWHERE, tool_call_id=_CALL_ID, name="zq7name")
        before = [[other, _QUESTION], [_INSTRUCTION, other, _QUESTION]]
        after = [
            [*head, _QUESTION, answer, other]
            for head in ([], [_INSTRUCTION])
            for answer in (_ANSWER, _CALLING)
        ]
        shapes[role] = [(messages, {}) for messages in (*before, *after)]
    return shapes


def _with_parts(render: Render) -> Render:
    """Render contents as lists of parts, which is all that some templates take."""

    def render_parts(messages: Conversation, **variables: Any) -> str:
        parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
        return render(parts, **variables)

    return render_parts


def _try(render: Render, messages: Conversation, **variables: Any) -> str | None:
    try:
        return render(messages, **variables)
    except InvalidPrompt:
        return None


def _signs(one: list[str], other: list[str]) -> tuple[str, str] | None:
    """Return what tells the headers of two roles apart, if that is or begins with a control string, for each.

    Compared from the text that follows them backwards. Either control strings differ (`<|user|>`), or the bare words
    that directly follow the same one (`<|im_start|>user`), or one header has no control string at all.
    """
    shared = min(len(one), len(other))
    for back in range(1, shared + 1):
        mine, others = one[-back], other[-back]
        if mine == others:
            continue
        if back % 2 == 0:
            return mine, others
        word, others_word = _WORD.match(mine), _WORD.match(others)
        if back < shared and word and others_word and word.group() != others_word.group():
            return one[-back - 1] + word.group(), other[-back - 1] + others_word.group()
        if mine.strip() and others.strip():
            return None  # both roles are named by text that stands by itself
    if len(one) == len(other) or min(one, other, key=len)[0].strip():
        return None
    return (one[-shared - 1], "") if len(one) > shared else ("", other[-shared - 1])


def _named(gap: list[str]) -> str:
    """Return the text of a header that names its role."""
    return next((text.strip() for text in reversed(gap[::2]) if text.strip()), "")
