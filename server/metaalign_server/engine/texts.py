"""The text of answers and of a stream's events, in every protocol: what a reader sees, no reasoning and no tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["StreamedTexts", "texts_of"]


def texts_of(answer: dict[str, Any]) -> list[str]:
    """Return the text of each choice of an answer; protocols without choices have one."""
    if isinstance(choices := answer.get("choices"), list):
        return [str((c.get("message") or {}).get("content") or c.get("text") or "") for c in choices]
    parts = answer.get("content") or [
        part for item in answer.get("output") or () for part in item.get("content") or ()
    ]
    return ["".join(str(p.get("text") or "") for p in parts if p.get("type") in ("text", "output_text"))]


class StreamedTexts:
    """The texts of a stream, as far as it was read.

    Attributes:
        head: The fields of the last event that say which answer it belongs to.
    """

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self._pieces: dict[int, list[str]] = {}

    def read(self, event: str) -> None:
        """Read one event; comments and `[DONE]` hold nothing."""
        start = event.find("data: {")
        if start < 0:
            return
        data = json.loads(event[start + 6 :])
        self.head = {name: data[name] for name in ("id", "object", "created", "model") if name in data}
        for index, text in _deltas(data):
            self._pieces.setdefault(index, []).append(text)

    @property
    def texts(self) -> list[str]:
        """The text of each choice."""
        return ["".join(self._pieces.get(index, ())) for index in range(max(self._pieces, default=0) + 1)]


def _deltas(data: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for choice in data.get("choices") or ():
        yield (
            choice.get("index", 0),
            str((choice.get("delta") or {}).get("content") or choice.get("text") or ""),
        )
    delta = data.get("delta")
    if data.get("type") == "response.output_text.delta":
        yield 0, str(delta)
    elif (
        data.get("type") == "content_block_delta"
        and isinstance(delta, dict)
        and delta.get("type") == "text_delta"
    ):
        yield 0, str(delta.get("text") or "")
