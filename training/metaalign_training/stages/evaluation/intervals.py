"""Means with intervals, and paired differences, over questions.

Several scores of one question (seeds of one system, variants of one prompt) are not independent, so whole questions
are drawn: a cluster bootstrap (Davison and Hinkley 1997, sec. 3.8). Where nearly all questions score alike, a bootstrap
sees too little of what could happen: near 0 and 1 the interval is Wilson's (1927), and where two systems hardly differ
it is that of Agresti and Min (2005); both count every question once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from metaalign.intervals import Z, wilson

__all__ = ["Difference", "Share", "ShareRow", "mean_with_interval", "paired_difference"]

_FEW = 10
"""Fewer failures, successes or differing questions than this are too few for a bootstrap."""
_FLIPS = 9_999
_Array = NDArray[np.float64]


class ShareRow(TypedDict):
    """A `Share` as JSON, rounded to three decimals."""

    share: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Share:
    """A mean score in [0, 1] with its 95 % interval over questions; `n` counts the scores."""

    share: float
    low: float
    high: float
    n: int

    def to_json(self) -> ShareRow:
        """The share as JSON, rounded to three decimals."""
        return {
            "share": round(self.share, 3),
            "low": round(self.low, 3),
            "high": round(self.high, 3),
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference between two systems on the same questions.

    Attributes:
        difference, low, high: The mean, and its 95 % interval over questions.
        p: How often a difference as large arises if the two systems are exchangeable on every question.
        n: Number of questions.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int


def mean_with_interval(
    scores: Sequence[float],
    resamples: int,
    seed: int | str,
    questions: Sequence[Hashable] | None = None,
) -> Share:
    """Mean of scores in [0, 1] with its interval; `questions` names the question of each score, else all differ.

    Raises:
        ValueError: there are no scores.
    """
    if not scores:
        raise ValueError("no scores to average")
    sums, counts = _by_question(scores, questions)
    mean = float(sums.sum() / counts.sum())
    if min(mean, 1 - mean) * len(sums) < _FEW:
        low, high = wilson(mean, len(sums))
    else:
        low, high = _bootstrap(sums, counts, resamples, seed)
    return Share(mean, low, high, len(scores))


def paired_difference(
    differences: Sequence[float],
    resamples: int,
    seed: int | str,
    questions: Sequence[Hashable] | None = None,
) -> Difference:
    """Mean of differences in [-1, 1] between two systems, with its interval and a sign-flip test over questions.

    Raises:
        ValueError: there are no differences.
    """
    if not differences:
        raise ValueError("no differences to average")
    sums, counts = _by_question(differences, questions)
    mean = float(sums.sum() / counts.sum())
    if np.count_nonzero(sums) < _FEW:
        low, high = _agresti_min(sums / counts)
    else:
        low, high = _bootstrap(sums, counts, resamples, seed)
    return Difference(mean, min(low, mean), max(high, mean), _sign_flip(sums, seed), len(sums))


def _by_question(values: Sequence[float], questions: Sequence[Hashable] | None) -> tuple[_Array, _Array]:
    """The sum and the number of the values of each question."""
    numbers: dict[Hashable, int] = {}
    names = range(len(values)) if questions is None else questions
    group = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), int, len(values))
    counts: _Array = np.bincount(group).astype(np.float64)
    sums: _Array = np.bincount(group, weights=np.asarray(values, dtype=float)).astype(np.float64)
    return sums, counts


def _generator(seed: int | str) -> np.random.Generator:
    return np.random.default_rng(random.Random(f"bootstrap {seed}").getrandbits(64))


def _bootstrap(sums: _Array, counts: _Array, resamples: int, seed: int | str) -> tuple[float, float]:
    rng = _generator(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 100):  # in parts, which keeps memory small for many questions
        stop = min(start + 100, resamples)
        drawn = rng.integers(0, len(sums), (stop - start, len(sums)))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _agresti_min(differences: _Array) -> tuple[float, float]:
    """Half a question is added to each cell of the table of both systems' rights and wrongs."""
    better, worse = differences.clip(0).sum() + 0.5, (-differences).clip(0).sum() + 0.5
    n = len(differences) + 2
    centre = (better - worse) / n
    half = Z * math.sqrt(better + worse - (better - worse) ** 2 / n) / n
    return max(-1.0, float(centre - half)), min(1.0, float(centre + half))


def _sign_flip(sums: _Array, seed: int | str) -> float:
    """Two-sided p of the sum when each question's difference may as well have the other sign."""
    moving = sums[sums != 0]
    if not len(moving):
        return 1.0
    rng, least = _generator(f"flips {seed}"), abs(moving.sum()) - 1e-9
    extreme = 0
    for start in range(0, _FLIPS, 500):
        count = min(500, _FLIPS - start)
        signs = rng.integers(0, 2, (count, len(moving)), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ moving) >= least))
    return (1 + extreme) / (1 + _FLIPS)
