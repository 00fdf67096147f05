"""A teacher or judge: questions in, answers out, and every answer kept.

An answer is written down when it arrives, so a run that was killed, or whose endpoint died, asks only for the rest.
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
    """What was asked and what it cost; `reused` answers came from the journal and cost nothing now."""

    requests: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Endpoint:
    """A backend with a journal: each question is asked, and paid for, once.

    Args:
        backend: Asks the model.
        model: Its name; the same question to another model is another question.
        journal: Where answers are kept; None keeps them in memory.

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
            EndpointError: it does not answer; what it did answer is kept.
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
    """Name -> usage, for the record."""
    return {name: asdict(endpoint.usage) for name, endpoint in endpoints.items()}
