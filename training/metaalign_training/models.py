"""Models and tokenizers to start from: new and small, or a base that gets the three-tier template and its tokens."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from metaalign.prompt import (
    CONTROL_TOKENS,
    END_TOKEN,
    PAD_TOKEN,
    PromptAssembler,
    packaged_template,
    verify_checkpoint,
)
from metaalign.prompt.template import TOOL_CALL_TOKENS
from metaalign_training.errors import StageError
from metaalign_training.recipe import LoraConfig, ModelConfig, NewModelConfig, Recipe
from metaalign_training.tokenizer import spelling_tokenizer, subword_tokenizer

__all__ = [
    "give_wrapped_heads_a_bias",
    "load_model",
    "load_tokenizer",
    "lora_config",
    "new_model",
    "new_token_ids",
    "new_tokenizer",
    "refuse_incomplete_adapter",
    "save_merged",
    "save_untied",
    "store_as_bfloat16",
    "training_dtype",
    "whole_on_every_rank",
]

logger = logging.getLogger(__name__)


def training_dtype(config: ModelConfig) -> torch.dtype:
    """Type of the weights: the recipe's, or bfloat16 where a CUDA device supports it."""
    if config.dtype == "auto":
        return (
            torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
        )
    return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32


def new_tokenizer(config: ModelConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer trained on `texts`, for a new model."""
    if config.new is None:
        raise StageError("model.new: missing; only a new model gets a new tokenizer")
    make = spelling_tokenizer if config.new.tokenizer == "spelled" else subword_tokenizer
    return make(texts, config.new.vocabulary_size)


def load_tokenizer(config: ModelConfig, folder: str | Path | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer in `folder`, or the base's with the template that the recipe asks for.

    Raises:
        StageError: it cannot be loaded, is not a fast tokenizer, or lacks the template that `template: own` needs.
    """
    source = folder if folder is not None else config.base
    if Path(str(source)).is_dir():
        verify_checkpoint(Path(str(source)))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise StageError(
            f"model.base: no tokenizer in {source}; check the name or folder: {' '.join(str(error).split())[:300]}"
        ) from error
    if not tokenizer.is_fast:
        raise StageError(
            f"model.base: {source} has no tokenizer.json, which injection-proof assembly needs; name another base"
        )
    if folder is not None:
        return tokenizer  # type: ignore[return-value]  # `is_fast` was checked
    if config.template == "own":
        if not isinstance(tokenizer.chat_template, str):
            raise StageError(
                f"model.template: {source} has no chat template of its own; use `template: metaalign`"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer  # type: ignore[return-value]  # `is_fast` was checked
    known = tokenizer.get_added_vocab()
    new = [
        AddedToken(token, special=token not in TOOL_CALL_TOKENS, normalized=False)
        for token in CONTROL_TOKENS
        if token not in known
    ]
    tokenizer.add_tokens(new)
    tokenizer.chat_template = packaged_template().source
    tokenizer.eos_token, tokenizer.pad_token = END_TOKEN, PAD_TOKEN
    return tokenizer  # type: ignore[return-value]  # `is_fast` was checked


def load_model(
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path | None = None,
    *,
    quantise: bool = False,
) -> Any:
    """The model in `folder`, the recipe's base, or a new one, with an embedding row for every token.

    Raises:
        StageError: it cannot be loaded.
    """
    if folder is None and config.new is not None:
        new = new_model(config.new, tokenizer)
        new.set_attn_implementation(config.attention)
        return new
    source = str(folder if folder is not None else config.base)
    # A new model's own weights stay in float32 in every stage; only its matrix products may be in bfloat16.
    dtype = training_dtype(config) if config.new is None else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": config.attention}
    if quantise:
        options["quantization_config"] = _four_bit(config)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        raise StageError(
            f"model.base: {source} cannot be loaded; check the name or folder: {' '.join(str(error).split())[:300]}"
        ) from error
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        # Multiples of 64 suit tensor cores and vLLM's sharding.
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
        logger.info("model: %d embedding rows, was %d", len(tokenizer), rows)
    stops = _stops(config, tokenizer, model.generation_config.eos_token_id)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = stops
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _stops(config: ModelConfig, tokenizer: PreTrainedTokenizerFast, known: int | list[int] | None) -> Any:
    """What ends an answer: our template's end; or what ended the base's, and what its own template writes there.

    The two need not be the tokenizer's `eos_token`: Gemma's is `<eos>`, and its turns end with `<end_of_turn>`.
    """
    if config.template == "metaalign":
        return tokenizer.eos_token_id
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = assembler.assemble(turn).token_ids
    last = [i for i in ids if assembler.has_control([i])][-1:]
    before = known if isinstance(known, list) else [known]
    return [i for i in dict.fromkeys([tokenizer.eos_token_id, *last, *before]) if i is not None]


@contextmanager
def whole_on_every_rank() -> Iterator[None]:
    """Models loaded meanwhile have their weights in every process.

    Under FSDP with `cpu_ram_efficient_loading`, only rank 0 reads weights, and accelerate sends them to the others when
    it prepares the policy. It does not do so for DPO's reference, which would be left without weights on those ranks.
    """
    name = "FSDP_CPU_RAM_EFFICIENT_LOADING"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _four_bit(config: ModelConfig) -> Any:
    if not torch.cuda.is_available():
        raise StageError("sft.lora.quantise: 4-bit weights need a CUDA device; set it to false here")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=training_dtype(config),
    )


def new_model(shape: NewModelConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A model with random weights for `tokenizer`."""
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=shape.head_dim,
            intermediate_size=shape.feed_forward,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def lora_config(config: LoraConfig, model: Any, new_tokens: list[int]) -> Any:
    """The peft configuration; new tokens' rows of embeddings and head are trained in full, the others stay frozen."""
    from peft import LoraConfig as PeftLoraConfig

    trainable = None
    if new_tokens:
        # Where the head is tied to the embeddings, peft lets it follow them.
        tied = model.config.get_text_config().tie_word_embeddings
        layers = [model.get_input_embeddings(), *([] if tied else [model.get_output_embeddings()])]
        names = (next(n for n, module in model.named_modules() if module is layer) for layer in layers)
        trainable = {name.rsplit(".", 1)[-1]: new_tokens for name in names}
    return PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets if isinstance(config.targets, str) else list(config.targets),
        task_type="CAUSAL_LM",
        trainable_token_indices=trainable,
    )


def give_wrapped_heads_a_bias(model: Any) -> None:
    """Let TRL read the bias of a head whose new rows peft trains.

    TRL's loss multiplies by the head's `weight` and adds its `bias`; peft's wrapper has only the first.
    """
    from peft.utils.other import TrainableTokensWrapper

    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper):
            module.bias = getattr(module.original_module, "bias", None)  # type: ignore[assignment]  # read, not registered


