"""The only wrapper around the engine's `generate`; every prompt of ours passes through it.

On the way in it adds the tenant's cache salt. On the way out it counts tokens, then records the answer if it is to be
stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.sampling_params import RequestOutputKind

from metaalign_server.alignment.context import Recording, RequestContext, Usage, current_request
from metaalign_server.engine.defects import HookFailed

__all__ = ["wrap_generate"]


def wrap_generate(engine: Any) -> None:
    """Wrap generation for our routes; other users of the engine are not affected."""
    stock = engine.generate

    def generate(prompt: Any, sampling_params: Any, request_id: str, **options: Any) -> Any:
        context = current_request.get()
        if context is None:
            return stock(prompt, sampling_params, request_id, **options)
        outputs = stock(salt(prompt, context), sampling_params, request_id, **options)
        deltas = getattr(sampling_params, "output_kind", None) is RequestOutputKind.DELTA
        return _generate(outputs, context, deltas, request_id)

    engine.generate = generate


async def _generate(
    outputs: Any, context: RequestContext, deltas: bool, request_id: str
) -> AsyncGenerator[Any, None]:
    counted: dict[int, int] = {}
    first = True
    async with aclosing(outputs):
        async for output in outputs:
            try:
                if first:
                    first = False
                    context.usage.prompt += len(output.prompt_token_ids or ())
                meter(output, context.usage, counted, deltas)
                if context.recording is not None:
                    record(output, context.recording, deltas)
            except Exception as error:  # not `our_code`, because this runs for every token
                raise HookFailed("a hook of the server failed") from error
            yield output
    if context.recording is not None:
        context.recording.keep(answer_id(request_id), context.recording)


def salt(prompt: Any, context: RequestContext) -> Any:
    """Return the prompt with its tenant's salt, so that tenants do not share prefix-cache blocks."""
    if context.cache_salt is None or not isinstance(prompt, dict):
        return prompt
    # A client's own salt, if the operator allows it, partitions the tenant's blocks further.
    return {**prompt, "cache_salt": context.cache_salt + prompt.get("cache_salt", "")}


def meter(output: Any, usage: Usage, counted: dict[int, int], deltas: bool) -> None:
    """Count the tokens that one output adds.

    Args:
        output: The engine's output.
        usage: The running total.
        counted: Tokens of each choice so far.
        deltas: Whether an output contains only new tokens, or all tokens so far.
    """
    for completion in output.outputs:
        tokens = len(completion.token_ids)
        usage.output += tokens if deltas else tokens - counted.get(completion.index, 0)
        counted[completion.index] = tokens


def record(output: Any, recording: Recording, deltas: bool) -> None:
    """Record the text of the first choice."""
    for completion in output.outputs:
        if completion.index == 0:
            recording.answer = recording.answer + completion.text if deltas else completion.text


def answer_id(engine_id: str) -> str:
    """Return the answer id that the client sees, from the engine's request id."""
    if engine_id.startswith("cmpl-"):
        return engine_id.removesuffix("-0")
    return engine_id.removesuffix("_0") if engine_id.startswith("resp_") else engine_id
