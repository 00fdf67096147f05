"""Chunks written as text have the bytes that vLLM's models write, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.generate.base.protocol import DeltaFunctionCall, DeltaMessage, DeltaToolCall
from vllm.entrypoints.openai.chat_completion import protocol, serving
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionLogProbs
from vllm.entrypoints.serve.engine.protocol import UsageInfo
from vllm.entrypoints.serve.utils.tool_calls_utils import maybe_filter_parallel_tool_calls

from metaalign_server.engine.chunks import Choice, Chunk, Text, write_chunks_as_text
from metaalign_server.engine.installation import OTHER_CHUNKS
from tests.server.conftest import Twin

# Lone surrogates cannot come out of a tokenizer.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CALL = DeltaToolCall(index=0, id="a", type="function", function=DeltaFunctionCall(name="f", arguments="{"))
DELTAS = st.one_of(
    st.builds(DeltaMessage, content=TEXTS),
    st.builds(Text, TEXTS),
    st.builds(DeltaMessage, role=TEXTS, content=TEXTS),
    st.builds(DeltaMessage, reasoning=TEXTS),
    st.builds(DeltaMessage, content=TEXTS, reasoning=TEXTS),
    st.just(DeltaMessage()),
    st.just(DeltaMessage(content=None)),
    st.just(DeltaMessage(tool_calls=[CALL])),
)
ENDS: list[dict[str, Any]] = [{}, {"stop_reason": None}, {"stop_reason": 7}, {"stop_reason": 'a "stop"'}]


@given(
    delta=DELTAS,
    end=st.sampled_from(ENDS),
    reason=st.sampled_from([None, "stop", "length", "tool_calls"]),
    ids=st.sampled_from([{}, {"token_ids": None}, {"token_ids": [1, 2]}]),
    logprobs=st.sampled_from([None, ChatCompletionLogProbs(content=[])]),
    rest=st.sampled_from(
        [{}, {"prompt_token_ids": None, "prompt_text": None}, {"prompt_token_ids": [1], "prompt_text": "a"}]
    ),
    later=st.sampled_from([{}, {"system_fingerprint": "vllm-é"}, {"usage": UsageInfo(prompt_tokens=3)}]),
    names=st.tuples(TEXTS, TEXTS),
    number=st.integers(0, 2**31),
)
def test_equal_bytes(
    delta: DeltaMessage | Text,
    end: dict[str, Any],
    reason: str | None,
    ids: dict[str, Any],
    logprobs: Any,
    rest: dict[str, Any],
    later: dict[str, Any],
    names: tuple[str, str],
    number: int,
) -> None:
    written = []
    for chunk, choice, its_delta in (
        (Chunk, Choice, delta),
        (
            protocol.ChatCompletionStreamResponse,
            protocol.ChatCompletionResponseStreamChoice,
            delta.model() if isinstance(delta, Text) else delta,
        ),
    ):
        one: Any = choice(
            index=number, delta=its_delta, logprobs=logprobs, finish_reason=reason, **end, **ids
        )
        made: Any = chunk(
            id=names[0], object="chat.completion.chunk", created=number, choices=[one], model=names[1], **rest
        )
        for name, value in later.items():
            setattr(made, name, value)
        written.append(made.model_dump_json(exclude_unset=True))
    assert written[0] == written[1]
    json.loads(written[0])


def test_calls_in_parallel_are_dropped_as_before() -> None:
    calls = [CALL, CALL.model_copy(update={"index": 1})]
    request = protocol.ChatCompletionRequest(messages=[], parallel_tool_calls=False)
    choice = Choice(index=0, delta=DeltaMessage(tool_calls=calls), logprobs=None, finish_reason=None)
    kept: Any = maybe_filter_parallel_tool_calls(choice, request)  # type: ignore[type-var]
    assert [call.index for call in kept.tool_calls] == [0]


def test_models_that_write_something_else_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    class Newer(protocol.ChatCompletionStreamResponse):
        news: str = "a field of a newer vLLM"

        def model_dump_json(self, **options: Any) -> str:
            return super().model_dump_json(**options)[:-1] + ',"news":1}'

    monkeypatch.setattr(serving, "ChatCompletionStreamResponse", Newer)
    monkeypatch.setattr(
        serving, "ChatCompletionResponseStreamChoice", protocol.ChatCompletionResponseStreamChoice
    )
    assert not write_chunks_as_text()
    assert serving.ChatCompletionStreamResponse is Newer
    monkeypatch.setattr(serving, "ChatCompletionStreamResponse", protocol.ChatCompletionStreamResponse)
    assert write_chunks_as_text()
    assert serving.ChatCompletionStreamResponse is Chunk  # type: ignore[comparison-overlap]


def test_what_a_newer_handler_sets_on_a_chunk_is_written() -> None:
    choice = Choice(index=0, delta=DeltaMessage(content="a"), logprobs=None, finish_reason=None)
    chunk = Chunk(id="a", object="chat.completion.chunk", created=1, choices=[choice], model="m")
    chunk.prompt_text = "set later"  # type: ignore[attr-defined]
    assert json.loads(chunk.model_dump_json(exclude_unset=True))["prompt_text"] == "set later"


def test_the_server_found_the_same_bytes(twin: Twin) -> None:
    """It would have said so."""
    assert OTHER_CHUNKS not in twin.server.log_text()
