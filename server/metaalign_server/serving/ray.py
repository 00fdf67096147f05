"""MetaAlign on a Ray cluster: `serve run metaalign_server.serving.ray:app min_replicas=2 max_replicas=8`.

An ingress reads each request, computes the key of its prefix (`affinity.py`) and asks a replica, which Serve chooses
with our router. A replica is a `metaalign-server serve` of its own and the bytes that go through to it, so drain,
watchdog and exit codes are those of the server (docs/decisions/0013-ray-serve.md).
"""

# No `from __future__ import annotations`: Serve reads the type of `app`'s argument from the annotation itself.
import asyncio
import logging
import os
import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from metaalign_server.callers import token_of
from metaalign_server.engine.dialects import dialect_of
from metaalign_server.platform.refusal import Refusal
from metaalign_server.routes.errors import metaalign_error_response
from metaalign_server.serving.affinity import affinity_key, ranked
from metaalign_server.serving.gate import INFERENCE_PATHS
from metaalign_server.settings import ConfigurationError, is_loopback, read_settings

try:
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import ReplicaUnavailableError
    from ray.serve.handle import DeploymentHandle
    from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica
except ImportError as missing:
    raise ImportError("Ray Serve is not installed: pip install 'metaalign[ray]'") from missing

__all__ = ["Ingress", "Options", "PreferenceRouter", "Server", "ServerGone", "app"]

logger = logging.getLogger(__name__)

_TRIES = 4
_PAUSE_SECONDS = 0.25
_START_SECONDS = 3600.0  # weights may have to be downloaded
_OF_ONE_CONNECTION = frozenset(
    {b"connection", b"content-length", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
# Becomes the server, which is told to stop when the replica's process ends, however it ends.
_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM);"
    " os.execv(sys.executable, [sys.executable, '-m', 'metaalign_server.cli', *sys.argv[1:]])"
)

Headers = list[tuple[bytes, bytes]]


class Options(BaseModel):
    """What `serve run metaalign_server.serving.ray:app NAME=VALUE …` takes; the server has its own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(4, ge=1)
    target_ongoing_requests: float = Field(
        32.0,
        gt=0,
        description="requests per replica to which Serve scales; below it no replica is passed over",
    )
    cpus_per_replica: float = Field(1.0, gt=0)
    gpus_per_replica: float = Field(0.0, ge=0, description="tensor times pipeline parallel size")
    ingresses: int = Field(1, ge=1, description="processes that read requests")
    slack: float = Field(1.25, ge=1, description="how far over the average load a replica may be")
    routing: Literal["preferences", "random"] = Field("preferences", description="`random` is for comparing")
    flags: str = Field("", description="flags for `metaalign-server serve`")


class ServerGone(Exception):
    """The replica named by the argument cannot answer now; another may."""


class PreferenceRouter(RequestRouter):
    """Sends requests with the same key to the same replica, unless that has too many."""

    def initialize_state(self, slack: float, floor: int) -> None:
        """Take `request_router_kwargs`: the arguments of `affinity.ranked`."""
        self._slack, self._floor = slack, floor

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas, each a rank of its own, best first; those that were tried are last."""
        if pending_request is None:
            return [candidate_replicas]
        # If all are full; otherwise Serve would try again without pause.
        pending_request.routing_context.should_backoff = True
        key, tried = pending_request.args[:2]
        named = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        lengths = self.replica_queue_len_cache
        loads = {name: lengths.get(replica.replica_id) or 0 for name, replica in named.items()}
        order = ranked(key, loads, slack=self._slack, floor=self._floor)
        return [[named[name]] for name in sorted(order, key=lambda name: name in tried)]


