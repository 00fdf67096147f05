"""The protocols of the inference routes, one value each: the shape of errors, and where the receipt goes.

This module does not need vLLM, because the gate and the platform's routes return errors in a dialect too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metaalign.errors import ERRORS

__all__ = [
    "ANTHROPIC",
    "CUT_OFF",
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "OPENAI_RESPONSES",
    "Dialect",
    "ErrorShape",
    "code_of_status",
    "dialect_of",
]

_CODES = {
    400: "invalid_request",
    404: "model_not_found",  # all that vLLM looks for on the routes that we serve
    422: "unprocessable_content",
    501: "not_supported",
    503: "overloaded",
}


def code_of_status(status: int) -> str:
    """Return the code of an error that has none of its own, because the protocol or the engine raised it."""
    return _CODES.get(status, "invalid_request" if status < 500 else "engine_failed")


_BROKE_OFF = "the answer broke off: the engine failed; send the request again"
CUT_OFF = "the server stops, and this answer was not complete in time; send the request again"


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How a protocol writes an error document.

    Attributes:
        types: HTTP status -> the protocol's error type.
        client, server: The types for any other status below 500, and from 500 on.
        wrap: Wraps the error's fields in the document.
    """

    types: dict[int, str]
    client: str
    server: str
    wrap: Callable[[dict[str, Any]], dict[str, Any]]

    def type_of(self, status: int) -> str:
        """Return the protocol's type of an error with this HTTP status."""
        return self.types.get(status, self.client if status < 500 else self.server)

    def document(self, code: str, message: str, param: str | None) -> dict[str, Any]:
        """Return the document of an error in the table (`metaalign.errors.ERRORS`)."""
        kind = self.type_of(ERRORS[code].status or 500)
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
)


def _openai_event(document: dict[str, Any], _: str) -> str:
    return f"data: {json.dumps(document)}\n\n"


def _anthropic_event(document: dict[str, Any], _: str) -> str:
    return f"event: error\ndata: {json.dumps(document)}\n\n"


_SEQUENCE_NUMBER = re.compile(r'"sequence_number":(\d+)')


def _responses_event(document: dict[str, Any], last: str) -> str:
    """Write OpenAI's own event, whose `type` says that it is an error and not of which kind."""
    found = _SEQUENCE_NUMBER.search(last)
    number = int(found[1]) + 1 if found is not None else 0
    data = document["error"] | {"type": "error", "sequence_number": number}
    return f"event: error\ndata: {json.dumps(data)}\n\n"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol.

    Attributes:
        path: The route that speaks it; so do all routes below it.
        errors: How it writes an error document.
        event: Writes an error document as an event of a stream, given the event before it.
        anchor: JSON text in an event after which the receipt is inserted.
        every: Whether every event with the anchor carries the receipt, or only the first one.
        end: How the last event of a complete answer starts; verdicts on the answer go there, or before `[DONE]`.
        fingerprinted: Whether whole answers and first events have a `system_fingerprint`.
        drops_nulls: Whether answers omit null fields.
        tells_why: Whether the engine's own message may be passed on when a stream breaks off.
        formatted: Whether the engine's handler formats its events itself, including keep-alive comments.
    """

    path: str
    errors: ErrorShape
    event: Callable[[dict[str, Any], str], str]
    anchor: str
    end: tuple[str, ...]
    every: bool = False
    fingerprinted: bool = False
    drops_nulls: bool = False
    tells_why: bool = True
    formatted: bool = False

    def error_event(
        self,
        last: str,
        code: str = "engine_failed",
        message: str = _BROKE_OFF,
        param: str | None = None,
    ) -> str:
        """Return the event that ends a stream which breaks off after the event `last`."""
        return self.event(self.errors.document(code, message, param), last)


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
    tells_why=False,  # vLLM's text there describes its own failure to parse the engine's error
    formatted=True,
)
_DIALECTS = (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC)


def dialect_of(path: str) -> Dialect:
    """Return the dialect of `path`; our own routes use OpenAI's."""
    return next((dialect for dialect in _DIALECTS if path.startswith(dialect.path)), OPENAI_CHAT)
