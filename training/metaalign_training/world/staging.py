"""What scenes are made of: wishes, turns, how they are drawn and worded, and the sample that they become."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from metaalign import parse_preferences
from metaalign_training.messages import Message
from metaalign_training.world.answers import Statement, compose
from metaalign_training.world.drafts import (
    OTHER_LENGTHS,
    Tier,
    held_out_pair,
    held_out_question,
)
from metaalign_training.world.facts import ANIMALS, ROLES, Animal
from metaalign_training.world.languages import FACTS, language_of, predicates, subject
from metaalign_training.world.ordinary import Speaker
from metaalign_training.world.patterns import wordings
from metaalign_training.world.phrases import CLOSED_VALUES, VALUES
from metaalign_training.world.sample import Check, Sample
from metaalign_training.world.surface import Hand, operator_text, user_text
from metaalign_training.world.values import any_value

__all__ = [
    "IGNORANT",
    "Scene",
    "Turn",
    "Wish",
    "about",
    "another_value",
    "draw_about",
    "draw_asked",
    "draw_tier",
    "draw_wishes",
    "saying",
    "to_sample",
    "word_query",
]

_COPIED = ("name", "closing", "source")
_RARE = {"neutral", "medium", "general", "English", "metric", "plain"}
"""Values that hardly change an answer; drawn half as often."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One wish; `wins` is false if another tier overrides it."""

    tier: Tier | None
    """None: in the question itself."""
    dimension: str
    value: str
    wins: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """What a question is about: an animal with kinds of fact or a number of facts, or anything else."""

    statements: Callable[[Mapping[str, str]], tuple[list[Statement], int]]
    animal: Animal | None = None
    kinds: tuple[str, ...] = ()
    count: int = 0
    content: tuple[str, ...] = ()
    """What must be said, where the statements do not share a subject."""

    def answer(self, asked: Mapping[str, str]) -> str:
        statements, core = self.statements(asked)
        return compose(statements, core, asked)

    def check(self, asked: Mapping[str, str]) -> Check:
        if self.animal is None:
            statements, core = self.statements(asked)
            return Check(dict(asked), self.content or tuple(s.predicate for s in statements[:core]))
        statements, core = self.statements(asked)
        facts = tuple(predicates(self.animal, asked).values())
        said = tuple(s.predicate for s in statements[:core])
        return Check(dict(asked), said, subject(self.animal, asked), facts)


def about(animal: Animal, kinds: Sequence[str], count: int = 0) -> Turn:
    """A question about an animal: for kinds of fact, for a number of facts, or for the animal as such."""

    def statements(asked: Mapping[str, str]) -> tuple[list[Statement], int]:
        said, who = predicates(animal, asked), subject(animal, asked)
        if not kinds:
            order = ("home", "food", "trait", "weight")
            return [Statement(who, said[k]) for k in order[: count or None]], count or 3
        start = FACTS.index(kinds[0])
        others = [k for k in (*FACTS[start:], *FACTS[:start]) if k not in kinds]
        return [Statement(who, said[k]) for k in (*kinds, *others)], len(kinds)

    return Turn(statements, animal, tuple(kinds), count)


def saying(text: str, content: tuple[str, ...] = ()) -> Turn:
    return Turn(lambda _: ([Statement("", text.rstrip("."))], 1), content=content)


IGNORANT = Turn(lambda asked: ([Statement("", language_of(asked).ignorance.rstrip("."))], 1))


@dataclass
class Scene:
    """What is gathered before it becomes a sample."""

    speaker: Speaker
    training: bool
    wishes: list[Wish] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    user: list[str] = field(default_factory=list)
    priorities: list[str] = field(default_factory=list)
    dialogue: list[str] = field(default_factory=list)

    @property
    def rng(self) -> random.Random:
        return self.speaker.rng

    @property
    def asked(self) -> dict[str, str]:
        return {w.dimension: w.value for w in self.wishes if w.wins}


# --- drawing ---------------------------------------------------------------------------------------------------


def _value(rng: random.Random, dimension: str, training: bool) -> str:
    if dimension in _COPIED:
        return any_value(rng, dimension, held_out=not training)
    values = CLOSED_VALUES[dimension]
    return rng.choices(values, [0.4 if v in _RARE else 1 for v in values])[0]


