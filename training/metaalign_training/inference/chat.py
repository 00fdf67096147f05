"""A question to a model, its answer, and the protocol of what can be asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from metaalign_training.messages import Message

__all__ = ["Answer", "Backend", "ChatRequest", "Keep", "Tools", "tools_of"]

Tools: TypeAlias = Sequence[Mapping[str, object]]
"""Definitions of tools, in OpenAI's form."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question.

    Attributes:
        messages: OpenAI roles only; fold the tiers first.
        temperature: None means the endpoint's configured temperature.
        schema: JSON Schema of the answer, if a program reads it.
        seed: Requests that differ only in their seed are separate samples.
        tools: What the conversation's tool calls are about.
    """

    messages: Sequence[Message]
    temperature: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, object] | None = None
    seed: int = 0
    tools: Tools = ()

    def key(self, model: str) -> str:
        """The answer's key in the journal."""
        tree: list[object] = [
            model,
            list(self.messages),
            self.temperature,
            self.max_tokens,
            self.schema,
            self.seed,
        ]
        if self.tools:
            tree.append(list(self.tools))
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, how many tokens it took, and what it cost."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


Keep: TypeAlias = Callable[[str, Answer], None]


class Backend(Protocol):
    """A model that can be asked: over HTTP, or in an offline engine."""

    def ask(self, questions: Mapping[str, ChatRequest], keep: Keep, *, what: str, kept: int) -> None:
        """Ask all questions, and call `keep` with each key and answer as soon as the answer arrives.

        Args:
            questions: Key -> question.
            keep: Stores an answer; it may raise OSError.
            what: Name of the work, for progress reports.
            kept: Number of answers that were there before, for progress and error messages.

        Raises:
            EndpointError: the model stops answering; answers up to then have been stored.
        """
        ...


def tools_of(conversations: Sequence[object], tools: Sequence[Tools]) -> Sequence[Tools]:
    """The tools of each conversation; none has any if `tools` is empty."""
    return tools or [()] * len(conversations)
