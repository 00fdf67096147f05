"""Answers by key in an append-only JSONL file, so that a killed run asks only for the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from metaalign_training.errors import DataError

__all__ = ["Journal"]


class Journal:
    """Key -> answer. An incomplete last line, as a kill leaves it, is dropped.

    Args:
        path: The file; None keeps answers in memory only.

    Raises:
        DataError: a line is not an entry.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file: TextIO | None = None
        self.answers: dict[str, str] = {}
        if path is None or not path.exists():
            return
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            path.write_bytes(whole)
        # Not `splitlines`, which also splits at characters that JSON does not escape.
        for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], start=1):
            try:
                entry = json.loads(line)
                self.answers[entry["key"]] = entry["answer"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    path, number, f"not an entry of a journal ({error}); remove the line"
                ) from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the file open for `add`."""
        if self._path is None:
            yield
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as self._file:
            try:
                yield
            finally:
                self._file.flush()
        self._file = None

    def add(self, key: str, answer: str) -> None:
        """Keep an answer; within `writing` it is on disk when this returns."""
        self.answers[key] = answer
        if self._file is not None:
            self._file.write(json.dumps({"key": key, "answer": answer}, ensure_ascii=False) + "\n")
            self._file.flush()