def draw_asked(
    rng: random.Random,
    count: int,
    training: bool,
    among: Sequence[str] = VALUES,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Values for `count` dimensions; training never combines the pairs that are held out."""
    while True:
        dimensions = rng.sample(list(among), min(count, len(among)))
        asked = {d: _value(rng, d, training) for d in dimensions}
        if not (training and held_out_pair({**(known or {}), **asked})):
            return asked


def draw_tier(rng: random.Random) -> Tier | None:
    """Where a wish stands: User Info, System Info, or the question itself (None)."""
    return rng.choices(("user", "system", None), (48, 32, 20))[0]


def draw_about(scene: Scene) -> Turn:
    """A question about an animal that suits what is asked."""
    rng, asked = scene.rng, scene.asked
    listed = asked.get("format") in ("bullets", "numbered", "table", "json")
    while True:
        animal, form = rng.choice(ANIMALS), rng.random()
        if "units" in asked and rng.random() < 0.5:
            kinds: tuple[str, ...] = ("weight",)
        elif form < (0.5 if listed else 0.22):
            kinds = ()
        elif form > 0.88:
            kinds = tuple(rng.sample(FACTS, 2))
        else:
            kinds = (rng.choice(FACTS),)
        whole = not kinds
        if scene.training and any(held_out_question(animal, k) for k in kinds or ("three",)):
            continue
        if whole and "length" not in asked and rng.random() < 0.3:
            return about(animal, (), rng.choice((1, 2, 2, 3, 3, 4)))
        return about(animal, kinds)


def another_value(rng: random.Random, dimension: str, value: str, training: bool) -> str:
    """Another value of the dimension, such that an answer for it cannot pass for this one."""
    if dimension == "length":
        return rng.choice(OTHER_LENGTHS[value])
    while (other := _value(rng, dimension, training)) == value:
        pass
    return other


def draw_wishes(scene: Scene, counts: Sequence[int], among: Sequence[str] = VALUES) -> None:
    """Add wishes of some of the dimensions `among`, as many as one of `counts` says, each to a tier."""
    rng = scene.rng
    for dimension, value in draw_asked(rng, rng.choice(counts), scene.training, among, scene.asked).items():
        scene.wishes.append(Wish(draw_tier(rng), dimension, value))


# --- words -----------------------------------------------------------------------------------------------------


def _word_tiers(scene: Scene) -> dict[str, dict[str, str]]:
    """Put the wishes of both tiers into sentences or attributes; those of the question stay for `word_query`."""
    rng, speaker = scene.rng, scene.speaker
    attributes: dict[str, dict[str, str]] = {"system": {}, "user": {}}
    both: tuple[tuple[Tier, list[str]], ...] = (("system", scene.system), ("user", scene.user))
    for tier, texts in both:
        own = [w for w in scene.wishes if w.tier == tier]
        rng.shuffle(own)
        if rng.random() < 0.12:
            for wish in own[:2]:
                attributes[tier][wish.dimension] = wish.value
            own = own[2:]
        if len(own) > 1 and rng.random() < 0.35:
            joined, own = own[:3], own[3:]
            texts.append(speaker.together([(w.dimension, w.value) for w in joined], tier))
        texts.extend(speaker.wish(tier, w.dimension, w.value) for w in own)
    return attributes


def word_query(scene: Scene, hand: Hand, question: str, wishes: Sequence[Wish]) -> str:
    """The question, with the wishes that are in it and whatever else people write around it."""
    rng, speaker, known = scene.rng, scene.speaker, wordings("questions")
    before: list[str] = []
    after: list[str] = []
    text = question
    for wish in wishes:
        phrased = wish.dimension in CLOSED_VALUES and rng.random() < 0.6
        if phrased and text is question:
            phrase = speaker.aside(wish.dimension, wish.value)
            form = rng.random()
            if form < 0.5:
                text = f"{question}{rng.choice((', ', ' ', ', '))}{phrase}"
            elif form < 0.65:
                text = f"{phrase}{rng.choice((': ', ', '))}{question}"
            elif form < 0.75:
                text = f"{question} ({phrase})"
            else:
                after.append(f"{phrase}{rng.choice(('', ', please', ' please'))}")
            continue
        sentence = speaker.wish("user", wish.dimension, wish.value)
        (before if rng.random() < 0.5 else after).append(sentence)
    if not wishes and rng.random() < 0.3:
        if rng.random() < 0.5:
            text = rng.choice(known["before"]) + text
        else:
            text += rng.choice(known["after"])
    if rng.random() < 0.1:
        (before if rng.random() < 0.6 else after).append(speaker.nothing("user", scene.asked))
    rng.shuffle(before)
    return hand.typed(hand.joined([*before, text, *after]))


def to_sample(
    split: str,
    scene: Scene,
    turn: Turn,
    question: str,
    hand: Hand,
    asked: Mapping[str, str] | None = None,
    query_wishes: Sequence[Wish] | None = None,
    rejected: Mapping[str, str] | None = None,
) -> Sample:
    """Word everything, and put it together.

    Args:
        split: The sample's.
        scene: What was gathered.
        turn: What the question is about.
        question: Its words.
        hand: Who types it.
        asked: What the answer obeys; default: the scene's wishes that win.
        query_wishes: Wishes that stand in the question; default: the scene's without a tier.
        rejected: What the rejected answer obeys instead, if there is one.
    """
    rng, speaker = scene.rng, scene.speaker
    if asked is None:
        asked = scene.asked
    attributes = _word_tiers(scene)
    for tier, texts, share in (("system", scene.system, 0.2), ("user", scene.user, 0.5)):
        while rng.random() < share and len(texts) < 5:
            texts.append(speaker.nothing("system" if tier == "system" else "user", asked))
            share *= 0.5
        rng.shuffle(texts)
    if query_wishes is None:
        query_wishes = [w for w in scene.wishes if w.tier is None]
    query = word_query(scene, hand, question, query_wishes)
    role = (
        (speaker.role() if rng.random() < 0.7 else rng.choice(ROLES).rstrip("."))
        if rng.random() < 0.5
        else ""
    )
    tiers: dict[str, dict[str, object]] = {}
    for tier, info in (
        ("system", operator_text(rng, role, scene.system)),
        ("user", user_text(hand, scene.user)),
    ):
        tiers[tier] = {"info": speaker.finished(info)} if info else {}
        if attributes[tier]:
            tiers[tier]["attributes"] = attributes[tier]
    if scene.priorities:
        tiers["system"]["priorities"] = scene.priorities
    messages: list[Message] = [
        {"role": ("user", "assistant")[place % 2], "content": speaker.finished(text)}
        for place, text in enumerate([*scene.dialogue, query])
    ]
    return Sample(
        split,
        parse_preferences({tier: part for tier, part in tiers.items() if part}),
        tuple(messages),
        turn.answer(asked),
        turn.check(asked),
        None if rejected is None else turn.answer(rejected),
    )
