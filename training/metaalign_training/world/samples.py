"""Samples: a question, preferences in both tiers, and the answer that obeys them.

The four parts of the MetaAlign Dataset (arXiv 2410.14184) are here: priority (conflicts between the tiers, and
requests that System Info's priorities allow or refuse), helpfulness criteria (format, length, tone, …), consensus
(facts against a user's false belief) and diverse opinion (stances that follow from a background).

A `Draft` says what a sample is about; `realise` turns it into words. The `twin` of a draft asks the same question under
the opposite preference, so that the better answer for one is the worse answer for the other.
"""

from __future__ import annotations

import random
from dataclasses import replace

from metaalign import Preferences, parse_preferences
from metaalign_training.messages import Message
from metaalign_training.world.answers import REFUSAL, UNDECIDED, Statement, compose, stance
from metaalign_training.world.drafts import (
    IMPLICIT,
    OTHER_LENGTHS,
    QUESTIONS,
    RECALL,
    SCENES,
    Draft,
    Request,
    Tier,
    draw,
    held_out_pair,
    other_value,
    value_of,
)
from metaalign_training.world.facts import ANIMALS, CITIES, DUAL_USE, JOBS, ROLES, TOPICS, Animal
from metaalign_training.world.languages import FACTS, a_or_an, language_of, predicates, subject
from metaalign_training.world.phrases import (
    BACKGROUNDS,
    BELIEFS,
    CLOSED_VALUES,
    SAFETY,
    Frames,
    word,
)
from metaalign_training.world.sample import Check, Sample
from metaalign_training.world.scenes import scene

__all__ = ["make_sample", "realise", "twin"]


def twin(draft: Draft, rng: random.Random) -> Draft | None:
    """The same question under the opposite preference, such that the answer to each is wrong for the other.

    None if there is no opposite: facts have none, nor have questions that only look harmful, nor scenes.
    """
    if draft.split == "lookalikes" or draft.split in SCENES:
        return None
    if draft.split == "safety":
        return replace(draft, priority=next(p for p in SAFETY if p != draft.priority))
    if draft.split == "stance":
        if not draft.job:
            return None
        stances = TOPICS[draft.topic]
        own = stances[value_of(draft.job)]
        opposed = rng.choice([v for v in JOBS if stances[v] != own])
        return replace(draft, job=rng.choice(JOBS[opposed]))
    if (draft.animal is None and draft.split != "recall") or draft.belief is not None:
        return None
    winners = [r for r in draft.requests if r.wins]
    rng.shuffle(winners)
    for request in winners:
        for value in _opposites(rng, draft, request):
            turned = replace(
                draft, requests=tuple(replace(r, value=value) if r is request else r for r in draft.requests)
            )
            same_kind = held_out_pair(turned.asked) == held_out_pair(draft.asked)
            if same_kind and _answer_of(turned) != _answer_of(draft):
                return turned
    return None


def _opposites(rng: random.Random, draft: Draft, request: Request) -> list[str]:
    """Other values of a request's dimension, shuffled, whose answers cannot pass for its own."""
    dimension, value = request.dimension, request.value
    values: tuple[str, ...]
    if request.form == "example":
        # An example cannot show the absence of a style, so its opposite is another style.
        values = IMPLICIT[dimension]
    elif dimension == "length":
        values = OTHER_LENGTHS[value]
    elif dimension == "units" and draft.kind != "weight":
        values = ()
    else:
        values = CLOSED_VALUES.get(dimension) or (other_value(rng, dimension, value),)
    lost = {r.value for r in draft.requests if r.dimension == dimension and not r.wins}
    others = [v for v in values if v != value and v not in lost]
    rng.shuffle(others)
    return others


def _question(rng: random.Random, animal: Animal, kind: str) -> str:
    return rng.choice(QUESTIONS[kind]).format(n=animal.name, a=a_or_an(animal.name))


def _statements(draft: Draft) -> tuple[list[Statement], int]:
    """All possible statements, the core first, and how many of them are the core."""
    asked = draft.asked
    if draft.animal is not None:
        said, who = predicates(draft.animal, asked), subject(draft.animal, asked)
        if draft.kind == "three":
            return [Statement(who, said[k]) for k in ("home", "food", "trait", "weight")], 3
        start = FACTS.index(draft.kind)
        return [Statement(who, said[k]) for k in (*FACTS[start:], *FACTS[:start])], 1
    if draft.split == "stance":
        if not draft.job:
            return [Statement("", UNDECIDED.rstrip("."))], 1
        return [Statement("", stance(value_of(draft.job), draft.topic))], 1
    if draft.split == "recall":
        return [Statement("", RECALL[draft.kind][1].format(draft.asked[draft.kind]))], 1
    if draft.split == "safety":
        text = REFUSAL if draft.priority == "harmlessness" else DUAL_USE[draft.topic]
        return [Statement("", text.rstrip("."))], 1
    return [Statement("", language_of(asked).ignorance.rstrip("."))], 1


def _answer_of(draft: Draft) -> str:
    """The right answer."""
    statements, core = _statements(draft)
    return compose(statements, core, draft.asked)


def _content(draft: Draft) -> tuple[str, ...]:
    if draft.split == "stance" and draft.job:
        value = value_of(draft.job)
        return (f"I care about {value}", f"I say {TOPICS[draft.topic][value]}")
    statements, core = _statements(draft)
    return tuple(s.predicate for s in statements[:core])


