"""The OpenAPI document: FastAPI's, extended by what happens before and inside the routes.

FastAPI knows the routes. It does not know that a key is required, how the gate responds before any route, that a
malformed request is a 400 here, or that vLLM's models also accept a number as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from metaalign_server.alignment.service import Service
from metaalign_server.engine.dialects import ANTHROPIC, dialect_of
from metaalign_server.engine.refusals import Allowances
from metaalign_server.engine.request_schema import describe_refusals
from metaalign_server.engine.requests import (
    ChatRequest,
    CompletionsRequest,
    CountTokensRequest,
    MessagesRequest,
    ResponsesApiRequest,
)
from metaalign_server.routes.common import AnthropicErrorDocument, ErrorDocument, error_documents
from metaalign_server.routes.short_models import AlignRequest, RenderRequest
from metaalign_server.routes.tokens import TokenizeRequest
from metaalign_server.serving.gate import INFERENCE_PATHS, PUBLIC_PATHS

__all__ = ["build_document"]

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, as OpenAI's clients send it."},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "A key, as Anthropic's clients send it.",
    },
}
_WRITING = frozenset({"post", "put", "patch", "delete"})
_REFERENCE = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class _Deployment:
    """What differs between deployments.

    Attributes:
        models: Names of the served model.
        reasons: Whether the engine knows where the model's reasoning ends.
    """

    models: tuple[str, ...] = ()
    allowances: Allowances = field(default_factory=Allowances)
    reasons: bool = False

    @classmethod
    def of(cls, service: Service | None) -> _Deployment:
        if service is None:
            return cls()
        engine = service.engine
        return cls(tuple(engine.model_names), Allowances.of(service.settings), engine.reasons)


def build_document(app: FastAPI) -> dict[str, Any]:
    """Return the document of `app`, built once; without a service, it describes a server with default settings."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _complete(document, _Deployment.of(getattr(app.state, "metaalign", None)))
        app.openapi_schema = document
    return app.openapi_schema


