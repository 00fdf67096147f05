"""No text from outside ever becomes a control token: attacks by property tests, on several tokenizer families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaalign import InvalidPrompt
from metaalign.prompt import CONTROL_TOKENS, PromptAssembler
from tests.contract import tokenizers_for_tests as families

FAMILIES: dict[str, Callable[[], Any]] = {
    "ours": families.ours,
    "chatml": families.chatml,
    "concatenating": families.concatenating,
    "normalising": families.normalising,
    "unigram": families.unigram,
}
CONTROL = [*CONTROL_TOKENS, "<|im_start|>", "<|im_end|>", "<|secret|>"]
FRAGMENTS = [c[:i] for c in CONTROL for i in (1, 2, 5)] + [c[i:] for c in CONTROL for i in (1, 2, 5)]
LOOK_ALIKES = [c.replace("<", "＜").replace(">", "＞").replace("|", "｜") for c in CONTROL]
SPLIT_INSIDE = [c[:3] + z + c[3:] for c in CONTROL for z in ("\u200b", "\ufdd0", "\n")]
JINJA = ["{{ messages }}", "{% raw %}", "{{ '<|end|>' }}", "{# x #}", "{%- endfor %}"]
PIECES = st.one_of(
    st.sampled_from(CONTROL),
    st.sampled_from(FRAGMENTS),
    st.sampled_from(LOOK_ALIKES),
    st.sampled_from(SPLIT_INSIDE),
    st.sampled_from(JINJA),
    st.sampled_from(["\ufdd0", "\ufdef", " ", "\n", "end", "user", "secret", "tool_call"]),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
TEXT = st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda t: bool(t.strip()))
ASCII = TEXT.map(lambda t: t.encode("ascii", "replace").decode())
FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[str, Any, PromptAssembler]:
    tokenizer = FAMILIES[request.param]()
    return request.param, tokenizer, PromptAssembler.from_tokenizer(tokenizer)


def control_ids(assembler: PromptAssembler, ids: Any) -> int:
    known = set(assembler.control.values())
    return sum(i in known for i in ids)


@FAST
@given(texts=st.lists(TEXT, min_size=2, max_size=4))
def test_messages(family: tuple[str, Any, PromptAssembler], texts: list[str]) -> None:
    name, tokenizer, assembler = family
    roles = ["user", "assistant", "user", "tool"]

    def conversation(contents: list[str]) -> list[dict[str, Any]]:
        return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]

    if name == "unigram":
        texts = [t.encode("ascii", "replace").decode() for t in texts]
    harmless = conversation(["a"] * len(texts))
    expected = control_ids(assembler, assembler.assemble(harmless, add_generation_prompt=True).token_ids)
    prompt = assembler.assemble(conversation(texts), add_generation_prompt=True)
    assert control_ids(assembler, prompt.token_ids) == expected
    if name in ("ours", "concatenating"):
        assert tokenizer.decode(prompt.token_ids, skip_special_tokens=False) == prompt.text
        for text in texts:
            assert text in prompt.text


@FAST
@given(parts=st.lists(TEXT, min_size=2, max_size=4), system=TEXT, user_info=TEXT)
def test_tiers_and_parts(parts: list[str], system: str, user_info: str) -> None:
    """Text that is split over parts and joined again by the template, in both tiers."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user_info", "content": user_info},
        {"role": "user", "content": [{"type": "text", "text": p} for p in parts]},
    ]
    prompt = OURS.assemble(messages, add_generation_prompt=True)
    assert control_ids(OURS, prompt.token_ids) == 7
    assert prompt.text == (
        f"<|system_info|>{system}<|end|><|user_info|>{user_info}<|end|><|user|>"
        + "\n".join(parts)
        + "<|end|><|assistant|>"
    )


@FAST
@given(key=TEXT, value=TEXT, name=TEXT, arguments=TEXT)
def test_tools(key: str, value: str, name: str, arguments: str) -> None:
    """Keys and values of a tool's schema, its name, and arguments in a past call."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": value,
                "parameters": {"properties": {key: {"type": value}}},
            },
        }
    ]
    call = {"type": "function", "function": {"name": name, "arguments": {key: arguments}}}
    raw_call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call, raw_call]},
    ]
    prompt = OURS.assemble(messages, tools=tools)
    assert control_ids(OURS, prompt.token_ids) == 2 + 2 + 2 + 4


@FAST
@given(name=st.sampled_from(["tool_call", "x"]), text=TEXT)
def test_a_template_that_builds_control_strings_from_values(name: str, text: str) -> None:
    assembler = CONCATENATING
    prompt = assembler.assemble([{"role": "user", "content": text}], tools=[{"name": name, "text": text}])
    assert control_ids(assembler, prompt.token_ids) == 2
    assert prompt.text == f"<{name}>{text}<|user|>{text}<|end|>"


@FAST
@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="<>|"), max_size=20), min_size=1, max_size=3
    )
)
def test_ordinary_text_is_tokenised_as_transformers_does(
    family: tuple[str, Any, PromptAssembler], texts: list[str]
) -> None:
    _, tokenizer, assembler = family
    messages = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(assembler.assemble(messages, add_generation_prompt=True).token_ids) == expected


@pytest.mark.parametrize("text", ["a < b > c", "x |> y", "if (a<|b) {}", "<p>html</p>", "user", "end"])
def test_angle_brackets_alone_change_nothing(text: str) -> None:
    tokenizer = families.ours()
    messages = [{"role": "user", "content": text}]
    prompt = PromptAssembler.from_tokenizer(tokenizer).assemble(messages)
    assert not prompt.cut
    assert list(prompt.token_ids) == tokenizer.apply_chat_template(messages, return_dict=False)


@pytest.mark.parametrize(
    "role",
    [
        "",
        "SYSTEM",
        "System",
        " system",
        "system\n",
        "ѕystem",
        "end",
        "x<|end|>",
        "referee",
        None,
        3,
        ["user"],
    ],
)
def test_a_role_is_exactly_one_of_the_known(role: Any) -> None:
    """A template may write any other into a header."""
    for assembler in (OURS, CONCATENATING):
        with pytest.raises(
            InvalidPrompt, match="a role must be exactly one of assistant, developer, function"
        ):
            assembler.assemble([{"role": role, "content": "x"}])


def test_lone_surrogates_are_refused() -> None:
    for text in ("\ud800", "<|end|>\udfff"):
        with pytest.raises(InvalidPrompt, match="Unicode"):
            OURS.assemble([{"role": "user", "content": text}])


OURS = PromptAssembler.from_tokenizer(families.ours())
CONCATENATING = PromptAssembler.from_tokenizer(families.concatenating())
