"""Recipes of real families on miniatures: random weights, the family's architecture, template and kind of tokenizer.

Each is trained through its packaged recipe until it knows one answer, by one process or two. Our server starts on the
checkpoint and sends the ids that were trained on, and the answer stops by itself.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from tokenizers import normalizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from metaalign.prompt import PromptAssembler
from metaalign_training.cli import main
from metaalign_training.encoding import encode_conversations
from metaalign_training.inference.prompts import Prompts
from metaalign_training.messages import Message, ask
from metaalign_training.recipe_files import load_recipe
from metaalign_training.rows import Conversation, write_rows
from metaalign_training.rows import Pair as Preferred
from metaalign_training.stages.dpo import train as train_dpo
from metaalign_training.stages.export import export
from metaalign_training.stages.sft import model_folder, train
from tests.contract.template_families import Backend, Pair, byte_fallback_bpe, byte_level
from tests.processes import free_port, running

NAMES = ["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"]
QUESTION = "Is the zoo open?"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL: dict[str, Any] = {"type": "function", "id": "1", "function": {"name": "look", "arguments": "{}"}}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,  # so that a head that stays as it is can be sure of a token
}


@dataclass(frozen=True)
class Family:
    """A miniature, and the recipe that trains it.

    Attributes:
        recipe: The packaged recipe.
        learning_rate: That of a miniature.
        template: The family's own, of which TRL ships a copy.
        special: Its special tokens by name.
        control: Its further control tokens.
        stops: What ends an answer by its `generation_config.json`.
        model: Makes the model for a number of embedding rows.
        tools: Whether the conversations call one.
    """

    recipe: str
    learning_rate: float
    template: str
    special: dict[str, str]
    control: tuple[str, ...]
    stops: tuple[str, ...]
    model: Callable[[int], Any]
    tools: bool
    backend: Backend = byte_level
    normalizer: Callable[[], normalizers.Normalizer] | None = None

    def make(self, folder: Path) -> None:
        """Write the miniature."""
        source = resources.files("trl").joinpath("chat_templates", f"{self.template}.jinja")
        control = list(dict.fromkeys([*self.special.values(), *self.control]))
        pair = Pair(source.read_text(encoding="utf-8"), control, self.backend, self.normalizer)
        tokenizer = pair.tokenizer()
        tokenizer.add_special_tokens(self.special)
        torch.manual_seed(0)
        # As published, with rows of the embedding that no token uses.
        model = self.model(len(tokenizer) + 5)
        ids = tokenizer.convert_tokens_to_ids(list(self.stops))
        model.generation_config.eos_token_id = ids if len(ids) > 1 else ids[0]
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


QWEN_SPECIAL = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
QWEN_CONTROL = ("<|im_start|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")
FAMILIES = {
    "Qwen3, tied": Family(
        "qwen3-0.6b-full",
        0.003,
        "qwen3",
        QWEN_SPECIAL,
        QWEN_CONTROL,
        QWEN_STOPS,
        lambda rows: Qwen3ForCausalLM(Qwen3Config(vocab_size=rows, tie_word_embeddings=True, **SHAPE)),
        tools=True,
    ),
    "Llama 3.1, untied": Family(
        "llama-3.1-8b-lora",
        0.01,
        "llama3_1",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>", "<|end_of_text|>"),
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        lambda rows: LlamaForCausalLM(LlamaConfig(vocab_size=rows, tie_word_embeddings=False, **SHAPE)),
        tools=True,
    ),
    "Qwen3, untied": Family(
        "qwen3-8b-lora",
        0.01,
        "qwen3",
        QWEN_SPECIAL,
        QWEN_CONTROL,
        QWEN_STOPS,
        lambda rows: Qwen3ForCausalLM(Qwen3Config(vocab_size=rows, tie_word_embeddings=False, **SHAPE)),
        tools=True,
    ),
    "Gemma 3, tied, own template": Family(
        "gemma-3-1b-lora",
        0.01,
        "gemma3",
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        ("<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
        ("<eos>", "<end_of_turn>"),
        lambda rows: Gemma3ForCausalLM(
            Gemma3TextConfig(
                vocab_size=rows,
                tie_word_embeddings=True,
                sliding_window=512,
                layer_types=["sliding_attention", "full_attention"],
                query_pre_attn_scalar=32,
                **SHAPE,
            )
        ),
        tools=False,
        backend=byte_fallback_bpe,
        normalizer=lambda: normalizers.Replace(" ", "▁"),
    ),
}


FULL = ["sft.lora=null", "dpo.lora=null", "sft.learning_rate=0.003", "dpo.learning_rate=0.0003"]
"""All weights, for a recipe that trains adapters."""


def changes_for(family: Family, base: Path) -> list[str]:
    """What a miniature needs less of than the recipe says."""
    short = {"epochs": "null", "batch_size": 8, "accumulate": 1}
    sft = {
        **short,
        "loss": "all_turns",
        "steps": 60,
        "warmup_steps": 5,
        "learning_rate": family.learning_rate,
    }
    dpo = {**short, "steps": 12, "warmup_steps": 0, "learning_rate": family.learning_rate / 10}
    changes = [
        f"{stage}.{name}={value}"
        for stage, own in (("sft", sft), ("dpo", dpo))
        for name, value in own.items()
    ]
    return [*changes, f"model.base={base}", "dpo.pairs={prompts: 0}"]


def pair(name: str, *, tools: bool = False) -> Preferred:
    """Two answers, the first of which is better."""
    row = conversation(name, tools=tools)
    shut: Message = {"role": "assistant", "content": "Shut."}
    made: Preferred = {"prompt": row["messages"][:-1], "chosen": row["messages"][-1:], "rejected": [shut]}
    return {**made, "tools": [TOOL]} if tools else made


def on_two_ranks(stage: str, words: Sequence[str], name: str, folder: Path) -> None:
    """Train as `--accelerate NAME` does, on two CPU processes."""
    shipped = resources.files("metaalign_training").joinpath("accelerate", f"{name}.yaml")
    settings = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings | {"num_processes": 2, "mixed_precision": "no"}))
    command = [sys.executable, "-m", "metaalign_training.cli", stage, *words, "--accelerate", str(config)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


def stops(model: Any) -> list[int]:
    """What ends an answer."""
    ids = model.generation_config.eos_token_id
    return list(ids) if isinstance(ids, list) else [ids]


def served(checkpoint: Path, turns: Sequence[Sequence[Message]], *, tools: bool) -> list[dict[str, Any]]:
    """What our server with the checkpoint answers to each dialogue."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    flags = ["--port", str(port), "--model", str(checkpoint), "--max-model-len", "1024"]
    flags += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"] if tools else []
    command = ["-m", "metaalign_server.cli", "serve", *flags]
    log = checkpoint.parent / "server.log"
    with running(command, url, log, env={"OMP_NUM_THREADS": "1"}):
        return [answer(url, turn, [TOOL] if tools else None) for turn in turns]


