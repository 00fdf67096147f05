"""A call of a tool that Anthropic's form cannot hold is the model's mistake; what a client got wrong stays its own."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.entrypoints.anthropic.protocol import AnthropicContentBlock
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from metaalign_server.engine.handlers import EngineRefusal, VllmEngine
from metaalign_server.engine.refusals import Allowances


def a_text_for_an_object() -> None:
    AnthropicContentBlock.model_validate({"type": "tool_use", "id": "1", "name": "n", "input": "text"})


def no_json() -> None:
    json.loads('{"city": ')


def a_field_of_the_client() -> None:
    ChatCompletionRequest.model_validate({"messages": 1})


@pytest.mark.parametrize(
    ("fault", "status"), [(a_text_for_an_object, 500), (no_json, 500), (a_field_of_the_client, 400)]
)
def test_whose_mistake_it_is(fault: Any, status: int) -> None:
    async def create_messages(request: Any, raw_request: Any) -> None:
        fault()

    state = SimpleNamespace(anthropic_serving_messages=SimpleNamespace(create_messages=create_messages))
    request: Any = None
    no_sequences: Any = None
    with pytest.raises(EngineRefusal) as refused:
        asyncio.run(VllmEngine(state, Allowances(), no_sequences).messages(None, request))
    assert refused.value.status == status
    assert ("raise `max_tokens`" in refused.value.message) == (status == 500)