def _complete(document: dict[str, Any], deployment: _Deployment) -> None:
    components = document["components"]
    components["securitySchemes"] = _SECURITY
    components["headers"] = _HEADERS
    document["security"] = [{name: []} for name in _SECURITY]
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (ErrorDocument, AnthropicErrorDocument):
        schema = model.model_json_schema(ref_template=_REFERENCE + "{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
    for name in (*_VLLM_REQUESTS, AlignRequest.__name__, RenderRequest.__name__, TokenizeRequest.__name__):
        if deployment.models:
            schemas[name]["properties"]["model"]["examples"] = list(deployment.models)
    for name in _VLLM_REQUESTS:
        describe_refusals(schemas, name, deployment.allowances, reasons=deployment.reasons)
    _describe_leniency(schemas)
    for name in schemas.keys() - _reachable(schemas, _references(document["paths"])):
        del schemas[name]


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if _REFERENCE + "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # FastAPI's own; `app.py` returns 400
        _add_errors(path, responses, 400)
    if path in PUBLIC_PATHS:
        operation["security"] = []
    else:
        _add_errors(path, responses, 401, 429, 503)
        if method in _WRITING:
            _add_errors(path, responses, 413)
    if "requestBody" in operation:
        _add_errors(path, responses, 400)
    if path in INFERENCE_PATHS:
        _add_errors(path, responses, 403, 404)
    for status, response in responses.items():
        names = ["x-request-id"]
        if path not in PUBLIC_PATHS:
            if status == "401":
                names.append("WWW-Authenticate")
            elif status != "503":
                names.extend(_RATE_LIMITS)
            if status in ("429", "503"):
                names.append("Retry-After")
            if status == "429":
                names.append("x-should-retry")
        headers = response.setdefault("headers", {})
        headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    operation["responses"] = dict(sorted(responses.items()))


def _header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"} | schema}


_RATE_LIMITS = {
    f"x-ratelimit-{what}-{kind}": _header(
        f"{meaning}, of {kind}; absent where there is no limit.", required=False, **schema
    )
    for kind in ("requests", "tokens")
    for what, meaning, schema in (
        ("limit", "The nearest limit", {"type": "integer", "minimum": 0}),
        ("remaining", "What is left of the nearest limit", {"type": "integer", "minimum": 0}),
        ("reset", "When all of it is there again, such as `1m30s`", {}),
    )
}
_HEADERS = _RATE_LIMITS | {
    "x-request-id": _header(
        "The id of the request; the client's own if it sent a usable one.", pattern=r"^[\w-]{1,64}$"
    ),
    "WWW-Authenticate": _header("How to send a key.", const="Bearer"),
    "Retry-After": _header("Seconds to wait.", type="integer", minimum=1),
    "x-should-retry": _header(
        "`false` where the wait is so long that clients should not try again by themselves; otherwise absent.",
        required=False,
        const="false",
    ),
}


def _add_errors(path: str, responses: dict[str, Any], *statuses: int) -> None:
    for status, response in error_documents(*statuses, anthropic=dialect_of(path) is ANTHROPIC).items():
        model = response["model"].__name__
        responses.setdefault(
            str(status),
            {
                "description": response["description"],
                "content": {"application/json": {"schema": {"$ref": _REFERENCE + model}}},
            },
        )


# vLLM's models

_VLLM_REQUESTS = tuple(
    model.__name__
    for model in (ChatRequest, CompletionsRequest, ResponsesApiRequest, MessagesRequest, CountTokensRequest)
)
_INTEGER = r"^\s*[+-]?\d[\d_]*(\.0*)?\s*$"
_NUMBER = (
    r"^\s*[+-]?((\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])\s*$"
)
_BOOLEAN = (
    r"^([tT]([rR][uU][eE])?|[yY]([eE][sS])?|[oO][nN]|1|[fF]([aA][lL][sS][eE])?|[nN][oO]?|[oO][fF][fF]|0)$"
)
_ALSO_TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "integer": ("LenientInteger", {"type": ["string", "boolean"], "pattern": _INTEGER}),
    "number": ("LenientNumber", {"type": ["string", "boolean"], "pattern": _NUMBER}),
    "boolean": (
        "LenientBoolean",
        {"type": ["string", "integer"], "pattern": _BOOLEAN, "minimum": 0, "maximum": 1},
    ),
}
_AS_IT_IS = frozenset({"const", "default", "enum", "example", "examples", "preferences"})
"""Keys whose values are no schemas, and our field in vLLM's requests, which is strict."""
_ANNOTATIONS = frozenset({"title", "description", "default", "deprecated"})


def _describe_leniency(schemas: dict[str, Any]) -> None:
    """Describe what vLLM's request models accept beyond the type: "1" and true for 1, "yes" and 1 for true.

    Clients may rely on it, so it is documented, not refused. Our own models are strict.
    """
    for name in _reachable(schemas, _VLLM_REQUESTS):
        schemas[name] = _widen(schemas[name])
    for kind, (name, schema) in _ALSO_TAKEN.items():
        schemas[name] = {"description": f"Also taken for the type {kind}."} | schema


def _reachable(schemas: dict[str, Any], names: Iterable[str]) -> set[str]:
    """Return `names` and all schemas that they refer to."""
    waiting = list(names)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen and name in schemas:
            seen.add(name)
            waiting.extend(_references(schemas[name]))
    return seen


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.removeprefix(_REFERENCE)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _widen(node: Any) -> Any:
    if isinstance(node, list):
        return [_widen(value) for value in node]
    if not isinstance(node, dict):
        return node
    node = {name: value if name in _AS_IT_IS else _widen(value) for name, value in node.items()}
    kind = node.get("type")
    if not isinstance(kind, str) or kind not in _ALSO_TAKEN or node.keys() & {"const", "enum"}:
        return node
    outside = {name: node.pop(name) for name in sorted(_ANNOTATIONS & node.keys())}
    return {"anyOf": [node, {"$ref": _REFERENCE + _ALSO_TAKEN[kind][0]}]} | outside
