"""A model behind an OpenAI-compatible API: concurrent requests, with retries and a progress bar."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

import openai
from openai.types.chat import ChatCompletion
from tqdm import tqdm

from metaalign_training.errors import EndpointError, nearest
from metaalign_training.inference.chat import Answer, ChatRequest, Keep
from metaalign_training.recipe import EndpointConfig

__all__ = ["HttpBackend", "problem_of"]


_PROBE_SECONDS = 5.0


def problem_of(config: EndpointConfig) -> str | None:
    """Return why the endpoint would not answer, or None: whether it is up, takes the key, and knows the model.

    Servers that list no models get the benefit of the doubt.
    """
    client = openai.OpenAI(
        base_url=config.base_url,
        api_key=os.environ.get(config.api_key_env) or "none",
        timeout=min(_PROBE_SECONDS, config.timeout),
        max_retries=0,
    )
    try:
        with client:
            raw = client.models.with_raw_response.list()
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return f"{config.base_url}: {_brief(error)}; put a valid key into ${config.api_key_env}"
    except openai.APIStatusError as error:
        return (
            f"{config.base_url}: {_brief(error)}; check that it is up" if error.status_code >= 500 else None
        )
    except openai.OpenAIError as error:
        return f"{config.base_url}: {_brief(error)}; check that it is up"
    try:
        names = [str(model["id"]) for model in json.loads(raw.text)["data"]]
    except (ValueError, KeyError, TypeError):
        return f"{config.base_url}: lists no models but something else; check `base_url` (it ends in /v1)"
    if names and config.model not in names and "*" not in "".join(names):
        return f"{config.base_url}: has no model {config.model!r}{nearest(config.model, names[:20])}"
    return None


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
                except (openai.OpenAIError, EndpointError, OSError, json.JSONDecodeError) as error:
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
        # The client does not check what it reads: a proxy's login page with status 200 comes as text.
        if not isinstance(completion, ChatCompletion):
            raise EndpointError("answered with a text or a web page instead of JSON")
        tree: Any = completion
        try:
            text = tree.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError):
            raise EndpointError("answered without a choice, so `model` may be no chat model") from None
        if completion.usage is None:
            return Answer(text)
        spent, got = completion.usage.prompt_tokens, completion.usage.completion_tokens
        return Answer(text, spent, got, (spent * config.input_price + got * config.output_price) / 1e6)

    def _error(self, error: Exception, done: int, total: int) -> EndpointError:
        where = f"{self._config.base_url} ({self._config.model})"
        kept = f"{done} of {total} answers are kept; run the same command again for the rest"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            remedy = f"put a valid key into ${self._config.api_key_env}"
        elif isinstance(error, openai.NotFoundError | EndpointError | json.JSONDecodeError):
            remedy = "check `base_url` (it ends in /v1) and `model`"
        elif isinstance(error, openai.BadRequestError):
            remedy = "set `structured: false` if it does not support JSON schemas, or fix the request"
        else:
            remedy = "check that it is up"
        return EndpointError(f"{where}: {_brief(error)}; {remedy}; {kept}")


def _brief(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "answered with something that is not JSON"
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:200]
    return f"status {status}, {text}" if status is not None else text
