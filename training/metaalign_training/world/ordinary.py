"""Ordinary wording: how people and operators ask for a preference when nobody gave them a template.

`phrases` has the closed sentence frames of the first generator. Here a preference is an instruction or a noun phrase in
a sentence frame, a self-description that implies it, or a phrase at the end of the question; and people also say much
that asks for nothing. All of it is in `wordings/`. One sentence in twelve, by its checksum, is held out of training.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metaalign_training.world.drafts import Tier
from metaalign_training.world.facts import Animal
from metaalign_training.world.languages import GREETINGS, a_or_an, plural
from metaalign_training.world.patterns import expand, fill, wordings
from metaalign_training.world.phrases import CLOSED_VALUES
from metaalign_training.world.values import random_word, shaped_name

__all__ = ["Speaker"]

_HELD_OUT_EVERY = 12
_TRIES = 400
"""Draws in search of a sentence that is held out, or is not; short lists may have none."""
_VALUE = 0xE000
_RETRACTABLE = {
    "tone": ("pirate", "cheerful"),
    "format": ("bullets", "numbered", "table", "json"),
    "greeting": tuple(GREETINGS),
    "language": ("Spanish",),
    "audience": ("expert",),
    "units": ("imperial",),
}
"""Wishes whose negation asks for nothing but what an answer is by default."""
_NEGATIVE = ("no ", "not ", "never ", "nothing", "don't ", "do not ", "avoid ", "anything", "without ")


@dataclass
class Speaker:
    """Draws sentences, and keeps the values in them apart until the text is finished.

    Attributes:
        rng: Where everything is drawn from.
        held_out: Whether the sentences are those that training never sees.
    """

    rng: random.Random
    held_out: bool = False
    _values: list[str] = field(default_factory=list)

    def finished(self, text: str) -> str:
        """`text` with the values in their places."""
        for number, value in enumerate(self._values):
            mark = chr(_VALUE + number)
            if value.endswith("."):
                text = text.replace(f"{mark}.", mark)
            text = text.replace(mark, value)
        return text

    def kept(self, value: str) -> str:
        """A character that stands for `value` until the text is finished."""
        self._values.append(value)
        return chr(_VALUE + len(self._values) - 1)

    def any_of(self, patterns: Sequence[str]) -> str:
        """A sentence of any of the patterns, held out or not as this speaker wants."""
        text = ""
        for _ in range(_TRIES):
            text = expand(self.rng, self.rng.choice(patterns))
            if (zlib.crc32(text.encode()) % _HELD_OUT_EVERY == 5) == self.held_out:
                break
        return text

    # --- preferences -----------------------------------------------------------------------------------------

    def wish(self, tier: Tier, dimension: str, value: str) -> str:
        """A sentence in which a user or an operator asks for the value."""
        if dimension not in CLOSED_VALUES:
            return self._copied(tier, dimension, value)
        own, rng = "system" if tier == "system" else "user", self.rng
        if rng.random() < 0.06:
            return self._contrasted(dimension, value)
        kind = rng.choices(("do", "like", own), (35, 25, 40))[0]
        text = self._of(dimension, value, kind)
        if kind == own or (kind == "do" and text.startswith(_NEGATIVE)):
            return text
        return fill(self.any_of(wordings("frames")[f"{own}_{kind}"]), **{kind: text})

    def together(self, wishes: Sequence[tuple[str, str]], tier: Tier) -> str:
        """One sentence with two or three instructions."""
        frames = wordings("frames")
        parts = [self.do(dimension, value) for dimension, value in wishes]
        joined = fill(
            self.rng.choice(frames["join_two" if len(parts) == 2 else "join_three"]),
            **dict(zip("abc", parts, strict=False)),
        )
        return fill(self.any_of(frames["system_do" if tier == "system" else "user_do"]), do=joined)

    def do(self, dimension: str, value: str) -> str:
        """An instruction: "keep it short"."""
        if dimension in CLOSED_VALUES:
            return self._of(dimension, value, "do")
        pattern = self.any_of(wordings("copied")[dimension]["do"])
        return self._with_value(pattern, value, quoted=True)

    def aside(self, dimension: str, value: str) -> str:
        """A phrase for a question: "in a few words"."""
        return self._of(dimension, value, "query")

    def negated(self, dimension: str) -> str:
        """A sentence that takes a wish back, or tells of somebody else's."""
        value = self.rng.choice(_RETRACTABLE[dimension])
        kind = self.rng.choice(("do", "like"))
        return fill(
            self.any_of(wordings("frames")[f"negated_{kind}"]),
            **{kind: self._positive(dimension, value, kind)},
        )

    def _contrasted(self, dimension: str, value: str) -> str:
        """A wish, and another value that is not wished for."""
        other = self.rng.choice([v for v in CLOSED_VALUES[dimension] if v != value])
        kind = self.rng.choice(("do", "like", "like"))
        both = {kind: self._positive(dimension, value, kind), "other": self._positive(dimension, other, kind)}
        return fill(self.any_of(wordings("frames")[f"contrast_{kind}"]), **both)

    def _positive(self, dimension: str, value: str, kind: str) -> str:
        for _ in range(_TRIES):
            text = self._of(dimension, value, kind)
            if not text.startswith(_NEGATIVE):
                return text
        # All that is held out is negative.
        return Speaker(self.rng, not self.held_out)._positive(dimension, value, kind)

    def nothing(self, tier: Tier, asked: Mapping[str, str]) -> str:
        """A sentence that asks for nothing."""
        rng = self.rng
        open_to_negation = [d for d in _RETRACTABLE if d not in asked]
        if tier != "system" and open_to_negation and rng.random() < 0.3:
            return self.negated(rng.choice(open_to_negation))
        own = "system" if tier == "system" else "user"
        return self.filled(self.any_of(wordings("open" if rng.random() < 0.45 else "nothing")[own]))

    def filled(self, text: str) -> str:
        """`text` with any things, places, names and jobs in it: every second one a word that nobody knows."""
        text = re.sub(
            r"\{(other|things?|place|job|org|doing)\}", lambda found: self._open_word(found[1]), text
        )
        return re.sub(r"\ban? (?=([a-z]))", lambda found: "an " if found[1] in "aeiou" else "a ", text)

    def role(self) -> str:
        """What an operator says that the assistant is."""
        text = self.filled(self.any_of(wordings("frames")["roles"]))
        return re.sub(r"\ba (?=AI)", "an ", text)

    def retracted(self, dimension: str, value: str) -> str:
        """A sentence that ends a wish of an earlier turn."""
        kind = self.rng.choice(("do", "like"))
        return fill(
            self.any_of(wordings("frames")[f"retracted_{kind}"]),
            **{kind: self._positive(dimension, value, kind)},
        )

    def retractable(self, dimension: str, value: str) -> bool:
        """Whether an answer is as always once this wish is taken back."""
        return value in _RETRACTABLE.get(dimension, ())

    def _open_word(self, slot: str) -> str:
        rng, known = self.rng, wordings("open")
        if slot == "other":
            return self.kept(shaped_name(rng, rng.choice(("plain", "plain", "several words", "title"))))
        if slot == "org":
            kind = rng.choice(
                ("Zoo", "Ltd", "Inc", "Museum", "Labs", "Media", "Park", "School", "& Sons", "Group")
            )
            name = rng.choice((random_word(rng, 3), *rng.sample(known["places"].split(), 1))).capitalize()
            return self.kept(rng.choice((name, f"{name} {kind}", f"{name} {kind}", f"the {name} {kind}")))
        number = "s" if slot == "things" else ""
        if rng.random() < 0.5:
            word = random_word(rng, 3)
            return self.kept(word.capitalize()) if slot == "place" else word + number
        word = rng.choice(known[slot if slot == "things" else f"{slot}s"].split()).replace("-", " ")
        if slot == "place":
            return self.kept(word)
        return plural(word) if number else word

    def _of(self, dimension: str, value: str, kind: str) -> str:
        if dimension != "greeting":
            return self.any_of(wordings(dimension)[value][kind])
        own = wordings("greeting")["names"][value]
        text = self.any_of(wordings("greeting")["any"][kind])
        return fill(text, L=value, **{name: self.rng.choice(own[name]) for name in own})

    def _copied(self, tier: Tier, dimension: str, value: str) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            own = "system" if tier == "system" else "user"
            return fill(self.any_of(wordings("frames")[f"{own}_do"]), do=self.do(dimension, value))
        pattern = self.any_of(wordings("copied")[dimension]["system" if tier == "system" else "user"])
        return self._with_value(pattern, value, quoted=rng.random() < 0.1)

    def _with_value(self, pattern: str, value: str, *, quoted: bool) -> str:
        """The value in its place; in quotes where it would not end otherwise."""
        rng = self.rng
        if "{q}" not in pattern:
            mark = self.kept(value)
            return pattern.replace("{}", rng.choice((f'"{mark}"', f"'{mark}'")) if quoted else mark)
        words = value.rstrip(".!?")
        if pattern.endswith("{q}") and not quoted and words and value != words and rng.random() < 0.6:
            # Its own mark ends the sentence.
            link = "" if pattern.endswith(": {q}") or rng.random() < 0.3 else ":"
            return f"{pattern.removesuffix(' {q}')}{link} {self.kept(words)}{value[len(words) :]}"
        left, right = rng.choice((*(('"', '"'),) * 6, ("'", "'"), ("\u201c", "\u201d")))
        return pattern.replace("{q}", f"{left}{self.kept(value)}{right}")

    # --- questions -------------------------------------------------------------------------------------------

    def question(self, animal: Animal, kinds: Sequence[str], count: int = 0) -> str:
        """A question about an animal: the kinds of fact in their order, all of them, or a number of facts."""
        rng, known = self.rng, wordings("questions")
        if count:
            words = {1: "one", 2: "two", 3: "three", 4: "four"}
            pattern = self.any_of(known["one"] if count == 1 else known["count"])
            pattern = fill(pattern, count=rng.choice((words[count], words[count], str(count))))
        elif len(kinds) == 1:
            pattern = self.any_of(known[kinds[0]])
        elif kinds:
            first, second = kinds
            pattern = fill(
                self.any_of(known["two_kinds"]),
                first=rng.choice(known["first"][first]),
                second=rng.choice(known["second"][second]),
            )
        else:
            pattern = self.any_of(known["whole"])
        return self.about(pattern, animal)

    def about(self, pattern: str, animal: Animal) -> str:
        """`pattern` about this animal."""
        return fill(pattern, n=animal.name, ns=plural(animal.name), a=a_or_an(animal.name))
