"""The engine's side: shared prefixes are cached, a disconnect stops the work, a long text holds nobody up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from transformers import AutoTokenizer

from metaalign import parse_preferences
from metaalign.prompt import PromptAssembler
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.context import RequestContext
from metaalign_server.engine.rendering import render_conversation, render_responsively
from tests.processes import ROOT
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


async def test_a_long_conversation_does_not_hold_up_others() -> None:
    """A megabyte is tokenised without blocking the event loop, to the same ids."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "checkpoints/metaalign-demo")
    aligner = Aligner(PromptAssembler.from_tokenizer(tokenizer, None))
    conversation = [{"role": "user", "content": "The otter lives in rivers and eats fish. " * 25_000}]
    context = RequestContext(preferences=parse_preferences({"user": "I am Ada."}))
    gaps = [0.0]

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            gaps.append(time.perf_counter() - before)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)  # it runs, and waits for its next turn
    started = time.perf_counter()
    prompt = await render_responsively(aligner, context, conversation)
    took = time.perf_counter() - started
    await asyncio.sleep(0)
    ticking.cancel()
    assert max(gaps) < took / 2
    assert prompt == render_conversation(aligner, context, conversation)


def test_what_is_to_be_forgotten_while_it_is_rendered_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "checkpoints/metaalign-demo")
    aligner = Aligner(PromptAssembler.from_tokenizer(tokenizer, None))
    preferences, render = parse_preferences({"user": "I am Ada."}), aligner._apply

    def forgotten_meanwhile(*given: Any) -> Any:
        aligner.forget()
        return render(*given)

    with monkeypatch.context() as patched:
        patched.setattr(aligner, "_apply", forgotten_meanwhile)
        first = aligner.apply(preferences)
    second = aligner.apply(preferences)
    assert second is not first
    assert aligner.apply(preferences) is second
