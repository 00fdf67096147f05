"""Meta-Prompts are prefilled before anybody asks: for labels that move, after a start, and only while nothing runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import command
from tests.reliability.serving import LONG, MODEL, client, exit_code, log, serving, until

pytestmark = pytest.mark.slow

BLOCK = 32
"""Tokens of a block of the prefix cache, on CPU."""


def long_text(word: str) -> str:
    """Some hundred tokens that nobody else has sent."""
    return " ".join(f"{word}{number}" for number in range(120))


@asynccontextmanager
async def served(folder: Path, failures: int = 0, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    url = f"sqlite:///{folder}/store.db"
    if not (folder / "store.db").exists():
        assert (await asyncio.to_thread(command, url, "migrate"))[0] == 0
    with serving(folder, database_url=url, **settings) as server:
        async with client(server) as http:
            yield http
            failed = [entry for entry in log(server) if entry["message"].startswith("cannot prefill")]
            assert len(failed) == failures
        server.process.send_signal(signal.SIGTERM)
        assert await exit_code(server, 20) == 0


async def prewarmed(http: httpx.AsyncClient, reason: str) -> float:
    lines = (await http.get("/metrics")).raise_for_status().text.splitlines()
    sample = f'metaalign_prewarmed_total{{reason="{reason}"}}'
    return float(next(line for line in lines if line.startswith(sample)).split()[-1])


async def create(http: httpx.AsyncClient, name: str) -> None:
    body = {"name": name, "preferences": {"system": long_text(name)}}
    assert (await http.post("/v1/profiles", json=body)).status_code == 201


async def label(http: httpx.AsyncClient, name: str) -> None:
    moved = await http.put(f"/v1/profiles/{name}/labels/stable", json={"version": 1})
    assert moved.status_code == 200, moved.text


async def cold_tokens(http: httpx.AsyncClient, name: str) -> tuple[int, int]:
    """Tokens of System Info that were cached, and that could have been."""
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": f"{MODEL}@{name}", "messages": messages, "max_tokens": 1}
    answer = (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()
    system = answer["metaalign"]["tokens"]["system_info"] + 2
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"], system // BLOCK * BLOCK


async def test_a_label_that_moves(tmp_path: Path) -> None:
    """Its version's first request finds the whole Meta-Prompt in the prefix cache; one without a label does not."""
    async with served(tmp_path) as http:
        for name in ("labelled", "bare"):
            await create(http, name)
        await label(http, "labelled")

        async def warm() -> bool:
            return await prewarmed(http, "label") == 1

        await until(warm, 20, "the version is prefilled")
        cached, whole = await cold_tokens(http, "labelled")
        assert cached == whole > 4 * BLOCK
        assert (await cold_tokens(http, "bare"))[0] == 0
        await label(http, "bare")
        await label(http, "labelled")

        async def again() -> bool:
            return await prewarmed(http, "label") == 3

        await until(again, 20, "both moves are seen")


async def test_one_that_does_not_fit_the_model_ends_nothing(tmp_path: Path) -> None:
    """A tenant could otherwise switch it off for all others."""
    async with served(tmp_path, failures=1) as http:
        words = " ".join(f"xqz{number}" for number in range(1000))
        body = {"name": "huge", "preferences": {"system": words}}
        assert (await http.post("/v1/profiles", json=body)).status_code == 201
        await label(http, "huge")
        await asyncio.sleep(3)
        await create(http, "fits")
        await label(http, "fits")

        async def warm() -> bool:
            return await prewarmed(http, "label") == 1

        await until(warm, 20, "the one that fits is prefilled")


async def test_what_was_used_most_is_prefilled_after_a_start(tmp_path: Path) -> None:
    async with served(tmp_path) as http:
        for name in ("hot", "once"):
            await create(http, name)
        for name in ("hot", "once", "hot"):
            await cold_tokens(http, name)
        assert await prewarmed(http, "start") == 0
    async with served(tmp_path, prewarm=1) as http:

        async def warm() -> bool:
            return await prewarmed(http, "start") == 1

        await until(warm, 20, "the hottest is prefilled")
        cached, whole = await cold_tokens(http, "hot")
        assert cached == whole > 4 * BLOCK
        assert (await cold_tokens(http, "once"))[0] == 0
        assert await prewarmed(http, "label") == 0
    async with served(tmp_path, prewarm=0) as http:
        await asyncio.sleep(3)
        assert (await cold_tokens(http, "hot"))[0] == 0


async def test_nothing_is_prefilled_while_a_request_runs(tmp_path: Path) -> None:
    async with served(tmp_path) as http:
        await create(http, "patient")
        async with http.stream("POST", "/v1/chat/completions", json=LONG | {"stream": True}) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            await label(http, "patient")
            read = 0
            async for _ in lines:
                read += 1
                if read % 100 == 0 and read < 1500:
                    assert await prewarmed(http, "label") == 0
            assert read > 1500

        async def warm() -> bool:
            return await prewarmed(http, "label") == 1

        await until(warm, 20, "it is prefilled afterwards")
