"""The engine is killed, at work and idle, and hangs: clients are told, the server is not ready, and exits with 70."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Server
from tests.reliability.serving import (
    LONG,
    MODEL,
    QUESTION,
    Answer,
    client,
    exit_code,
    metric,
    process_named,
    read_stream,
    serving,
    until,
)

pytestmark = pytest.mark.slow

STREAMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": LONG | {"preferences": {"user": "I like otters."}},
    "/v1/completions": {key: LONG[key] for key in LONG if key != "messages"} | {"prompt": "The otter"},
    "/v1/responses": {"model": MODEL, "input": QUESTION, "max_output_tokens": 1900, "ignore_eos": True},
    "/v1/messages": {"model": MODEL, "messages": LONG["messages"], "max_tokens": 1900, "temperature": 1},
}
SHORTEST = "/v1/messages"
"""This protocol knows no `ignore_eos`, and the model says little."""


async def not_ready(server: Server, seconds: float) -> float:
    """Seconds until `/readyz` says 503."""

    async def asked() -> bool:
        async with client(server, timeout=5) as http:
            return (await http.get("/readyz")).status_code == 503

    return await until(asked, seconds, "not ready")


async def test_engine_killed_mid_answer(tmp_path: Path) -> None:
    """Every protocol says that its answer broke off; what waited fails too; nothing passes for a success."""
    with serving(tmp_path, "--max-num-seqs", "4") as server:
        engine = process_named(server, "EngineCore")
        async with client(server) as http:
            for path, body in STREAMS.items():  # the first request of each kind takes longer
                length = "max_output_tokens" if "responses" in path else "max_tokens"
                await read_stream(http, path, body | {length: 2}, Answer())
            answers = {path: Answer() for path in STREAMS}

            def begin(path: str) -> asyncio.Task[Answer]:
                return asyncio.create_task(read_stream(http, path, STREAMS[path], answers[path]))

            streams = [begin(path) for path in STREAMS if path != SHORTEST]
            plain = asyncio.create_task(http.post("/v1/chat/completions", json=LONG))
            await until(lambda: sum(len(a.lines) > 6 for a in answers.values()) == 3, 30, "they have begun")
            for _ in range(10):  # this one may be over before it can be stopped
                answers[SHORTEST] = short = Answer()
                shortest = begin(SHORTEST)
                await until(lambda short=short: len(short.lines) > 6 or short.complete, 30, "it has begun")
                engine.suspend()
                await asyncio.wait([shortest], timeout=0.5)
                if not shortest.done():
                    break
                engine.resume()
            streams.append(shortest)
            waiting = [asyncio.create_task(http.post("/v1/chat/completions", json=LONG)) for _ in range(3)]

            async def all_wait() -> bool:
                return await metric(http, "metaalign_queue_waiting") == 3

            await until(all_wait, 10, "three wait for a slot")
            engine.kill()
            assert await not_ready(server, 2) < 1
            refused = await http.post("/v1/chat/completions", json=LONG)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            await asyncio.wait_for(asyncio.gather(*streams), 10)
            for failed in await asyncio.wait_for(asyncio.gather(plain, *waiting), 10):
                assert failed.status_code == 500
                assert failed.json()["error"]["type"] == "InternalServerError"
        assert await exit_code(server) == 70
    for path, answer in answers.items():
        assert answer.complete, path
        assert not [line for line in answer.lines if "[DONE]" in line or "message_stop" in line], path
        assert not [line for line in answer.lines if "response.completed" in line], path
        assert "ValidationError" not in answer.lines[-1], path
    for path in ("/v1/chat/completions", "/v1/completions"):
        assert answers[path].data()[-1]["error"]["code"] == 500
    assert answers["/v1/messages"].lines[-2] == "event: error"
    assert answers["/v1/messages"].data()[-1]["type"] == "error"
    assert answers["/v1/messages"].data()[-1]["error"]["type"] == "api_error"
    assert answers["/v1/responses"].lines[-2] == "event: error"
    last, failure = answers["/v1/responses"].data()[-2:]
    assert failure["type"] == "error"
    assert failure["sequence_number"] == last["sequence_number"] + 1


@pytest.mark.parametrize("name", ["EngineCore", "Worker"])
async def test_engine_killed_while_idle(tmp_path: Path, name: str) -> None:
    with serving(tmp_path) as server:
        process_named(server, name).kill()
        assert await exit_code(server) == 70


async def test_engine_hangs(tmp_path: Path) -> None:
    """Not ready after METAALIGN_STALL_SECONDS, and ready again if it goes on; given up after twice the time."""
    with serving(tmp_path, stall_seconds=2) as server:
        engine = process_named(server, "EngineCore")
        async with client(server) as http:
            engine.suspend()
            try:
                assert 1 < await not_ready(server, 10) < 4
                refused = await http.post("/v1/chat/completions", json=LONG)
                assert refused.status_code == 503
                assert refused.headers["retry-after"]
            finally:
                engine.resume()

            async def ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            assert await until(ready, 10, "ready again") < 2
            short = LONG | {"max_tokens": 5}
            assert (await http.post("/v1/chat/completions", json=short)).status_code == 200

            answer = Answer()
            stream = asyncio.create_task(read_stream(http, "/v1/chat/completions", LONG, answer))
            await until(lambda: len(answer.lines) > 3, 30, "an answer has begun")
            engine.suspend()
            started = time.monotonic()
            await asyncio.wait_for(stream, 15)
            assert 3 < time.monotonic() - started < 8
        assert await exit_code(server) == 70
    assert answer.complete
    assert answer.data()[-1]["error"]["code"] == 500
    assert "data: [DONE]" not in answer.lines
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/livez")
