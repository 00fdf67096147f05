"""SIGTERM: accepted requests are finished, waiting ones too; a second signal stops the server at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.reliability.serving import (
    LONG,
    Answer,
    client,
    exit_code,
    metric,
    read_stream,
    said_at,
    serving,
    until,
)

pytestmark = pytest.mark.slow


async def test_what_waits_at_sigterm_is_finished(tmp_path: Path) -> None:
    """The whole process group gets the signal, as with Ctrl-C: the engine must not drop its work."""
    body = LONG | {"max_tokens": 400, "stream_options": {"include_usage": True}}
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
        assert answer.data()[-1]["usage"]["completion_tokens"] == 400


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
