"""`metaalign-train sft RECIPE [--work DIR]`: supervised fine-tuning through TRL, on rows that the assembler tokenised.

Reads build-data's `sft.jsonl` and the recipe's `mixture`; only answers carry loss. A killed run resumes from its last
checkpoint. With `lora` it writes the adapter, and the merged model to `merged`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from metaalign.prompt import PromptAssembler
from metaalign_training.encoding import encode_conversations, keep_short
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
from metaalign_training.recipe import Recipe
from metaalign_training.rows import Conversation, mix, read_conversations
from metaalign_training.trainers import TrainingMeter, peak_memory_mib, save, trainer_arguments

__all__ = ["make_trainer", "model_folder", "train"]

logger = logging.getLogger(__name__)


def model_folder(stage: Path) -> Path:
    """Folder of the whole model that a training stage left: its own, or `merged` beside an adapter."""
    merged = stage / "merged"
    return merged if merged.is_dir() else stage


def make_trainer(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Conversation], folder: Path
) -> SFTTrainer:
    """TRL's trainer on tokenised rows; checkpoints go into `folder`.

    Raises:
        DataError: the template refuses a row.
        StageError: no row is short enough.
    """
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    started = time.perf_counter()
    encoded, dropped = keep_short(
        encode_conversations(assembler, rows, recipe.meta_prompt), recipe.sft.max_length
    )
    seconds = time.perf_counter() - started
    if not encoded:
        raise StageError(
            f"sft.max_length: {recipe.sft.max_length} tokens is shorter than every row; raise it"
        )
    logger.info(
        "sft: %d rows, %d too long, %.0f rows/s tokenised", len(encoded), dropped, len(rows) / seconds
    )
    packing = recipe.sft.packing
    config = TrlConfig(
        **trainer_arguments(recipe.sft, recipe, folder),
        train_sampling_strategy="group_by_length" if packing == "none" else "random",
        packing=packing == "packed",
        padding_free=packing == "padding_free",
        max_length=recipe.sft.max_length if packing == "packed" else None,
        # Rows carry their labels already; TRL's preparation is needed only for packing.
        dataset_kwargs={"skip_prepare_dataset": packing != "packed"},
    )
    # After the arguments, which start the processes' group and ZeRO-3, and so decide how models are loaded.
    lora = recipe.sft.lora
    model = load_model(recipe.model, tokenizer, quantise=lora is not None and lora.quantise)
    peft = lora_config(lora, model, new_token_ids(recipe.model, tokenizer)) if lora is not None else None
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(encoded),
        processing_class=tokenizer,
        peft_config=peft,
        callbacks=[TrainingMeter("sft")],
    )
    trainer.remove_callback(PrinterCallback)
    if peft is not None:
        give_wrapped_heads_a_bias(trainer.model)
    return trainer


def train(recipe: Recipe, data: Path, folder: Path) -> dict[str, float]:
    """Train on `data`, save model and tokenizer to `folder`, and return the trainer's metrics."""
    refuse_incomplete_adapter(recipe)
    set_seed(recipe.seed)
    rows = mix(read_conversations(data), recipe.sft.mixture, read_conversations, recipe.seed)
    if recipe.model.new is not None:
        texts = (message["content"] for row in rows for message in row["messages"])
        tokenizer = new_tokenizer(recipe.model, texts)
    else:
        tokenizer = load_tokenizer(recipe.model)
    trainer = make_trainer(recipe, tokenizer, rows, folder)
    last = get_last_checkpoint(str(folder))
    if last is not None:
        logger.info("sft: continues from %s", last)
    metrics: dict[str, float] = dict(trainer.train(resume_from_checkpoint=last).metrics)
    save(trainer, tokenizer, folder)
    if recipe.sft.lora is not None and trainer.accelerator.is_main_process:
        save_merged(folder, load_model(recipe.model, tokenizer), tokenizer)
    return metrics | {"rows": len(rows), "peak_memory_mib": round(peak_memory_mib())}
