"""Cancels a handler when its client disconnects (vLLM's decorator, typed)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar, cast

from starlette.responses import Response
from vllm.entrypoints.serve.utils.api_utils import with_cancellation as _with_cancellation

__all__ = ["with_cancellation"]

CLIENT_GONE = 499
"""Status in metrics and logs for a client that disconnects before its answer (as in nginx)."""

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


def with_cancellation(handler: Handler) -> Handler:
    """Cancel `handler(request, raw_request)`, and with it the engine's work, when the client disconnects."""
    cancellable = _with_cancellation(handler)

    @wraps(cancellable)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        response = await cancellable(*args, **kwargs)
        return Response(status_code=CLIENT_GONE) if response is None else response

    return cast(Handler, answer)
