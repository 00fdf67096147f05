"""`metaalign-train sft RECIPE [--work DIR]`: supervised fine-tuning through TRL, on rows that the assembler tokenised.

Reads build-data's `sft.jsonl` and the recipe's `mixture`, or rejection sampling's rows. The answer carries loss, or all
turns of the assistant do. A killed run resumes from its last checkpoint. With `lora` it writes the adapter, and the
merged model to `merged`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from metaalign.prompt import PromptAssembler
from metaalign_training.encoding import EncodedRow, encode_conversations, keep_short
from metaalign_training.errors import StageError
from metaalign_training.models import (
    give_wrapped_heads_a_bias,
    load_model,
    load_tokenizer,
    lora_config,
    new_token_ids,
    new_tokenizer,
    refuse_incomplete_adapter,
    save_merged,
)
from metaalign_training.recipe import Recipe, SftConfig
from metaalign_training.rows import Conversation, mix, read_conversations, split_validation, texts_of
from metaalign_training.trainers import (
    WholeCheckpoints,
    callbacks,
    fit,
    peak_memory_mib,
    save,
    tokens_seen,
    trainer_arguments,
)

__all__ = ["make_trainer", "model_folder", "train"]

logger = logging.getLogger(__name__)


def model_folder(stage: Path) -> Path:
    """Folder of the whole model that a training stage left: its own, or `merged` beside an adapter."""
    merged = stage / "merged"
    return merged if merged.is_dir() else stage


class _Trainer(WholeCheckpoints, SFTTrainer):
    """TRL's, with whole checkpoints."""


def make_trainer(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Conversation],
    folder: Path,
    config: SftConfig | None = None,
    start: Path | None = None,
) -> SFTTrainer:
    """TRL's trainer on tokenised rows; checkpoints go into `folder`.

    Args:
        recipe: The recipe, for its model, seed and tiers.
        tokenizer: The model's tokenizer.
        rows: What is learned.
        folder: Where checkpoints go.
        config: How to train; default: the recipe's `sft` section.
        start: Folder of the model to go on from; default: the recipe's base or new model.

    Raises:
        DataError: the template refuses a row.
        StageError: no row is short enough.
    """
    config = recipe.sft if config is None else config
    stage = "sft" if config is recipe.sft else "rejection"
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    started = time.perf_counter()
    unlearned = sum(any(m.get("tool_calls") for m in row["messages"][:-1]) for row in rows)
    if config.loss == "answer" and unlearned:
        logger.warning(
            "%s.loss: %d rows call tools before their answer; `all_turns` learns that", stage, unlearned
        )
    validating: list[Conversation] = []
    if config.validation is not None:
        rows, validating = split_validation(rows, config.validation.share, recipe.seed)

    def encode(some: Sequence[Conversation]) -> tuple[list[EncodedRow], int]:
        return keep_short(
            encode_conversations(assembler, some, recipe.meta_prompt, config.loss), config.max_length
        )

    encoded, dropped = encode(rows)
    validation = Dataset.from_list(encode(validating)[0]) if validating else None
    seconds = time.perf_counter() - started
    if not encoded:
        raise StageError(
            f"{stage}.max_length: {config.max_length} tokens is shorter than every row; raise it"
        )
    logger.info(
        "%s: %d rows, %d too long, %d for validation, %.0f rows/s tokenised",
        stage,
        len(encoded),
        dropped,
        len(validating),
        (len(rows) + len(validating)) / seconds,
    )
    packing = config.packing
    arguments = TrlConfig(
        **trainer_arguments(config, recipe, folder),
        train_sampling_strategy="group_by_length" if packing == "none" else "random",
        packing=packing == "packed",
        padding_free=packing == "padding_free",
        max_length=config.max_length if packing == "packed" else None,
        # Rows carry their labels already; TRL's preparation is needed only for packing.
        dataset_kwargs={"skip_prepare_dataset": packing != "packed"},
    )
    # After the arguments, which start the processes' group and ZeRO-3, and so decide how models are loaded.
    lora = config.lora
    model = load_model(recipe.model, tokenizer, start, quantise=lora is not None and lora.quantise)
    new = new_token_ids(recipe.model, tokenizer) if start is None else []
    peft = lora_config(lora, model, new) if lora is not None else None
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(encoded),
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=peft,
        callbacks=callbacks(config, stage),
    )
    if peft is not None:
        give_wrapped_heads_a_bias(trainer.model)
    return trainer


def train(
    recipe: Recipe, data: Path, folder: Path, config: SftConfig | None = None, start: Path | None = None
) -> dict[str, float]:
    """Train on `data`, save model and tokenizer to `folder`, and return the trainer's metrics; see `make_trainer`."""
    refuse_incomplete_adapter(recipe)
    config = recipe.sft if config is None else config
    set_seed(recipe.seed)
    rows = mix(read_conversations(data), config.mixture, read_conversations, recipe.seed)
    if start is None and recipe.model.new is not None:
        texts = (text for row in rows for text in texts_of(row))
        tokenizer = new_tokenizer(recipe.model, texts)
    else:
        tokenizer = load_tokenizer(recipe.model, start)
    trainer = make_trainer(recipe, tokenizer, rows, folder, config, start)
    metrics = fit(trainer, folder, folder.name.removesuffix(".new"))
    save(trainer, tokenizer, folder)
    if config.lora is not None and trainer.accelerator.is_main_process:
        save_merged(folder, load_model(recipe.model, tokenizer, start), tokenizer)
    return metrics | tokens_seen(trainer) | {"rows": len(rows), "peak_memory_mib": round(peak_memory_mib())}
