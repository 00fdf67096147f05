"""The values that the world asks for: closed ones, their marks in an answer, and generators of names, closings, sources.

Names, closings and sources come from so large a set that a model can only copy them. A share of the set, chosen by
hash, is kept for evaluation.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping

__all__ = [
    "AUDIENCE_LEADS",
    "CLOSED_VALUES",
    "DIMENSION_NAMES",
    "GREETINGS",
    "OPEN_DIMENSIONS",
    "SILENT",
    "TONE_CLOSERS",
    "TONE_OPENERS",
    "held_out_pair",
    "held_out_value",
    "open_value",
]

GREETINGS = {"French": "Bonjour!", "Spanish": "Hola!", "German": "Guten Tag!", "Italian": "Ciao!"}
TONE_OPENERS = {"pirate": "Ahoy", "formal": "Certainly", "cheerful": "Great question", "casual": "Hey there"}
TONE_CLOSERS = {
    "pirate": "Arr, matey!",
    "formal": "I remain at your service.",
    "cheerful": "Enjoy your day!",
    "casual": "Catch you later.",
}
AUDIENCE_LEADS = {"child": "In simple words:"}

CLOSED_VALUES: dict[str, tuple[str, ...]] = {
    "format": ("bullets", "numbered", "plain"),
    "length": ("one_sentence", "short", "medium", "long"),
    "tone": ("neutral", "pirate", "formal", "cheerful", "casual"),
    "units": ("metric", "imperial"),
    "audience": ("child", "general", "expert"),
    "greeting": tuple(GREETINGS),
}
OPEN_DIMENSIONS = ("name", "closing", "source")
DIMENSION_NAMES = (*CLOSED_VALUES, *OPEN_DIMENSIONS)
SILENT = frozenset({("format", "plain"), ("length", "medium"), ("tone", "neutral"), ("units", "metric"),
                    ("audience", "general")})  # fmt: skip
"""Values that look like no preference at all."""

_HELD_OUT_PAIRS = 9


def held_out_pair(asked: Mapping[str, str]) -> bool:
    """Whether `asked` joins two values that training never shows together.

    About every ninth pair is held out, spread evenly: a value misses about as many partners as any other.
    """
    at = [(DIMENSION_NAMES.index(d), CLOSED_VALUES[d].index(v)) for d, v in asked.items() if d in CLOSED_VALUES]
    at.sort()
    return any(
        (5 * a + 3 * b + 2 * i + 4 * j) % _HELD_OUT_PAIRS == 0
        for k, (a, i) in enumerate(at)
        for b, j in at[k + 1 :]
        if (CLOSED_VALUES[DIMENSION_NAMES[a]][i], CLOSED_VALUES[DIMENSION_NAMES[b]][j]) != ("bullets", "pirate")
    )


_KNOWN_NAMES = "Ada Ben Maria Noor Yuki Tom Lena Omar Eva Sam Anna Paul Mia Leo Zoe Max Ines Kofi Priya Hugo".split()
_ONSETS = "B C D F G H J K L M N P R S T V W Z Br Ch Fr Gr Kr St Th Tr A E I O U".split()
_RIMES = "a e i o u ai ea ia ol an en in on ar er il ora ina eth".split()
_ENDS = ("n r l s na ra la da ne t k th x m lo ro".split(), "bert mund line wen dra vik ton".split())
_VERBS = (
    "Stay Keep Be Walk Sail Look Think Dream Rest Read Sing Wonder Go Play Breathe Learn Smile Write Listen Wander"
).split()
_ADVERBS = (
    "curious calm kind well bright warm wild gentle bold onward slowly gladly safe happy strong free quiet early late"
).split()
_TAILS = ("", "", " today", " and smile", " my friend", " always", " tonight", " out there", " every day")
_PHRASES = (
    "See you soon", "Best wishes", "Yours truly", "Good luck", "Have a nice day", "Over and out", "Take care",
    "Thank you for asking", "Until next time", "With kind regards", "Cheers", "Goodbye", "All the best", "That is all",
    "Safe travels", "Peace", "Good night", "Many thanks",
)  # fmt: skip
_ADJECTIVES = "Green Blue Old New Small Great Open Quiet Northern Golden Wild Silver Royal Daily World".split()
_THINGS = "Field River Forest Harbour Meadow Animal Nature Island Valley Garden Science Wildlife".split()
_BOOKS = "Atlas Guide Review Journal Almanac Handbook Digest Reader Museum Society".split()


def held_out_value(value: str) -> bool:
    """Whether a name, closing or source is kept for evaluation."""
    return zlib.crc32(value.encode()) % 10 == 0


def open_value(rng: random.Random, dimension: str, *, held_out: bool) -> str:
    """A name, a closing or a source, held out from training or not."""
    make = {"name": _name, "closing": _closing, "source": _source}[dimension]
    while True:
        value = make(rng)
        if held_out_value(value) == held_out:
            return value


def _name(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(_KNOWN_NAMES)
    onset, end = rng.choice(_ONSETS), rng.choice(_ENDS[rng.random() < 0.2])
    middle = rng.choice(_RIMES) + (rng.choice("bdglmnrst") + rng.choice("aeiou") if rng.random() < 0.25 else "")
    title = rng.choice(("Dr ", "Captain ", "Ms ", "Mr ")) if rng.random() < 0.06 else ""
    return title + onset + middle + end


def _closing(rng: random.Random) -> str:
    if rng.random() < 0.3:
        text = rng.choice(_PHRASES)
        text += f", {_name(rng)}" if rng.random() < 0.3 else ""
    else:
        text = f"{rng.choice(_VERBS)} {rng.choice(_ADVERBS)}{rng.choice(_TAILS)}"
    return text + rng.choice("!!!..? "[:7]).strip()


def _source(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.2:
        return _name(rng).split(" ")[-1] + rng.choice(("pedia", "net", " Press", " Institute"))
    if draw < 0.3:
        return "".join(rng.choice("ABCDEFGHIKLMNOPRSTUW") for _ in range(rng.choice((3, 4))))
    title = f"{rng.choice(_ADJECTIVES)} {rng.choice(_THINGS)} {rng.choice(_BOOKS)}"
    return f"the {title}" if draw < 0.75 else title
