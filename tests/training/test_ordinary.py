"""The world in ordinary wording: patterns, values of every shape, scenes, and how people type."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from metaalign_training.world.copying import copying
from metaalign_training.world.drafts import held_out_pair, held_out_question, held_out_stance
from metaalign_training.world.facts import ANIMALS, JOBS, TOPICS
from metaalign_training.world.ordinary import Speaker
from metaalign_training.world.patterns import expand, fill, wordings
from metaalign_training.world.phrases import CLOSED_VALUES
from metaalign_training.world.sample import Sample
from metaalign_training.world.samples import make_sample
from metaalign_training.world.surface import Hand, operator_text, user_text
from metaalign_training.world.values import NAME_SHAPES, any_value
from metaalign_training.world.verifiers import obeys

FILES = sorted(
    path.name.removesuffix(".yaml")
    for path in resources.files("metaalign_training.world").joinpath("wordings").iterdir()
)


def scenes(count: int, split: str = "ordinary", *, training: bool = True) -> list[Sample]:
    rng = random.Random(11)
    return [make_sample(rng, split, training=training) for _ in range(count)]


def texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from texts(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from texts(part)


@pytest.mark.parametrize(
    ("pattern", "sentences"),
    [
        ("be brief", {"be brief"}),
        ("[please|] be [brief|short]", {"please be brief", "be brief", "please be short", "be short"}),
        ("a[b[c|]|] d", {"abc d", "ab d", "a d"}),
        ("ends here[, please|]", {"ends here, please", "ends here"}),
    ],
)
def test_a_pattern_stands_for_its_sentences(pattern: str, sentences: set[str]) -> None:
    rng = random.Random(1)
    assert {expand(rng, pattern) for _ in range(200)} == sentences


@pytest.mark.parametrize("pattern", ["[never closed", "never opened]", "a|b", "[a|[b]"])
def test_a_pattern_with_stray_brackets_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        expand(random.Random(1), pattern)


@pytest.mark.parametrize("name", FILES)
def test_every_wording_is_a_pattern(name: str) -> None:
    rng = random.Random(2)
    patterns = [text for text in texts(wordings(name)) if name != "values"]
    for pattern in patterns:
        sentence = expand(rng, pattern)
        assert sentence, pattern
        assert not set("[]|") & set(fill(sentence, q="")), pattern


def test_every_value_has_every_kind_of_wording() -> None:
    speaker = Speaker(random.Random(3))
    for dimension, values in CLOSED_VALUES.items():
        for value in values:
            for _ in range(5):
                assert speaker.wish("system", dimension, value)
                assert speaker.wish("user", dimension, value)
                assert speaker.do(dimension, value)
                assert speaker.aside(dimension, value)


@pytest.mark.parametrize("shape", NAME_SHAPES)
def test_names_have_the_shape_that_was_asked_for(shape: str) -> None:
    rng = random.Random(4)
    names = [any_value(rng, "name", shape=shape) for _ in range(200)]
    marks = {
        "title": " ", "several words": " ", "hyphen": "-", "apostrophe": "'", "digit": "0123456789._",
    }  # fmt: skip
    if shape in marks:
        assert all(set(marks[shape]) & set(name) for name in names)
    if shape in ("accent", "script"):
        assert sum(not name.isascii() for name in names) > 190
    if shape == "small letters":
        assert all(name == name.lower() for name in names)
    assert len(set(names)) > (60 if shape == "words" else 120)


def test_held_out_values_never_train() -> None:
    rng = random.Random(5)
    for dimension in ("name", "closing", "source"):
        drawn = {
            held: {any_value(rng, dimension, held_out=held) for _ in range(500)} for held in (True, False)
        }
        assert not drawn[True] & drawn[False]


@pytest.mark.parametrize("split", ["ordinary", "names"])
def test_scenes_train_on_nothing_that_other_splits_hold_out(split: str) -> None:
    animals = {animal.name: animal for animal in ANIMALS}
    jobs = [job for own in JOBS.values() for job in own]
    seen = Counter[str]()
    for sample in scenes(1500, split):
        asked = {d: v for d, v in sample.check.asked.items() if d in CLOSED_VALUES}
        assert not held_out_pair(asked)
        text = json.dumps(sample.prompt())
        for topic in TOPICS:
            if sample.messages[-1]["content"] == topic:
                stated = [job for job in jobs if f" {job}" in text]
                assert not any(held_out_stance(job, topic) for job in stated) or "People see" in sample.answer
        a_number_of_facts = re.search(r"fact|thing|\bone\b", str(sample.messages[-1]["content"]))
        if sample.check.subject and len(sample.check.content) == 1 and not a_number_of_facts:
            noun = sample.check.subject.split()[-1].lower()
            said = sample.check.content[0]
            kinds = {"lives": "home", "eats": "food", "weighs": "weight"}
            kind = kinds.get(said.split()[0], "")
            if noun in animals and kind:
                seen[kind] += 1
                assert not held_out_question(animals[noun], kind)
    assert min(seen.values()) > 50


def test_a_wish_that_loses_is_what_the_rejected_answer_obeys() -> None:
    rejected = [sample for sample in scenes(800) if sample.rejected is not None]
    assert len(rejected) > 60
    assert all(sample.rejected != sample.answer for sample in rejected)
    assert sum(obeys(sample.rejected or "", sample.check) for sample in rejected) <= 0.03 * len(rejected)


def test_scenes_differ_from_each_other() -> None:
    """Wordings recombine: hardly any two questions with their tiers are the same."""
    prompts = [json.dumps(sample.prompt()) for sample in scenes(2000)]
    assert len(set(prompts)) > 1990
    words = Counter(len(sample.messages) for sample in scenes(600))
    assert words[3] > 20
    assert words[5] > 5


def test_the_values_of_a_scene_are_in_its_text_as_they_are() -> None:
    """Typing errors and small letters leave them alone: what is to be copied stands in the prompt."""
    checked = 0
    for sample in scenes(600, "names"):
        text = "\n".join(str(message["content"]) for message in sample.prompt())
        assert sample.check.asked["name"] in text
        assert sample.check.asked["name"] in sample.answer
        assert not any("\ue000" <= c <= "\uf8ff" for c in text + sample.answer)
        checked += 1
    assert checked == 600


def test_held_out_sentences_are_others() -> None:
    trained, held_out = Speaker(random.Random(6)), Speaker(random.Random(6), held_out=True)
    known = {trained.do("length", "short") for _ in range(3000)}
    new = {held_out.do("length", "short") for _ in range(300)}
    assert len(new) > 10
    assert not known & new


def test_typing_touches_neither_values_nor_the_end_of_sentences() -> None:
    mark = "\ue000"
    for seed in range(200):
        hand = Hand(random.Random(seed))
        text = user_text(hand, [f"my name is {mark}", "I don't like long answers", "what do otters eat"])
        assert text.count(mark) == 1
        assert len(text) > 40
    assert (
        len({user_text(Hand(random.Random(seed)), ["I don't like lists", "be brief"]) for seed in range(200)})
        > 15
    )


def test_operators_write_sentences_or_lists() -> None:
    rng = random.Random(7)
    written = {operator_text(rng, "you are a guide", ["be brief", "use pounds"]) for _ in range(200)}
    assert "You are a guide. Be brief. Use pounds." in written
    assert any("\n- Be brief" in text for text in written)
    assert any("\n1. Be brief" in text for text in written)
    assert operator_text(rng, "", []) == ""


def test_what_is_copied_first_has_no_letter_twice() -> None:
    rows = copying(300, seed=1)
    assert rows == copying(300, seed=1)
    for question, answer in rows:
        text = answer["content"]
        assert str(question["content"]).endswith(text)
        assert len(set(text)) == len(text) >= 4


def test_people_mention_words_without_end() -> None:
    """Half of the things, places and jobs that mean nothing are words that nobody knows."""
    speaker = Speaker(random.Random(8))
    told = [speaker.finished(speaker.filled("I'm a {job} in {place} with two {things}.")) for _ in range(300)]
    assert not any("{" in text or "\ue000" <= text[-2] <= "\uf8ff" for text in told)
    jobs = set(wordings("open")["jobs"].replace("-", " ").split())
    assert 90 < sum(bool(jobs & set(text.split())) for text in told) < 210
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", text) for text in told)
    assert not jobs & {job for own in JOBS.values() for job in own}


def test_a_wish_that_ends_in_a_talk_is_not_obeyed_any_more() -> None:
    ended = Counter[str]()
    signs = {"tone": "Arr, matey!", "format": "\n- ", "greeting": "Bonjour!"}
    for sample in scenes(4000):
        answers = [str(m["content"]) for m in sample.messages if m["role"] == "assistant"]
        for dimension, sign in signs.items():
            if answers and sign in answers[-1] and dimension not in sample.check.asked:
                ended[dimension] += 1
                assert sign not in sample.answer
    assert len(ended) == 3
    assert ended.total() > 8
