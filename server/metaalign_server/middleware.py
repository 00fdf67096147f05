"""One ASGI middleware around every request: id, caller, size, drain, counting, access log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any, Protocol

from prometheus_client import Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metaalign_server.auth import Authenticator
from metaalign_server.errors import error_response
from metaalign_server.settings import Settings

__all__ = ["Gate"]

logger = logging.getLogger(__name__)

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health"})
_REQUEST_ID = re.compile(rb"[\w-]{1,64}")
# Priority and placement are the operator's matter: vLLM would take them from any client.
_ENGINE_HEADERS = frozenset({b"x-vllm-priority", b"x-data-parallel-rank"})

REQUESTS = Counter("metaalign_requests_total", "Answered HTTP requests.", ["route", "status"])
IN_FLIGHT = Gauge("metaalign_requests_in_flight", "HTTP requests being answered.")
APPLIED = Counter(
    "metaalign_preferences_applied_total", "Answers to which preferences were applied.", ["route"]
)


class Availability(Protocol):
    """What the middleware needs of the service."""

    settings: Settings

    @property
    def ready(self) -> bool: ...


class _Exchange:
    """The two channels of one request: counts what comes in, and puts the request id on what goes out."""

    def __init__(
        self, request_id: bytes, receive: Receive, send: Send, max_body: int, too_large: ASGIApp, scope: Scope
    ) -> None:
        self._request_id = request_id
        self._receive = receive
        self._send = send
        self._left = max_body
        self._too_large = too_large
        self._scope = scope
        self._cut_off = False
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._cut_off = True
                raise ValueError("body too large")  # whatever the application answers to this, 413 is sent
        return message

    async def send(self, message: Message) -> None:
        if self._cut_off:
            if self.status:
                return
            self._cut_off = False
            await self._too_large(self._scope, self._receive, self.send)
            self._cut_off = True
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._request_id)]
        await self._send(message)


class Gate:
    """Wraps the application.

    Args:
        app: The application.
        service: Says whether new work is accepted, and the size bound.
        authenticator: Finds the caller.
    """

    def __init__(self, app: ASGIApp, service: Availability, authenticator: Authenticator) -> None:
        self._app = app
        self._service = service
        self._max_body = service.settings.max_body_bytes
        self._authenticator = authenticator
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex.encode()
        # vLLM names the engine's request after x-request-id; a forged or repeated id must not reach it.
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if name != b"x-request-id" and name not in _ENGINE_HEADERS
        ]
        exchange = _Exchange(request_id, receive, send, self._max_body, self._too_large(scope["path"]), scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        self.in_flight += 1
        IN_FLIGHT.inc()
        try:
            answer = self._refusal(scope, headers, state) or self._app
            await answer(scope, exchange.receive, exchange.send)
        finally:
            self.in_flight -= 1
            IN_FLIGHT.dec()
            self._record(scope, state, exchange.status, started)

    def _too_large(self, path: str) -> ASGIApp:
        return error_response(
            path, 413, f"body: larger than {self._max_body} bytes; send less", code="body_too_large"
        )

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes], state: dict[str, Any]) -> ASGIApp | None:
        path = scope["path"]
        if path in PUBLIC_PATHS:
            return None
        caller = self._authenticator.caller(headers)
        if caller is None:
            return error_response(
                path,
                401,
                "a valid key is needed: send `Authorization: Bearer KEY` or `x-api-key: KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        state["caller"] = caller
        if scope["method"] == "POST":
            if not self._service.ready:
                return error_response(
                    path,
                    503,
                    "the server is shutting down; try another",
                    code="unavailable",
                    headers={"Retry-After": "5"},
                )
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._max_body:
                return self._too_large(path)
        return None

    def _record(self, scope: Scope, state: dict[str, Any], status: int, started: float) -> None:
        route = str(getattr(scope.get("route"), "path", "unmatched"))
        REQUESTS.labels(route, str(status)).inc()
        fields: dict[str, object] = {
            "request_id": state["request_id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round((time.perf_counter() - started) * 1000, 1),
        }
        metaalign_scope = state.get("metaalign_scope")
        applied = metaalign_scope.receipt if metaalign_scope is not None else None
        if applied is not None:
            APPLIED.labels(route).inc()
            fields["spec"] = applied.meta_prompt.spec_hash[:12]
            fields["tier_tokens"] = applied.receipt.tokens.system_info + applied.receipt.tokens.user_info
        logger.info("request", extra={"fields": fields})
