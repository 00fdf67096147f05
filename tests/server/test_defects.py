"""A defect of ours is a logged 500 that says nothing; only what vLLM's own handlers raise is the client's 400."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from transformers import AutoTokenizer
from vllm.exceptions import VLLMValidationError

from metaalign import InvalidPreferences
from metaalign.prompt import PromptAssembler
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.context import RequestContext
from metaalign_server.callers import OPEN_CALLER, Caller
from metaalign_server.engine.defects import HookFailed
from metaalign_server.engine.handlers import EngineRefusal, VllmEngine
from metaalign_server.engine.refusals import Allowances
from metaalign_server.engine.rendering import render_responsively
from metaalign_server.serving.app import create_app
from metaalign_server.serving.gate import Gate
from metaalign_server.settings import Settings
from tests.processes import ROOT

SECRET = "zanzibar-canary-7319"


@pytest.fixture
def app() -> FastAPI:
    """Our application with routes that raise."""
    made = create_app()
    raised = {
        "type": TypeError(SECRET),
        "value": ValueError(SECRET),
        "lookup": KeyError(SECRET),
        "ours": InvalidPreferences("preferences: bad", param="preferences"),
        "vllm": VLLMValidationError("messages: bad", parameter="messages"),
    }

    async def fail(kind: str) -> None:
        raise raised[kind]

    made.add_api_route("/v1/profiles-that-fail/{kind}", fail)
    made.add_api_route("/v1/messages/that-fail/{kind}", fail)
    return made


async def get(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


@pytest.mark.parametrize("kind", ["type", "value", "lookup"])
async def test_a_bug_of_ours_is_a_logged_500(
    app: FastAPI, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for path, shape in (
        ("/v1/profiles-that-fail", {"message", "type", "param", "code"}),
        ("/v1/messages/that-fail", {"message", "type", "param", "code"}),
    ):
        caplog.clear()
        with caplog.at_level(logging.ERROR, logger="metaalign_server"):
            answer = await get(app, f"{path}/{kind}")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert set(answer.json()["error"]) == shape
        assert SECRET not in answer.text
        assert [record.getMessage() for record in caplog.records if record.name.startswith("metaalign")] == [
            "request failed"
        ]


async def test_a_defect_does_not_cut_the_connection(app: FastAPI) -> None:
    """Starlette raises it again after the answer; what goes on to uvicorn would close a connection that is kept."""
    service: Any = SimpleNamespace(settings=Settings(_env_file=None), ready=True)

    async def find(_: bytes) -> Caller:
        return OPEN_CALLER

    lookups = SimpleNamespace(peek_caller=lambda _: None, caller=find)
    platform: Any = SimpleNamespace(lookups=lookups, settings=service.settings, limiter=None)
    transport = httpx.ASGITransport(app=Gate(app, service, platform), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/v1/profiles-that-fail/type")).status_code == 500


async def test_what_is_raised_on_purpose_keeps_its_status(app: FastAPI) -> None:
    ours = await get(app, "/v1/profiles-that-fail/ours")
    assert (ours.status_code, ours.json()["error"]["code"]) == (400, "invalid_preferences")
    theirs = await get(app, "/v1/profiles-that-fail/vllm")
    assert (theirs.status_code, theirs.json()["error"]["param"]) == (400, "messages")


async def test_what_a_handler_of_vllm_raises_is_the_clients() -> None:
    async def create_chat_completion(request: Any, raw_request: Any) -> Any:
        raise TypeError("top_k: not a number")

    state = SimpleNamespace(
        openai_serving_chat=SimpleNamespace(create_chat_completion=create_chat_completion)
    )
    raw_request: Any = None
    no_sequences: Any = None
    with pytest.raises(EngineRefusal) as caught:
        await VllmEngine(state, Allowances(), no_sequences).chat(None, raw_request)
    assert (caught.value.status, caught.value.message) == (400, "top_k: not a number")


async def test_a_bug_in_a_hook_is_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our hooks run inside vLLM's handlers, whose TypeErrors are 400s."""
    aligner = Aligner(
        PromptAssembler.from_tokenizer(AutoTokenizer.from_pretrained(ROOT / "checkpoints/metaalign-demo"))
    )

    def broken(*_: Any) -> Any:
        raise TypeError(SECRET)

    async def create_chat_completion(request: Any, raw_request: Any) -> Any:
        return await render_responsively(aligner, RequestContext(), [{"role": "user", "content": "hi"}])

    monkeypatch.setattr(aligner, "apply", broken)
    state = SimpleNamespace(
        openai_serving_chat=SimpleNamespace(create_chat_completion=create_chat_completion)
    )
    raw_request: Any = None
    no_sequences: Any = None
    with pytest.raises(HookFailed) as caught:
        await VllmEngine(state, Allowances(), no_sequences).chat(None, raw_request)
    assert SECRET not in str(caught.value)
