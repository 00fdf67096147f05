"""How good an answer is, for the stages that learn from the model's own samples: pairs, rejection sampling, GRPO.

Grader    grades one answer; zero and above is good. `Verifiers` and `Ratings` (a judge) are the two
Reward    a number for each of many answers, for GRPO: `graded` makes one from a grader, `implicit` from a DPO model
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from metaalign_training.errors import StageError
from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.generation import TransformersGenerator
from metaalign_training.inference.judge import DEFAULT_RUBRIC, Judge
from metaalign_training.recipe import EndpointConfig, SamplingConfig
from metaalign_training.rows import Asked
from metaalign_training.world.samples import Check
from metaalign_training.world.verifiers import failures

__all__ = ["Grader", "Ratings", "Reward", "Verifiers", "graded", "implicit", "open_grader", "open_judge"]

Reward: TypeAlias = Callable[[Sequence[Asked], Sequence[str]], list[float]]
"""(questions, answers) -> one reward for each answer; only differences between answers to one question matter."""


class Grader(Protocol):
    """Grades answers."""

    def prepare(self, cases: Iterable[tuple[Asked, str]]) -> None:
        """Prepare for every (question, answer) that `grade` will be called with."""
        ...

    def grade(self, row: Asked, answer: str) -> float:
        """Higher is better; zero and above is good."""
        ...

    def reward(self, row: Asked, answer: str) -> float:
        """The grade between 0 and 1; 1 is perfect."""
        ...


class Verifiers:
    """Grades by the world's verifiers: minus the number of failed checks."""

    def prepare(self, cases: Iterable[tuple[Asked, str]]) -> None:
        """Do nothing: verifiers need no preparation."""

    def grade(self, row: Asked, answer: str) -> float:
        """Higher is better; zero and above is good."""
        if "check" not in row:
            raise StageError("label: the questions have no `check` for a verifier; use `label: judge`")
        return -float(len(failures(answer, Check.from_json(row["check"]))))

    def reward(self, row: Asked, answer: str) -> float:
        """1 for an answer that passes every check, 1/2 for one failed check, 1/3 for two, …"""
        return 1 / (1 - self.grade(row, answer))


class Ratings:
    """Grades by a judge's ratings; 4 of 5 is good."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._ratings: dict[tuple[str, str], int] = {}

    @staticmethod
    def _key(row: Asked, answer: str) -> tuple[str, str]:
        return json.dumps(row["prompt"]), answer

    def prepare(self, cases: Iterable[tuple[Asked, str]]) -> None:
        """Ask the judge for all ratings at once."""
        wanted = {self._key(row, answer): (row["prompt"], answer, DEFAULT_RUBRIC) for row, answer in cases}
        ratings = self._judge.rate_all(list(wanted.values()), "judge: ratings of samples")
        self._ratings = dict(zip(wanted, ratings, strict=True))

    def grade(self, row: Asked, answer: str) -> float:
        """Higher is better; zero and above is good."""
        return self._ratings[self._key(row, answer)] - 4.0

    def reward(self, row: Asked, answer: str) -> float:
        """The rating, 1 to 5, between 0 and 1."""
        return (self._ratings[self._key(row, answer)] - 1) / 4


def open_judge(judge: EndpointConfig, journal: Path) -> Ratings:
    """The judge, whose ratings are kept in `journal`."""
    return Ratings(Judge(open_endpoint(judge, journal)))


def open_grader(config: SamplingConfig, journal: Path) -> Grader:
    """Who says which samples are good: the verifiers, or the judge with its `journal`, as `label` says."""
    if config.label == "judge" and config.judge is not None:
        return open_judge(config.judge, journal)
    return Verifiers()


def graded(grader: Grader) -> Reward:
    """The grader's rewards."""

    def reward(rows: Sequence[Asked], answers: Sequence[str]) -> list[float]:
        grader.prepare(zip(rows, answers, strict=True))
        return [grader.reward(row, answer) for row, answer in zip(rows, answers, strict=True)]

    return reward


def implicit(model: TransformersGenerator, reference: TransformersGenerator, beta: float) -> Reward:
    """The reward that a DPO model implies: beta times the log ratio to its reference (arXiv 2305.18290, eq. 5)."""

    def reward(rows: Sequence[Asked], answers: Sequence[str]) -> list[float]:
        cases = [(row["prompt"], answer) for row, answer in zip(rows, answers, strict=True)]
        ours, theirs = model.log_likelihoods(cases), reference.log_likelihoods(cases)
        return [beta * (mine - other) for mine, other in zip(ours, theirs, strict=True)]

    return reward
