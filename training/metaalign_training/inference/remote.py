"""A model behind an OpenAI-compatible API: concurrent requests, with retries and a progress bar."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import openai
from tqdm import tqdm

from metaalign_training.errors import EndpointError
from metaalign_training.inference.chat import Answer, ChatRequest, Keep
from metaalign_training.recipe import EndpointConfig

__all__ = ["HttpBackend"]


class HttpBackend:
    """Asks over HTTP; see `Backend`."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config

    def ask(self, questions: Mapping[str, ChatRequest], keep: Keep, *, what: str, kept: int) -> None:
        """See `Backend.ask`."""
        asyncio.run(self._ask_all(questions, keep, what, kept))

    async def _ask_all(self, questions: Mapping[str, ChatRequest], keep: Keep, what: str, kept: int) -> None:
        client = openai.AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=os.environ.get(self._config.api_key_env) or "none",
            timeout=self._config.timeout,
            max_retries=self._config.retries,
        )
        queue = iter(questions.items())
        total = kept + len(questions)
        bar = tqdm(total=total, initial=kept, desc=what, unit="answer", mininterval=2)
        failures: list[Exception] = []
        answered = 0

        async def worker() -> None:
            # After a failure no new request starts, but those in flight are awaited: they have been paid for.
            nonlocal answered
            for key, request in queue:
                try:
                    keep(key, await self._ask(client, request))
                except (openai.OpenAIError, EndpointError, OSError) as error:
                    failures.append(error)
                    return
                answered += 1
                bar.update()
                if failures:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._config.concurrency, len(questions))):
                    group.create_task(worker())
        finally:
            bar.close()
            await client.close()
        if failures:
            if isinstance(failures[0], OSError):  # the disk is full; the endpoint did answer
                raise failures[0]
            raise self._error(failures[0], kept + answered, total)

    async def _ask(self, client: openai.AsyncOpenAI, request: ChatRequest) -> Answer:
        config = self._config
        options: dict[str, Any] = {}
        if request.schema is not None and config.structured:
            schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.tools:
            options["tools"] = list(request.tools)
        messages: Any = list(request.messages)
        completion = await client.chat.completions.create(
            model=config.model,
            messages=messages,
            temperature=request.temperature if request.temperature is not None else config.temperature,
            max_tokens=request.max_tokens or config.max_tokens,
            seed=request.seed,
            **options,
        )
        if not completion.choices:
            raise EndpointError(
                f"{config.base_url}: answered without a choice; check that `model` is a chat model"
            )
        text = completion.choices[0].message.content or ""
        if completion.usage is None:
            return Answer(text)
        spent, got = completion.usage.prompt_tokens, completion.usage.completion_tokens
        return Answer(text, spent, got, (spent * config.input_price + got * config.output_price) / 1e6)

    def _error(self, error: Exception, done: int, total: int) -> EndpointError:
        where = f"{self._config.base_url} ({self._config.model})"
        kept = f"{done} of {total} answers are kept; run the same command again for the rest"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            remedy = f"put a valid key into ${self._config.api_key_env}"
        elif isinstance(error, openai.NotFoundError):
            remedy = "check `base_url` (it ends in /v1) and `model`"
        elif isinstance(error, openai.BadRequestError):
            remedy = "set `structured: false` if it does not support JSON schemas, or fix the request"
        else:
            remedy = "check that it is up"
        return EndpointError(f"{where}: {_brief(error)}; {remedy}; {kept}")


def _brief(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:200]
    return f"status {status}, {text}" if status is not None else text