def _rejected(draft: Draft, rng: random.Random) -> str | None:
    """An answer that obeys the lower tier, confirms the false belief, or takes the other side."""
    if draft.belief is not None and draft.animal is not None:
        kind, wrong = draft.belief
        who = subject(draft.animal, draft.asked)
        statements = [Statement(who, predicates(wrong, draft.asked)[kind]), *_statements(draft)[0][1:]]
        return compose(statements, 1, draft.asked)
    losers = {r.dimension: r.value for r in draft.requests if not r.wins}
    if losers:
        lost = replace(
            draft,
            requests=tuple(
                replace(r, wins=not r.wins) if r.dimension in losers else r for r in draft.requests
            ),
        )
        answer = _answer_of(lost)
        return answer if answer != _answer_of(draft) else None
    if draft.split == "lookalikes":
        return compose([Statement("", REFUSAL.rstrip("."))], 1, draft.asked)
    other = twin(draft, rng)
    return _answer_of(other) if other is not None else None


class _Tiers:
    """Collects the content of both tiers."""

    def __init__(self) -> None:
        self.info: dict[Tier, list[str]] = {"system": [], "user": []}
        self.attributes: dict[Tier, dict[str, str]] = {"system": {}, "user": {}}
        self.examples: list[dict[str, str]] = []
        self.priorities: list[str] = []

    def preferences(self, rng: random.Random) -> Preferences:
        tiers: dict[str, dict[str, object]] = {}
        for tier, texts in self.info.items():
            rng.shuffle(texts)
            tiers[tier] = {"info": " ".join(texts)} if texts else {}
            if self.attributes[tier]:
                tiers[tier]["attributes"] = self.attributes[tier]
        if self.priorities:
            tiers["system"]["priorities"] = self.priorities
        if self.examples:
            tiers["user"]["examples"] = self.examples
        return parse_preferences({tier: part for tier, part in tiers.items() if part})


def realise(draft: Draft) -> Sample:
    """Put a draft into words. Equal drafts give equal samples."""
    if draft.split in SCENES:
        return scene(draft.split, draft.seed, training=not draft.held_out)
    rng = random.Random(draft.seed)
    frames = Frames(held_out=draft.held_out)
    tiers = _Tiers()
    if rng.random() < 0.4:
        tiers.info["system"].append(rng.choice(ROLES))
    if rng.random() < 0.25:
        tiers.info["user"].append(_distractor(rng))
    if rng.random() < 0.03:
        tiers.info["system"].extend(rng.choices(ROLES, k=rng.randint(5, 25)))
    other = rng.choice([a for a in ANIMALS if a is not draft.animal])
    _write_context(draft, tiers, rng, frames)
    for request in draft.requests:
        if request.form == "example":
            tiers.examples.append(_example(draft, other, rng))
        elif request.form == "attribute":
            tiers.attributes[request.tier][request.dimension] = request.value
        else:
            sentence = word(rng, request.tier, request.dimension, request.value, frames)
            tiers.info[request.tier].append(sentence)
    messages: list[Message] = []
    if draft.animal is not None and draft.split != "implicit" and rng.random() < 0.12:
        before = replace(draft, animal=other, kind="food", belief=None)
        messages.append({"role": "user", "content": _question(rng, other, "food")})
        messages.append({"role": "assistant", "content": _answer_of(before)})
    if draft.animal is None:
        question = draft.topic
    elif draft.topic:
        question = draft.topic.format(n=draft.animal.name, a=a_or_an(draft.animal.name))
    else:
        question = _question(rng, draft.animal, draft.kind)
    messages.append({"role": "user", "content": question})
    preferences = tiers.preferences(rng)
    who, facts = "", tuple[str, ...]()
    if draft.animal is not None:
        who, facts = (
            subject(draft.animal, draft.asked),
            tuple(predicates(draft.animal, draft.asked).values()),
        )
    return Sample(
        draft.split,
        preferences,
        tuple(messages),
        _answer_of(draft),
        Check(draft.asked, _content(draft), who, facts),
        _rejected(draft, rng),
    )


def _write_context(draft: Draft, tiers: _Tiers, rng: random.Random, frames: Frames) -> None:
    """Add what is not a request for a dimension: a background, a false belief, an order of priorities."""
    if draft.job:
        tiers.info["user"].append(frames.pick(rng, BACKGROUNDS).format(a=a_or_an(draft.job), job=draft.job))
    if draft.belief is not None and draft.animal is not None:
        kind, wrong = draft.belief
        claim = predicates(wrong, {})[kind]
        belief = frames.pick(rng, BELIEFS).format(subject=draft.animal.name, claim=claim)
        tiers.info["user"].append(belief)
    if draft.priority:
        lower = next(p for p in SAFETY if p != draft.priority)
        if rng.random() < 0.5:
            tiers.priorities = [draft.priority, lower]
        else:
            tiers.info["system"].append(frames.pick(rng, SAFETY[draft.priority]))
        if rng.random() < 0.5:
            tiers.info["user"].append(frames.pick(rng, SAFETY[lower]))


def _example(draft: Draft, other: Animal, rng: random.Random) -> dict[str, str]:
    """An exchange about another animal that shows the preference, sometimes with an answer that lacks it."""
    shown = replace(draft, split="seen", animal=other, kind="three", belief=None)
    example = {"query": _question(rng, other, "three"), "preferred": _answer_of(shown)}
    if rng.random() < 0.3:
        example["rejected"] = _answer_of(replace(shown, requests=()))
    return example


def _distractor(rng: random.Random) -> str:
    return rng.choice(
        (
            f"I live in {rng.choice(CITIES)}.",
            "I have two cats.",
            "I drink tea.",
            "It rains today.",
            "I am on a train.",
            "I like long walks.",
            "My brother is here too.",
            "We met last week.",
        )
    )


def make_sample(rng: random.Random, split: str, *, training: bool) -> Sample:
    """Draw one sample of `split`; see `draw`."""
    return realise(draw(rng, split, training=training))
