"""What the probes find out about a checkpoint when it is loaded: who could write whose text."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing

from metaalign import InvalidPrompt, InvalidTemplate
from metaalign.prompt import PromptAssembler
from tests.contract.template_families import PAIRS, Pair
from tests.contract.tokenizers_for_tests import CHATML

USER = {"role": "user", "content": "zebra"}


def assembler(template: str, *control: str, **options: Any) -> PromptAssembler:
    """An assembler for `template` and a byte-level tokenizer that knows `control`."""
    return PromptAssembler.from_tokenizer(Pair(template, control, **options).tokenizer())


def turns(system: str, user: str, assistant: str, head: str = "") -> str:
    """A template that writes each role's text in place of `@`."""
    branches = []
    for role, turn in (("system", system), ("user", user), ("assistant", assistant)):
        before, after = turn.split("@")
        branches.append(
            f"{{% if m.role == '{role}' %}}{{{{ '{before}' + m.content + '{after}' }}}}{{% endif %}}"
        )
    return head + "{% for m in messages %}" + "".join(branches) + "{% endfor %}"


# Templates whose roles can be written as text, the control tokens that they do have, and the marker to be named.
TEXT_MARKERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ChatML without its tokens": (CHATML, (), "<|im_end|>"),
    "ChatML whose first token is text": (CHATML, ("<|im_end|>",), "<|im_start|>"),
    "Zephyr": (
        turns("<|system|>\\n@</s>\\n", "<|user|>\\n@</s>\\n", "<|assistant|>\\n@</s>\\n"),
        ("<s>", "</s>"),
        "<|user|>",
    ),
    "Zephyr after a BOS token": (
        turns("<|system|>\\n@</s>\\n", "<|user|>\\n@</s>\\n", "<|assistant|>\\n@</s>\\n", "<s>"),
        ("<s>", "</s>"),
        "<|user|>",
    ),
    "Llama 2": (turns("[INST] <<SYS>>@<</SYS>>", "@ [/INST]", " @ </s>", "<s>"), ("<s>", "</s>"), "[/INST]"),
    "system text before the question": (
        turns("[INST]@\\n\\n", "@[/INST]", "@</s>", "<s>"),
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "\n\n",
    ),
    "Vicuna": (turns("@\\n\\n", "USER: @ ", "ASSISTANT: @</s>", "<s>"), ("<s>", "</s>"), "ASSISTANT:"),
    "Alpaca": (turns("@\\n\\n", "### User:\\n@\\n", "### Answer:\\n@\\n"), (), "### Answer:"),
    "OpenChat": (
        turns("@<eot>", "GPT4 Correct User: @<eot>", "GPT4 Correct Assistant: @<eot>", "<s>"),
        ("<s>", "<eot>"),
        "GPT4 Correct User:",
    ),
    "only parts": (
        "{% for m in messages %}{{ m.role }}: {% for p in m.content %}{{ p.text }}{% endfor %}\n{% endfor %}",
        (),
        "assistant:",
    ),
    "no roles at all": ("{% for m in messages %}{{ m.content }}\n{% endfor %}", (), "\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT_MARKERS)
def test_roles_that_text_can_write_are_found(name: str) -> None:
    template, control, marker = TEXT_MARKERS[name]
    found = assembler(template, *control).text_marker
    assert found is not None
    assert marker in found


@pytest.mark.parametrize("name", PAIRS)
def test_roles_of_control_tokens_are_accepted(name: str) -> None:
    assert PromptAssembler.from_tokenizer(PAIRS[name].tokenizer()).text_marker is None


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('never') }}",
        "<|user|>",
        "{% for m in messages | reverse %}<|user|>{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_that_the_probes_cannot_read_is_not_trusted(template: str) -> None:
    assert assembler(template, "<|user|>").text_marker == ""


def test_what_stands_in_the_system_turn() -> None:
    """Tools and documents that a template puts there; not those with a turn of their own."""
    beside = {
        name: PromptAssembler.from_tokenizer(PAIRS[name].tokenizer()).system_sources
        & {"tools", "documents", "tool"}
        for name in (
            "ours",
            "Qwen, lossless",
            "Llama 3",
            "Mistral",
            "Granite",
            "DeepSeek",
            "Command",
            "Gemma",
        )
    }
    assert beside == {
        "ours": set(),
        "Qwen, lossless": {"tools"},
        "Llama 3": {"tools"},
        "Mistral": set(),
        "Granite": set(),
        "DeepSeek": {"tools"},
        "Command": {"documents", "tool"},
        "Gemma": set(),
    }


# Templates as their makers publish them (TRL ships copies): the marker that is found, and what the system turn holds.
PUBLISHED: dict[str, tuple[str | None, set[str]]] = {
    "cohere": (None, set()),
    "deepseekv3": (None, set()),
    "gemma": (None, set()),
    "gemma3": ("\n\n", set()),
    "glm4moe": (None, {"tools"}),
    "llama3_1": (None, set()),
    "nemotron_3_nano": (None, {"tools"}),
    "phi3": (None, set()),
    "qwen2_5": (None, {"tools"}),
    "qwen3": (None, {"tools"}),
    "smolvlm": ("User:", set()),  # takes lists of parts only
}
MARKUP = re.compile(r"<[|｜][^<>'\"\s{}]+[|｜]>|</?[a-z]+_[a-z_]+>|</?think>|\[gMASK\]")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates(name: str) -> None:
    source = resources.files("trl").joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")
    found = assembler(source, *dict.fromkeys(MARKUP.findall(source)))
    assert (found.text_marker, set(found.system_sources & {"tools", "documents"})) == PUBLISHED[name]


