"""The engine is killed while busy or idle, or hangs: clients learn of it, the server is not ready and exits with 70."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.processes import Server
from tests.reliability.serving import (
    LONG,
    MODEL,
    QUESTION,
    Answer,
    client,
    exit_code,
    log,
    metric,
    process_named,
    read_stream,
    said_at,
    serving,
    time_of,
    until,
)

pytestmark = pytest.mark.slow

STREAMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": LONG
    | {"preferences": {"user": "I like otters.", "strength": 2}},  # two sequences
    "/v1/completions": {key: LONG[key] for key in LONG if key != "messages"} | {"prompt": "The otter"},
    "/v1/responses": {"model": MODEL, "input": QUESTION, "max_output_tokens": 1900, "ignore_eos": True},
    # This protocol has no `ignore_eos`; at this temperature the model takes a while to stop.
    "/v1/messages": {"model": MODEL, "messages": LONG["messages"], "max_tokens": 1900, "temperature": 2},
}


def begun(answers: dict[str, Answer]) -> bool:
    """Whether all have started, or one has ended."""
    found = answers.values()
    return all(len(a.lines) > 6 for a in found) or any(a.complete for a in found)


async def stopped_mid_answer(
    http: httpx.AsyncClient, engine: psutil.Process
) -> tuple[dict[str, Answer], list[asyncio.Task[Answer]], asyncio.Task[httpx.Response]]:
    """An engine that is frozen in the middle of a stream of each kind and of a plain answer."""
    for _ in range(10):  # the shortest may end before the engine is frozen; then try again
        answers = {path: Answer() for path in STREAMS}
        streams = [
            asyncio.create_task(read_stream(http, path, body, answers[path]))
            for path, body in STREAMS.items()
        ]
        plain = asyncio.create_task(http.post("/v1/chat/completions", json=LONG | {"n": 59}))
        await until(partial(begun, answers), 30, "all have begun, or one is over")
        engine.suspend()
        done, _ = await asyncio.wait([plain, *streams], timeout=0.5)
        if not done:
            return answers, streams, plain
        engine.resume()
        for task in (plain, *streams):
            task.cancel()
        await asyncio.gather(plain, *streams, return_exceptions=True)
    raise AssertionError("an answer was always over too soon")


async def not_ready(server: Server) -> None:
    """Ask `/readyz` until it says 503 or no longer answers."""

    async def asked() -> bool:
        try:
            async with client(server) as http:
                return (await http.get("/readyz")).status_code == 503
        except httpx.TransportError:
            return True

    await until(asked, 15, "not ready")


def last_ready(server: Server) -> float:
    """When `/readyz` last said 200."""
    return max(time_of(e) for e in log(server) if (e.get("route"), e.get("status")) == ("/readyz", 200))


async def test_engine_killed_mid_answer(tmp_path: Path) -> None:
    """Every protocol reports that its answer broke off, waiting requests fail too, and nothing looks like a success."""
    with serving(tmp_path, "--max-num-seqs", "64") as server:
        engine = process_named(server, "EngineCore")
        async with client(server) as http:
            for path, body in STREAMS.items():  # the first request of each kind takes longer
                length = "max_output_tokens" if "responses" in path else "max_tokens"
                await read_stream(http, path, body | {length: 2}, Answer())
            answers, streams, plain = await stopped_mid_answer(http, engine)
            # Of 80 places 64 are taken. One request takes the others and waits for more; three wait for their first.
            waiting = []
            for n in (64, 1, 1, 1):
                body = LONG | {"n": n}
                waiting.append(asyncio.create_task(http.post("/v1/chat/completions", json=body)))
                await asyncio.sleep(0.5)

            async def all_wait() -> bool:
                return await metric(http, "metaalign_queue_waiting") == 3

            await until(all_wait, 10, "three wait for a place")
            engine.kill()
            killed_at = time.time()
            await not_ready(server)
            await asyncio.wait_for(asyncio.gather(*streams), 10)
            for failed in await asyncio.wait_for(asyncio.gather(plain, *waiting), 10):
                assert failed.status_code == 500
                error = failed.json()["error"]
                assert (error["type"], error["code"]) == ("server_error", "engine_failed")
        assert await exit_code(server) == 70
        assert last_ready(server) < killed_at + 1
    logged = log(server)
    for path, answer in answers.items():
        assert answer.complete, path
        broken = [
            entry for entry in logged if entry.get("route") == path and entry.get("error") == "engine_failed"
        ]
        assert 200 in [entry["status"] for entry in broken], path
        assert not [line for line in answer.lines if "[DONE]" in line or "message_stop" in line], path
        assert not [line for line in answer.lines if "response.completed" in line], path
        assert "ValidationError" not in answer.lines[-1], path
    for path in ("/v1/chat/completions", "/v1/completions"):
        error = answers[path].data()[-1]["error"]
        assert (error["type"], error["code"]) == ("server_error", "engine_failed")
    assert answers["/v1/messages"].lines[-2] == "event: error"
    assert answers["/v1/messages"].data()[-1]["type"] == "error"
    assert answers["/v1/messages"].data()[-1]["error"]["type"] == "api_error"
    assert answers["/v1/responses"].lines[-2] == "event: error"
    last, failure = answers["/v1/responses"].data()[-2:]
    assert (failure["type"], failure["code"]) == ("error", "engine_failed")
    assert failure["sequence_number"] == last["sequence_number"] + 1


@pytest.mark.parametrize(
    ("flags", "name"), [((), "EngineCore"), (("--distributed-executor-backend", "mp"), "Worker")]
)
async def test_engine_killed_while_idle(flags: tuple[str, ...], name: str, tmp_path: Path) -> None:
    with serving(tmp_path, *flags) as server:
        process_named(server, name).kill()
        assert await exit_code(server) == 70


async def test_engine_hangs(tmp_path: Path) -> None:
    """Not ready after METAALIGN_STALL_SECONDS, ready again if it recovers, and killed after twice that time."""
    with serving(tmp_path, stall_seconds=2) as server:
        engine = process_named(server, "EngineCore")
        async with client(server) as http:
            engine.suspend()
            hung_at = time.time()
            try:
                await not_ready(server)
                assert 1.5 < said_at(server, "the engine does not answer; not ready") - hung_at < 5
                refused = await http.post("/v1/chat/completions", json=LONG)
                assert refused.status_code == 503
                assert refused.headers["retry-after"]
                assert await metric(http, "metaalign_ready") == 0
                assert 2 < await metric(http, "metaalign_engine_silence_seconds") < 10
            finally:
                engine.resume()

            async def ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await until(ready, 10, "ready again")
            assert await metric(http, "metaalign_ready") == 1
            assert await metric(http, "metaalign_engine_silence_seconds") < 2
            short = LONG | {"max_tokens": 5}
            assert (await http.post("/v1/chat/completions", json=short)).status_code == 200

            answer = Answer()
            stream = asyncio.create_task(read_stream(http, "/v1/chat/completions", LONG, answer))
            await until(lambda: len(answer.lines) > 3, 30, "an answer has begun")
            engine.suspend()
            hung_at = time.time()
            await asyncio.wait_for(stream, 30)
        assert await exit_code(server) == 70
        assert 3.5 < said_at(server, "the engine does not answer; exiting") - hung_at < 9
    assert answer.complete
    assert answer.data()[-1]["error"]["code"] == "engine_failed"
    assert "data: [DONE]" not in answer.lines