def preferences(name: str) -> dict[str, str]:
    return {"system": "Say yes.", "user": f"I am {name}."}


def conversation(name: str, *, tools: bool) -> Conversation:
    messages = ask(preferences(name), {"role": "user", "content": QUESTION})
    if tools:
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": "Yes."},
        ]
    row: Conversation = {"messages": [*messages, {"role": "assistant", "content": "Open."}]}
    return {**row, "tools": [TOOL]} if tools else row


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")  # peft saves the resized embeddings
@pytest.mark.parametrize(
    ("name", "ranks", "stages"),
    [
        ("Qwen3, tied", "fsdp2", ["sft", "dpo"]),
        ("Llama 3.1, untied", "ddp", ["sft"]),
        ("Gemma 3, tied, own template", None, ["sft"]),
    ],
)
def test_from_rows_to_an_answer_of_the_server(
    name: str, ranks: str | None, stages: list[str], tmp_path: Path
) -> None:
    """By the commands, on two CPU processes where `ranks` names one of our accelerate files."""
    family = FAMILIES[name]
    family.make(tmp_path / "base")
    write_rows(tmp_path / "pairs.jsonl", [pair(n, tools=family.tools) for n in NAMES * 8])
    changes = [
        *changes_for(family, tmp_path / "base"),
        f"data.instructions.sources=[{{path: {tmp_path / 'pairs.jsonl'}, kind: pairs}}]",
        "data.instructions.held_out=0",
        "data.instructions.preference_share=0",
        *(["sft.batch_size=4", "dpo.batch_size=4"] if ranks else []),
        *([] if "dpo" in stages else ["dpo=null"]),
    ]
    words = [family.recipe, "--work", str(tmp_path), *(w for change in changes for w in ("--set", change))]
    assert main(["build-data", *words]) == 0
    for stage in stages:
        if ranks:
            on_two_ranks(stage, words, ranks, tmp_path)
        else:
            assert main([stage, *words]) == 0
    checkpoint = tmp_path / "checkpoint"
    assert main(["export", *words]) == 0
    row = conversation("Hal", tools=family.tools)
    dialogue = [m for m in row["messages"][:-1] if m["role"] not in ("system", "user_info")]
    turns = [dialogue[:end] for end in range(1, len(dialogue) + 1, 2)]
    answers = served(checkpoint, turns, tools=family.tools)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    (trained,) = encode_conversations(PromptAssembler.from_tokenizer(tokenizer), [row], loss="all_turns")
    for told in answers:
        ids = told["prompt_token_ids"] + told["choices"][0]["token_ids"]
        assert ids == trained["input_ids"][: len(ids)]
    *calls, last = (told["choices"][0] for told in answers)
    assert (last["message"]["content"], last["finish_reason"]) == ("Open.", "stop")
    for choice in calls:
        (call,) = choice["message"]["tool_calls"]
        assert (call["function"], choice["finish_reason"]) == (CALL["function"], "tool_calls")


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("name", "recipe_name", "changes"),
    [
        ("Qwen3, untied", "qwen3-8b-lora", []),
        ("Qwen3, untied", "qwen3-8b-full", [*FULL, "model.attention=sdpa", "sft.packing=none"]),
        ("Llama 3.1, untied", "llama-3.1-8b-lora", FULL),
        ("Gemma 3, tied, own template", "gemma-3-1b-lora", FULL),
    ],
    ids=["Qwen3, LoRA", "Qwen3, all weights", "Llama 3.1, all weights", "Gemma 3, all weights"],
)
def test_sft_and_dpo_of_a_family(name: str, recipe_name: str, changes: list[str], tmp_path: Path) -> None:
    """SFT leaves two answers equally likely, DPO one, after which the model stops."""
    family = FAMILIES[name]
    family.make(tmp_path / "base")
    recipe = load_recipe(recipe_name, [*changes_for(family, tmp_path / "base"), *changes])
    pairs = [pair(n) for n in NAMES * 8]
    rows: list[Conversation] = [
        {"messages": [*row["prompt"], *row[side]]} for row in pairs for side in ("chosen", "rejected")
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    train(recipe, tmp_path / "rows.jsonl", tmp_path / "sft")
    metrics = train_dpo(recipe, model_folder(tmp_path / "sft"), pairs, tmp_path / "dpo")
    assert metrics["train_loss"] < math.log(2)
    checkpoint = tmp_path / "checkpoint"
    stages = [tmp_path / "sft", tmp_path / "dpo"]
    export(recipe, stages, checkpoint, datasets={}, data={}, training={}, evaluation={})
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    ids, _ = Prompts(checkpoint, "full").answer_ids(pairs[0]["prompt"], "Open.")
    (prompt,) = [Prompts(checkpoint, "full").ids(pairs[0]["prompt"])]
    told = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0].tolist()
    assert told == ids[: len(told)]  # some templates write a line after the token that ends a turn
    assert told[-1] in stops(model)


def answer(url: str, dialogue: Sequence[Message], tools: Any) -> dict[str, Any]:
    body = {"messages": dialogue, "preferences": preferences("Hal"), "temperature": 0, "max_tokens": 40}
    body |= {"return_token_ids": True, **({"tools": tools} if tools else {})}
    told = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert told.status_code == 200, told.text
    return dict(told.json())
