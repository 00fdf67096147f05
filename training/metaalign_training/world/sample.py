"""A sample: one conversation with the answer that obeys its preferences, and what is checked in any answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metaalign import Preferences
from metaalign_training.messages import Message, ask
from metaalign_training.world.drafts import PARTS

__all__ = ["Check", "Sample"]


@dataclass(frozen=True, slots=True)
class Check:
    """What the verifiers check in an answer.

    Attributes:
        asked: Dimension -> value that wins.
        content: Texts that a right answer must contain.
        subject: The animal with its article, if the question is about one.
        facts: Everything that is true of it.
    """

    asked: Mapping[str, str] = field(default_factory=dict)
    content: tuple[str, ...] = ()
    subject: str = ""
    facts: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Check:
        """The check of a row, as `CheckRow` describes it.

        Raises:
            ValueError: a field is missing or unknown.
        """
        try:
            return cls(
                dict(tree["asked"]), tuple(tree["content"]), str(tree["subject"]), tuple(tree["facts"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"`check` must have asked, content, subject and facts ({error})") from None


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation with the answer that obeys its preferences.

    Attributes:
        split: The ability that it tests.
        preferences: The `preferences` field.
        messages: Dialogue before the answer, without tiers.
        answer: The right answer.
        check: What is checked in any answer.
        rejected: A fluent answer that goes against the preferences.
    """

    split: str
    preferences: Preferences
    messages: tuple[Message, ...]
    answer: str
    check: Check = field(default_factory=Check)
    rejected: str | None = None

    @property
    def part(self) -> str:
        """The part of the MetaAlign Dataset that it belongs to."""
        return next(part for part, splits in PARTS.items() if self.split in splits)

    def prompt(self) -> list[Message]:
        """Tiers and dialogue: what the model is asked."""
        return ask(self.preferences, *self.messages)

    def conversation(self, answer: str | None = None) -> list[Message]:
        """What is trained on: tiers, dialogue, and the right answer unless another is given."""
        content = self.answer if answer is None else answer
        return [*self.prompt(), {"role": "assistant", "content": content}]
