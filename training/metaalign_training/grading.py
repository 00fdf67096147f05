"""How good an answer is, for the stages that learn from the model's own samples: pairs, rejection sampling, GRPO.

Grader    grades one answer; zero and above is good. `Verifiers` and `Ratings` (a judge) are the two
Reward    a number for each of many answers, for GRPO: `graded` makes one from a grader, `implicit` from a DPO model
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from metaalign.verifiers import check_all
from metaalign_training.choosing import draw_questions
from metaalign_training.errors import StageError
from metaalign_training.inference.chat import Tools
from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.generation import TransformersGenerator
from metaalign_training.inference.judge import DEFAULT_RUBRIC, Judge
from metaalign_training.recipe import EndpointConfig, SamplingConfig
from metaalign_training.rows import Asked, Question
from metaalign_training.world.sample import Check
from metaalign_training.world.verifiers import failures

__all__ = [
    "Grader",
    "Ratings",
    "Reward",
    "Verifiers",
    "decidable",
    "failed_checks",
    "graded",
    "implicit",
    "open_grader",
    "open_judge",
    "questions_to_grade",
    "wrong_words",
]

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


def decidable(row: Question) -> bool:
    """Whether programs can decide of answers to a question and, if it has one, to its opposite."""

    def has_checks(asked: Asked) -> bool:
        return "check" in asked or not {"verify", "words"}.isdisjoint(asked.get("expect", {}))

    return has_checks(row) and ("opposite" not in row or has_checks(row["opposite"]))


def failed_checks(row: Asked, answer: str) -> list[str]:
    """The names of what a program finds wrong in an answer; empty if nothing.

    Programs are the world's verifiers (`check`), the checks of `metaalign.verifiers` (`expect: {verify: [...]}`), and
    words that are needed or forbidden (`expect: {words: [[...], [...]]}`).

    Raises:
        StageError: the row has nothing that a program can decide.
    """
    if "check" in row:
        return failures(answer, Check.from_json(row["check"]))
    expect = row.get("expect", {})
    if "verify" in expect:
        return [verdict.name for verdict in check_all(expect["verify"], answer) if not verdict.passed]
    if "words" in expect:
        needed, forbidden = expect["words"]
        return wrong_words(answer, needed, forbidden)
    raise StageError(
        "label: the questions have no `check`, `expect.verify` or `expect.words` for a verifier; use `label: judge`"
    )


def wrong_words(answer: str, needed: Sequence[str], forbidden: Sequence[str]) -> list[str]:
    """What is wrong about an answer that must have some words or phrases, and must not have others, in any case."""

    def has(phrase: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", answer, re.IGNORECASE) is not None

    missing = [f"misses {phrase!r}" for phrase in needed if not has(phrase)]
    return missing + [f"says {phrase!r}" for phrase in forbidden if has(phrase)]


class Verifiers:
    """Grades by programs: minus the number of failed checks."""

    def prepare(self, cases: Iterable[tuple[Asked, str]]) -> None:
        """Do nothing: verifiers need no preparation."""

    def grade(self, row: Asked, answer: str) -> float:
        """Higher is better; zero and above is good."""
        return -float(len(failed_checks(row, answer)))

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


def questions_to_grade(path: Path, config: SamplingConfig, seed: str, skip: int = 0) -> list[Question]:
    """The questions of a file to sample answers for; verifiers take only those that they can decide.

    Raises:
        DataError: the file is wrong, or has no such question.
    """
    usable = decidable if config.label == "verifier" else None
    return draw_questions(path, config.prompts, seed, skip, usable)


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
        tools: list[Tools] = [row.get("tools", ()) for row in rows]
        ours, theirs = model.log_likelihoods(cases, tools), reference.log_likelihoods(cases, tools)
        return [beta * (mine - other) for mine, other in zip(ours, theirs, strict=True)]

    return reward
