"""Cancellation of a handler whose client went away (vLLM's decorator, typed)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from vllm.entrypoints.serve.utils.api_utils import with_cancellation as _with_cancellation

__all__ = ["with_cancellation"]

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


def with_cancellation(handler: Handler) -> Handler:
    """Cancel `handler(request, raw_request)`, and with it the engine's work, when the client disconnects."""
    return cast(Handler, _with_cancellation(handler))
