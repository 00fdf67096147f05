"""Means with bootstrap intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

__all__ = ["Share", "ShareRow", "mean_with_interval"]


class ShareRow(TypedDict):
    """A `Share` as JSON, rounded to three decimals."""

    share: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Share:
    """A mean score in [0, 1] with its 95 % percentile interval over `n` items."""

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


def mean_with_interval(scores: Sequence[float], resamples: int, seed: int | str) -> Share:
    """Mean of item scores, with its percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13).

    Raises:
        ValueError: there are no scores.
    """
    if not scores:
        raise ValueError("no scores to average")
    values = np.asarray(scores, dtype=float)
    rng = np.random.default_rng(random.Random(f"bootstrap {seed}").getrandbits(64))
    means = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Share(float(values.mean()), float(low), float(high), len(values))
