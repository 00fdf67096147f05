"""SIGTERM: accepted requests are finished, waiting ones too; a second signal or the end of the time ends them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.databases import Postgres
from tests.processes import Server, command
from tests.reliability.serving import (
    ADMIN,
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
    until,
)

pytestmark = pytest.mark.slow


async def test_what_waits_at_sigterm_is_finished(tmp_path: Path) -> None:
    """The whole process group gets the signal, as with Ctrl-C: the engine must not drop its work."""
    body = LONG | {"max_tokens": 150, "stream_options": {"include_usage": True}}
    with serving(tmp_path, "--max-num-seqs", "1") as server:
        async with client(server) as http, client(server) as other:
            answers = [Answer() for _ in range(5)]
            streams = [
                asyncio.create_task(read_stream(http, "/v1/chat/completions", body, answer))
                for answer in answers
            ]

            async def some_wait() -> bool:
                return await metric(http, "metaalign_queue_waiting") == 3

            await until(some_wait, 20, "three wait")
            os.killpg(server.process.pid, signal.SIGTERM)

            async def draining() -> bool:
                return (await other.get("/readyz")).status_code == 503

            await until(draining, 10, "not ready")
            refused = await other.post("/v1/chat/completions", json=body)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            assert refused.headers["connection"] == "close"
            await asyncio.wait_for(asyncio.gather(*streams), 60)
        assert await exit_code(server) == 0
    for answer in answers:
        assert answer.complete
        assert answer.lines[-1] == "data: [DONE]"
        assert answer.data()[-1]["usage"]["completion_tokens"] == 150


async def test_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, drain_seconds=120) as server:
        async with client(server) as http:
            answer = Answer()
            body = LONG | {"n": 16}
            stream = asyncio.create_task(read_stream(http, "/v1/chat/completions", body, answer))
            await until(lambda: len(answer.lines) > 16, 20, "the answer has begun")
            server.process.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await until(draining, 10, "not ready")
            assert not stream.done()
            server.process.send_signal(signal.SIGTERM)
            again_at = time.time()
            await asyncio.wait_for(stream, 30)
            assert await exit_code(server) == 0
            assert said_at(server, "stopped") - again_at < 3
        assert "Traceback" not in server.log_text()
    assert "data: [DONE]" not in answer.lines
    assert answer.data()[-1]["error"]["code"] == "unavailable"


ASKED = [{"role": "user", "content": QUESTION}]
CUT_OFF: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ASKED},
    "/v1/completions": {"prompt": QUESTION, "max_tokens": 500, "ignore_eos": True},
    "/v1/messages": {"messages": ASKED, "max_tokens": 500},
    "/v1/responses": {"input": QUESTION},
}


async def test_what_the_drain_does_not_wait_for_is_told(tmp_path: Path) -> None:
    """On every route: streams that have begun, whole answers, and what waits for a place; the engine hangs."""
    with serving(tmp_path, "--max-num-seqs", "8", drain_seconds=1) as server:
        engine = process_named(server, "EngineCore")
        async with client(server) as http:
            bodies = {path: {"model": MODEL, "temperature": 0} | body for path, body in CUT_OFF.items()}
            streams = {path: Answer() for path in CUT_OFF}
            tasks = [
                asyncio.create_task(read_stream(http, path, bodies[path], answer))
                for path, answer in streams.items()
            ]
            await until(lambda: all(len(one.lines) > 6 for one in streams.values()), 30, "answers have begun")
            engine.suspend()
            wholes = [
                asyncio.create_task(http.post(path, json=bodies[path])) for path in (*CUT_OFF, *CUT_OFF)
            ]

            async def some_wait() -> bool:
                return await metric(http, "metaalign_queue_waiting") > 0

            await until(some_wait, 30, "some wait")
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*tasks, *wholes), 30)
            assert await exit_code(server) == 0
        assert "Traceback" not in server.log_text()
    for path, answer in streams.items():
        last = answer.data()[-1]
        told = last.get("error") or last.get("response", {}).get("error") or last
        assert "send the request again" in told["message"], (path, last)
        assert not any("[DONE]" in line for line in answer.lines), path
    for whole in wholes:
        response = whole.result()
        assert response.status_code == 503, response.text
        assert "send the request again" in response.text


@contextmanager
def busy_machine(processes: int) -> Iterator[None]:
    """Others that take all the time of the processors that they get."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
        yield


