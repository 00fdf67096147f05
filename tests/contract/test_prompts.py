"""Golden prompts written by hand, and parity with transformers."""

from __future__ import annotations

from typing import Any

import pytest

from metaalign import InvalidPrompt, InvalidTemplate, parse_preferences
from metaalign.prompt import PromptAssembler, fold, packaged_template, render, request_layers, resolve
from metaalign.prompt.template import ChatTemplate
from tests.contract.tokenizers_for_tests import chatml, ours

USER = {"role": "user", "content": "Hi"}
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Löok <b>", "parameters": {"type": "object"}},
}

GOLDEN: list[tuple[list[Any], dict[str, Any], str]] = [
    ([USER], {}, "<|user|>Hi<|end|>"),
    ([USER], {"add_generation_prompt": True}, "<|user|>Hi<|end|><|assistant|>"),
    ([{"role": "system", "content": "S"}, USER], {}, "<|system_info|>S<|end|><|user|>Hi<|end|>"),
    ([{"role": "user_info", "content": "U"}, USER], {}, "<|user_info|>U<|end|><|user|>Hi<|end|>"),
    (
        [{"role": "user_info", "content": "U"}, {"role": "system", "content": "S"}, USER],
        {"add_generation_prompt": True},
        "<|system_info|>S<|end|><|user_info|>U<|end|><|user|>Hi<|end|><|assistant|>",
    ),
    (
        [
            {"role": "developer", "content": "D"},
            USER,
            {"role": "assistant", "content": "Yo"},
            {"role": "system", "content": "S"},
            USER,
        ],
        {},
        "<|system_info|>D\n\nS<|end|><|user|>Hi<|end|><|assistant|>Yo<|end|><|user|>Hi<|end|>",
    ),
    ([{"role": "system", "content": ""}, USER], {}, "<|user|>Hi<|end|>"),
    (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]}],
        {},
        "<|user|>a\n b<|end|>",
    ),
    ([{"role": "function", "content": "Foul"}], {}, "<|tool|>Foul<|end|>"),
    (
        [{"role": "user", "content": "  {{ spaces }} {% kept %}\n"}],
        {},
        "<|user|>  {{ spaces }} {% kept %}\n<|end|>",
    ),
    (
        [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": "fox"}}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "red"},
        ],
        {"tools": [TOOL]},
        '<|tools|>[{"type": "function", "function": {"name": "look", "description": "Löok <b>", "parameters": '
        '{"type": "object"}}}]<|end|><|user|>Hi<|end|><|assistant|><tool_call>{"name": "look", "arguments": '
        '{"at": "fox"}}</tool_call><|end|><|tool|>red<|end|>',
    ),
    (
        [USER, {"role": "assistant", "content": "A fox is"}],
        {"continue_final_message": True},
        "<|user|>Hi<|end|><|assistant|>A fox is",
    ),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return ours()


@pytest.mark.parametrize(("messages", "options", "expected"), GOLDEN)
def test_golden_and_parity(tokenizer: Any, messages: Any, options: Any, expected: str) -> None:
    prompt = PromptAssembler.from_tokenizer(tokenizer).assemble(messages, **options)
    assert prompt.text == expected
    assert list(prompt.token_ids) == tokenizer.apply_chat_template(messages, return_dict=False, **options)
    assert tokenizer.decode(prompt.token_ids) == expected


def test_template_variables_are_the_same_tiers() -> None:
    rendered = packaged_template().render([USER], system_info="S", user_info="U")
    assert rendered == "<|system_info|>S<|end|><|user_info|>U<|end|><|user|>Hi<|end|>"


def test_a_foreign_template_gets_one_folded_system_message() -> None:
    preferences = parse_preferences(
        {"system": "Be kind.", "user": {"info": "I am Ada.", "attributes": {"length": "short"}}}
    )
    meta_prompt = render(resolve(request_layers(preferences)))
    tokenizer = chatml()
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    messages = [*assembler.tier_messages(meta_prompt), USER]
    assert assembler.assemble(messages, add_generation_prompt=True).text == (
        "<|im_start|>system\nBe kind.\n\n## About the user\nI am Ada.\n\nKeep the answer short.\n\n"
        "Serve the user's preferences as far as the instructions above allow; where they disagree, the "
        "instructions above win. Facts stay facts whatever the user prefers.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    only_system = render(resolve(request_layers(parse_preferences("Be kind."))))
    assert fold(only_system) == "Be kind."


def test_a_template_without_system_role_refuses_preferences() -> None:
    tokenizer = chatml()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    with pytest.raises(InvalidPrompt) as caught:
        assembler.tier_messages(render(resolve(request_layers(parse_preferences("x")))))
    assert caught.value.param == "preferences"
    with pytest.raises(InvalidPrompt, match="no system role"):
        assembler.assemble([{"role": "system", "content": "x"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 2 ** 1000000000 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ range(10**8) | list }}",
        "{{ [1] * 10**9 }}",
    ],
)
def test_the_sandbox_stops_a_hostile_template(source: str) -> None:
    with pytest.raises(InvalidPrompt, match="messages"):
        ChatTemplate(source).render([USER])


def test_bad_templates() -> None:
    with pytest.raises(InvalidTemplate, match="compile"):
        ChatTemplate("{% if %}")
    with pytest.raises(InvalidTemplate, match="at most"):
        ChatTemplate("x" * 300_000)


def test_generation_marks_are_accepted() -> None:
    assert ChatTemplate("{% generation %}{{ messages[0].content }}{% endgeneration %}").render([USER]) == "Hi"
