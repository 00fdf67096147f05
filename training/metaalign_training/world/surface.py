"""How people type: punctuation, small letters, missing apostrophes, typing errors, and rules as lists."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

__all__ = ["Hand", "operator_text", "user_text"]

_ASKS = re.compile(
    r"(?:^|[:,!.;] )(?:what|where|how|who|which|why|when|in (?:what|which)|do|does|did|is|are|can|could|would|will"
    r"|should|may|must|isn't|any)\b",
    re.IGNORECASE,
)
_KEYS = {
    a: b
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for a, b in zip(row, row[1:] + row[-2], strict=True)
}
_ENDS = (".", "!", "?", ":", ")")
_TYPABLE = re.compile(r"\b[a-z]{4,}\b")


class Hand:
    """The habits of one person at the keyboard, drawn once for all that they type.

    Values to copy are private-use characters meanwhile, so nothing here touches them.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._small = rng.random() < 0.22
        self._bare = rng.random() < (0.5 if self._small else 0.08)
        self._no_apostrophes = rng.random() < 0.15
        self._typos = rng.choice((1, 1, 1, 2)) if rng.random() < 0.15 else 0

    def sentence(self, text: str) -> str:
        """`text` with a capital and a mark at its end, as far as this person cares."""
        if not self._small:
            text = text[:1].upper() + text[1:]
        if text.endswith(_ENDS) or not text:
            return text
        if _ASKS.search(text):
            return text if self._bare else f"{text}?"
        if self._bare:
            return text
        return text + self._rng.choices((".", "!", ""), (90, 7, 3))[0]

    def joined(self, sentences: Sequence[str]) -> str:
        """All of them as one text."""
        rng = self._rng
        if self._bare and len(sentences) > 1:
            link = rng.choice((", ", " ", "\n", ". ", " - ", "; "))
            return link.join(self.sentence(s) for s in sentences)
        whole = [self.sentence(s) for s in sentences]
        if len(whole) > 1:
            whole = [s if s.endswith(_ENDS) else f"{s}." for s in whole]
        return ("\n" if rng.random() < 0.05 else " ").join(whole)

    def typed(self, text: str) -> str:
        """`text` with this person's slips."""
        if self._small:
            text = text.lower()
        if self._no_apostrophes:
            text = re.sub(r"(?<=[a-zA-Z])'(?=[a-z])", "", text)
        elif self._rng.random() < 0.05:
            text = text.replace("'", "\u2019")
        for _ in range(self._typos):
            text = self._slip(text)
        return text

    def _slip(self, text: str) -> str:
        words = list(_TYPABLE.finditer(text))
        if not words:
            return text
        rng, found = self._rng, self._rng.choice(words)
        word = found[0]
        at = rng.randrange(1, len(word) - 1)
        kind = rng.random()
        if kind < 0.4:
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        elif kind < 0.65:
            word = word[:at] + word[at + 1 :]
        elif kind < 0.85:
            word = word[:at] + word[at] + word[at:]
        else:
            word = word[:at] + _KEYS[word[at]] + word[at + 1 :]
        return text[: found.start()] + word + text[found.end() :]


def user_text(hand: Hand, sentences: Sequence[str]) -> str:
    """What a person says of themself."""
    return hand.typed(hand.joined(sentences))


def operator_text(rng: random.Random, role: str, rules: Sequence[str]) -> str:
    """What an operator writes: a role, and rules as sentences or as a list."""
    capital = [r[:1].upper() + r[1:] for r in rules]
    ended = [r if r.endswith(_ENDS) else f"{r}." for r in capital]
    role = role[:1].upper() + role[1:] + "." if role else ""
    style = rng.random()
    if style < 0.8 or not rules:
        return " ".join(filter(None, (role, *ended)))
    heading = rng.choice(("", "Rules:", "Guidelines:", "Style:", "Instructions:", "Your rules:"))
    marks = (
        [f"{n}. " for n in range(1, len(rules) + 1)]
        if style > 0.93
        else [rng.choice(("- ", "* "))] * len(rules)
    )
    lines = [
        mark + (r if rng.random() < 0.5 else r.rstrip(".")) for mark, r in zip(marks, ended, strict=True)
    ]
    return "\n".join(filter(None, (role, heading, *lines)))
