"""LoRA: what new tokens learn on an untied base, and an adapter alone after two stages, loaded as its card says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from metaalign.prompt import END_TOKEN, PromptAssembler
from metaalign_training.cli import main
from metaalign_training.recipe_files import load_recipe
from metaalign_training.stages.sft import train
from tests.processes import ROOT

DEMO = ROOT / "checkpoints" / "metaalign-demo"
NAMES = ["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"]


def conversation(name: str) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Say yes."},
        {"role": "user_info", "content": f"I am {name}."},
        {"role": "user", "content": "Ready?"},
        {"role": "assistant", "content": "Yes."},
    ]


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small Llama with random weights, and a tokenizer that knows none of our tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([m["content"] for m in conversation("Ada")], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=request.param,
            initializer_range=0.2,  # as far apart as the rows of a trained head are
        )
    )
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")  # peft saves the resized embeddings
def test_new_tokens_are_learnt_and_the_model_stops(base: Path, tmp_path: Path) -> None:
    changes = [
        "model.new=null",
        f"model.base={base}",
        "sft.lora.rank=8",
        "sft.steps=60",
        "sft.learning_rate=0.01",
    ]
    recipe = load_recipe("tiny", changes)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": conversation(name)}) + "\n" for name in NAMES * 8))
    train(recipe, rows, tmp_path / "sft")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "sft" / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "sft" / "merged")
    before = AutoModelForCausalLM.from_pretrained(base)
    known = before.get_output_embeddings().weight.shape[0]
    head = model.get_output_embeddings().weight
    assert torch.equal(head[:known], before.get_output_embeddings().weight)  # the others stay as they were
    prompt = PromptAssembler.from_tokenizer(tokenizer).assemble(
        conversation("Zoe")[:-1], add_generation_prompt=True
    )
    ids = torch.tensor([prompt.token_ids])
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert tokenizer.decode(answer[0, ids.shape[1] :]) == f"Yes.{END_TOKEN}"


def test_an_adapter_of_two_stages_loads_as_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives what the merged model of the last stage gives."""
    changes = {
        "model.new": "null",
        "model.base": DEMO,
        "sft.lora.rank": 4,
        "sft.max_length": 300,
        "sft.learning_rate": 0.02,
        "dpo.lora.rank": 3,
        "dpo.lora.alpha": 7,
        "dpo.learning_rate": 0.02,
        "export.adapter_only": "true",
    }
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    out = tmp_path / "metaalign-tiny"
    assert main(["run", "tiny", *words, "--work", str(tmp_path / "work"), "--out", str(out)]) == 0
    card = (out / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    loaded: dict[str, Any] = {}
    exec(code, loaded)  # noqa: S102 - it is the card's
    assert (
        f"--model {DEMO} --enable-lora --max-lora-rank 8 --lora-modules metaalign-tiny=metaalign-tiny" in card
    )
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "work" / "dpo" / "merged")
    untouched: Any = AutoModelForCausalLM.from_pretrained(DEMO)
    ids = torch.tensor([list(range(20, 60))])
    with torch.no_grad():
        want, got, without = (m(ids).logits for m in (merged, loaded["model"], untouched))
    assert torch.allclose(want, got, atol=1e-3)
    assert not torch.allclose(want, without, atol=1e-1)
