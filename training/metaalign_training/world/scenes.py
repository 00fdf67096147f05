"""Scenes in ordinary wording: what people and operators want, in their words, and the answer that obeys them.

A scene is a sample of the splits `ordinary` and `names`. Unlike a `Draft` it has no opposite; it may ask in the
question itself, for several kinds of fact or a number of them, and be a talk whose wishes change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from metaalign import parse_preferences
from metaalign_training.messages import Message
from metaalign_training.world.answers import REFUSAL, UNDECIDED, Statement, compose, stance
from metaalign_training.world.drafts import (
    LOOKALIKES,
    OTHER_LENGTHS,
    Tier,
    held_out_pair,
    held_out_question,
    held_out_stance,
    value_of,
)
from metaalign_training.world.facts import ANIMALS, DUAL_USE, JOBS, OFF_TOPIC, ROLES, TOPICS, Animal
from metaalign_training.world.languages import FACTS, a_or_an, language_of, plural, predicates, subject
from metaalign_training.world.ordinary import Speaker
from metaalign_training.world.patterns import fill, wordings
from metaalign_training.world.phrases import CLOSED_VALUES, VALUES
from metaalign_training.world.sample import Check, Sample
from metaalign_training.world.surface import Hand, operator_text, user_text
from metaalign_training.world.values import any_value

__all__ = ["scene"]

_COPIED = ("name", "closing", "source")
_RARE = {"neutral", "medium", "general", "English", "metric", "plain"}
"""Values that hardly change an answer; drawn half as often."""


@dataclass(frozen=True, slots=True)
class _Wish:
    tier: Tier | None
    """None: in the question itself."""
    dimension: str
    value: str
    wins: bool = True


@dataclass(frozen=True, slots=True)
class _Turn:
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


def _about(animal: Animal, kinds: Sequence[str], count: int = 0) -> _Turn:
    def statements(asked: Mapping[str, str]) -> tuple[list[Statement], int]:
        said, who = predicates(animal, asked), subject(animal, asked)
        if not kinds:
            order = ("home", "food", "trait", "weight")
            return [Statement(who, said[k]) for k in order[: count or None]], count or 3
        start = FACTS.index(kinds[0])
        others = [k for k in (*FACTS[start:], *FACTS[:start]) if k not in kinds]
        return [Statement(who, said[k]) for k in (*kinds, *others)], len(kinds)

    return _Turn(statements, animal, tuple(kinds), count)


def _saying(text: str, content: tuple[str, ...] = ()) -> _Turn:
    return _Turn(lambda _: ([Statement("", text.rstrip("."))], 1), content=content)


_IGNORANT = _Turn(lambda asked: ([Statement("", language_of(asked).ignorance.rstrip("."))], 1))


@dataclass
class _Scene:
    """What is gathered before it becomes a sample."""

    speaker: Speaker
    training: bool
    wishes: list[_Wish] = field(default_factory=list)
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


def _draw_asked(
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


def _tier(rng: random.Random) -> Tier | None:
    return rng.choices(("user", "system", None), (48, 32, 20))[0]


def _draw_about(scene: _Scene) -> _Turn:
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
            return _about(animal, (), rng.choice((1, 2, 2, 3, 3, 4)))
        return _about(animal, kinds)


# --- words -----------------------------------------------------------------------------------------------------


def _word_tiers(scene: _Scene) -> dict[str, dict[str, str]]:
    """Put the wishes of both tiers into sentences or attributes; those of the question stay for `_word_query`."""
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


def _word_query(scene: _Scene, hand: Hand, question: str, wishes: Sequence[_Wish]) -> str:
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
    if rng.random() < 0.08:
        before.append(speaker.nothing("user", scene.asked))
    rng.shuffle(before)
    return hand.typed(hand.joined([*before, text, *after]))


def _sample(
    split: str,
    scene: _Scene,
    turn: _Turn,
    question: str,
    hand: Hand,
    asked: Mapping[str, str] | None = None,
    query_wishes: Sequence[_Wish] | None = None,
    rejected: Mapping[str, str] | None = None,
) -> Sample:
    rng, speaker = scene.rng, scene.speaker
    if asked is None:
        asked = scene.asked
    attributes = _word_tiers(scene)
    for tier, texts, share in (("system", scene.system, 0.2), ("user", scene.user, 0.4)):
        while rng.random() < share and len(texts) < 5:
            texts.append(speaker.nothing("system" if tier == "system" else "user", asked))
            share *= 0.5
        rng.shuffle(texts)
    if query_wishes is None:
        query_wishes = [w for w in scene.wishes if w.tier is None]
    query = _word_query(scene, hand, question, query_wishes)
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


# --- scenes ----------------------------------------------------------------------------------------------------


def _wishing(scene: _Scene, counts: Sequence[int], among: Sequence[str] = VALUES) -> None:
    rng = scene.rng
    for dimension, value in _draw_asked(rng, rng.choice(counts), scene.training, among, scene.asked).items():
        scene.wishes.append(_Wish(_tier(rng), dimension, value))


def _plain(scene: _Scene, split: str) -> Sample:
    """An animal, and some wishes or none."""
    if split == "names":
        name = any_value(scene.rng, "name", held_out=not scene.training)
        scene.wishes.append(_Wish(_tier(scene.rng), "name", name))
        others = [d for d in VALUES if d != "name"]
        _wishing(scene, (0, 0, 0, 1, 1, 2), others)
    else:
        _wishing(scene, (0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5))
    turn = _draw_about(scene)
    return _asked_about(scene, split, turn)


def _asked_about(scene: _Scene, split: str, turn: _Turn, rejected: Mapping[str, str] | None = None) -> Sample:
    assert turn.animal is not None
    hand = Hand(scene.rng)
    question = scene.speaker.question(turn.animal, turn.kinds, turn.count)
    return _sample(split, scene, turn, question, hand, rejected=rejected)


def _other(rng: random.Random, dimension: str, value: str, training: bool) -> str:
    if dimension == "length":
        return rng.choice(OTHER_LENGTHS[value])
    while (other := _value(rng, dimension, training)) == value:
        pass
    return other


def _conflict(scene: _Scene, split: str) -> Sample:
    """System Info wins over the user; the question itself wins over User Info."""
    rng = scene.rng
    asked = _draw_asked(rng, rng.choice((1, 1, 2, 2, 3)), scene.training)
    lost: dict[str, str] = {}
    for number, (dimension, value) in enumerate(asked.items()):
        if number and rng.random() < 0.4:
            scene.wishes.append(_Wish(_tier(rng), dimension, value))
            continue
        over_user_info = dimension in CLOSED_VALUES and rng.random() < 0.25
        winner: Tier | None = None if over_user_info else "system"
        loser: Tier | None = "user" if over_user_info or rng.random() < 0.7 else None
        lost[dimension] = _other(rng, dimension, value, scene.training)
        scene.wishes.append(_Wish(winner, dimension, value))
        scene.wishes.append(_Wish(loser, dimension, lost[dimension], wins=False))
    turn = _draw_about(scene)
    rejected = {**asked, **lost}
    if turn.answer(rejected) == turn.answer(asked):
        return _asked_about(scene, split, turn)
    return _asked_about(scene, split, turn, rejected)


def _talk(scene: _Scene, split: str) -> Sample:
    """Two or three turns: the same animal or another one, and perhaps another wish from there on."""
    rng, speaker, hand = scene.rng, scene.speaker, Hand(scene.rng)
    _wishing(scene, (0, 0, 1, 1, 2))
    # What a first question asks of its own answer may not hold for the next; who is asking does.
    scene.wishes = [w for w in scene.wishes if w.tier is not None or w.dimension == "name"]
    before = scene.asked
    turn = _draw_about(scene)
    assert turn.animal is not None
    first = speaker.question(turn.animal, turn.kinds, turn.count)
    said = _word_query(scene, hand, first, [w for w in scene.wishes if w.tier is None])
    scene.dialogue = [said, speaker.kept(turn.answer(before))]
    if rng.random() < 0.25:
        turn, words = _next_turn(scene, turn)
        scene.dialogue += [hand.typed(hand.joined([words])), speaker.kept(turn.answer(before))]
    asked, change = _changed_wish(scene) if rng.random() < 0.55 else (before, None)
    if change is not None and rng.random() < 0.4 and not turn.count:
        again = speaker.any_of(wordings("frames")["repeat"])
        if change.dimension in CLOSED_VALUES:
            phrase = speaker.aside(change.dimension, change.value)
            question = fill(again, do=speaker.do(change.dimension, change.value), query=phrase)
            return _sample(split, scene, turn, question, hand, asked, ())
    turn, question = _next_turn(scene, turn)
    if change is not None:
        frame = speaker.any_of(wordings("frames")["change"])
        sentence = fill(frame, do=speaker.do(change.dimension, change.value))
        question = _after(sentence, question) if rng.random() < 0.7 else f"{question}? {sentence}"
    return _sample(split, scene, turn, question, hand, asked, ())


def _changed_wish(scene: _Scene) -> tuple[dict[str, str], _Wish | None]:
    """A wish in the middle of a talk, and what is asked from there on: the same as before if the operator set it."""
    rng, before = scene.rng, scene.asked
    (dimension, value), *_ = _draw_asked(rng, 1, scene.training).items()
    if before.get(dimension) == value:
        value = _other(rng, dimension, value, scene.training)
    wish, after = _Wish(None, dimension, value), {**before, dimension: value}
    if any(w.dimension == dimension and w.tier == "system" for w in scene.wishes):
        return before, wish
    return (before, None) if scene.training and held_out_pair(after) else (after, wish)


def _after(sentence: str, question: str) -> str:
    """Both as sentences."""
    return f"{sentence[:1].upper()}{sentence[1:]}. {question[:1].upper()}{question[1:]}"


def _next_turn(scene: _Scene, turn: _Turn) -> tuple[_Turn, str]:
    """Another kind of fact about the same animal, or the same about another one."""
    rng, speaker, known = scene.rng, scene.speaker, wordings("questions")
    assert turn.animal is not None
    for _ in range(40):
        if rng.random() < 0.5:
            kinds: tuple[str, ...] = (rng.choice([k for k in FACTS if k not in turn.kinds]),)
            animal, words = turn.animal, rng.choice(known["again"][kinds[0]])
            words = speaker.any_of([words])
        else:
            animal = rng.choice([a for a in ANIMALS if a is not turn.animal])
            if rng.random() < 0.5 and not turn.count:
                kinds = turn.kinds
                words = speaker.about(speaker.any_of(known["other"]), animal)
            else:
                kinds = (rng.choice(FACTS),)
                words = speaker.question(animal, kinds)
        if not (scene.training and any(held_out_question(animal, k) for k in kinds or ("three",))):
            return _about(animal, kinds), words
    return turn, speaker.question(turn.animal, turn.kinds, turn.count)


def _belief(scene: _Scene, split: str) -> Sample:
    """A false belief does not change what is true."""
    rng, speaker, off, known = scene.rng, scene.speaker, wordings("offtopic"), wordings("questions")
    _wishing(scene, (0, 0, 0, 1, 1))
    while True:
        animal, kind = rng.choice(ANIMALS), rng.choice(FACTS)
        if not (scene.training and held_out_question(animal, kind)):
            break
    true = predicates(animal, {})[kind]
    verb = {"home": "lives ", "food": "eats ", "weight": "weighs "}.get(kind, "")
    if verb and rng.random() < 0.5:
        wrong = rng.choice([p for a in ANIMALS if (p := predicates(a, {})[kind]) != true]).removeprefix(verb)
    else:
        wrong = rng.choice(known["wild"][kind])
        if wrong in true:
            wrong = known["wild"][kind][-1]
    turn = _about(animal, (kind,))
    hand = Hand(rng)
    if rng.random() < 0.3:
        question = fill(speaker.about(speaker.any_of(known["yes_no"][kind]), animal), claim=wrong)
        return _sample(split, scene, turn, question, hand)
    claim = fill(speaker.about(speaker.any_of(off["claims"][kind]), animal), x=wrong)
    sentence = fill(speaker.any_of(off["belief"]), claim=claim)
    question = speaker.question(animal, (kind,))
    if rng.random() < 0.5:
        scene.user.append(sentence)
    else:
        question = _after(sentence, question)
    return _sample(split, scene, turn, question, hand)


def _stance(scene: _Scene, split: str) -> Sample:
    """A contested question: the job decides, whatever its wording; without one the answer stays open."""
    rng, speaker, jobs = scene.rng, scene.speaker, wordings("jobs")
    _wishing(scene, (0, 0, 0, 1), ("tone", "name", "closing", "greeting"))
    while True:
        topic, job = rng.choice(sorted(TOPICS)), rng.choice([j for own in JOBS.values() for j in own])
        if not (scene.training and held_out_stance(job, topic)):
            break
    known = rng.random() < 0.75
    if known:
        own = jobs[job] if rng.random() < 0.45 else jobs["any"]
        sentence = fill(speaker.any_of(own), a=a_or_an(job), job=job)
        value = value_of(job)
        text = stance(value, topic)
        turn = _saying(text, (f"I care about {value}", f"I say {TOPICS[topic][value]}"))
    else:
        sentence = speaker.any_of(jobs["unknown"]) if rng.random() < 0.6 else ""
        turn = _saying(UNDECIDED)
    question = topic.rstrip("?") if rng.random() < 0.3 else speaker.any_of(wordings("topics")[topic])
    hand = Hand(rng)
    if sentence and rng.random() < 0.2:
        question = _after(sentence, question)
    elif sentence:
        scene.user.append(sentence)
    return _sample(split, scene, turn, question, hand)


def _prioritise(scene: _Scene, priority: str) -> None:
    rng, speaker, misuse = scene.rng, scene.speaker, wordings("misuse")
    lower = "helpfulness" if priority == "harmlessness" else "harmlessness"
    if rng.random() < 0.3:
        scene.priorities = [priority, lower]
    else:
        scene.system.append(speaker.any_of(misuse[priority]))
    form = rng.random()
    if form < 0.3:
        scene.user.append(speaker.any_of(misuse[lower]))
    elif form < 0.6:
        scene.user.append(speaker.any_of(misuse["pleas"]))


def _misuse(scene: _Scene, split: str) -> Sample:
    """A request that could be misused: the operator decides."""
    rng = scene.rng
    _wishing(scene, (0, 0, 0, 1), ("tone", "name", "greeting"))
    topic, priority = rng.choice(sorted(DUAL_USE)), rng.choice(("harmlessness", "helpfulness"))
    _prioritise(scene, priority)
    turn = _saying(REFUSAL if priority == "harmlessness" else DUAL_USE[topic])
    question = topic.rstrip("?") if rng.random() < 0.3 else scene.speaker.any_of(wordings("misuse")[topic])
    return _sample(split, scene, turn, question, Hand(rng))


def _harmless(scene: _Scene, split: str) -> Sample:
    """A question that only sounds dangerous, or does not even: answered under every priority."""
    rng, speaker = scene.rng, scene.speaker
    _wishing(scene, (0, 0, 0, 1), ("tone", "name", "greeting"))
    _prioritise(scene, rng.choice(("harmlessness", "helpfulness")))
    while True:
        animal, kind = rng.choice(ANIMALS), rng.choice(FACTS)
        if not (scene.training and held_out_question(animal, kind)):
            break
    form = rng.random()
    if form < 0.5:
        question = speaker.about(speaker.any_of(wordings("questions")["harsh"][kind]), animal)
    elif form < 0.7:
        forms = LOOKALIKES[kind]
        question = speaker.about(rng.choice(forms[:-2] if scene.training else forms[-2:]).rstrip("?"), animal)
    else:
        question = speaker.question(animal, (kind,))
    return _sample(split, scene, _about(animal, (kind,)), question, Hand(rng))


def _none(scene: _Scene, split: str) -> Sample:
    """What the world does not know: other animals, other topics, small talk."""
    rng, speaker, off = scene.rng, scene.speaker, wordings("offtopic")
    _wishing(scene, (0, 0, 0, 1, 1, 2), ("tone", "name", "closing", "greeting", "language"))
    form = rng.random()
    if form < 0.45:
        noun = rng.choice(off["unknown"].split()).replace("-", " ")
        pattern = speaker.any_of(off["unknown_question"])
        question = fill(pattern, x=noun, xs=plural(noun), ax=a_or_an(noun))
    elif form < 0.92:
        question = speaker.any_of(off["query"])
    else:
        question = rng.choice(OFF_TOPIC).rstrip(".?")
    return _sample(split, scene, _IGNORANT, question, Hand(rng))


def _recall(scene: _Scene, split: str) -> Sample:
    """A question about a value that only the tiers state."""
    rng, speaker = scene.rng, scene.speaker
    dimension = rng.choice(("name", "name", "source"))
    value = any_value(rng, dimension, held_out=not scene.training)
    scene.wishes.append(_Wish(rng.choice(("user", "system")), dimension, value))
    pattern = "Your name is {}" if dimension == "name" else "My source is {}"
    question = speaker.any_of(wordings("offtopic")["recall"][dimension])
    return _sample(split, scene, _saying(pattern.format(value)), question, Hand(rng))


_SCENES: Mapping[Callable[[_Scene, str], Sample], float] = {
    _plain: 0.46,
    _conflict: 0.14,
    _talk: 0.12,
    _belief: 0.06,
    _stance: 0.06,
    _misuse: 0.04,
    _harmless: 0.03,
    _none: 0.075,
    _recall: 0.015,
}
"""Kind of scene -> share of the split `ordinary`; `names` has the first only."""


def scene(split: str, seed: int, *, training: bool) -> Sample:
    """One scene of the split `ordinary` or `names`; equal arguments give equal samples."""
    rng = random.Random(seed)
    drawn = _plain if split == "names" else rng.choices(list(_SCENES), list(_SCENES.values()))[0]
    # `names` asks for held-out names in sentences that training knows.
    speaker = Speaker(rng, held_out=split == "ordinary" and not training)
    return drawn(_Scene(speaker, training), split)
