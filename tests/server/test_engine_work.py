"""The engine's side: shared prefixes are cached, and a client that goes away stops the work."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.server.conftest import MODEL, Twin
from tests.server.test_routes import generated_tokens
from tests.server.twin import KEY


def test_a_shared_meta_prompt_is_cached(http: httpx.Client) -> None:
    preferences = {"system": {"info": "You are the guide of a very quiet museum. " * 12}}

    def cached(query: str) -> int:
        body = {"model": MODEL, "messages": [{"role": "user", "content": query}], "max_tokens": 1}
        usage = http.post("/v1/chat/completions", json=body | {"preferences": preferences}).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached("first question") == 0
    assert cached("another question, quite different") >= 64


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_stops_the_work(twin: Twin, http: httpx.Client, stream: bool) -> None:
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me three things about the otter."}],
        "max_tokens": 1900,
        "n": 8,
        "temperature": 1,
        "ignore_eos": True,
        "stream": stream,
        "preferences": {"user": {"attributes": {"format": "bullets"}}},
    }
    before = generated_tokens(http)
    async with httpx.AsyncClient(base_url=twin.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        if stream:
            async with client.stream("POST", "/v1/chat/completions", json=body, timeout=60) as response:
                lines = response.aiter_lines()
                for _ in range(20):
                    await anext(lines)
        else:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(30, read=0.4))
    deadline = time.monotonic() + 5
    while running(http) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert running(http) == 0
    settled = generated_tokens(http)
    await asyncio.sleep(0.5)
    assert generated_tokens(http) == settled
    assert settled - before < 8 * 1900 * 0.9


def running(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))
