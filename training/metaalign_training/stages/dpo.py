"""`metaalign-train dpo RECIPE [--work DIR]`: direct preference optimisation through TRL, on the model's own answers.

Trains the SFT model on the pairs that the stage before sampled from it, with the SFT model as reference (arXiv
2305.18290, eq. 7). A killed run resumes from its last checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import DPOConfig as TrlConfig
from trl import DPOTrainer

from metaalign.prompt import PromptAssembler
from metaalign_training.encoding import encode_pairs, keep_short, length_of
from metaalign_training.errors import StageError
from metaalign_training.models import (
    load_model,
    load_tokenizer,
    lora_config,
    save_merged,
    whole_on_every_rank,
)
from metaalign_training.recipe import DpoConfig, Recipe
from metaalign_training.rows import Pair
from metaalign_training.trainers import TrainingMeter, peak_memory_mib, save, trainer_arguments

__all__ = ["make_trainer", "train"]

logger = logging.getLogger(__name__)


class _TokenisedDPOTrainer(DPOTrainer):
    """Takes rows that are tokenised already; TRL's own trainer would render and tokenise text."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        columns: Any = self._signature_columns
        if "length" not in columns:
            columns.append("length")  # the sampler groups rows by length


def make_trainer(
    recipe: Recipe,
    config: DpoConfig,
    tokenizer: PreTrainedTokenizerFast,
    sft: Path,
    pairs: Sequence[Pair],
    folder: Path,
) -> DPOTrainer:
    """TRL's trainer on tokenised pairs, from the model in `sft`; checkpoints go into `folder`.

    Raises:
        StageError: no pair is short enough.
    """
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    encoded, dropped = keep_short(encode_pairs(assembler, pairs, recipe.meta_prompt), config.max_length)
    if not encoded:
        raise StageError(f"dpo.max_length: {config.max_length} tokens is shorter than every pair; raise it")
    logger.info("dpo: %d pairs, %d too long", len(encoded), dropped)
    lora = config.lora
    # The arguments come first: they start the processes' group and ZeRO-3, which decide how models are loaded.
    arguments = TrlConfig(
        **trainer_arguments(config, recipe, folder),
        beta=config.beta,
        max_length=None,
        train_sampling_strategy="group_by_length",
        # The reference model does not change, so with more than one pass its log-probabilities are computed once.
        precompute_ref_log_probs=_passes(config, len(encoded)) > 1,
        precompute_ref_batch_size=config.batch_size,
    )
    model = load_model(recipe.model, tokenizer, sft, quantise=lora is not None and lora.quantise)
    reference = None
    if lora is None:
        with whole_on_every_rank():
            reference = load_model(recipe.model, tokenizer, sft)
    trainer = _TokenisedDPOTrainer(
        model=model,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_list([{**row, "length": length_of(row)} for row in encoded]),
        processing_class=tokenizer,
        peft_config=lora_config(lora, model, []) if lora is not None else None,
        callbacks=[TrainingMeter("dpo")],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _passes(config: DpoConfig, rows: int) -> float:
    """Number of passes over the rows, on one device."""
    if config.epochs is not None:
        return config.epochs
    return (config.steps or 0) * config.batch_size * config.accumulate / rows


def train(recipe: Recipe, sft: Path, pairs: Sequence[Pair], folder: Path) -> dict[str, float]:
    """Train the model in `sft` on `pairs`, save it to `folder`, and return the trainer's metrics."""
    config = recipe.dpo
    if config is None:
        raise StageError("dpo: the recipe has no `dpo` section")
    set_seed(recipe.seed)
    tokenizer = load_tokenizer(recipe.model, sft)
    trainer = make_trainer(recipe, config, tokenizer, sft, pairs, folder)
    last = get_last_checkpoint(str(folder))
    if last is not None:
        logger.info("dpo: continues from %s", last)
    metrics: dict[str, float] = dict(trainer.train(resume_from_checkpoint=last).metrics)
    rewards = [entry for entry in trainer.state.log_history if "rewards/accuracies" in entry]
    if rewards:
        metrics["reward_accuracy"] = rewards[-1]["rewards/accuracies"]
        metrics["reward_margin"] = rewards[-1]["rewards/margins"]
    save(trainer, tokenizer, folder)
    if config.lora is not None and trainer.accelerator.is_main_process:
        save_merged(folder, load_model(recipe.model, tokenizer, sft), tokenizer)
    return metrics | {"pairs": len(pairs), "peak_memory_mib": round(peak_memory_mib())}