def new_token_ids(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of the control tokens that our template added to the recipe's base."""
    if config.base is None or config.template == "own":
        return []
    known = AutoTokenizer.from_pretrained(config.base).get_vocab()
    return [tokenizer.added_tokens_encoder[token] for token in CONTROL_TOKENS if token not in known]


def refuse_incomplete_adapter(recipe: Recipe) -> None:
    """Refuse to export an adapter alone if our template adds tokens to the base, which an adapter does not contain.

    Raises:
        StageError: the message names the fields.
    """
    if not recipe.export.adapter_only or recipe.model.template == "own":
        return
    if new_token_ids(recipe.model, load_tokenizer(recipe.model)):
        raise StageError(
            f"export.adapter_only: {recipe.model.base} lacks our template's control tokens, and an adapter cannot bring"
            " them; set `model.template: own`, or `model.base` to a checkpoint with our template"
        )


def save_merged(adapter: Path, base: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Merge the adapter in `adapter` into `base`, and write the result to `adapter/merged` as a plain model."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    merged.save_pretrained(adapter / "merged")
    tokenizer.save_pretrained(adapter / "merged")


def store_as_bfloat16(folder: Path) -> None:
    """Round the weights in `folder` to bfloat16, in half the space; they are still computed with in float32.

    `config.json` goes on saying float32, so every engine gives the answers of the same rounded weights.
    """
    for path in folder.glob("*.safetensors"):
        rounded = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
        save_file(rounded, path, metadata={"format": "pt"})


def save_untied(model: Any, folder: Path) -> None:
    """Write a model in training as a plain checkpoint, its adapter merged, its head apart; the model stays as it is.

    An engine that reads changed weights again must find the head among them: vLLM 0.32 on a CPU packs a tied head once,
    and would answer with the old one.
    """
    adapted = hasattr(model, "merge_adapter")
    plain = model.get_base_model() if adapted else model
    if adapted:
        model.merge_adapter()
    configs = {id(c): c for c in (plain.config, plain.config.get_text_config())}.values()
    tied = [config.tie_word_embeddings for config in configs]
    try:
        state = {
            name.removeprefix("base_model.model.").replace(".base_layer", ""): tensor
            for name, tensor in model.state_dict().items()
            if "lora_" not in name
        }
        state["lm_head.weight"] = plain.get_output_embeddings().weight.detach().clone()
        for config in configs:
            config.tie_word_embeddings = False
        plain.save_pretrained(folder, state_dict=state)
    finally:
        for config, was in zip(configs, tied, strict=True):
            config.tie_word_embeddings = was
        if adapted:
            model.unmerge_adapter()
