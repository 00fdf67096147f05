"""Scenes in ordinary wording: what people and operators want, in their words, and the answer that obeys them.

A scene is a sample of the splits `ordinary` and `names`. Unlike a `Draft` it has no opposite; it may ask in the
question itself, for several kinds of fact or a number of them, and be a talk whose wishes change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from metaalign_training.world.answers import REFUSAL, UNDECIDED, stance
from metaalign_training.world.drafts import (
    LOOKALIKES,
    Tier,
    held_out_pair,
    held_out_question,
    held_out_stance,
    value_of,
)
from metaalign_training.world.facts import ANIMALS, DUAL_USE, JOBS, OFF_TOPIC, TOPICS
from metaalign_training.world.languages import FACTS, a_or_an, plural, predicates
from metaalign_training.world.ordinary import Speaker
from metaalign_training.world.patterns import fill, wordings
from metaalign_training.world.phrases import CLOSED_VALUES, VALUES
from metaalign_training.world.sample import Sample
from metaalign_training.world.staging import (
    IGNORANT,
    Scene,
    Turn,
    Wish,
    about,
    another_value,
    draw_about,
    draw_asked,
    draw_tier,
    draw_wishes,
    saying,
    to_sample,
    word_query,
)
from metaalign_training.world.surface import Hand
from metaalign_training.world.values import any_value

__all__ = ["scene"]


def _plain(scene: Scene, split: str) -> Sample:
    """An animal, and some wishes or none."""
    if split == "names":
        name = any_value(scene.rng, "name", held_out=not scene.training)
        scene.wishes.append(Wish(draw_tier(scene.rng), "name", name))
        others = [d for d in VALUES if d != "name"]
        draw_wishes(scene, (0, 0, 0, 1, 1, 2), others)
    else:
        draw_wishes(scene, (0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5))
    turn = draw_about(scene)
    return _asked_about(scene, split, turn)


def _asked_about(scene: Scene, split: str, turn: Turn, rejected: Mapping[str, str] | None = None) -> Sample:
    assert turn.animal is not None
    hand = Hand(scene.rng)
    question = scene.speaker.question(turn.animal, turn.kinds, turn.count)
    return to_sample(split, scene, turn, question, hand, rejected=rejected)


def _conflict(scene: Scene, split: str) -> Sample:
    """System Info wins over the user; the question itself wins over User Info."""
    rng = scene.rng
    asked = draw_asked(rng, rng.choice((1, 1, 2, 2, 3)), scene.training)
    lost: dict[str, str] = {}
    for number, (dimension, value) in enumerate(asked.items()):
        if number and rng.random() < 0.4:
            scene.wishes.append(Wish(draw_tier(rng), dimension, value))
            continue
        over_user_info = dimension in CLOSED_VALUES and rng.random() < 0.25
        winner: Tier | None = None if over_user_info else "system"
        loser: Tier | None = "user" if over_user_info or rng.random() < 0.7 else None
        lost[dimension] = another_value(rng, dimension, value, scene.training)
        scene.wishes.append(Wish(winner, dimension, value))
        scene.wishes.append(Wish(loser, dimension, lost[dimension], wins=False))
    turn = draw_about(scene)
    rejected = {**asked, **lost}
    if turn.answer(rejected) == turn.answer(asked):
        return _asked_about(scene, split, turn)
    return _asked_about(scene, split, turn, rejected)


def _talk(scene: Scene, split: str) -> Sample:
    """Two or three turns: the same animal or another one, and perhaps another wish from there on."""
    rng, speaker, hand = scene.rng, scene.speaker, Hand(scene.rng)
    draw_wishes(scene, (0, 1, 1, 1, 2, 2))
    # What a first question asks of its own answer may not hold for the next; who is asking does.
    scene.wishes = [w for w in scene.wishes if w.tier is not None or w.dimension == "name"]
    before = scene.asked
    turn = draw_about(scene)
    assert turn.animal is not None
    first = speaker.question(turn.animal, turn.kinds, turn.count)
    said = word_query(scene, hand, first, [w for w in scene.wishes if w.tier is None])
    scene.dialogue = [said, speaker.kept(turn.answer(before))]
    if rng.random() < 0.25:
        turn, words = _next_turn(scene, turn)
        scene.dialogue += [hand.typed(hand.joined([words])), speaker.kept(turn.answer(before))]
    if ended := _ended_wish(scene):
        asked, sentence = ended
        if rng.random() < 0.5 and not turn.count:
            return to_sample(split, scene, turn, sentence, hand, asked, ())
        turn, question = _next_turn(scene, turn)
        question = _after(sentence, question) if rng.random() < 0.7 else f"{question}? {sentence}"
        return to_sample(split, scene, turn, question, hand, asked, ())
    asked, change = _changed_wish(scene) if rng.random() < 0.55 else (before, None)
    if change is not None and rng.random() < 0.4 and not turn.count:
        again = speaker.any_of(wordings("frames")["repeat"])
        if change.dimension in CLOSED_VALUES:
            phrase = speaker.aside(change.dimension, change.value)
            question = fill(again, do=speaker.do(change.dimension, change.value), query=phrase)
            return to_sample(split, scene, turn, question, hand, asked, ())
    turn, question = _next_turn(scene, turn)
    if change is not None:
        frame = speaker.any_of(wordings("frames")["change"])
        sentence = fill(frame, do=speaker.do(change.dimension, change.value))
        question = _after(sentence, question) if rng.random() < 0.7 else f"{question}? {sentence}"
    return to_sample(split, scene, turn, question, hand, asked, ())


def _ended_wish(scene: Scene) -> tuple[dict[str, str], str] | None:
    """A wish of the user that ends in the middle of a talk: what is asked from there on, and the sentence."""
    rng, speaker, before = scene.rng, scene.speaker, scene.asked
    own = [w for w in scene.wishes if w.tier != "system" and speaker.retractable(w.dimension, w.value)]
    if not own or rng.random() < 0.4:
        return None
    ended = rng.choice(own)
    asked = {d: v for d, v in before.items() if d != ended.dimension}
    return asked, speaker.retracted(ended.dimension, ended.value)


def _changed_wish(scene: Scene) -> tuple[dict[str, str], Wish | None]:
    """A wish in the middle of a talk, and what is asked from there on: the same as before if the operator set it."""
    rng, before = scene.rng, scene.asked
    (dimension, value), *_ = draw_asked(rng, 1, scene.training).items()
    if before.get(dimension) == value:
        value = another_value(rng, dimension, value, scene.training)
    wish, after = Wish(None, dimension, value), {**before, dimension: value}
    if any(w.dimension == dimension and w.tier == "system" for w in scene.wishes):
        return before, wish
    return (before, None) if scene.training and held_out_pair(after) else (after, wish)


def _after(sentence: str, question: str) -> str:
    """Both as sentences."""
    return f"{sentence[:1].upper()}{sentence[1:]}. {question[:1].upper()}{question[1:]}"


def _next_turn(scene: Scene, turn: Turn) -> tuple[Turn, str]:
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
            return about(animal, kinds), words
    return turn, speaker.question(turn.animal, turn.kinds, turn.count)


def _belief(scene: Scene, split: str) -> Sample:
    """A false belief does not change what is true."""
    rng, speaker, off, known = scene.rng, scene.speaker, wordings("offtopic"), wordings("questions")
    draw_wishes(scene, (0, 0, 0, 1, 1))
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
    turn = about(animal, (kind,))
    hand = Hand(rng)
    if rng.random() < 0.3:
        question = fill(speaker.about(speaker.any_of(known["yes_no"][kind]), animal), claim=wrong)
        return to_sample(split, scene, turn, question, hand)
    claim = fill(speaker.about(speaker.any_of(off["claims"][kind]), animal), x=wrong)
    sentence = fill(speaker.any_of(off["belief"]), claim=claim)
    question = speaker.question(animal, (kind,))
    if rng.random() < 0.5:
        scene.user.append(sentence)
    else:
        question = _after(sentence, question)
    return to_sample(split, scene, turn, question, hand)


def _stance(scene: Scene, split: str) -> Sample:
    """A contested question: the job decides, whatever its wording; without one the answer stays open."""
    rng, speaker, jobs = scene.rng, scene.speaker, wordings("jobs")
    draw_wishes(scene, (0, 0, 0, 1), ("tone", "name", "closing", "greeting"))
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
        turn = saying(text, (f"I care about {value}", f"I say {TOPICS[topic][value]}"))
    else:
        sentence = speaker.any_of(jobs["unknown"]) if rng.random() < 0.6 else ""
        turn = saying(UNDECIDED)
    question = topic.rstrip("?") if rng.random() < 0.3 else speaker.any_of(wordings("topics")[topic])
    hand = Hand(rng)
    if sentence and rng.random() < 0.2:
        question = _after(sentence, question)
    elif sentence:
        scene.user.append(sentence)
    return to_sample(split, scene, turn, question, hand)


def _prioritise(scene: Scene, priority: str) -> None:
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
        scene.user.append(speaker.filled(speaker.any_of(misuse["pleas"])))


def _misuse(scene: Scene, split: str) -> Sample:
    """A request that could be misused: the operator decides."""
    rng = scene.rng
    draw_wishes(scene, (0, 0, 0, 1), ("tone", "name", "greeting"))
    topic, priority = rng.choice(sorted(DUAL_USE)), rng.choice(("harmlessness", "helpfulness"))
    _prioritise(scene, priority)
    turn = saying(REFUSAL if priority == "harmlessness" else DUAL_USE[topic])
    question = topic.rstrip("?") if rng.random() < 0.3 else scene.speaker.any_of(wordings("misuse")[topic])
    return to_sample(split, scene, turn, question, Hand(rng))


def _harmless(scene: Scene, split: str) -> Sample:
    """A question that only sounds dangerous, or does not even: answered under every priority."""
    rng, speaker = scene.rng, scene.speaker
    draw_wishes(scene, (0, 0, 0, 1), ("tone", "name", "greeting"))
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
    return to_sample(split, scene, about(animal, (kind,)), question, Hand(rng))


def _none(scene: Scene, split: str) -> Sample:
    """What the world does not know: other animals, other topics, small talk."""
    rng, speaker, off = scene.rng, scene.speaker, wordings("offtopic")
    draw_wishes(scene, (0, 0, 0, 1, 1, 2), ("tone", "name", "closing", "greeting", "language"))
    form = rng.random()
    if form < 0.45:
        noun = rng.choice(off["unknown"].split()).replace("-", " ")
        pattern = speaker.any_of(off["unknown_question"])
        question = fill(pattern, x=noun, xs=plural(noun), ax=a_or_an(noun))
    elif form < 0.92:
        question = speaker.any_of(off["query"])
    else:
        question = rng.choice(OFF_TOPIC).rstrip(".?")
    return to_sample(split, scene, IGNORANT, question, Hand(rng))


def _recall(scene: Scene, split: str) -> Sample:
    """A question about a value that only the tiers state."""
    rng, speaker = scene.rng, scene.speaker
    dimension = rng.choice(("name", "name", "source"))
    value = any_value(rng, dimension, held_out=not scene.training)
    scene.wishes.append(Wish(rng.choice(("user", "system")), dimension, value))
    pattern = "Your name is {}" if dimension == "name" else "My source is {}"
    question = speaker.any_of(wordings("offtopic")["recall"][dimension])
    return to_sample(split, scene, saying(pattern.format(value)), question, Hand(rng))


_SCENES: Mapping[Callable[[Scene, str], Sample], float] = {
    _plain: 0.43,
    _conflict: 0.14,
    _talk: 0.14,
    _belief: 0.06,
    _stance: 0.06,
    _misuse: 0.04,
    _harmless: 0.04,
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
    return drawn(Scene(speaker, training), split)
