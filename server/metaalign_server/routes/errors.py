"""Errors as HTTP responses, in the dialect of the path.

The code of the last one is in the request's state, where the gate finds what it counts and logs.
"""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.types import Scope

from metaalign import MetaAlignError
from metaalign.errors import ERRORS
from metaalign_server.engine.dialects import dialect_of
from metaalign_server.platform.refusal import Refusal

__all__ = ["error_response", "metaalign_error_response"]

_LONGEST = 1_000
"""Characters of a message, or of the name of a field."""


def error_response(
    scope: Scope, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return a response for an error in the table (`metaalign.errors.ERRORS`)."""
    status = ERRORS[code].status or 500
    message, param = _shown(message), _shown(param) if param is not None else None
    scope.setdefault("state", {})["error"] = code
    document = dialect_of(scope["path"]).errors.document(code, message, param)
    if status == 503:  # clients wait that long before they try again
        headers = {"Retry-After": "1"} | (headers or {})
    return JSONResponse(document, status_code=status, headers=headers)


def _shown(text: str) -> str:
    """Return what can be sent of a text that may quote the request."""
    return text[:_LONGEST].encode("utf-8", "replace").decode()


def metaalign_error_response(scope: Scope, error: MetaAlignError) -> JSONResponse:
    """Return a response for one of our own errors."""
    headers = dict(error.headers) if isinstance(error, Refusal) else None
    return error_response(scope, error.code, error.message, param=error.param, headers=headers)
