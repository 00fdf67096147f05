"""Filters: what is left out for its length, as a near-duplicate, or because an evaluation set contains it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datasketch import MinHash, MinHashLSH

from metaalign_training.published import read_entries
from metaalign_training.recipe import FilterConfig
from metaalign_training.rows import JsonObject

__all__ = ["Filter", "evaluation_texts"]

_PERMUTATIONS = 128


def _shingles(text: str) -> set[str]:
    """Word trigrams; a shorter text is its own shingle."""
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
    """Texts by similarity: MinHash finds candidates, the exact Jaccard index of word trigrams decides."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        # A lower bar for candidates: signatures only estimate, and a missed candidate is never compared.
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
    """The questions in evaluation files, which may be JSONL, JSON or CSV in any published format."""
    return [text for path in paths for _, row in read_entries(Path(path)) for text in _user_texts(row)]


def _user_texts(row: JsonObject) -> list[str]:
    for name in ("prompt", "messages"):
        value = row.get(name)
        if isinstance(value, list):
            return [str(m["content"]) for m in value if isinstance(m, dict) and m.get("role") == "user"]
    names = ("prompt", "question", "instruction", "text", "statement", "input")
    return [str(row[name]) for name in names if isinstance(row.get(name), str)]


class Filter:
    """Decides for one text after another whether it is kept, and counts the others by reason.

    Args:
        config: Lengths and thresholds.
        held_out: Texts of evaluation sets, which must not be in the training data.
    """

    def __init__(self, config: FilterConfig, held_out: Sequence[str] = ()) -> None:
        self._config = config
        self._evaluation, self._seen = _Index(config.contaminated), _Index(config.near_duplicate)
        for text in held_out:
            self._evaluation.add(text)
        self.reasons: Counter[str] = Counter()

    def keeps(self, text: str, *, once: bool = True) -> bool:
        """Whether `text` is kept; with `once`, only if no similar text was kept before."""
        reason = self._reason(text, once)
        if reason is not None:
            self.reasons[reason] += 1
        elif once:
            self._seen.add(text)
        return reason is None

    def _reason(self, text: str, once: bool) -> str | None:
        if len(text) < self._config.min_characters:
            return "too short"
        if len(text) > self._config.max_characters:
            return "too long"
        if self._evaluation.similar(text):
            return "in an evaluation set"
        return "near-duplicate" if once and self._seen.similar(text) else None
