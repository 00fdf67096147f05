"""Redis and the trace collector are used while they are up, and nobody misses them when they are down."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from redis import Redis

from tests.databases import RedisServer
from tests.processes import Server, free_port
from tests.reliability.serving import (
    MODEL,
    client,
    exit_code,
    log,
    make_key,
    metric,
    outages,
    said_at,
    serving,
    took,
    until,
)

pytestmark = pytest.mark.slow

CANARY = "quokka-canary"
NAMES = (f"tenant-{number}" for number in count())


class Collector:
    """Receives what an OTLP exporter sends over HTTP."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spans(self) -> list[Span]:
        """All spans so far."""
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(
    redis_server: RedisServer, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    settings: dict[str, Any] = {
        "redis_url": redis_server.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with serving(tmp_path_factory.mktemp("optional"), **settings) as started:
        yield started


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client(server) as http:
        yield http


async def ask(http: httpx.AsyncClient) -> httpx.Response:
    """A short request."""
    return await http.post("/v1/align", json={"query": "hi", "max_tokens": 2})


async def limited(http: httpx.AsyncClient) -> str:
    """A key of a new tenant that may ask four times a minute."""
    return await make_key(http, next(NAMES), limits={"requests_per_minute": 4, "concurrency": 2})


async def up(http: httpx.AsyncClient, dependency: str) -> float:
    """Whether the server says that one of its services answers."""
    lines = (await http.get("/metrics")).raise_for_status().text.splitlines()
    sample = f'metaalign_dependency_up{{dependency="{dependency}"}}'
    return float(next(line for line in lines if line.startswith(sample)).split()[-1])


def break_it(redis: RedisServer, how: str) -> None:
    {"killed": redis.daemon.kill, "frozen": redis.daemon.freeze}[how]()


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_redis_away(
    server: Server, admin: httpx.AsyncClient, breakable_redis: RedisServer, how: str
) -> None:
    """Requests are at most half a second slower, limits apply per server, and Redis is used again when it is back."""
    async with client(server, await limited(admin)) as http:
        with_redis = [await ask(http) for _ in range(4)]
        assert [answer.status_code for answer in with_redis] == [200] * 4
        assert (await ask(http)).status_code == 429
    counted = await metric(admin, "metaalign_limits_fallback_total")
    new_key, other = await limited(admin), await limited(admin)
    earlier = len(outages(server, "redis"))
    slowest = max([await took(server, answer) for answer in with_redis])
    await asyncio.to_thread(break_it, breakable_redis, how)
    try:
        async with client(server, new_key) as http:
            for turn in range(4):
                answer = await ask(http)
                assert answer.status_code == 200
                assert await took(server, answer) < slowest + 0.6, turn
                await asyncio.sleep(0.4)  # so that some of them check whether Redis is back
            assert (await ask(http)).status_code == 429
        assert await metric(admin, "metaalign_limits_fallback_total") >= counted + 4
        assert (await admin.get("/readyz")).status_code == 200
        assert await up(admin, "redis") == 0
        (away,) = outages(server, "redis")[earlier:]
        assert away["level"] == "warning"
        assert "this server counts its requests on its own" in away["message"]
        assert away["cause"]
    finally:
        if how == "frozen":
            breakable_redis.daemon.thaw()
        else:
            breakable_redis.daemon.start()
    with Redis.from_url(breakable_redis.url) as store:
        store.flushall()
        async with client(server, other) as http:

            async def counts_in_redis() -> bool:
                await ask(http)
                return bool(store.keys("metaalign:*"))

            await until(counts_in_redis, 10, "Redis is used again")
    assert await up(admin, "redis") == 1
    _, back = outages(server, "redis")[earlier:]
    assert back["message"] == "redis is back"
    assert back["missed"] >= 4
    assert 1 < back["seconds"] < 60


async def test_redis_away_from_an_idle_server(
    server: Server, admin: httpx.AsyncClient, breakable_redis: RedisServer
) -> None:
    """No request needs it, and the operator still learns of it."""
    earlier = len(outages(server, "redis"))
    await asyncio.to_thread(breakable_redis.daemon.kill)
    await until(lambda: len(outages(server, "redis")) == earlier + 1, 10, "the outage is noticed")
    breakable_redis.daemon.start()
    await until(lambda: len(outages(server, "redis")) == earlier + 2, 10, "its end is noticed")
    assert await up(admin, "redis") == 1


async def test_collector_away(tmp_path: Path) -> None:
    """It goes, many spans are lost, and it is back: two lines, and none from the exporter."""
    port = free_port()
    settings: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with serving(tmp_path, **settings) as server:
        async with client(server) as http:

            async def noticed() -> bool:
                await http.get("/v1/models")
                return await up(http, "trace_collector") == 0

            await until(noticed, 20, "the outage is noticed")
            for _ in range(20):
                await http.get("/v1/models")
                await asyncio.sleep(0.1)
            collector = Collector(port)

            async def back() -> bool:
                await http.get("/v1/models")
                return await up(http, "trace_collector") == 1

            await until(back, 20, "its end is noticed")
            assert collector.spans()
        # Read while the collector is up: the last request's spans are still on their way.
        away, back_again = outages(server, "trace_collector")
        assert away["message"] == "trace_collector is away: spans are lost"
        assert back_again["message"] == "trace_collector is back"
        assert back_again["missed"] > 0
        collector.close()
        assert "Traceback" not in server.log_text()
        assert not [
            entry for entry in log(server) if entry["logger"].startswith(("opentelemetry", "urllib3"))
        ]


async def test_spans_arrive(server: Server, admin: httpx.AsyncClient, collector: Collector) -> None:
    """They have route, status and usage, belong to the client's trace, and contain no text of the exchange."""
    key = await make_key(admin)
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"hi {CANARY}"}],
        "max_tokens": 3,
        "ignore_eos": True,
        "preferences": {"user": f"I like {CANARY}."},
    }
    headers = {"traceparent": f"00-{trace}-{parent}-01", "x-request-id": "span-test"}
    async with client(server, key) as http:
        answer = await http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200
        assert (await http.post("/v1/profiles", json={"name": CANARY}, headers=headers)).status_code == 403

    def mine() -> list[Span]:
        return [span for span in collector.spans() if span.trace_id.hex() == trace]

    await until(lambda: len(mine()) == 2, 10, "both spans arrive")
    span, refused = mine()
    assert span.parent_span_id.hex() == parent
    assert span.name == "POST /v1/chat/completions"
    found = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    (reasons,) = [a.value.array_value for a in span.attributes if a.key == "gen_ai.response.finish_reasons"]
    assert [reason.string_value for reason in reasons.values] == ["length"]
    usage = answer.json()["usage"]
    assert found["http.route"] == "/v1/chat/completions"
    assert found["http.response.status_code"] == 200
    assert found["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert found["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 3
    assert found["gen_ai.request.model"] == found["gen_ai.response.model"] == MODEL
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "vllm"
    assert "error.type" not in found
    assert found["metaalign.request_id"] == "span-test"
    refusal = {a.key: a.value.string_value or a.value.int_value for a in refused.attributes}
    assert refusal["http.response.status_code"] == 403
    assert refusal["error.type"] == "missing_scope"
    assert not [name for name in refusal if name.startswith("gen_ai.")]  # it is no route to the model
    sent = b"".join(collector.bodies)
    assert b"/v1/chat/completions" in sent
    for private in (CANARY, answer.json()["choices"][0]["message"]["content"], key):
        assert private.encode() not in sent


async def test_start_without_redis_and_collector(tmp_path: Path) -> None:
    """Nothing listens where they should be: serving, limits and shutdown work as usual."""
    settings: dict[str, Any] = {
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with serving(tmp_path, **settings) as server:
        async with client(server) as http:
            await ask(http)
            async with client(server, await limited(http)) as other:
                for _ in range(4):
                    answer = await ask(other)
                    assert answer.status_code == 200
                    assert await took(server, answer) < 1.5
                assert (await ask(other)).status_code == 429
            assert await metric(http, "metaalign_limits_fallback_total") >= 4
            for _ in range(20):
                answer = await ask(http)
                assert answer.status_code == 200
                assert await took(server, answer) < 1
        server.process.send_signal(signal.SIGTERM)
        assert await exit_code(server, 12) == 0
        # Undeliverable spans delay shutdown by two seconds, not for as long as the exporter retries.
        assert said_at(server, "MPClient: complete") - said_at(server, "stopped") < 8
