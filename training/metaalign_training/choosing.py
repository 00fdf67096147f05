"""Which rows a stage takes: shares of several files, questions drawn for sampling, and those held out to validate."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from metaalign.prompt.manifest import sha256_of
from metaalign_training.errors import DataError
from metaalign_training.messages import Message
from metaalign_training.recipe import FileShare
from metaalign_training.rows import Conversation, Question, read_questions, read_rows, stream_conversations

__all__ = ["ConversationFiles", "draw_questions", "held_out_questions", "mix", "question_of"]

_Row = TypeVar("_Row")


class ConversationFiles(Collection[Conversation]):
    """The conversations of a file and of a share of others, read anew each time, so that they need not fit into memory.

    Args:
        path: The file.
        mixture: Further files, and the share of each that is drawn.
        seed: Decides which rows are drawn.
    """

    def __init__(self, path: Path, mixture: Sequence[FileShare], seed: int) -> None:
        self._files = [FileShare(path=str(path)), *mixture]
        self._seed = seed
        self._counts: list[int] = []

    @property
    def made_from(self) -> dict[str, Any]:
        """What decides which rows these are: the files' contents, the shares and the seed."""
        files = [[sha256_of(Path(file.path)), file.share] for file in self._files]
        return {"files": files, "seed": self._seed if len(files) > 1 else None}

    def __len__(self) -> int:
        return sum(self._taken(n) for n in range(len(self._files)))

    def __contains__(self, row: object) -> bool:
        return any(own == row for own in self)

    def __iter__(self) -> Iterator[Conversation]:
        for number, file in enumerate(self._files):
            wanted = self._drawn(number)
            for index, row in enumerate(stream_conversations(Path(file.path))):
                if wanted is None or index in wanted:
                    yield row

    def _taken(self, number: int) -> int:
        count, share = self._count(number), self._files[number].share
        return max(1, round(count * share)) if share < 1 else count

    def _drawn(self, number: int) -> set[int] | None:
        """Which rows of a file are taken; None for all."""
        if self._files[number].share >= 1:
            return None
        rng = random.Random(f"mixture {self._seed} {number}")
        return set(rng.sample(range(self._count(number)), self._taken(number)))

    def _count(self, number: int) -> int:
        if not self._counts:
            self._counts = [sum(1 for _ in read_rows(Path(file.path))) for file in self._files]
        return self._counts[number]


def mix(
    rows: Sequence[_Row], files: Iterable[FileShare], read: Callable[[Path], list[_Row]], seed: int
) -> list[_Row]:
    """The rows together with a share of each further file's, shuffled by `seed` if there are such files."""
    rng = random.Random(f"mixture {seed}")
    mixed = list(rows)
    for file in files:
        own = read(Path(file.path))
        mixed.extend(rng.sample(own, max(1, round(len(own) * file.share))) if file.share < 1 else own)
    if files:
        rng.shuffle(mixed)
    return mixed


def draw_questions(
    path: Path,
    count: int,
    seed: int | str,
    skip: int = 0,
    usable: Callable[[Question], bool] | None = None,
) -> list[Question]:
    """`count` usable questions of a file, shuffled by `seed`, after the first `skip`; all of them at most once.

    Any stretch of them has each part's share of the file. Past the end it begins again, so a later round never has
    fewer questions. Raises as `read_conversations`.
    """
    rng, parts = random.Random(f"questions {seed}"), dict[str, list[Question]]()
    for row in filter(usable, read_questions(path)):
        parts.setdefault(row.get("part", ""), []).append(row)
    if not parts:
        raise DataError(
            path,
            None,
            "no question has `check`, `expect.verify` or `expect.words` for a verifier; let a judge grade",
        )
    placed: list[tuple[float, Question]] = []
    for own in parts.values():
        rng.shuffle(own)
        start = rng.random()
        placed.extend(((n + start) / len(own), row) for n, row in enumerate(own))
    rows = [row for _, row in sorted(placed, key=lambda place: place[0])]
    return [rows[(skip + n) % len(rows)] for n in range(min(count, len(rows)))]


def held_out_questions(rows: Iterable[Any], share: float, seed: int) -> frozenset[str]:
    """The questions of the rows to validate on; see `question_of`.

    Raises:
        DataError: there are not enough questions to learn some and validate on others.
    """
    questions = sorted({question_of(row) for row in rows})
    if len(questions) < 2:
        raise DataError("validation", None, "all rows ask the same; leave `validation` out")
    count = min(len(questions) - 1, max(1, round(len(questions) * share)))
    return frozenset(random.Random(f"validation {seed}").sample(questions, count))


def question_of(row: Any) -> str:
    """The user's last words: rows that share them are validated on together, or not at all."""
    messages: Sequence[Message] = row.get("prompt") or row["messages"]
    return next((m.get("content") or "" for m in reversed(messages) if m["role"] == "user"), "")
