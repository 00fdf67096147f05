"""What is left out of the data, and why: lengths, near-duplicates, and what stands in an evaluation set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasketch import MinHash, MinHashLSH

from metaalign_training.data.sources import Instruction
from metaalign_training.recipe import FilterConfig
from metaalign_training.rows import read_rows

__all__ = ["evaluation_texts", "keep_instructions"]

_PERMUTATIONS = 128


def _shingles(text: str) -> set[str]:
    """Word trigrams; of a shorter text, the text itself."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < 3:
        return {" ".join(words)}
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def _hashed(text: str) -> tuple[set[str], MinHash]:
    shingles = _shingles(text)
    signature = MinHash(num_perm=_PERMUTATIONS)
    signature.update_batch([s.encode() for s in sorted(shingles)])
    return shingles, signature


def _jaccard(one: set[str], two: set[str]) -> float:
    return len(one & two) / len(one | two)


class _Index:
    """Texts by similarity: candidates from MinHash, decided by the exact Jaccard index of word trigrams."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        # A lower bar for candidates: the signature estimates, and a miss cannot be mended afterwards.
        self._lsh = MinHashLSH(threshold=max(0.1, threshold - 0.15), num_perm=_PERMUTATIONS)
        self._texts: list[set[str]] = []

    def similar(self, text: str) -> bool:
        shingles, signature = _hashed(text)
        return any(
            _jaccard(shingles, self._texts[int(str(key))]) >= self._threshold
            for key in self._lsh.query(signature)
        )

    def add(self, text: str) -> None:
        shingles, signature = _hashed(text)
        self._lsh.insert(str(len(self._texts)), signature)
        self._texts.append(shingles)


def evaluation_texts(paths: Sequence[str]) -> list[str]:
    """User turns of evaluation files: JSONL rows with `prompt`, `messages`, `question` or `instruction`."""
    texts: list[str] = []
    for path in paths:
        for _, row in read_rows(Path(path)):
            texts.extend(_user_texts(row))
    return texts


def _user_texts(row: dict[str, Any]) -> list[str]:
    for name in ("prompt", "messages"):
        value = row.get(name)
        if isinstance(value, list):
            return [str(m["content"]) for m in value if isinstance(m, dict) and m.get("role") == "user"]
    return [str(row[n]) for n in ("prompt", "question", "instruction", "text") if isinstance(row.get(n), str)]


def keep_instructions(
    instructions: Sequence[Instruction], config: FilterConfig, held_out: Sequence[str] = ()
) -> tuple[list[Instruction], Counter[str]]:
    """Instructions that pass, in their order, and how many did not, by reason."""
    evaluation, seen = _Index(config.contaminated), _Index(config.near_duplicate)
    for text in held_out:
        evaluation.add(text)
    kept: list[Instruction] = []
    reasons: Counter[str] = Counter()
    for instruction in instructions:
        length = len(instruction.text)
        if length < config.min_characters:
            reasons["too short"] += 1
        elif length > config.max_characters:
            reasons["too long"] += 1
        elif evaluation.similar(instruction.text):
            reasons["in an evaluation set"] += 1
        elif seen.similar(instruction.text):
            reasons["near-duplicate"] += 1
        else:
            seen.add(instruction.text)
            kept.append(instruction)
    return kept, reasons
