"""Rows that only ask to repeat letters, none of them twice: what a new model learns first.

To copy a name, a model finds the letter that it wrote last in the prompt, and writes the one that follows it there.
Where letters repeat, there are several such places, and models of this size hardly find that step by themselves. Where
none does, they find it within a few hundred steps, and then apply it to names.
"""

from __future__ import annotations

import random
import string

from metaalign_training.messages import Message
from metaalign_training.world.values import ACCENTED

__all__ = ["copying"]

_LETTERS = string.ascii_letters
_RARE = string.digits + "".join(sorted(set(ACCENTED + ACCENTED.upper()) - set(_LETTERS)))
"""In some rows only: with all of them as common as the others, 500 steps were not enough."""
_ASK = "Say: {}"


def copying(count: int, seed: int) -> list[list[Message]]:
    """`count` conversations whose answer is what the user wrote: 4 to 22 letters, none of them twice."""
    rng = random.Random(f"copying {seed}")
    conversations: list[list[Message]] = []
    for _ in range(count):
        letters = rng.sample(_LETTERS, rng.randint(4, 22))
        if rng.random() < 0.4:
            for letter in rng.sample(_RARE, rng.randint(1, 3)):
                letters[rng.randrange(len(letters))] = letter
        text = "".join(letters)
        question: Message = {"role": "user", "content": _ASK.format(text)}
        conversations.append([question, {"role": "assistant", "content": text}])
    return conversations