def unread(server: Server, body: dict[str, object]) -> socket.socket:
    """A connection that has asked for `body` and reads no answer."""
    place = urlsplit(server.url)
    connection = socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    text = json.dumps(body).encode()
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + f"authorization: Bearer {ADMIN}\r\ncontent-length: {len(text)}\r\n\r\n".encode()
        + text
    )
    return connection


@pytest.mark.parametrize("fault", ["none", "frozen engine", "frozen store"])
async def test_stops_in_time_whatever_happens(
    tmp_path: Path, breakable_postgres: Postgres, postgres_url: str, fault: str
) -> None:
    """Within METAALIGN_DRAIN_SECONDS and 5 s: on a busy machine, with streams, unread ones, and exchanges to write."""
    assert breakable_postgres.daemon is not None
    assert command(postgres_url, "migrate")[0] == 0
    drain = 2
    flags = ["--max-num-seqs", "4"]
    settings: dict[str, Any] = {"database_url": postgres_url, "feedback": "true", "drain_seconds": drain}
    # What is forked from a loaded process ends sooner than what users start.
    started = serving(tmp_path, *flags, from_nothing=fault == "none", **settings)
    with ExitStack() as stack, started as server:
        async with client(server) as http:
            long = LONG | {"logprobs": True, "top_logprobs": 5}
            for body in (long | {"stream": True}, long | {"stream": True, "n": 4}, LONG | {"max_tokens": 64}):
                stack.callback(unread(server, body).close)
            stack.callback(unread(server, {"stream": True}).close)
            answer = Answer()
            tasks = [asyncio.create_task(read_stream(http, "/v1/chat/completions", LONG, answer))]
            await until(lambda: len(answer.lines) > 3, 60, "an answer has begun")
            tasks += [
                asyncio.create_task(read_stream(http, "/v1/chat/completions", LONG, Answer()))
                for _ in range(8)
            ]
            stack.enter_context(busy_machine(4))
            await asyncio.sleep(0.5)
            if fault == "frozen engine":
                engine = process_named(server, "EngineCore")
                engine.suspend()
            if fault == "frozen store":
                breakable_postgres.daemon.freeze()
                stack.callback(breakable_postgres.daemon.thaw)
            stopped_at = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            code = await exit_code(server, drain + 10)
            took = time.monotonic() - stopped_at
            print(f"{fault}: stopped after {took:.1f} s")
            assert took < drain + 5
            assert code == 0
            await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert "data: [DONE]" not in answer.lines
    said = log(server)
    (cut,) = [entry for entry in said if entry["message"].startswith("time is up")]
    assert cut["in_flight"] >= 9
    assert not [entry for entry in said if entry["level"] == "error"]  # not one for each request


async def test_an_answer_that_nobody_reads_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """The request is over, and most of the answer is still in the server."""
    body = LONG | {
        "n": 16,
        "max_tokens": 140,
        "logprobs": True,
        "top_logprobs": 20,
        "preferences": "Be kind.",
    }
    with serving(tmp_path, drain_seconds=2) as server, ExitStack() as stack:
        stack.callback(unread(server, body).close)
        async with client(server) as http:

            async def answered() -> bool:
                return await metric(http, "metaalign_preferences_applied_total") == 1

            await until(answered, 120, "the request is answered")
        stopped_at = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await exit_code(server, 12) == 0
        assert time.monotonic() - stopped_at < 7
