"""HTTP errors, mapped once: OpenAI-shaped everywhere, Anthropic-shaped on `/v1/messages`."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from metaalign import MetaAlignError
from metaalign_server.platform.errors import Refusal

__all__ = ["STATUS_BY_CODE", "error_response", "metaalign_error_response"]

STATUS_BY_CODE = {
    "invalid_preferences": 400,
    "invalid_prompt": 400,
    "refused_field": 400,
    "conflicting_profiles": 400,
    "system_tier_forbidden": 403,
    "profile_not_found": 404,
    "store_unavailable": 503,
    "store_full": 507,
    "value_not_storable": 400,
}

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def is_anthropic(path: str) -> bool:
    """Whether `path` speaks Anthropic's protocol."""
    return path.startswith("/v1/messages")


def error_response(
    path: str,
    status: int,
    message: str,
    *,
    code: str | int | None = None,
    param: str | None = None,
    type_: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An error document in the protocol that `path` speaks; `type_` is an engine's own name for the kind."""
    body: dict[str, Any]
    if is_anthropic(path):
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        body = {"type": "error", "error": {"type": kind, "message": message, "code": code, "param": param}}
    else:
        kind = type_ or _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


def metaalign_error_response(path: str, error: MetaAlignError) -> JSONResponse:
    """One of our own errors as a response."""
    status = error.status if isinstance(error, Refusal) else STATUS_BY_CODE.get(error.code, 500)
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    if status == 503:
        headers.setdefault("Retry-After", "1")
    return error_response(
        path, status, error.message, code=error.code, param=error.param, headers=headers or None
    )
