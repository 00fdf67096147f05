"""Ask a teacher or judge: any OpenAI-compatible endpoint, or an offline vLLM engine, behind one call.

Many requests at once, with retries, a progress bar, a count of tokens and cost, and a journal: every answer is written
down when it arrives, so that a killed run, or one whose endpoint died, asks only for what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import openai
from tqdm import tqdm

from metaalign_training.errors import EndpointError
from metaalign_training.inference.journal import Journal
from metaalign_training.messages import Message
from metaalign_training.recipe import EndpointConfig

__all__ = ["ChatRequest", "Endpoint", "HttpEndpoint", "OfflineEndpoint", "Usage", "open_endpoint"]

logger = logging.getLogger(__name__)

_OFFLINE_BATCH = 256
"""Answers between two entries into the journal."""


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


@dataclass(slots=True)
class Usage:
    """What was asked and what it cost; `reused` answers came from the journal and cost nothing now."""

    requests: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Endpoint(Protocol):
    """Answers questions, in their order."""

    usage: Usage

    def complete(self, requests: Sequence[ChatRequest], what: str) -> list[str]:
        """The text of each answer; `what` names the work in the progress bar.

        Raises:
            EndpointError: it does not answer; what it did answer is kept.
        """
        ...


class _Journaled(ABC):
    """An endpoint whose answers are kept, so that each question is paid for once."""

    def __init__(self, config: EndpointConfig, journal: Path | None = None) -> None:
        self._config = config
        self._journal = Journal(journal)
        self.usage = Usage()

    def complete(self, requests: Sequence[ChatRequest], what: str) -> list[str]:
        """See `Endpoint.complete`."""
        keys = [request.key(self._config.model) for request in requests]
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in self._journal.answers}
        self.usage.reused += len(set(keys)) - len(missing)
        if missing:
            with self._journal.writing():
                self._ask_all(missing, what, total=len(set(keys)))
        return [self._journal.answers[key] for key in keys]

    @abstractmethod
    def _ask_all(self, missing: Mapping[str, ChatRequest], what: str, total: int) -> None:
        """Put an answer to each of `missing` into the journal; `total` counts those that are there already."""


class HttpEndpoint(_Journaled):
    """An OpenAI-compatible endpoint over HTTP."""

    def _ask_all(self, missing: Mapping[str, ChatRequest], what: str, total: int) -> None:
        asyncio.run(self._ask_many(missing, what, total))

    async def _ask_many(self, missing: Mapping[str, ChatRequest], what: str, total: int) -> None:
        client = openai.AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=os.environ.get(self._config.api_key_env) or "none",
            timeout=self._config.timeout,
            max_retries=self._config.retries,
        )
        queue = iter(missing.items())
        bar = tqdm(total=total, initial=total - len(missing), desc=what, unit="answer", mininterval=2)
        failures: list[Exception] = []

        async def worker() -> None:
            # After a failure nothing new is asked, but what is under way is waited for: it was paid for.
            for key, request in queue:
                try:
                    self._journal.add(key, await self._ask(client, request))
                except (openai.OpenAIError, EndpointError, OSError) as error:
                    failures.append(error)
                    return
                bar.update()
                if failures:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._config.concurrency, len(missing))):
                    group.create_task(worker())
        finally:
            bar.close()
            await client.close()
        if failures:
            if isinstance(failures[0], OSError):  # a full disk is not the endpoint's fault
                raise failures[0]
            kept = total - sum(key not in self._journal.answers for key in missing)
            raise self._error(failures[0], kept, total)

    async def _ask(self, client: openai.AsyncOpenAI, request: ChatRequest) -> str:
        options: dict[str, Any] = {}
        if request.schema is not None and self._config.structured:
            schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        temperature = request.temperature if request.temperature is not None else self._config.temperature
        messages: Any = list(request.messages)
        completion = await client.chat.completions.create(
            model=self._config.model,
            messages=messages,
            temperature=temperature,
            max_tokens=request.max_tokens or self._config.max_tokens,
            seed=request.seed,
            **options,
        )
        self.usage.requests += 1
        if completion.usage is not None:
            spent, got = completion.usage.prompt_tokens, completion.usage.completion_tokens
            self.usage.prompt_tokens += spent
            self.usage.completion_tokens += got
            self.usage.cost += (spent * self._config.input_price + got * self._config.output_price) / 1e6
        if not completion.choices:
            raise EndpointError(f"{self._config.base_url}: answered without a choice")
        return completion.choices[0].message.content or ""

    def _error(self, error: Exception, done: int, total: int) -> EndpointError:
        where = f"{self._config.base_url} ({self._config.model})"
        kept = f"{done} of {total} answers are kept; run the same command again for the rest"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            remedy = f"put a valid key into ${self._config.api_key_env}"
        elif isinstance(error, openai.NotFoundError):
            remedy = "check `base_url` (it ends in /v1) and `model`"
        elif isinstance(error, openai.BadRequestError):
            remedy = "set `structured: false` if it knows no JSON schema, or mend the request"
        else:
            remedy = "check that it is up"
        return EndpointError(f"{where}: {_brief(error)}; {remedy}; {kept}")


def _brief(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:200]
    return f"status {status}, {text}" if status is not None else text


class OfflineEndpoint(_Journaled):
    """An offline vLLM engine in this process's care; it is started with the first question that needs it."""

    def _ask_all(self, missing: Mapping[str, ChatRequest], what: str, total: int) -> None:
        from metaalign_training.inference.generation import VllmGenerator

        logger.info(
            "%s: %d of %d answers by offline vLLM on %s", what, len(missing), total, self._config.model
        )
        with contextlib.closing(VllmGenerator(Path(self._config.model))) as engine:
            entries = list(missing.items())
            for start in range(0, len(entries), _OFFLINE_BATCH):
                part = entries[start : start + _OFFLINE_BATCH]
                answers = engine.complete(
                    [request.messages for _, request in part], [self._options(r) for _, r in part]
                )
                for (key, _), (text, spent, got) in zip(part, answers, strict=True):
                    self._journal.add(key, text)
                    self.usage.requests += 1
                    self.usage.prompt_tokens += spent
                    self.usage.completion_tokens += got

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        config = self._config
        return {
            "temperature": config.temperature if request.temperature is None else request.temperature,
            "max_tokens": request.max_tokens or config.max_tokens,
            "seed": request.seed,
            "schema": request.schema if config.structured else None,
        }


def open_endpoint(config: EndpointConfig, journal: Path | None = None) -> Endpoint:
    """The endpoint that a recipe names: HTTP with a `base_url`, offline vLLM without."""
    return HttpEndpoint(config, journal) if config.base_url is not None else OfflineEndpoint(config, journal)


def usage_report(endpoints: Mapping[str, Endpoint]) -> dict[str, dict[str, float]]:
    """Name -> usage, for the record."""
    return {name: asdict(endpoint.usage) for name, endpoint in endpoints.items()}