class Server:
    """One `metaalign-server serve` on a free port, and the way to it.

    Args:
        flags: Flags for it.

    Raises:
        ConfigurationError: a setting makes no sense behind Serve.
        RuntimeError: it does not start; its own message is in the replica's log.
    """

    def __init__(self, flags: list[str]) -> None:
        settings = read_settings({})
        for name in ("uds", "ssl_certfile", "root_path"):
            if getattr(settings, name):
                raise ConfigurationError(
                    f"METAALIGN_{name.upper()}: Serve's proxy is what clients talk to; set it there, not here"
                )
        self._replica = serve.get_replica_context().replica_id.unique_id
        self._stop_seconds = settings.drain_seconds + 6
        self._stopping = False
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # Bound, but not listening, for as long as we live: nobody else is given the port, and the server can use it.
        self._reserved = socket.socket(family)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((settings.host, 0))
        port = self._reserved.getsockname()[1]
        command = [sys.executable, "-c", _WITH_PARENT, "serve", *flags]
        command += ["--host", settings.host, "--port", str(port)]
        self._process = subprocess.Popen(command, process_group=0)  # noqa: S603 - our own program
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._wait_until_ready()
        # The engine's watchdog is the judge of long answers. Servers close idle connections after 5 s.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=5), limits=limits, trust_env=False
        )
        self._client.headers.clear()
        threading.Thread(target=self._end_with_server, daemon=True).start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < deadline:
                code = self._process.poll()
                if code is not None:
                    raise RuntimeError(
                        f"metaalign-server ended with exit code {code}; see this replica's log"
                    )
                try:
                    if client.get(f"{self._url}/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
        self._process.kill()
        raise RuntimeError(f"metaalign-server was not ready after {_START_SECONDS:.0f} s")

    def _end_with_server(self) -> None:
        """End this process with the server's exit code, so that Serve starts another replica at once."""
        code = self._process.wait()
        if not self._stopping:
            logger.error("metaalign-server ended; so does its replica", extra={"fields": {"exit_code": code}})
            os._exit(code if code > 0 else 1)

    async def answer(
        self, key: bytes | None, tried: list[str], method: str, target: bytes, headers: Headers, body: bytes
    ) -> AsyncIterator[tuple[int, Headers] | bytes]:
        """Yield status and headers, then the body as it comes.

        Args:
            key, tried: For the router.
            method, target, headers, body: The request; `target` is path and query.

        Raises:
            ServerGone: another replica should be asked, or the answer has broken off.
        """
        url = httpx.URL(self._url).copy_with(raw_path=target)
        request = self._client.build_request(method, url, headers=headers, content=body)
        try:
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code in (500, 503) and not await self._ready():
                    raise ServerGone(self._replica)
                yield response.status_code, _end_to_end(response.headers.raw)
                async for chunk in response.aiter_raw():
                    yield chunk
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise ServerGone(self._replica) from error

    async def _ready(self) -> bool:
        answer = await self._client.get(f"{self._url}/readyz")
        return answer.status_code == 200

    def __del__(self) -> None:
        """Serve calls this when the replica has no more requests: stop the server, and wait until it has stopped."""
        if process := getattr(self, "_process", None):
            self._stopping = True
            process.terminate()
            try:
                process.wait(self._stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()


async def _ask_ingress(scope: Scope, receive: Receive, send: Send) -> None:
    await serve.get_replica_context().servable_object.handle(scope, receive, send)


_application = Starlette()
_application.mount("/", _ask_ingress)


@serve.ingress(_application)
class Ingress:
    """Reads requests and sends each to a replica, and to another one if that fails before the client has a byte.

    Args:
        servers: The replicas.
        routing: `preferences`, or `random` for comparing.
    """

    def __init__(self, servers: DeploymentHandle, routing: str) -> None:
        settings = read_settings({})
        self._servers = servers.options(stream=True)
        self._random = routing == "random"
        self._max_body = settings.max_body_bytes
        # Servers that listen on loopback may be open to everyone who reaches them.
        self._local = is_loopback(settings.host) and not settings.allow_open_network

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        try:
            await self._handle(scope, receive, send)
        except Refusal as refusal:
            await metaalign_error_response(scope, refusal)(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._local and not (scope.get("client") and is_loopback(scope["client"][0])):
            raise Refusal(
                "cross_site",
                "METAALIGN_HOST is a loopback address, so only this machine is served; to serve others, set it to"
                " 0.0.0.0 on all replicas, and use keys",
            )
        body = await self._read(receive)
        headers = dict(scope["headers"])
        key = affinity_key(token_of(headers), headers.get(b"x-metaalign-profile", b""), body)
        if self._random:
            key = secrets.token_bytes(16)
        path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
        request = (
            scope["method"],
            path.partition(b"?")[0] + (b"?" + query if query else b""),
            _end_to_end(scope["headers"]),
            body,
        )
        repeatable = (
            scope["method"] in ("GET", "HEAD", "OPTIONS")
            or scope["path"] in INFERENCE_PATHS
            or b"idempotency-key" in headers
        )
        tried: list[str] = []
        for attempt in range(_TRIES if repeatable else 1):
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS * attempt)
            passage = _Passage(scope, send)
            try:
                async for part in self._servers.answer.remote(key, tried, *request):
                    await passage.take(part)
                await passage.end()
                return
            except (RayActorError, ReplicaUnavailableError, ServerGone) as error:
                logger.warning("a replica has gone", extra={"fields": {"started": passage.started}})
                if passage.started:
                    await passage.break_off()
                    return
                tried += getattr(error, "cause", error).args if isinstance(error, ServerGone) else ()
        raise Refusal("unavailable", "no replica could answer; try again in a moment", retry_after=5)

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise Refusal("body_too_large", f"body: larger than {self._max_body} bytes; send less")
            if not message.get("more_body", False):
                return bytes(body)


class _Passage:
    """An answer on its way to the client, who gets nothing before a whole answer or a stream's first event is here."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._dialect = dialect_of(scope["path"])
        self._send = send
        self._start: dict[str, Any] = {}
        self._streams = False
        self._held: list[bytes] = []
        self.started = False

    async def take(self, part: tuple[int, Headers] | bytes) -> None:
        """Take status and headers, or a part of the body."""
        if isinstance(part, tuple):
            status, headers = part
            self._start = {"type": "http.response.start", "status": status, "headers": headers}
            self._streams = any(
                n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers
            )
            return
        if not self._streams:
            self._held.append(part)
            return
        await self._begin()
        self._held = [part]  # the last one, which an error event refers to
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """Send what was held back, and the end."""
        await self._begin()
        await self._send(
            {"type": "http.response.body", "body": b"" if self._streams else b"".join(self._held)}
        )

    async def break_off(self) -> None:
        """End a stream with the error event of its protocol, as a server does whose engine has failed."""
        event = self._dialect.error_event(self._held[-1].decode("utf-8", "replace")) if self._held else ""
        await self._send({"type": "http.response.body", "body": event.encode()})

    async def _begin(self) -> None:
        if not self.started:
            self.started = True
            await self._send(self._start)


def _end_to_end(headers: Headers) -> Headers:
    return [(bytes(n), bytes(v)) for n, v in headers if n.lower() not in _OF_ONE_CONNECTION]


def app(options: Options) -> serve.Application:
    """Return the application that `serve run` and `serve deploy` start."""
    servers = (
        serve.deployment(Server)
        .options(
            autoscaling_config={
                "min_replicas": options.min_replicas,
                "max_replicas": max(options.min_replicas, options.max_replicas),
                "target_ongoing_requests": options.target_ongoing_requests,
            },
            max_ongoing_requests=4096,  # the server itself has the queue, which is fair, and refuses when it is full
            graceful_shutdown_timeout_s=read_settings({}).drain_seconds + 10,
            ray_actor_options={"num_cpus": options.cpus_per_replica, "num_gpus": options.gpus_per_replica},
            request_router_config={
                "request_router_class": f"{__name__}:{PreferenceRouter.__name__}",
                "request_router_kwargs": {
                    "slack": options.slack,
                    "floor": int(options.target_ongoing_requests),
                },
            },
        )
        .bind(shlex.split(options.flags))
    )
    ingress = serve.deployment(Ingress).options(num_replicas=options.ingresses, max_ongoing_requests=4096)
    return ingress.bind(servers, options.routing)
