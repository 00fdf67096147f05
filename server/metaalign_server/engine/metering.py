"""Around the engine: tokens are counted, prompts get their tenant's cache salt, answers to be kept are collected."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.sampling_params import RequestOutputKind

from metaalign_server.scope import RequestScope, current_scope

__all__ = ["install_meter"]


def install_meter(engine: Any) -> None:
    """Meter what is generated for our routes; other users of the engine are left alone."""
    stock = engine.generate

    def generate(prompt: Any, sampling_params: Any, request_id: str, **options: Any) -> Any:
        scope = current_scope.get()
        if scope is None:
            return stock(prompt, sampling_params, request_id, **options)
        if scope.cache_salt is not None and isinstance(prompt, dict):
            # A client's own salt, where an operator allows it, divides the tenant's blocks further.
            prompt = {**prompt, "cache_salt": scope.cache_salt + prompt.get("cache_salt", "")}
        deltas = getattr(sampling_params, "output_kind", None) is RequestOutputKind.DELTA
        return _metered(stock(prompt, sampling_params, request_id, **options), scope, deltas, request_id)

    engine.generate = generate


async def _metered(
    outputs: Any, scope: RequestScope, deltas: bool, request_id: str
) -> AsyncGenerator[Any, None]:
    usage, recording = scope.usage, scope.recording
    first = True
    counted: dict[int, int] = {}
    async with aclosing(outputs):
        async for output in outputs:
            if first:
                first = False
                usage.prompt += len(output.prompt_token_ids or ())
            for completion in output.outputs:
                tokens = len(completion.token_ids)
                usage.output += tokens if deltas else tokens - counted.get(completion.index, 0)
                counted[completion.index] = tokens
                if recording is not None and completion.index == 0:
                    recording.answer = recording.answer + completion.text if deltas else completion.text
            yield output
    if recording is not None:
        recording.keep(request_id, recording)
