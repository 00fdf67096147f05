"""Recipes of real families on miniatures: random weights, the family's architecture, template and kind of tokenizer.

Each is trained through its packaged recipe until it knows one answer. Our server starts on the checkpoint and sends the
ids that were trained on, and the answer stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tokenizers import normalizers
from transformers import (
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from metaalign.prompt import PromptAssembler
from metaalign_training.encoding import encode_conversations
from metaalign_training.messages import Message, ask
from metaalign_training.recipe_files import load_recipe
from metaalign_training.rows import Conversation, write_rows
from metaalign_training.stages.export import export
from metaalign_training.stages.sft import train
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


FAMILIES = {
    "Qwen3, tied, all weights": Family(
        "qwen3-0.6b-full",
        0.003,
        "qwen3",
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        ("<|im_start|>", "<think>", "</think>", "<tool_call>", "</tool_call>"),
        ("<|im_end|>", "<|endoftext|>"),
        lambda rows: Qwen3ForCausalLM(Qwen3Config(vocab_size=rows, tie_word_embeddings=True, **SHAPE)),
        tools=True,
    ),
    "Llama 3.1, untied, LoRA": Family(
        "llama-3.1-8b-lora",
        0.01,
        "llama3_1",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>", "<|end_of_text|>"),
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        lambda rows: LlamaForCausalLM(LlamaConfig(vocab_size=rows, tie_word_embeddings=False, **SHAPE)),
        tools=True,
    ),
    "Gemma 3, tied, LoRA, own template": Family(
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
@pytest.mark.parametrize("name", FAMILIES)
def test_a_recipe_of_a_family(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    family.make(tmp_path / "base")
    short = {
        "loss": "all_turns",
        "epochs": "null",
        "steps": 60,
        "batch_size": 8,
        "accumulate": 1,
        "warmup_steps": 5,
    }
    changes = [f"sft.{field}={value}" for field, value in short.items()]
    changes += [f"model.base={tmp_path / 'base'}", f"sft.learning_rate={family.learning_rate}"]
    recipe = load_recipe(family.recipe, changes)
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [conversation(n, tools=family.tools) for n in NAMES * 8])
    train(recipe, rows, tmp_path / "sft")
    checkpoint = tmp_path / "checkpoint"
    export(recipe, [tmp_path / "sft"], checkpoint, datasets={}, data={}, training={}, evaluation={})

    url = f"http://127.0.0.1:{(port := free_port())}"
    flags = ["--port", str(port), "--model", str(checkpoint), "--max-model-len", "1024"]
    flags += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"] if family.tools else []
    command = ["-m", "metaalign_server.cli", "serve", *flags]
    row = conversation("Hal", tools=family.tools)
    dialogue = [m for m in row["messages"][:-1] if m["role"] not in ("system", "user_info")]
    with running(command, url, tmp_path / "server.log", env={"OMP_NUM_THREADS": "1"}):
        answers = [answer(url, dialogue[:end], row.get("tools")) for end in range(1, len(dialogue) + 1, 2)]
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


def answer(url: str, dialogue: Sequence[Message], tools: Any) -> dict[str, Any]:
    body = {"messages": dialogue, "preferences": preferences("Hal"), "temperature": 0, "max_tokens": 40}
    body |= {"return_token_ids": True, **({"tools": tools} if tools else {})}
    told = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert told.status_code == 200, told.text
    return dict(told.json())
