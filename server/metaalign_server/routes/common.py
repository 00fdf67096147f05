"""Shared by all routes: access to the service and the caller, checks, and the documentation of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from metaalign.errors import ERRORS
from metaalign_server.alignment.service import Service
from metaalign_server.callers import OPEN_CALLER, Caller
from metaalign_server.engine.bounded_validation import MOST_VALUES, refuse_large_body
from metaalign_server.platform.profiles import NAME
from metaalign_server.platform.refusal import Refusal
from metaalign_server.platform.startup import Platform

__all__ = [
    "JSON_BODY",
    "AnthropicErrorDocument",
    "Body",
    "ErrorDocument",
    "IfMatch",
    "Name",
    "caller_of",
    "error_documents",
    "needs",
    "platform_of",
    "service_of",
]


Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
"""The name of a profile or a tenant."""
IfMatch = Annotated[str | None, Header(description="ETag of the state to change")]


class Body(BaseModel):
    """A request body: unknown keys are errors, and numbers must be numbers, not strings."""

    model_config = ConfigDict(extra="forbid", strict=True)
    most_values: ClassVar[int] = MOST_VALUES

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, body: Any) -> Any:
        """Accept 3.0 as an integer, as JSON does."""
        if not isinstance(body, dict):
            return body
        refuse_large_body(body, cls.most_values)
        return {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in body.items()
        }


def service_of(request: Request) -> Service:
    """Return the service of the application that serves `request`."""
    service: Service = request.app.state.metaalign
    return service


def caller_of(request: Request) -> Caller:
    """Return the caller of `request`; under `vllm serve`, which has none of our keys, everyone is the operator."""
    caller: Caller = getattr(request.state, "caller", OPEN_CALLER)
    return caller


def platform_of(request: Request) -> Platform:
    """Return the platform behind `request`; its routes are served only if there is one."""
    platform = service_of(request).platform
    if platform is None:
        raise AssertionError("routes of the platform are served with a platform")
    return platform


def needs(scope: str) -> Callable[[Request], Caller]:
    """Return a dependency that provides the caller, or refuses a key without `scope`."""

    async def check(request: Request) -> Caller:
        caller = caller_of(request)
        if scope not in caller.scopes:
            raise Refusal("missing_scope", f"this key lacks the scope `{scope}`")
        return caller

    return check  # type: ignore[return-value]


async def _require_json(raw_request: Request) -> None:
    """Refuse bodies of other media types, which browsers can send without a preflight."""
    media_type = raw_request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/json":
        raise RequestValidationError([{"loc": ("header", "content-type"), "msg": "must be application/json"}])


JSON_BODY = [Depends(_require_json)]
"""Dependencies of every route that reads JSON."""


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorDocument(BaseModel):
    """The body of every error, in OpenAI's format."""

    error: ErrorDetail


class AnthropicErrorDocument(BaseModel):
    """The body of every error of `/v1/messages`, in Anthropic's format."""

    type: Literal["error"]
    error: ErrorDetail


def _describe(status: int) -> str:
    """Describe a status from the error table."""
    kinds = [kind for kind in ERRORS.values() if kind.status == status]
    return "\n".join(f"- `{kind.code}`: {kind.when} {kind.remedy}" for kind in kinds)


def error_documents(*statuses: int, anthropic: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route for error statuses."""
    model = AnthropicErrorDocument if anthropic else ErrorDocument
    return {status: {"model": model, "description": _describe(status)} for status in sorted(statuses)}
