"""Pairs from a model's own answers: verified or rated, with swap, and a judge that gets many questions at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from metaalign_training.errors import StageError
from metaalign_training.grading import Ratings, Verifiers, open_grader
from metaalign_training.inference.chat import Tools
from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.generation import KeepingGenerator
from metaalign_training.inference.judge import Judge
from metaalign_training.messages import Message
from metaalign_training.recipe import EndpointConfig, PairConfig
from metaalign_training.rows import Pair, Question
from metaalign_training.stages.pairs import sample_pairs
from tests.training.endpoints import fake_teacher

BRIEF, DEEP = "Be brief.", "Go deep."


def prompt(wish: str, number: int = 0) -> list[Message]:
    return [{"role": "user_info", "content": wish}, {"role": "user", "content": f"Question {number}?"}]


def question(number: int) -> Question:
    return {"prompt": prompt(BRIEF, number), "opposite": {"prompt": prompt(DEEP, number)}}


class Scripted:
    """Gives what the wish asks for in its first answer, and the opposite in its second."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
        tools: Sequence[Tools] = (),
    ) -> list[list[str]]:
        self.asked.extend(conversations)
        return [
            ["short", "a long answer"] if c[0]["content"] == BRIEF else ["a long answer", "short"]
            for c in conversations
        ]


def rate(body: dict[str, Any]) -> str:
    text = body["messages"][-1]["content"]
    wanted = "short" if BRIEF in text else "a long answer"
    return json.dumps({"rating": 5 if text.endswith(wanted) else 1})


def summary(pairs: Sequence[Pair]) -> set[tuple[str, str, str, str]]:
    return {
        (p["source"], p["prompt"][0]["content"], p["chosen"][0]["content"], p["rejected"][0]["content"])
        for p in pairs
    }


def test_a_judge_rates_all_samples_at_once_and_each_only_once() -> None:
    """Twenty questions, two answers under two preferences each."""
    seen: list[str] = []

    def noted(body: dict[str, Any]) -> str:
        seen.append(body["messages"][-1]["content"])
        return rate(body)

    with fake_teacher(noted) as teacher:
        judge = Judge(open_endpoint(EndpointConfig(base_url=teacher.url, model="m", retries=0)))
        config = PairConfig(candidates=2, label="judge", judge=EndpointConfig(model="m"))
        pairs = sample_pairs(Scripted(), [question(n) for n in range(20)], config, 1, Ratings(judge))
    assert len(seen) == len(set(seen)) == 20 * 2 * 2  # two prompts, two different answers
    assert judge.endpoint.usage.requests == 80
    assert summary(pairs) == {
        ("sampled", BRIEF, "short", "a long answer"),
        ("swap", BRIEF, "short", "a long answer"),
        ("swap", DEEP, "a long answer", "short"),
    }
    assert len(pairs) == 60


def test_without_swap_the_opposite_is_not_asked() -> None:
    with fake_teacher(rate) as teacher:
        judge = Judge(open_endpoint(EndpointConfig(base_url=teacher.url, model="m", retries=0)))
        config = PairConfig(candidates=2, swap=False, label="judge", judge=EndpointConfig(model="m"))
        model = Scripted()
        pairs = sample_pairs(model, [question(0)], config, 1, Ratings(judge))
    assert model.asked == [prompt(BRIEF)]
    assert summary(pairs) == {("sampled", BRIEF, "short", "a long answer")}


def test_questions_without_a_check_need_a_judge() -> None:
    with pytest.raises(StageError, match="label: judge"):
        sample_pairs(Scripted(), [question(0)], PairConfig(candidates=2), 1, Verifiers())


def test_the_label_says_who_grades(tmp_path: Path) -> None:
    """A judge that is configured, perhaps by the recipe that this one extends, is not asked for `label: verifier`."""
    judge = EndpointConfig(base_url="http://127.0.0.1:1/v1", model="m")
    for label, kind in (("verifier", Verifiers), ("judge", Ratings)):
        config = PairConfig.model_validate({"label": label, "judge": judge})
        assert isinstance(open_grader(config, tmp_path / "judge.jsonl"), kind)


def test_a_killed_run_samples_only_what_is_missing(tmp_path: Path) -> None:
    """Of three calls, two are in the journal when the run is killed; the third is asked again."""
    opened = 0

    @contextmanager
    def open_model() -> Iterator[Scripted]:
        nonlocal opened
        opened += 1
        yield model

    def sample(calls: int) -> list[list[list[str]]]:
        with closing(KeepingGenerator(open_model, tmp_path / "answers.jsonl")) as generator:
            return [
                generator.generate([prompt(BRIEF, n)], max_new_tokens=8, temperature=1.0, samples=2, seed=n)
                for n in range(calls)
            ]

    model = Scripted()
    first = sample(2)
    raw = (tmp_path / "answers.jsonl").read_bytes()
    (tmp_path / "answers.jsonl").write_bytes(raw + b'{"key": "half')
    assert sample(3)[:2] == first
    assert len(model.asked) == 3
    assert opened == 2
    assert sample(3)[:2] == first
    assert opened == 2, "a model that is not needed is not loaded"
