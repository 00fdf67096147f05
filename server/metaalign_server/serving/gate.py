"""One ASGI middleware around every request: id, caller, limits, size, drain, counting, access log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metaalign import MetaAlignError
from metaalign_server.callers import OPEN_CALLER, token_of
from metaalign_server.platform.limits import Admission, buckets_of
from metaalign_server.platform.refusal import Refusal
from metaalign_server.platform.startup import Platform
from metaalign_server.routes.errors import metaalign_error_response
from metaalign_server.routes.playground import PLAYGROUND_PATHS
from metaalign_server.serving.metrics import (
    IN_FLIGHT,
    count_overridden,
    count_request,
    count_tokens,
    count_verdicts,
)
from metaalign_server.serving.telemetry import Spans
from metaalign_server.settings import Settings, is_loopback

__all__ = ["Gate"]

logger = logging.getLogger(__name__)

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health"})
INFERENCE_PATHS = frozenset(
    {
        "/detokenize",
        "/tokenize",
        "/v1/align",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/preferences/render",
        "/v1/responses",
    }
)
_MOST_QUERIES = 32
_MOST_HEADERS = 256
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PORT = re.compile(rb":\d*$")
_REQUEST_ID = re.compile(rb"[\w-]{1,64}")
# Only the operator decides priority and placement; vLLM would accept them from any client.
_ENGINE_HEADERS = frozenset({b"x-vllm-priority", b"x-data-parallel-rank"})


class Availability(Protocol):
    """What the middleware needs from the service."""

    settings: Settings

    @property
    def ready(self) -> bool: ...


class _Passage:
    """One request in transit: counts incoming bytes, adds headers to the response, settles at the end."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._scope = scope
        self._receive = receive
        self._send = send
        self._left = gate.max_body
        self._cut_off = False
        self._settled = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.admission: Admission | None = None
        self.status = 0
        self.streams_since: float | None = None
        self.complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._cut_off = True
                # Whatever the application answers, 413 is sent: FastAPI turns any error during reading into a 400.
                raise self._gate.body_too_large()
        return message

    async def send(self, message: Message) -> None:
        if self._cut_off:
            if self.status:
                return
            self._cut_off = False
            too_large = metaalign_error_response(self._scope, self._gate.body_too_large())
            await too_large(self._scope, self._receive, self.send)
            self._cut_off = True
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.headers]
            if not self._gate.ready:  # a kept-alive connection could be cut between two requests
                message["headers"].append((b"connection", b"close"))
        elif not message.get("more_body", False):
            await self.settle()  # before the client sees the end and sends another request
            self.complete = True
        elif self.streams_since is None:
            self.streams_since = time.perf_counter()
        await self._send(message)

    async def settle(self) -> None:
        """Count the tokens, and give back what the request has not used, once."""
        if self._settled:
            return
        self._settled = True
        opened = self._scope["state"].get("metaalign_context")
        if opened is not None and opened.places is not None:
            opened.places.leave()
        if self.admission is not None:
            await self._gate.platform.limiter.settle(self.admission, opened.usage.total if opened else 0)


