"""Outside text of a conversation: which strings it is, which could touch a control string, and marks against it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metaalign.errors import InvalidPrompt
from metaalign.prompt.turns import ROLES

__all__ = ["Risk", "leaves_of", "unused_characters", "without"]

_NONCHARACTERS = [chr(c) for c in range(0xFDD0, 0xFDF0)]
# Keys that templates look up by name. Any other key of a message or a tool is outside text.
_STRUCTURAL_KEYS = frozenset(
    "additionalProperties anyOf arguments content default description documents enum function id items"
    " name parameters properties reasoning reasoning_content required role strict text title tool_call_id"
    " tool_calls type".split()
)
# Values of `type` that templates compare with.
_STRUCTURAL_TYPES = frozenset("text function object array string number integer boolean null".split())


def _is_structural(value: str, key: str | None) -> bool:
    """Return whether a template compares `value` rather than showing it."""
    return (key == "role" and value in ROLES) or (key == "type" and value in _STRUCTURAL_TYPES)


def leaves_of(value: object, key: str | None = None) -> Iterator[str]:
    """Yield the outside text of a tree, whose value at the name `key` it is, if it has one."""
    if isinstance(value, str):
        if not _is_structural(value, key):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _STRUCTURAL_KEYS:
                yield str(name)
            yield from leaves_of(item, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves_of(item, key)


class Risk:
    """Knows which texts can be part of a control string, and marks these so that they cannot.

    Args:
        names: The control strings.
    """

    def __init__(self, names: Sequence[str]) -> None:
        firsts, lasts = {name[0] for name in names}, {name[-1] for name in names}
        self._firsts = re.compile(f"([{re.escape(''.join(sorted(firsts)))}])" if names else r"(?!)")
        self._edges = re.compile(f"[{re.escape(''.join(sorted(firsts | lasts)))}]" if names else r"(?!)")
        self._names = "\0".join(names)
        # Templates trim texts. Only where blanks can begin or end a control string are they marked like other text.
        self._blanks_matter = any(character.isspace() for character in firsts | lasts)

    def _core(self, text: str) -> str:
        return text if self._blanks_matter else text.strip() or text

    def of(self, text: str) -> bool:
        """Return whether a control string can start in `text`, end in it, or contain it."""
        return self._edges.search(text) is not None or (bool(text) and self._core(text) in self._names)

    def mark_text(self, text: str, mark: str) -> str:
        """Insert `mark` inside both ends of a text at risk, and after each character that can start a control."""
        if not self.of(text):
            return text
        core = self._core(text)
        start = text.index(core)
        return text[:start] + mark + self._firsts.sub(rf"\1{mark}", core) + mark + text[start + len(core) :]

    def mark(self, value: Any, mark: str, key: str | None = None) -> Any:
        """Mark all texts of a tree; the value at the name `key`, if it has one."""
        if isinstance(value, str):
            return value if _is_structural(value, key) else self.mark_text(value, mark)
        if isinstance(value, Mapping):
            return {
                (name if name in _STRUCTURAL_KEYS else self.mark_text(str(name), mark)): self.mark(
                    item, mark, name
                )
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.mark(item, mark, key) for item in value]
        return value


def unused_characters(leaves: Sequence[str]) -> tuple[str, str]:
    """Return two noncharacters that occur in no leaf, not even escaped."""
    free = [c for c in _NONCHARACTERS if not any(c in leaf or _escaped(c) in leaf for leaf in leaves)]
    if len(free) < 2:
        raise InvalidPrompt(
            "messages: text uses every Unicode noncharacter of U+FDD0…U+FDEF", param="messages"
        )
    return free[0], free[1]


def _escaped(character: str) -> str:
    """Return the character as JSON and Python's `repr` write it."""
    return f"\\u{ord(character):04x}"


def without(mark: str, text: str) -> str:
    """Return the text without a mark, however the template has written it."""
    return text.replace(mark, "").replace(_escaped(mark), "")
