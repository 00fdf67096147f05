"""What vLLM's handlers return, told apart and brought into one form: an iterator of formatted events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive

__all__ = ["as_server_sent_events", "is_error", "sse_interval"]


def is_error(result: object) -> bool:
    """Whether a handler returned an error document instead of an answer."""
    return isinstance(result, ErrorResponse)


def sse_interval(state: Any) -> float:
    """Seconds between keep-alive comments, 0 for none (`--sse-keep-alive-interval`)."""
    return float(getattr(state.args, "sse_keep_alive_interval", 0) or 0)


def as_server_sent_events(events: AsyncIterator[Any], keep_alive: float) -> AsyncIterator[str]:
    """Format the Responses API's event objects; pass on what is formatted already."""
    stream: AsyncIterator[str] = (
        with_sse_keep_alive(_formatted(events), keep_alive) if keep_alive else _formatted(events)
    )
    return stream


async def _formatted(events: AsyncIterator[Any]) -> AsyncGenerator[str, None]:
    async for event in events:
        if isinstance(event, str):
            yield event
        else:
            yield f"event: {event.type}\ndata: {event.model_dump_json(by_alias=True)}\n\n"