class Gate:
    """Wraps the application.

    Args:
        app: The application.
        service: Tells whether new work is accepted, and the size limit.
        platform: Finds the caller and counts usage.
        spans: Creates trace spans, if tracing is enabled.
    """

    def __init__(
        self, app: ASGIApp, service: Availability, platform: Platform, spans: Spans | None = None
    ) -> None:
        self._app = app
        self._service = service
        self._spans = spans
        self.platform = platform
        self.max_body = service.settings.max_body_bytes
        root = platform.settings.root_path
        self._public = PUBLIC_PATHS | PLAYGROUND_PATHS if platform.settings.playground else PUBLIC_PATHS
        self._prefix = re.compile(f"(?:{re.escape(root)})+(?=/)") if root else None
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        # The router drops this prefix, so what the checks here read must not have it either.
        if self._prefix is not None and (found := self._prefix.match(scope["path"])):
            scope["path"] = scope["path"][found.end() :]
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex.encode()
        # vLLM uses x-request-id as the engine's request id; a forged or repeated id must not reach it.
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if name != b"x-request-id" and name not in _ENGINE_HEADERS
        ]
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        passage = _Passage(self, scope, receive, send)
        passage.headers.append((b"x-request-id", request_id))
        span = self._spans.start(scope["method"], headers) if self._spans is not None else None
        self.in_flight += 1
        IN_FLIGHT.inc()
        try:
            answer = self._app
            try:
                await self._check(scope, headers, passage)
            except MetaAlignError as error:
                answer = metaalign_error_response(scope, error)
            await answer(scope, passage.receive, passage.send)
        except Exception:
            # Starlette raises a defect again after it has been answered; uvicorn would log it a second time and cut the
            # connection, on which the client may have sent its next request already.
            if not passage.complete:
                raise
        finally:
            self.in_flight -= 1
            IN_FLIGHT.dec()
            fields = self._record(scope, passage, started)
            if span is not None:
                span.end(fields)
            await passage.settle()

    @property
    def ready(self) -> bool:
        """Whether the server accepts new work."""
        return self._service.ready

    def body_too_large(self) -> Refusal:
        """Return the refusal of a body that is too large."""
        return Refusal("body_too_large", f"body: larger than {self.max_body} bytes; send less")

    async def _check(self, scope: Scope, headers: dict[bytes, bytes], passage: _Passage) -> None:
        """Find the caller and count the request.

        Raises:
            MetaAlignError: the request may not go on.
        """
        path = scope["path"]
        # FastAPI reads both in time that grows with the square of their number.
        if scope["query_string"].count(b"&") >= _MOST_QUERIES or len(scope["headers"]) > _MOST_HEADERS:
            raise Refusal(
                "invalid_request",
                f"a request has at most {_MOST_QUERIES} query parameters and {_MOST_HEADERS} header fields; send fewer",
            )
        if path in self._public:
            return
        token = token_of(headers)
        caller = self.platform.lookups.peek_caller(token) or await self.platform.lookups.caller(token)
        if caller is None:
            raise Refusal(
                "invalid_api_key",
                "a valid key is needed: send `Authorization: Bearer KEY` or `x-api-key: KEY`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scope["state"]["caller"] = caller
        if caller.key_id == OPEN_CALLER.key_id and self._from_elsewhere(headers):
            raise Refusal("cross_site", "a page of another site may not use a server that asks for no key")
        # A router reads `/v1/align\n` as `/v1/align`; the checks here would not know it.
        if not path.isprintable():
            raise Refusal("route_not_found", "no such route")
        if scope["method"] not in _READING:
            self._check_work(headers)
        inference = path in INFERENCE_PATHS
        if inference and "inference" not in caller.scopes:
            raise Refusal("missing_scope", "this key lacks the scope `inference`")
        buckets = buckets_of(caller, inference=inference)
        if buckets:
            passage.admission = await self.platform.limiter.admit(buckets)
            passage.headers.extend(
                (name.encode(), value.encode()) for name, value in passage.admission.headers().items()
            )

    def _check_work(self, headers: dict[bytes, bytes]) -> None:
        if not self.ready:
            raise Refusal(
                "unavailable",
                "the server takes no new work now; try another, or again in a moment",
                retry_after=5,
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_body:
            raise self.body_too_large()

    def _from_elsewhere(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether a browser sends this for a page of another origin, or under a host name that is not ours."""
        host, origin = headers.get(b"host", b""), headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            allowed = self.platform.settings.allowed_origins
            return "*" not in allowed and origin.decode("latin-1") not in allowed
        name = host.decode("latin-1").rpartition(":")[0] if _PORT.search(host) else host.decode("latin-1")
        anywhere = self.platform.settings.allow_open_network
        return bool(name) and not anywhere and not is_loopback(name.strip("[]"))

    def _record(self, scope: Scope, passage: _Passage, started: float) -> dict[str, object]:
        """Count and log the request; return the logged fields."""
        seconds = time.perf_counter() - started
        state: dict[str, Any] = scope["state"]
        path = scope["path"] if scope["path"] in INFERENCE_PATHS else "unmatched"  # if refused before routing
        route = str(getattr(scope.get("route"), "path", path))
        opened = state.get("metaalign_context")
        applied = opened.reported if opened is not None else None
        broke_off = opened is not None and opened.broke_off
        late = opened.refused_late if opened is not None else None
        error = state.get("error") or late or ("engine_failed" if broke_off else None)
        count_request(
            route,
            passage.status,
            seconds,
            first_byte=passage.streams_since and passage.streams_since - started,
            error=error,
            broke_off=broke_off,
            applied=applied is not None,
        )
        fields: dict[str, object] = {
            "request_id": state["request_id"],
            "method": scope["method"],
            "route": route,
            "status": passage.status,
            "ms": round(seconds * 1000, 1),
        }
        if error is not None:
            fields["error"] = error
        caller = state.get("caller")
        if caller is not None:
            fields |= {"tenant": caller.tenant.name, "key": caller.key_id}
        if opened is not None:
            fields |= {
                "prompt_tokens": opened.usage.prompt,
                "cached_tokens": opened.usage.cached,
                "output_tokens": opened.usage.output,
            }
            if opened.finish_reasons:
                fields["finish_reasons"] = list(opened.finish_reasons.values())
            count_tokens(opened.usage, applied=applied is not None)
            count_verdicts(opened.verified)
            if applied is not None:
                count_overridden(applied.receipt.overridden)
                fields["spec"] = applied.meta_prompt.spec_hash[:12]
                fields["tier_tokens"] = applied.receipt.tokens.system_info + applied.receipt.tokens.user_info
        logger.info("request", extra={"fields": fields})
        return fields
