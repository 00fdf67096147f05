"""How people word a preference: verb phrases and nouns for each value, and frames around them."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

__all__ = ["CLOSED_VALUES", "VALUES", "Frames", "copied_value", "word"]

VERBS: dict[tuple[str, str], tuple[str, ...]] = {
    ("format", "bullets"): (
        "use bullet points",
        "answer in bullet points",
        "write a bulleted list",
        "list it with dashes",
    ),
    ("format", "numbered"): (
        "number the points",
        "answer in a numbered list",
        "use a numbered list",
        "count the points",
    ),
    ("format", "plain"): ("avoid lists", "write plain sentences", "use running text", "leave out lists"),
    ("length", "one_sentence"): (
        "answer in one sentence",
        "use a single sentence",
        "say it in one sentence",
        "stick to one sentence",
    ),
    ("length", "short"): ("be brief", "keep it short", "give short answers", "be concise"),
    ("length", "long"): ("give details", "answer at length", "be thorough", "tell me everything"),
    ("tone", "pirate"): (
        "answer like a pirate",
        "talk like a pirate",
        "use pirate speech",
        "sound like a pirate",
    ),
    ("tone", "formal"): ("be formal", "use a formal tone", "stay formal", "write formally"),
    ("tone", "cheerful"): ("be cheerful", "use a cheerful tone", "sound cheerful", "write cheerfully"),
    ("tone", "casual"): ("be casual", "use a casual tone", "sound casual", "write casually"),
    ("tone", "neutral"): ("stay neutral", "use a neutral tone", "sound neutral", "write neutrally"),
    ("length", "medium"): (
        "answer at medium length",
        "use a medium length",
        "keep a medium length",
        "write a medium answer",
    ),
    ("audience", "general"): (
        "write for a general audience",
        "speak to everyone",
        "write for everybody",
        "address the public",
    ),
    ("units", "metric"): (
        "use metric units",
        "give weights in kilograms",
        "measure in kilograms",
        "stay metric",
    ),
    ("units", "imperial"): (
        "use imperial units",
        "give weights in pounds",
        "measure in pounds",
        "stay imperial",
    ),
    ("audience", "child"): (
        "explain it to a child",
        "write for children",
        "make it easy for a child",
        "speak to a child",
    ),
    ("audience", "expert"): (
        "write for an expert",
        "explain it to an expert",
        "speak to experts",
        "assume an expert reader",
    ),
    ("greeting", "French"): (
        "greet in French",
        "open in French",
        "say hello in French",
        "begin with a French greeting",
    ),
    ("greeting", "Spanish"): (
        "greet in Spanish",
        "open in Spanish",
        "say hello in Spanish",
        "begin with a Spanish greeting",
    ),
    ("greeting", "German"): (
        "greet in German",
        "open in German",
        "say hello in German",
        "begin with a German greeting",
    ),
    ("greeting", "Italian"): (
        "greet in Italian",
        "open in Italian",
        "say hello in Italian",
        "begin with an Italian greeting",
    ),
}
NOUNS: dict[tuple[str, str], tuple[str, ...]] = {
    ("format", "bullets"): ("bullet points", "bulleted lists"),
    ("format", "numbered"): ("numbered lists", "numbered points"),
    ("format", "plain"): ("plain text", "text without lists"),
    ("length", "one_sentence"): ("one sentence answers", "single sentences"),
    ("length", "short"): ("short answers", "brief answers"),
    ("length", "long"): ("long answers", "detailed answers"),
    ("tone", "pirate"): ("pirate talk", "pirate speech"),
    ("tone", "formal"): ("a formal tone", "formal answers"),
    ("tone", "cheerful"): ("a cheerful tone", "cheerful answers"),
    ("tone", "casual"): ("a casual tone", "casual answers"),
    ("tone", "neutral"): ("a neutral tone", "neutral answers"),
    ("length", "medium"): ("medium answers", "answers of medium length"),
    ("audience", "general"): ("answers for everyone", "answers for a general audience"),
    ("units", "metric"): ("metric units", "kilograms"),
    ("units", "imperial"): ("imperial units", "pounds"),
    ("audience", "child"): ("answers for children", "simple words for a child"),
    ("audience", "expert"): ("answers for experts", "expert language"),
    ("greeting", "French"): ("a French greeting", "French hellos"),
    ("greeting", "Spanish"): ("a Spanish greeting", "Spanish hellos"),
    ("greeting", "German"): ("a German greeting", "German hellos"),
    ("greeting", "Italian"): ("an Italian greeting", "Italian hellos"),
}
CLOSED_VALUES: dict[str, tuple[str, ...]] = {}
for _dimension, _value in VERBS:
    CLOSED_VALUES[_dimension] = (*CLOSED_VALUES.get(_dimension, ()), _value)
VALUES = (*CLOSED_VALUES, "name", "closing", "source")

_SYSTEM_VERB = (
    "{V}.", "Please {v}.", "Always {v}.", "You must {v}.", "Your rule: {v}.", "In every answer, {v}.",
    "Remember to {v}.", "It is important that you {v}.", "We want you to {v}.", "Make sure to {v}.", "Kindly {v}.",
    "From now on, {v}.", "House rule: {v}.", "The operator asks you to {v}.", "In this service you {v}.",
    "Whatever happens, {v}.", "You should {v}.", "Take care to {v}.",
)  # fmt: skip
_SYSTEM_NOUN = ("Use {n}.", "We want {n}.", "Visitors get {n}.", "Our style: {n}.")
_USER_VERB = (
    "{V}, please.", "Please {v}.", "I like it when you {v}.", "Please {v} for me.", "I prefer that you {v}.",
    "Could you {v}?", "I would love it if you {v}.", "I want you to {v}.", "It helps me when you {v}.",
    "My wish: {v}.", "For me, {v}.", "I ask you to {v}.", "Best of all, {v}.", "When you answer me, {v}.",
    "I hope that you {v}.", "It would be nice if you {v}.", "{V}.",
)  # fmt: skip
_USER_NOUN = (
    "I like {n}.",
    "I prefer {n}.",
    "I love {n}.",
    "Give me {n}.",
    "I enjoy {n}.",
    "I am fond of {n}.",
)
_COPIED = {
    ("system", "name"): (
        "Address the user as {}.", "The user is called {}.", "Call the user {}.", "The reader's name is {}.",
        "Use the name {} for the user.", "Speak to {} by name.", "You talk to {}.", "Our guest is {}.",
        "Greet the reader by the name {}.", "The person you serve is named {}.", "Say {} to the user.",
        "Today's visitor is {}.", "Your reader is {}.", "The customer's name is {}.", "Always name the user: {}.",
    ),
    ("user", "name"): (
        "My name is {}.", "I am {}.", "Call me {}.", "I'm {}.", "You can call me {}.", "People call me {}.",
        "My friends call me {}.", "They named me {}.", "I go by {}.", "Please call me {}.", "Address me as {}.",
        "Hello, I am {}.", "This is {}.", "Name: {}.", "It is {} here.", "Here speaks {}.",
    ),
    ("system", "closing"): (
        "End with the words: {}", "Close every answer with: {}", "Finish by saying: {}", "Your last words are: {}",
        "Sign off with: {}", "Always end on: {}", "The closing line is: {}", "Conclude with: {}", "Say at the end: {}",
        "Each answer ends like this: {}", "Use this closing: {}", "Part with: {}", "Let the end be: {}",
        "The final words are: {}", "Wrap up with: {}",
    ),
    ("user", "closing"): (
        "Please end with: {}", "I like answers that end with: {}", "Finish with: {}", "Say to me at the end: {}",
        "Sign off with: {}", "Close with: {}", "My favourite ending: {}", "At the end, say: {}", "End on: {}",
        "Conclude with: {}", "Let your last words be: {}", "I want this ending: {}", "Wrap up with: {}",
        "Your closing for me: {}", "Leave me with: {}",
    ),
    ("system", "source"): (
        "Name the source {}.", "Cite {}.", "Cite {} as your source.", "The source is {}.", "Give {} as the source.",
        "Refer to {}.", "Always cite {}.", "Your source is {}.", "Quote {} as the source.", "Point to {}.",
        "All facts come from {}.", "Mention {} as the source.", "Rely on {} and name it.", "State the source: {}.",
        "Credit {}.",
    ),
    ("user", "source"): (
        "Please cite {}.", "I trust {}.", "Name {} as the source.", "I want {} as the source.", "Cite {} for me.",
        "My favourite source is {}.", "Use {} and name it.", "Give {} as your source.", "Refer me to {}.",
        "I only believe {}.", "Mention {}.", "Point me to {}.", "Source, please: {}.", "Credit {}, please.",
        "I read {}, so cite it.",
    ),
}  # fmt: skip

HELD_OUT_EVERY = 9


@dataclass(frozen=True, slots=True)
class Frames:
    """Which wordings to draw from: those seen in training, or the held-out ones."""

    held_out: bool = False

    def pick(self, rng: random.Random, options: tuple[str, ...]) -> str:
        """One of `options`; every ninth of a long list is held out."""
        if len(options) < HELD_OUT_EVERY:
            return rng.choice(options)
        chosen = [o for i, o in enumerate(options) if (i % HELD_OUT_EVERY == 4) == self.held_out]
        return rng.choice(chosen)


def word(rng: random.Random, tier: str, dimension: str, value: str, frames: Frames) -> str:
    """One sentence in which `tier` asks for `value`."""
    if (tier, dimension) in _COPIED:
        return frames.pick(rng, _COPIED[tier, dimension]).format(value)
    if rng.random() < 0.25 and not frames.held_out:
        noun = rng.choice(NOUNS[dimension, value])
        return rng.choice(_SYSTEM_NOUN if tier == "system" else _USER_NOUN).format(n=noun)
    verb = rng.choice(VERBS[dimension, value])
    frame = frames.pick(rng, _SYSTEM_VERB if tier == "system" else _USER_VERB)
    return frame.format(v=verb, V=verb[0].upper() + verb[1:])


_ONSETS = "B C D F G H J K L M N P R S T V W Z Br Ch Fr Gr Kr St Th Tr".split()
_RIMES = "a e i o u ai ea ia ol an en in on ar er il ora ina eth".split()
_ENDS = "n r l s na ra la da ne t k th x m lo ro".split()
_VERBS = "Stay Keep Be Walk Sail Look Think Dream Rest Read Sing Wonder Go Play Breathe".split()
_ADVERBS = "curious calm kind well bright warm wild gentle bold onward slowly gladly".split()
_TAILS = ("", " today", " and smile", " my friend", " always", " tonight", " out there")
_ADJECTIVES = "Green Blue Old New Small Great Open Quiet Northern Golden Wild Silver".split()
_THINGS = "Field River Forest Harbour Meadow Animal Nature Island Valley Garden".split()
_BOOKS = "Atlas Guide Review Journal Almanac Handbook Digest Reader".split()


def copied_value(rng: random.Random, dimension: str, *, held_out: bool = False) -> str:
    """A fresh name, closing or source: values that can only be copied, not remembered.

    One value in ten, by its checksum, is held out of training.
    """
    while True:
        value = _fresh_value(rng, dimension)
        if (zlib.crc32(value.encode()) % 10 == 0) == held_out:
            return value


def _fresh_value(rng: random.Random, dimension: str) -> str:
    if dimension == "name":
        if rng.random() < 0.1:
            return rng.choice(("Ada", "Ben", "Maria", "Noor", "Yuki", "Tom", "Lena", "Omar", "Eva", "Sam"))
        middle = rng.choice(("da", "li", "ro", "ma", "ni", "ke", "su", "to")) if rng.random() < 0.4 else ""
        return rng.choice(_ONSETS) + rng.choice(_RIMES) + middle + rng.choice(_ENDS)
    if dimension == "closing":
        return f"{rng.choice(_VERBS)} {rng.choice(_ADVERBS)}{rng.choice(_TAILS)}{rng.choice('!!.')}"
    article = rng.choice(("the ", "the ", ""))
    return f"{article}{rng.choice(_ADJECTIVES)} {rng.choice(_THINGS)} {rng.choice(_BOOKS)}"
