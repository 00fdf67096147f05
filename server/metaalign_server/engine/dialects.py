"""The protocols of the inference routes, one value each: the shape of errors, and where the receipt goes.

This module does not need vLLM, because the gate and the platform's routes return errors in a dialect too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ANTHROPIC",
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "OPENAI_RESPONSES",
    "Dialect",
    "dialect_of",
]

_BROKE_OFF = "the answer broke off: the engine failed; send the request again"


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How a protocol writes an error document.

    Attributes:
        types: HTTP status -> the protocol's error type.
        client, server: The types for any other status below 500, and from 500 on.
        wrap: Wraps the error's fields in the document.
        own_types: Whether the engine's own error type is kept.
    """

    types: dict[int, str]
    client: str
    server: str
    wrap: Callable[[dict[str, Any]], dict[str, Any]]
    own_types: bool

    def document(
        self, status: int, message: str, code: str | int | None, param: str | None, type_: str | None = None
    ) -> dict[str, Any]:
        """Return the error document; `type_` is the engine's own error type."""
        kind = self.types.get(status, self.client if status < 500 else self.server)
        if type_ is not None and self.own_types:
            kind = type_
        return self.wrap({"message": message, "type": kind, "param": param, "code": code})


_OPENAI_ERRORS = ErrorShape(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "invalid_request_error",
        429: "rate_limit_error",
        503: "service_unavailable",
    },
    client="invalid_request_error",
    server="server_error",
    wrap=lambda error: {"error": error},
    own_types=True,
)
_ANTHROPIC_ERRORS = ErrorShape(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
    },
    client="invalid_request_error",
    server="api_error",
    wrap=lambda error: {"type": "error", "error": error},
    own_types=False,
)


def _openai_event(_: str) -> str:
    error = {"message": _BROKE_OFF, "type": "InternalServerError", "param": None, "code": 500}
    return f"data: {json.dumps({'error': error})}\n\n"


def _anthropic_event(_: str) -> str:
    data = {"type": "error", "error": {"type": "api_error", "message": _BROKE_OFF}}
    return f"event: error\ndata: {json.dumps(data)}\n\n"


_SEQUENCE_NUMBER = re.compile(r'"sequence_number":(\d+)')


def _responses_event(last: str) -> str:
    found = _SEQUENCE_NUMBER.search(last)
    number = int(found[1]) + 1 if found is not None else 0
    data: dict[str, Any] = {"type": "error", "sequence_number": number, "code": "server_error", "param": None}
    data["message"] = _BROKE_OFF
    return f"event: error\ndata: {json.dumps(data)}\n\n"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol.

    Attributes:
        path: The route that speaks it; so do all routes below it.
        errors: How it writes an error document.
        error_event: Builds the error event of a stream that breaks off, given the event before it.
        anchor: JSON text in an event after which the receipt is inserted.
        every: Whether every event with the anchor carries the receipt, or only the first one.
        end: How the last event of a complete answer starts; verdicts on the answer go there, or before `[DONE]`.
        fingerprinted: Whether whole answers and first events have a `system_fingerprint`.
        drops_nulls: Whether answers omit null fields.
        raw_errors: Whether the engine's own error event may be forwarded in the middle of a stream.
        formatted: Whether the engine's handler formats its events itself, including keep-alive comments.
    """

    path: str
    errors: ErrorShape
    error_event: Callable[[str], str]
    anchor: str
    end: tuple[str, ...]
    every: bool = False
    fingerprinted: bool = False
    drops_nulls: bool = False
    raw_errors: bool = True
    formatted: bool = False


OPENAI_CHAT = Dialect(
    "/v1/chat/completions",
    _OPENAI_ERRORS,
    _openai_event,
    anchor="data: {",
    end=("data: [DONE]",),
    fingerprinted=True,
)
OPENAI_COMPLETIONS = Dialect(
    "/v1/completions",
    _OPENAI_ERRORS,
    _openai_event,
    anchor="data: {",
    end=("data: [DONE]",),
    fingerprinted=True,
)
OPENAI_RESPONSES = Dialect(
    "/v1/responses",
    _OPENAI_ERRORS,
    _responses_event,
    anchor='"response":{',
    end=("event: response.completed", "event: response.incomplete"),
    every=True,
)
ANTHROPIC = Dialect(
    "/v1/messages",
    _ANTHROPIC_ERRORS,
    _anthropic_event,
    anchor='"message":{',
    end=("event: message_stop",),
    drops_nulls=True,
    raw_errors=False,  # vLLM's text there describes its own failure to parse the engine's error
    formatted=True,
)
_DIALECTS = (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC)


def dialect_of(path: str) -> Dialect:
    """Return the dialect of `path`; our own routes use OpenAI's."""
    return next((dialect for dialect in _DIALECTS if path.startswith(dialect.path)), OPENAI_CHAT)
