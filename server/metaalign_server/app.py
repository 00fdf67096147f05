"""The application: our routes and nothing else, one error mapping, one middleware."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

import metaalign
from metaalign import MetaAlignError
from metaalign_server.engine.service import ENGINE_ERRORS, describe_exception, is_validation_error
from metaalign_server.errors import error_response, metaalign_error_response
from metaalign_server.openapi import build_document
from metaalign_server.routes import admin, feedback, inference, operations, profiles

__all__ = ["create_app", "on_metaalign_error"]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # What exists now lives as long as the process: full collections need not look at it again.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def create_app() -> FastAPI:
    """The application without its engine; `attach_service` completes `app.state`."""
    app = FastAPI(
        title="MetaAlign",
        version=metaalign.__version__,
        description="OpenAI- and Anthropic-compatible inference that follows `preferences` given with each request.",
        lifespan=_lifespan,
        redoc_url=None,
    )
    for routes in (inference, profiles, feedback, admin, operations):
        app.include_router(routes.router)
    _add_error_handlers(app)
    app.openapi = partial(build_document, app)  # type: ignore[method-assign]  # FastAPI's way to complete it
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Map every exception to one error document."""
    app.add_exception_handler(MetaAlignError, on_metaalign_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RecursionError, _on_deep_nesting)
    for kind in (*ENGINE_ERRORS, Exception):
        app.add_exception_handler(kind, _on_engine_exception)


async def on_metaalign_error(request: Request, error: Any) -> Response:
    """One of our own errors, shaped for the route's protocol."""
    return metaalign_error_response(request.url.path, error)


_UNION_NOISE = ("function-", "list[", "lax-or-strict", "json-or-python", "chain[", "nullable", "tagged-union")


async def _on_validation_error(request: Request, error: Any) -> Response:
    """The first problem, by field; the value is not repeated, it may be private."""
    problems = error.errors()
    first: dict[str, Any] = (
        problems[0] if problems and isinstance(problems[0], dict) else {"msg": "invalid body"}
    )
    steps = [
        str(step)
        for step in first.get("loc", ())
        if step != "body" and not str(step).startswith(_UNION_NOISE) and "[" not in str(step)
    ]
    cause = first.get("ctx", {}).get("error") if isinstance(first.get("ctx"), dict) else None
    param = is_validation_error(cause) or ".".join(steps) or None
    reason = str(first.get("msg", "invalid")).removeprefix("Value error, ")
    if first.get("type") == "json_invalid":
        param, reason = "body", "not valid JSON"
    message = f"{param}: {reason}" if param else reason
    return error_response(request.url.path, 400, message, code=400, param=param)


async def _on_http_exception(request: Request, error: Any) -> Response:
    path = request.url.path
    if error.status_code == 404:
        message = f"no route {request.method} {path}" if len(path) < 100 else "no such route"
        return error_response(path, 404, message, code="route_not_found")
    if error.status_code == 405:
        return error_response(
            path,
            405,
            f"no {request.method} here",
            code="method_not_allowed",
            headers={"Allow": _allowed(request)},
        )
    return error_response(
        path, error.status_code, str(error.detail), code=error.status_code, headers=error.headers
    )


def _allowed(request: Request) -> str:
    """The methods of all routes of a path: Starlette names those of the first one."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


async def _on_deep_nesting(request: Request, error: Any) -> Response:
    return error_response(request.url.path, 400, "body: nested too deeply", code="nested_too_deeply")


async def _on_engine_exception(request: Request, error: Exception) -> Response:
    described = describe_exception(error)
    if described.status >= 500:
        logger.error(
            "request failed", exc_info=error, extra={"fields": {"request_id": request.state.request_id}}
        )
        described_message = "internal error; the log names the place under this request id"
    else:
        described_message = described.message
    return error_response(
        request.url.path,
        described.status,
        described_message,
        code=described.status,
        param=described.param,
        type_=described.type,
    )
