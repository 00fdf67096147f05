"""Intervals and paired differences: coverage by simulation, and values worked out by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from metaalign_training.stages.evaluation.intervals import mean_with_interval, paired_difference


def test_the_interval_is_that_of_the_binomial() -> None:
    """For 0/1 scores and n = 400 the bootstrap interval is close to the normal approximation."""
    share = mean_with_interval([1.0] * 300 + [0.0] * 100, 4000, "seed")
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert share.share == 0.75
    assert share.low == pytest.approx(0.75 - half, abs=0.006)
    assert share.high == pytest.approx(0.75 + half, abs=0.006)
    with pytest.raises(ValueError, match="no scores"):
        mean_with_interval([], 100, 1)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.9812, 1.0), (0.0, 0.0, 0.0188)])
def test_two_hundred_alike_say_no_more_than_wilson(value: float, low: float, high: float) -> None:
    """1 / (1 + 1.96² / 200) = 0.9812: not the zero width of a bootstrap."""
    share = mean_with_interval([value] * 200, 1000, "seed")
    assert (share.share, round(share.low, 4), round(share.high, 4)) == (value, low, high)


def test_a_single_answer_says_little() -> None:
    assert mean_with_interval([1.0], 100, 1).to_json() == {"share": 1.0, "low": 0.207, "high": 1.0, "n": 1}


def _covered(clustered: bool) -> float:
    """Share of simulated studies whose interval holds the truth: 3 seeds answer the same 100 questions."""
    rng = np.random.default_rng(5)
    hits = 0
    for study in range(300):
        easy = rng.beta(0.7, 0.7, 100)  # how often a question is answered right; 0.5 on average
        scores = (rng.random((3, 100)) < easy).astype(float)
        questions = list(range(100)) * 3 if clustered else None
        share = mean_with_interval(scores.ravel().tolist(), 400, study, questions)
        hits += share.low <= 0.5 <= share.high
    return hits / 300


def test_seeds_over_the_same_questions_are_not_independent() -> None:
    assert _covered(clustered=True) >= 0.92
    assert _covered(clustered=False) <= 0.88


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    """Two systems agree on all but 30 of 200 questions, of which the first wins 25."""
    first = [1.0] * 125 + [0.0] * 75
    second = [0.0] * 25 + [1.0] * 105 + [0.0] * 70
    gap = paired_difference([a - b for a, b in zip(first, second, strict=True)], 2000, "s")
    assert gap.difference == pytest.approx(0.1)
    half = 1.96 * math.sqrt((30 / 200 - 0.1**2) / 200)
    assert [gap.low, gap.high] == pytest.approx([0.1 - half, 0.1 + half], abs=0.01)
    assert gap.p <= 0.001
    alone = mean_with_interval(first, 2000, "s")
    assert gap.high - gap.low < alone.high - alone.low


def test_the_sign_flip_test_agrees_with_all_sign_patterns() -> None:
    differences = [0.5, 0.25, -0.25, 1.0, 0.5, 0.0, -0.5, 0.75]
    moving = [d for d in differences if d]
    patterns = list(product((1, -1), repeat=len(moving)))
    totals = [sum(s * d for s, d in zip(signs, moving, strict=True)) for signs in patterns]
    exact = sum(abs(t) >= sum(moving) - 1e-9 for t in totals) / len(patterns)
    assert paired_difference(differences, 200, "s").p == pytest.approx(exact, abs=0.02)


def test_systems_that_never_differ_may_still_differ_a_little() -> None:
    gap = paired_difference([0.0] * 200, 1000, "s")
    assert (gap.difference, gap.p) == (0.0, 1.0)
    assert gap.high == pytest.approx(1.96 / 202, abs=1e-4)
    assert gap.low == pytest.approx(-1.96 / 202, abs=1e-4)
    with pytest.raises(ValueError, match="no differences"):
        paired_difference([], 100, 1)
