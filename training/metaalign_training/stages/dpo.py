"""`metaalign-train dpo RECIPE [--work DIR]`: preference optimisation through TRL, on the model's own answers.

Trains the model before on the pairs that the stage before sampled from it, by default with DPO (arXiv 2305.18290, eq.
7) and that model as reference; `dpo.loss` names the other losses. A killed run resumes from its last checkpoint.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from trl import DPOConfig as TrlConfig
from trl import DPOTrainer, KTOConfig, KTOTrainer

from metaalign.prompt import PromptAssembler
from metaalign_training.choosing import held_out_questions, mix, question_of
from metaalign_training.encoding import (
    IGNORED,
    EncodedRow,
    encode_pairs,
    encode_thumbs,
    keep_short,
    length_of,
)
from metaalign_training.errors import StageError
from metaalign_training.models import (
    load_model,
    load_tokenizer,
    lora_config,
    save_merged,
    whole_on_every_rank,
)
from metaalign_training.recipe import DpoConfig, Recipe
from metaalign_training.rows import Pair, Thumb, read_thumbs
from metaalign_training.trainers import (
    MetaAlignTrainer,
    callbacks,
    fit,
    peak_memory_mib,
    save,
    tokens_seen,
    trainer_arguments,
)

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # SimPO and ORPO are there; the lock holds the version
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

__all__ = ["make_trainer", "train"]

logger = logging.getLogger(__name__)

_WITH_REFERENCE = {"dpo": "sigmoid", "ipo": "ipo", "hinge": "hinge", "robust": "robust"}
"""Losses of TRL's DPO trainer, and their names there."""


class _TokenisedDPOTrainer(MetaAlignTrainer, DPOTrainer):
    """Takes rows that are tokenised already; TRL's own trainer would render and tokenise text."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        columns: Any = self._signature_columns
        if "length" not in columns:
            columns.append("length")  # the sampler groups rows by length


class _TokenisedKTOTrainer(MetaAlignTrainer, KTOTrainer):
    """As above. TRL's preparation also adds, to each row, the answer of the row before: see `_thumb_rows`."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class _TokenisedCPOTrainer(MetaAlignTrainer, CPOTrainer):
    """As above, for SimPO."""

    def tokenize_row(self, feature: Any, model: Any = None) -> Any:
        return feature


class _TokenisedORPOTrainer(MetaAlignTrainer, ORPOTrainer):
    """As above."""

    def tokenize_row(self, feature: Any, model: Any = None) -> Any:
        return feature


def make_trainer(
    recipe: Recipe,
    config: DpoConfig,
    tokenizer: PreTrainedTokenizerFast,
    sft: Path,
    pairs: Sequence[Pair],
    folder: Path,
    thumbs: Sequence[Thumb] = (),
) -> Any:
    """TRL's trainer for the loss, on tokenised rows, from the model in `sft`; checkpoints go into `folder`.

    Raises:
        StageError: no row is short enough.
    """
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    rows: Sequence[Pair | Thumb] = [*_as_thumbs(pairs), *thumbs] if config.loss == "kto" else pairs
    validating: list[Pair | Thumb] = []
    if config.validation is not None:
        held_out = held_out_questions(rows, config.validation.share, recipe.seed)
        validating = [row for row in rows if question_of(row) in held_out]
        rows = [row for row in rows if question_of(row) not in held_out]

    def encode(some: Sequence[Pair | Thumb]) -> tuple[list[EncodedRow], int]:
        if config.loss == "kto":
            found = encode_thumbs(assembler, cast("Sequence[Thumb]", some), recipe.meta_prompt)
        else:
            found = encode_pairs(assembler, cast("Sequence[Pair]", some), recipe.meta_prompt)
        return keep_short(found, config.max_length)

    encoded, dropped = encode(rows)
    if not encoded:
        raise StageError(f"dpo.max_length: {config.max_length} tokens is shorter than every pair; raise it")
    logger.info("dpo: %d pairs, %d too long, %d for validation", len(encoded), dropped, len(validating))
    validation = encode(validating)[0] if validating else []
    lora = config.lora
    options: dict[str, Any] = {**trainer_arguments(config, recipe, folder), "beta": config.beta}
    with_reference = config.loss in _WITH_REFERENCE or config.loss == "kto"
    if with_reference:
        options |= {
            "max_length": None,
            # The reference model does not change, so with more than one pass its log-probabilities are computed once.
            "precompute_ref_log_probs": _passes(config, len(encoded)) > 1,
            "precompute_ref_batch_size": config.batch_size,
        }
    else:
        options |= {
            "max_length": max(length_of(row) for row in (*encoded, *validation)),
            "remove_unused_columns": False,
        }
    # The arguments come first: they start the processes' group and ZeRO-3, which decide how models are loaded.
    kind, arguments = _kind_of_trainer(config, options)
    model = load_model(recipe.model, tokenizer, sft, quantise=lora is not None and lora.quantise)
    reference: dict[str, Any] = {}
    if with_reference:
        reference["ref_model"] = None
        if lora is None:
            with whole_on_every_rank():
                reference["ref_model"] = load_model(recipe.model, tokenizer, sft)
    return kind(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(_columns(encoded, config, recipe.seed)),
        eval_dataset=Dataset.from_list(_columns(validation, config, recipe.seed)) if validation else None,
        processing_class=tokenizer,
        peft_config=lora_config(lora, model, []) if lora is not None else None,
        callbacks=callbacks(config, "dpo"),
        **reference,
    )


