"""Rows that only ask to repeat letters, each at most once: what a new model learns first.

To copy a name, a model finds the letter that it wrote last in the prompt, and writes the one that follows it there.
Where letters repeat, there are several such places, and models of this size hardly find that step by themselves. Where
none does, they find it within a few hundred steps, and then apply it to names.
"""

from __future__ import annotations

import random
import string

from metaalign_training.messages import Message

__all__ = ["copying"]

_LETTERS = string.ascii_letters
"""More letters make it slower: with digits and those with accents, 115 in all, 500 steps were not enough."""
_ASK = "Say: {}"


def copying(count: int, seed: int) -> list[list[Message]]:
    """`count` conversations whose answer is what the user wrote: 4 to 22 letters, none of them twice."""
    rng = random.Random(f"copying {seed}")
    conversations: list[list[Message]] = []
    for _ in range(count):
        text = "".join(rng.sample(_LETTERS, rng.randint(4, 22)))
        question: Message = {"role": "user", "content": _ASK.format(text)}
        conversations.append([question, {"role": "assistant", "content": text}])
    return conversations
