"""Streams that skip vLLM's parser have the deltas that they have with it; whatever may hold a call is parsed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.parser_manager import ParserManager
from vllm.tool_parsers import ToolParserManager

from metaalign_server.engine.chunks import Text
from metaalign_server.engine.idle_parsers import skip_idle_parsers
from metaalign_server.engine.installation import OTHER_PARSERS
from metaalign_server.settings import DEMO_CHECKPOINT
from tests.server.conftest import Twin

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "a question"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(DEMO_CHECKPOINT))
    return made


def handler_of(tokenizer: PreTrainedTokenizerBase, tools: str | None, reasoning: str | None = None) -> Any:
    """What is used of vLLM's chat handler."""
    kind: Any = ParserManager.get_parser(tools, reasoning, enable_auto_tools=True)

    def make(request: ChatCompletionRequest, tokenizer: PreTrainedTokenizerBase, _: object) -> Any:
        return kind(tokenizer, request.tools, chat_template_kwargs={})

    return SimpleNamespace(
        parser_cls=kind, _make_parser=make, renderer=SimpleNamespace(tokenizer=tokenizer), stock=make
    )


def deltas(parser: Any, texts: list[str], request: ChatCompletionRequest) -> list[dict[str, Any] | None]:
    made: list[DeltaMessage | Text | None] = [
        parser.parse_delta(text, [place], request, [1, 2], finished=place == len(texts) - 1)
        for place, text in enumerate(texts)
    ]
    models = [delta.model() if isinstance(delta, Text) else delta for delta in made]
    return [None if delta is None else delta.model_dump(exclude_unset=True) for delta in models]


def skips(parser: Any) -> bool:
    return "parse_delta" in vars(parser)


WITH_OWN_TOKENS = {
    "cohere_command3",  # and these two want a package
    "cohere_command4",
    "deepseek_v3",
    "deepseek_v31",
    "hf",
    "hy_v3",
    "hy_v4",
    "jamba",
    "lfm2",
    "llama3_json",
    "llama4_json",
    "mistral",
}
"""Parsers that cannot be made for the demo's vocabulary."""
MARKS = [
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    '{"name": "f", "arguments": {}}',
    "",
    "<",
]


@pytest.mark.parametrize("name", sorted({*ToolParserManager.list_registered()} - WITH_OWN_TOKENS))
def test_equal_deltas_with_each_of_vllms_parsers(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    handler = handler_of(tokenizer, name)
    request = ChatCompletionRequest(**QUESTION)
    assert skip_idle_parsers(handler)

    @given(texts=st.lists(st.one_of(st.text(), st.sampled_from(MARKS)), min_size=1, max_size=8))
    def equal(texts: list[str]) -> None:
        ours = handler._make_parser(request, tokenizer, None)
        theirs = handler.stock(request, tokenizer, None)
        assert deltas(ours, texts, request) == deltas(theirs, texts, request)

    equal()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"tools": [TOOL], "tool_choice": "none"}, True),
        ({"tools": [TOOL]}, False),
        ({"tools": [TOOL], "tool_choice": "required"}, False),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}, False),
        ({"include_reasoning": False}, False),
    ],
)
def test_only_requests_without_tools_skip_it(
    fields: dict[str, Any], expected: bool, tokenizer: PreTrainedTokenizerBase
) -> None:
    handler = handler_of(tokenizer, "hermes")
    assert skip_idle_parsers(handler)
    request = ChatCompletionRequest(**QUESTION, **fields)
    assert skips(handler._make_parser(request, tokenizer, None)) is expected


@pytest.mark.parametrize("tools", ["hermes", None])
@pytest.mark.parametrize("reasoning", ["qwen3", "hunyuan_a13b", "granite"])
def test_reasoning_is_parsed(tools: str | None, reasoning: str, tokenizer: PreTrainedTokenizerBase) -> None:
    handler = handler_of(tokenizer, tools, reasoning)
    assert skip_idle_parsers(handler)
    assert not skips(handler._make_parser(ChatCompletionRequest(**QUESTION), tokenizer, None))


def test_a_parser_that_cannot_be_made_stays(tokenizer: PreTrainedTokenizerBase) -> None:
    handler = handler_of(tokenizer, "mistral")
    assert not skip_idle_parsers(handler)
    assert handler._make_parser is handler.stock


def test_a_parser_that_makes_something_else_stays(tokenizer: PreTrainedTokenizerBase) -> None:
    handler = handler_of(tokenizer, "hermes")

    class Louder(handler.parser_cls):  # type: ignore[name-defined,misc]
        def _in_tool_call_phase(self, state: Any) -> bool:
            return False

    def make(request: ChatCompletionRequest, tokenizer: PreTrainedTokenizerBase, _: object) -> Any:
        return Louder(tokenizer, request.tools)

    handler._make_parser = make
    assert not skip_idle_parsers(handler)  # it passes an empty text on, too
    assert handler._make_parser is make


def test_the_server_found_the_same_deltas(twin: Twin) -> None:
    """It would have said so."""
    assert OTHER_PARSERS not in twin.server.log_text()
