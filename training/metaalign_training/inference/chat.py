"""A question to a model, its answer, and the seam behind which models are asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from metaalign_training.messages import Message

__all__ = ["Answer", "Backend", "ChatRequest", "Keep"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question.

    Attributes:
        messages: OpenAI roles only; fold the tiers first.
        temperature: None takes the endpoint's configured one.
        schema: JSON Schema that the answer must follow, if it is to be read by a program.
        seed: Makes two equal requests two samples.
    """

    messages: Sequence[Message]
    temperature: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, object] | None = None
    seed: int = 0

    def key(self, model: str) -> str:
        """What identifies the answer in the journal."""
        tree = [model, list(self.messages), self.temperature, self.max_tokens, self.schema, self.seed]
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, its tokens, and its price."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


Keep: TypeAlias = Callable[[str, Answer], None]


class Backend(Protocol):
    """Asks a model."""

    def ask(self, questions: Mapping[str, ChatRequest], keep: Keep, *, what: str, kept: int) -> None:
        """Call `keep` with the key and answer of each question, as soon as it is there.

        Args:
            questions: Key -> question.
            keep: Takes an answer; it may raise OSError.
            what: Names the work, for progress.
            kept: Answers to the same work that were kept before, for progress and errors.

        Raises:
            EndpointError: the model does not answer; what it did answer was handed over.
        """
        ...
