"""The application: only our routes, one error mapping, one middleware."""

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
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp

import metaalign
from metaalign import MetaAlignError
from metaalign_server.engine.dialects import code_of_status
from metaalign_server.engine.handlers import ENGINE_ERRORS, EngineRefusal, validation_parameter
from metaalign_server.routes import (
    admin,
    align,
    feedback,
    inference,
    operations,
    playground,
    profiles,
    responses,
    tokens,
)
from metaalign_server.routes.errors import error_response, metaalign_error_response
from metaalign_server.serving.openapi import build_document
from metaalign_server.settings import Settings

__all__ = ["add_refusal_handlers", "create_app", "with_cors"]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Objects that exist now live as long as the process; full collections need not scan them again.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the application without its engine; `engine.installation.install` completes `app.state`.

    Args:
        settings: How the application is published; the defaults if None.
    """
    documented = settings is None or not settings.disable_fastapi_docs
    app = FastAPI(
        root_path=settings.root_path if settings is not None else "",
        openapi_url="/openapi.json" if documented else None,
        title="MetaAlign",
        version=metaalign.__version__,
        description="OpenAI- and Anthropic-compatible inference that follows `preferences` given with each request.",
        lifespan=_lifespan,
        redoc_url=None,
    )
    for routes in (inference, responses, tokens, align, profiles, feedback, admin, operations):
        app.include_router(routes.router)
    app.include_router(responses.stored)
    if settings is None or settings.playground:
        app.include_router(playground.router)
    _add_error_handlers(app)
    app.openapi = partial(build_document, app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    return app


def with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Let pages of the allowed origins call `app`; without any, browsers keep all other pages out."""
    if not settings.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=settings.allowed_methods,
        allow_headers=settings.allowed_headers,
        allow_credentials=settings.allow_credentials,
        expose_headers=["*"],
    )


def add_refusal_handlers(app: FastAPI) -> None:
    """Map the errors that the inference routes raise on purpose: our own, and refusals by vLLM's handlers."""
    app.add_exception_handler(MetaAlignError, _on_metaalign_error)
    app.add_exception_handler(EngineRefusal, _on_engine_refusal)


def _add_error_handlers(app: FastAPI) -> None:
    """Map every exception to one error document."""
    add_refusal_handlers(app)
    for kind in ENGINE_ERRORS:
        app.add_exception_handler(kind, _on_engine_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RecursionError, _on_deep_nesting)
    app.add_exception_handler(Exception, _on_defect)


async def _on_metaalign_error(request: Request, error: Any) -> Response:
    return metaalign_error_response(request.scope, error)


_INTERNAL = "internal error; the log names the place under this request id"


async def _on_engine_refusal(request: Request, error: Any) -> Response:
    """Return vLLM's message about a request; for vLLM's own failures, only where to look."""
    message = error.message
    # The reason `unavailable` is always our own.
    if error.status >= 500 and error.code != "unavailable" and error.__cause__ is not None:
        _log(request, error.__cause__)
        message = _INTERNAL
    return error_response(request.scope, error.code, message, param=error.param)


async def _on_engine_error(request: Request, error: Exception) -> Response:
    """Map errors of vLLM's validators, which run while a body is parsed, before any handler."""
    refusal = EngineRefusal.of(error)
    refusal.__cause__ = error
    return await _on_engine_refusal(request, refusal)


async def _on_defect(request: Request, error: Exception) -> Response:
    """Handle any unexpected error: it is a defect, and its text may quote a request."""
    _log(request, error)
    return error_response(request.scope, "internal_error", _INTERNAL)


def _log(request: Request, error: BaseException) -> None:
    fields = {"request_id": getattr(request.state, "request_id", None)}
    logger.error("request failed", exc_info=error, extra={"fields": fields})


_UNION_NOISE = ("function-", "list[", "lax-or-strict", "json-or-python", "chain[", "nullable", "tagged-union")


async def _on_validation_error(request: Request, error: Any) -> Response:
    """Report the first problem by field, without its value, which may be private."""
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
    param = validation_parameter(cause) or ".".join(steps) or None
    reason = str(first.get("msg", "invalid")).removeprefix("Value error, ")
    if first.get("type") == "json_invalid":
        param, reason = "body", "not valid JSON"
    message = f"{param}: {reason}" if param else reason
    return error_response(request.scope, "invalid_request", message, param=param)


async def _on_http_exception(request: Request, error: Any) -> Response:
    path = request.url.path
    if error.status_code == 404:
        message = f"no route {request.method} {path}" if len(path) < 100 else "no such route"
        return error_response(request.scope, "route_not_found", message)
    if error.status_code == 405:
        return error_response(
            request.scope,
            "method_not_allowed",
            f"no {request.method} here",
            headers={"Allow": _allowed(request)},
        )
    code = code_of_status(error.status_code)
    return error_response(request.scope, code, str(error.detail), headers=error.headers)


def _allowed(request: Request) -> str:
    """Return the methods of all routes of a path; Starlette names only those of the first one."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


async def _on_deep_nesting(request: Request, error: Any) -> Response:
    return error_response(request.scope, "nested_too_deeply", "body: nested too deeply")
