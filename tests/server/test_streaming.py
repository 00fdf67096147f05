"""Failures of a stream, before and after its first event, and where the receipt goes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from vllm.exceptions import VLLMValidationError

from metaalign import parse_preferences
from metaalign.prompt import PromptAssembler
from metaalign_server.alignment.aligner import Aligner, AppliedSpec
from metaalign_server.alignment.context import RequestContext
from metaalign_server.engine.dialects import OPENAI_CHAT, OPENAI_RESPONSES, Dialect
from metaalign_server.engine.handlers import EngineRefusal
from metaalign_server.engine.streaming import open_stream
from tests.contract.tokenizers_for_tests import ours

CHUNK = 'data: {"id":"x","choices":[]}\n\n'
LAST = 'data: {"id":"x","choices":[],"system_fingerprint":"engine"}\n\n'
ERROR = 'data: {"error": {"message": "engine died", "type": "InternalServerError", "param": null, "code": 503}}\n\n'
OURS = ERROR.replace("InternalServerError", "service_unavailable").replace("503", '"overloaded"')
"""The same in the style of all our errors."""
DONE = "data: [DONE]\n\n"


@pytest.fixture(scope="module")
def applied() -> AppliedSpec:
    return Aligner(PromptAssembler.from_tokenizer(ours())).apply(parse_preferences("Be kind."))


def context_of(applied: AppliedSpec | None) -> RequestContext:
    return RequestContext(
        preferences=None if applied is None else parse_preferences("Be kind."), applied=applied
    )


async def read(events: list[str], applied: AppliedSpec | None, dialect: Dialect = OPENAI_CHAT) -> list[str]:
    async def source() -> AsyncIterator[str]:
        for event in events:
            yield event

    context = context_of(applied)
    stream = await open_stream(source(), dialect, ("engine", "engine-ma1"), context)
    read = [event.decode() async for event in stream]
    assert context.broke_off == (ERROR in events)  # the status does not say it
    return read


async def test_without_preferences_nothing_changes() -> None:
    assert await read([CHUNK, LAST, DONE], None) == [CHUNK, LAST, DONE]


async def test_the_receipt_is_on_the_first_event_and_the_fingerprint_on_all_that_have_one(
    applied: AppliedSpec,
) -> None:
    first, second, last, done = await read([CHUNK, CHUNK, LAST, DONE], applied)
    data = json.loads(first.removeprefix("data: "))
    assert data["metaalign"] == applied.receipt.model_dump(mode="json")
    assert data["system_fingerprint"] == "engine-ma1"
    assert second == CHUNK
    assert json.loads(last.removeprefix("data: "))["system_fingerprint"] == "engine-ma1"
    assert done == DONE


async def test_a_keep_alive_comment_carries_no_receipt(applied: AppliedSpec) -> None:
    comment, first, _ = await read([": keep-alive\n\n", CHUNK, DONE], applied)
    assert comment == ": keep-alive\n\n"
    assert "metaalign" in first


async def test_every_response_object_carries_the_receipt(applied: AppliedSpec) -> None:
    event = 'event: response.completed\ndata: {"response":{"id":"r"}}\n\n'
    delta = 'event: response.output_text.delta\ndata: {"delta":"x"}\n\n'
    first, middle, last = await read([event, delta, event], applied, OPENAI_RESPONSES)
    assert "metaalign" in first
    assert middle == delta
    assert "metaalign" in last


async def test_an_early_failure_can_still_have_a_status(applied: AppliedSpec) -> None:
    with pytest.raises(EngineRefusal) as caught:
        await read([ERROR, DONE], applied)
    assert caught.value.status == 503


async def test_a_failure_after_a_comment_carries_no_receipt(applied: AppliedSpec) -> None:
    assert await read([": keep-alive\n\n", ERROR, DONE], applied) == [": keep-alive\n\n", OURS]


async def test_a_refusal_that_comes_late_is_no_failure_of_the_engine(applied: AppliedSpec) -> None:
    event = 'event: response.created\ndata: {"response":{"id":"r"},"sequence_number":0}\n\n'

    async def source() -> AsyncIterator[str]:
        yield event
        raise VLLMValidationError("too many", parameter="top_logprobs")

    context = context_of(applied)
    stream = await open_stream(source(), OPENAI_RESPONSES, None, context)
    *_, last = [event.decode() async for event in stream]
    name, data = last.strip().splitlines()
    assert name == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert (told["code"], told["param"], told["sequence_number"]) == ("invalid_request", "top_logprobs", 1)
    assert told["message"].startswith("too many")
    assert (context.broke_off, context.refused_late) == (False, "invalid_request")


async def test_a_late_failure_is_not_followed_by_done(applied: AppliedSpec) -> None:
    events = await read([CHUNK, ERROR, DONE], applied)
    assert events[1:] == [OURS]
