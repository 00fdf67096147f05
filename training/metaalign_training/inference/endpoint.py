"""A teacher or judge whose answers are kept.

Each answer is written to disk when it arrives, so a run that was killed, or lost its endpoint, asks only for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from metaalign_training.inference.chat import Answer, Backend, ChatRequest
from metaalign_training.inference.journal import Journal
from metaalign_training.inference.offline import VllmBackend
from metaalign_training.inference.remote import HttpBackend
from metaalign_training.recipe import EndpointConfig

__all__ = ["Endpoint", "Usage", "open_endpoint", "usage_report"]


@dataclass(slots=True)
class Usage:
    """How much was asked and what it cost; `reused` answers came from the journal."""

    requests: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Endpoint:
    """A backend with a journal: each question is asked only once.

    Args:
        backend: What is asked.
        model: Name of the model, which is part of a question's identity.
        journal: File for the answers; None keeps them in memory.

    Attributes:
        usage: What this endpoint has asked so far.
    """

    def __init__(self, backend: Backend, model: str, journal: Path | None = None) -> None:
        self._backend, self._model = backend, model
        self._journal = Journal(journal)
        self.usage = Usage()

    def complete(self, requests: Sequence[ChatRequest], what: str) -> list[str]:
        """The text of each answer, in order; `what` names the work in the progress bar.

        Raises:
            EndpointError: it stops answering; the answers up to then are kept.
        """
        keys = [request.key(self._model) for request in requests]
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in self._journal.answers}
        kept = len(set(keys)) - len(missing)
        self.usage.reused += kept
        if missing:
            with self._journal.writing():
                self._backend.ask(missing, self._keep, what=what, kept=kept)
        return [self._journal.answers[key] for key in keys]

    def _keep(self, key: str, answer: Answer) -> None:
        self._journal.add(key, answer.text)
        self.usage.requests += 1
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.completion_tokens += answer.completion_tokens
        self.usage.cost += answer.cost


def open_endpoint(config: EndpointConfig, journal: Path | None = None) -> Endpoint:
    """The endpoint that a recipe names: over HTTP with a `base_url`, offline vLLM without one."""
    backend: Backend = HttpBackend(config) if config.base_url is not None else VllmBackend(config)
    return Endpoint(backend, config.model, journal)


def usage_report(endpoints: Mapping[str, Endpoint]) -> dict[str, dict[str, float]]:
    """The usage of each endpoint by name, for the record."""
    return {name: asdict(endpoint.usage) for name, endpoint in endpoints.items()}
