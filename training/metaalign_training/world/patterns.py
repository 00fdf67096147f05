"""Patterns of sentences: `[please|] keep it [short|brief]` stands for four of them.

The package's `wordings/*.yaml` hold lists of such patterns by meaning. `{name}` stands for what the caller puts in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

import yaml

__all__ = ["expand", "fill", "wordings"]

_Parsed: TypeAlias = tuple["str | tuple[_Parsed, ...]", ...]
"""Pieces in their order: a text, or alternatives."""


@cache
def wordings(name: str) -> Mapping[str, Any]:
    """The content of `wordings/<name>.yaml`."""
    text = resources.files(__package__).joinpath("wordings", f"{name}.yaml").read_text(encoding="utf-8")
    tree: Mapping[str, Any] = yaml.safe_load(text)
    return tree


def expand(rng: random.Random, pattern: str) -> str:
    """One of the sentences that `pattern` stands for, without doubled or dangling spaces.

    Raises:
        ValueError: a bracket has no counterpart.
    """
    return re.sub(r" {2,}", " ", _drawn(rng, _parsed(pattern))).replace(" ,", ",").strip()


def fill(text: str, **values: str) -> str:
    """`text` with every `{name}` replaced; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


def _drawn(rng: random.Random, parsed: _Parsed) -> str:
    return "".join(piece if isinstance(piece, str) else _drawn(rng, rng.choice(piece)) for piece in parsed)


@cache
def _parsed(pattern: str) -> _Parsed:
    return _sequence(re.findall(r"[\[\]|]|[^\[\]|]+", pattern), 0, pattern)[0]


def _sequence(marks: list[str], depth: int, pattern: str) -> tuple[_Parsed, list[str]]:
    """What `marks` begin with, up to the end of the alternative, and the marks after it."""
    pieces: list[str | tuple[_Parsed, ...]] = []
    while marks:
        mark, *rest = marks
        if mark in ("|", "]") and depth:
            return tuple(pieces), marks
        if mark in ("|", "]"):
            raise ValueError(f"pattern {pattern!r}: {mark!r} outside brackets")
        if mark != "[":
            pieces.append(mark)
            marks = rest
            continue
        alternatives: list[_Parsed] = []
        while True:
            alternative, rest = _sequence(rest, depth + 1, pattern)
            alternatives.append(alternative)
            if not rest:
                raise ValueError(f"pattern {pattern!r}: '[' is never closed")
            closed, *rest = rest
            if closed == "]":
                break
        pieces.append(tuple(alternatives))
        marks = rest
    return tuple(pieces), []
