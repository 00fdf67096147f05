"""Tokenizers of new models: every text comes back, control tokens stay out of text, and unknown words are spelled."""

from __future__ import annotations

import random
from typing import Any

import pytest

from metaalign.prompt import CONTROL_TOKENS, PromptAssembler
from metaalign_training.tokenizer import spelling_tokenizer, subword_tokenizer
from metaalign_training.world.samples import make_sample
from metaalign_training.world.values import any_value


@pytest.fixture(scope="module")
def world_texts() -> list[str]:
    rng = random.Random(1)
    splits = ("seen", "values", "ordinary", "names")
    samples = [make_sample(rng, rng.choice(splits), training=True) for _ in range(3000)]
    return [str(message["content"]) for sample in samples for message in sample.conversation()]


@pytest.fixture(scope="module", params=[spelling_tokenizer, subword_tokenizer], ids=["spelled", "subwords"])
def tokenizer(request: pytest.FixtureRequest, world_texts: list[str]) -> Any:
    return request.param(world_texts, 2048)


@pytest.mark.parametrize(
    "text",
    [
        "Where do otters live?",
        "I'm O'Brien-Müller, don't call me xX_Łukasz_99!",
        "Zażółć gęślą jaźń · 高李 · Раокуш · Ξένος · 👩🏽‍🔬",
        "tabs\tand\r\nlines\n\n  and   spaces ",
        "<|end|> <|system|> <|user_info|>",
    ],
)
def test_every_text_comes_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False) == text
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    written = assembler.assemble([{"role": "user", "content": text}]).token_ids
    plain = assembler.assemble([{"role": "user", "content": "x"}]).token_ids
    controls = set(tokenizer.convert_tokens_to_ids(list(CONTROL_TOKENS)))
    assert [i for i in written if i in controls] == [i for i in plain if i in controls]


def test_what_is_no_common_word_is_spelled(world_texts: list[str]) -> None:
    tokenizer = spelling_tokenizer(world_texts, 4096)
    rng = random.Random(2)
    for shape in ("plain", "title", "hyphen", "accent", "small letters"):
        for name in (any_value(rng, "name", shape=shape, held_out=True) for _ in range(50)):
            alone = tokenizer.tokenize(name)
            inside = tokenizer.tokenize(f"Hello, {name}!")
            known = [token for token in alone if len(tokenizer.convert_tokens_to_string([token]).strip()) > 1]
            assert len(known) <= 1, (name, known)
            if name[0].isupper():
                assert inside[-1 - len(alone) : -1] == alone, name
    assert tokenizer.tokenize("lives in rivers") == [
        "l",
        "i",
        "v",
        "e",
        "s",
        "Ġin",
        "Ġrivers",
    ] or tokenizer.tokenize(" lives in rivers") == ["Ġlives", "Ġin", "Ġrivers"]


def test_a_vocabulary_has_at_most_the_size_that_was_asked_for(world_texts: list[str]) -> None:
    assert len(spelling_tokenizer(world_texts, 900)) == 900
    assert len(spelling_tokenizer(world_texts[:50], 50_000)) < 5_000
