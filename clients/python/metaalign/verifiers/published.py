"""The 25 instructions of IFEval by their published definitions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from metaalign.verifiers.verdict import Arguments, Count, Outcome, Relation, compare

__all__ = ["PUBLISHED"]


class _Nothing(Arguments):
    """No arguments."""


class _NumberOfWords(Arguments):
    relation: Relation
    num_words: Count


def _number_words(text: str, a: _NumberOfWords) -> Outcome:
    return compare(sum(1 for _ in re.finditer(r"\w+", text)), a.relation, a.num_words, "words")


def _no_comma(text: str, _: _Nothing) -> Outcome:
    found = text.count(",")
    return not found, f"{found} commas"


PUBLISHED: Mapping[str, tuple[type[Arguments], Callable[[str, Any], Outcome]]] = {
    "length_constraints:number_words": (_NumberOfWords, _number_words),
    "punctuation:no_comma": (_Nothing, _no_comma),
}
