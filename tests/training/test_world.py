"""The synthetic world is reproducible, and its verifiers judge hand-written answers."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from metaalign import parse_preferences
from metaalign_training.verifiers import failures, obeys
from metaalign_training.world import SPLITS, Sample, make_sample


def sample(asked: Mapping[str, str], content: tuple[str, ...]) -> Sample:
    return Sample("seen", parse_preferences({}), (), "", asked, content)


def test_same_seed_same_world() -> None:
    def draw(seed: int) -> list[Sample]:
        rng = random.Random(seed)
        return [make_sample(rng, split, training=True) for split in SPLITS for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("training", [True, False])
def test_the_world_satisfies_its_own_verifiers(split: str, training: bool) -> None:
    rng = random.Random(5)
    for _ in range(150):
        drawn = make_sample(rng, split, training=training)
        assert failures(drawn.answer, drawn) == [], (drawn.answer, drawn.asked)


def test_held_out_never_trains() -> None:
    rng = random.Random(3)
    trained = {make_sample(rng, "seen", training=True).messages[-1]["content"] for _ in range(3000)}
    held_out = {make_sample(rng, "questions", training=False).messages[-1]["content"] for _ in range(50)}
    assert not trained & held_out


THREE = ("lives in rivers", "eats fish", "uses stones as tools")
BULLETS = "- The otter lives in rivers.\n- The otter eats fish.\n- The otter uses stones as tools."


@pytest.mark.parametrize(
    ("answer", "asked", "content", "failed"),
    [
        (BULLETS, {"format": "bullets"}, THREE, []),
        (BULLETS, {"format": "numbered"}, THREE, ["format"]),
        (BULLETS, {}, THREE, ["unasked format"]),
        (BULLETS.replace("fish", "grass"), {"format": "bullets"}, THREE, ["content"]),
        ("1. The fox eats mice.", {"format": "numbered"}, ("eats mice",), []),
        ("2. The fox eats mice.", {"format": "numbered"}, ("eats mice",), ["format"]),
        ("The fox eats mice.", {}, ("eats mice",), []),
        ("The fox eats mice.", {"format": "plain"}, ("eats mice",), []),
        ("Ahoy! The fox eats mice. Arr, matey!", {"tone": "pirate"}, ("eats mice",), []),
        ("Ahoy! The fox eats mice. Arr, matey.", {}, ("eats mice",), ["unasked tone"]),
        ("Certainly! The fox eats mice.", {"tone": "pirate"}, ("eats mice",), ["tone", "unasked tone"]),
        ("Ada, the fox eats mice.", {"name": "Ada"}, ("eats mice",), []),
        ("The fox eats mice.", {"name": "Ada"}, ("eats mice",), ["name"]),
        ("The fox eats mice. Stay calm!", {"closing": "Stay calm!"}, ("eats mice",), []),
        ("The fox eats mice. Stay calm!", {}, ("eats mice",), ["unasked text"]),
        ("Zork, the fox eats mice.", {}, ("eats mice",), ["unasked text"]),
        ("Ahoy, Zork! The fox eats mice. Arr, matey!", {"tone": "pirate"}, ("eats mice",), ["unasked text"]),
        ("The fox eats mice. Source: the Old Atlas.", {"source": "the Old Atlas"}, ("eats mice",), []),
        ("The fox eats mice. Source: the Old Atlas.", {}, ("eats mice",), ["unasked source"]),
        ("The fox weighs about 13 pounds.", {"units": "imperial"}, ("weighs",), []),
        ("The fox weighs about 6 kilograms.", {"units": "imperial"}, ("weighs",), ["units"]),
        ("The fox eats mice. The fox lives in forests.", {"length": "short"}, ("eats mice",), ["length"]),
        ("The fox eats mice.", {"length": "one_sentence"}, ("eats mice",), []),
        ("The fox eats mice. The fox runs.", {"length": "one_sentence"}, ("eats mice",), ["length"]),
        ("The fox eats mice. The fox lives in forests.", {"length": "long"}, ("eats mice",), []),
        ("Bonjour! The fox eats mice.", {"greeting": "French"}, ("eats mice",), []),
        (
            "Bonjour! The fox eats mice.",
            {"greeting": "German"},
            ("eats mice",),
            ["greeting", "unasked greeting"],
        ),
        ("In simple words: the fox eats mice.", {"audience": "child"}, ("eats mice",), []),
        (
            "In simple words: the fox eats mice.",
            {"audience": "expert"},
            ("eats mice",),
            ["audience", "unasked audience"],
        ),
    ],
)
def test_verifiers(answer: str, asked: dict[str, str], content: tuple[str, ...], failed: list[str]) -> None:
    assert failures(answer, sample(asked, content)) == failed
    assert obeys(answer, sample(asked, content)) is (not failed)