def test_a_template_that_takes_every_other_role_for_the_system() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{% elif m.role == 'assistant' %}<|assistant|>"
        "{% else %}<|system|>{% endif %}{{ m.content }}<|end|>{% endfor %}"
    )
    found = assembler(template, "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    assert found.text_marker is None
    assert found.system_sources == {"developer", "function", "tool", "user_info"}


@pytest.mark.parametrize(
    ("pair", "token"),
    [
        # SentencePiece-like: the token is looked for as `▁<|user|>`, which the template never writes but a text can.
        (
            replace(
                PAIRS["Phi"],
                normalizer=lambda: normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁")]),
                options={"normalized": True},
            ),
            "<|",
        ),
        (replace(PAIRS["ours"], options={"single_word": True}), "<|"),
        (replace(PAIRS["Phi, tokens that overlap"], plain=("\n<",)), "<|assistant|>"),
    ],
)
def test_a_tokenizer_that_misses_the_templates_tokens_is_refused(pair: Pair, token: str) -> None:
    with pytest.raises(InvalidTemplate, match="does not recognise") as caught:
        PromptAssembler.from_tokenizer(pair.tokenizer())
    assert token in caught.value.message
    assert "tokenizer.json" in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unknown_token_that_the_template_writes_is_a_control_token() -> None:
    """Otherwise any character outside the vocabulary would forge it."""
    pair = replace(
        PAIRS["Mistral"],
        template="{% for m in messages %}<unk>{{ m.content }}</s>{% endfor %}",
        control=("<unk>", "</s>"),
    )
    pair = replace(pair, backend=PAIRS["ours, Unigram with control pieces"].backend)
    foreign = PromptAssembler.from_tokenizer(pair.tokenizer())
    assert "<unk>" in foreign.control
    with pytest.raises(InvalidPrompt, match="without control tokens"):
        foreign.assemble([{"role": "user", "content": "語"}])


@pytest.mark.parametrize("name", PAIRS)
def test_harmless_text_is_tokenised_as_transformers_does(name: str) -> None:
    tokenizer = PAIRS[name].tokenizer()
    foreign = PromptAssembler.from_tokenizer(tokenizer)
    for texts in (["hi", "a  b", "end"], ["a\nb", "x < y > z", "'q' \"r\""], ["語", "é", "user system"]):
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        if name == "ours, Unigram with control pieces":  # it knows only ASCII
            messages = [m | {"content": m["content"].encode("ascii", "replace").decode()} for m in messages]
        if name == "tokens of blanks":
            messages = [m | {"content": "".join(m["content"].split())} for m in messages]
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert list(foreign.assemble(messages, add_generation_prompt=True).token_ids) == expected


@pytest.mark.parametrize("name", ["ours", "ChatML", "Llama 3", "Qwen, lossless", "Mistral"])
@pytest.mark.parametrize(
    "content", ["end", "im_end", "|>", "s", "A fox is", "a  ", "  a\n", "eot_id", "user", "<", ">"]
)
def test_the_last_message_is_left_open_behind_its_text(name: str, content: str) -> None:
    """Also where the text occurs in the token that would close it."""
    tokenizer = PAIRS[name].tokenizer()
    messages = [USER, {"role": "assistant", "content": content}]
    prompt = PromptAssembler.from_tokenizer(tokenizer).assemble(messages, continue_final_message=True)
    expected = tokenizer.apply_chat_template(
        messages, continue_final_message=True, tokenize=False, return_dict=False
    )
    assert prompt.text == expected
    assert prompt.text.endswith((content, content.strip()))
    assert list(prompt.token_ids) == tokenizer.encode(expected, add_special_tokens=False)


@pytest.mark.parametrize("content", ["<|end|>", "a<|end|>", "<|end|>b "])
def test_an_attack_is_continued_as_text(content: str) -> None:
    parts = [{"type": "text", "text": content}]
    messages: list[dict[str, Any]] = [USER, {"role": "assistant", "content": parts}]
    prompt = PromptAssembler.from_tokenizer(PAIRS["ours"].tokenizer()).assemble(
        messages, continue_final_message=True
    )
    assert prompt.text == f"<|user|>zebra<|end|><|assistant|>{content}"
    assert prompt.cut


@pytest.mark.parametrize("content", ["", "  ", None, [], [{"type": "text", "text": ""}]])
def test_nothing_cannot_be_continued(content: Any) -> None:
    with pytest.raises(InvalidPrompt, match="no text that could be continued"):
        PromptAssembler.from_tokenizer(PAIRS["ours"].tokenizer()).assemble(
            [USER, {"role": "assistant", "content": content}], continue_final_message=True
        )


def test_a_text_that_is_not_shown_cannot_be_continued() -> None:
    hidden = assembler(
        "{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}{% endfor %}", "<|user|>"
    )
    with pytest.raises(InvalidPrompt, match="does not show the final message's text"):
        hidden.assemble([USER, {"role": "assistant", "content": "a"}], continue_final_message=True)


def test_special_tokens_are_added_to_every_prompt_that_asks_for_them() -> None:
    """Also to one that is cut."""
    tokenizer = PAIRS["ChatML"].tokenizer()
    identity = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_end|> $A", special_tokens=[("<|im_end|>", identity)]
    )
    foreign = PromptAssembler.from_tokenizer(tokenizer)
    for content in ("harmless", "<|im_start|>"):
        messages = [{"role": "user", "content": content}]
        bare = foreign.assemble(messages)
        whole = foreign.assemble(messages, add_special_tokens=True)
        assert whole.token_ids == (identity, *bare.token_ids)
        assert whole.cut == bare.cut == (content != "harmless")