def _as_thumbs(pairs: Sequence[Pair]) -> list[Thumb]:
    """Each pair as one answer that was liked, and one that was not."""
    return [
        {"prompt": pair["prompt"], "completion": answer, "label": label}
        for pair in pairs
        for answer, label in ((pair["chosen"], True), (pair["rejected"], False))
    ]


def _thumb_rows(encoded: Sequence[EncodedRow], batch_size: int, seed: int) -> list[dict[str, Any]]:
    """Rows in random order, each with the answer of another row of its batch.

    KTO estimates how far the model has moved from answers to other questions (arXiv 2402.01306, sec. 4.1): in each
    batch, a row gets the answer of the row before, and the first that of the last. TRL then keeps the order.
    """
    rows = list(encoded)
    random.Random(f"kto {seed}").shuffle(rows)
    prepared: list[dict[str, Any]] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        for before, row in zip([batch[-1], *batch[:-1]], batch, strict=True):
            prepared.append(
                {
                    "prompt_ids": row["prompt_ids"],
                    "completion_ids": row["completion_ids"],
                    "KL_completion_ids": before["completion_ids"],
                    "label": bool(row["label"][0]),
                }
            )
    return prepared


def _labelled(row: EncodedRow) -> dict[str, Any]:
    """A pair as TRL's trainers without a reference read it: prompt and answer in one, labels for the answer only."""
    prompt = row["prompt_ids"].tolist()
    columns: dict[str, Any] = {"length": length_of(row)}
    for name in ("chosen", "rejected"):
        answer = row[f"{name}_ids"].tolist()
        columns[f"{name}_input_ids"] = prompt + answer
        columns[f"{name}_attention_mask"] = [1] * (len(prompt) + len(answer))
        columns[f"{name}_labels"] = [IGNORED] * len(prompt) + answer
    return columns


def _kind_of_trainer(config: DpoConfig, options: dict[str, Any]) -> tuple[Any, Any]:
    """TRL's trainer for a loss, and its arguments."""
    by_length = options | {"train_sampling_strategy": "group_by_length"}
    if config.loss == "kto":
        return _TokenisedKTOTrainer, KTOConfig(**options, train_sampling_strategy="sequential")
    if config.loss == "orpo":
        return _TokenisedORPOTrainer, ORPOConfig(**by_length)
    if config.loss == "simpo":
        return _TokenisedCPOTrainer, CPOConfig(
            **by_length,
            loss_type="simpo",
            cpo_alpha=0.0,
            simpo_gamma=config.margin,
            label_smoothing=config.label_smoothing,
        )
    return _TokenisedDPOTrainer, TrlConfig(
        **by_length, loss_type=[_WITH_REFERENCE[config.loss]], label_smoothing=config.label_smoothing
    )


def _columns(encoded: Sequence[EncodedRow], config: DpoConfig, seed: int) -> list[dict[str, Any]]:
    """The rows as the trainer of a loss reads them."""
    if config.loss == "kto":
        return _thumb_rows(encoded, config.batch_size, seed)
    if config.loss in _WITH_REFERENCE:
        return [{**row, "length": length_of(row)} for row in encoded]
    return list(map(_labelled, encoded))


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
    thumbs = mix([], config.pairs.thumbs, read_thumbs, recipe.seed)
    trainer = make_trainer(recipe, config, tokenizer, sft, pairs, folder, thumbs)
    metrics = fit(trainer, folder, "dpo")
    rewards = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
    if rewards:
        metrics["reward_margin"] = rewards[-1]["rewards/margins"]
        if "rewards/accuracies" in rewards[-1]:
            metrics["reward_accuracy"] = rewards[-1]["rewards/accuracies"]
    save(trainer, tokenizer, folder, recipe.model)
    if config.lora is not None and trainer.accelerator.is_main_process:
        save_merged(folder, load_model(recipe.model, tokenizer, sft), tokenizer)
    counts = {"pairs": len(pairs)} | ({"thumbs": len(thumbs)} if thumbs else {})
    return metrics | tokens_seen(trainer) | counts | {"peak_memory_mib": round(peak_memory_mib())}
