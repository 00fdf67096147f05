"""`metaalign-train sft RECIPE [--work DIR]`: supervised fine-tuning through TRL, on rows that the assembler tokenised.

Reads build-data's `sft.jsonl` and the recipe's `mixture`, or rejection sampling's rows. The answer carries loss, or all
turns of the assistant do. A killed run resumes from its last checkpoint. With `lora` it writes the adapter, and the
merged model to `merged`. A new model may learn to copy letters first (`model.new.copying_steps`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from metaalign.prompt import PromptAssembler
from metaalign_training.choosing import ConversationFiles, held_out_questions, question_of
from metaalign_training.encoding import IGNORED, encode_conversations
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
from metaalign_training.rows import Conversation, texts_of
from metaalign_training.tokenised import tokenised
from metaalign_training.trainers import (
    MetaAlignTrainer,
    callbacks,
    fit,
    peak_memory_mib,
    save,
    tokens_seen,
    trainer_arguments,
)
from metaalign_training.world.copying import copying

__all__ = ["make_trainer", "model_folder", "train"]

logger = logging.getLogger(__name__)


def model_folder(stage: Path) -> Path:
    """Folder of the whole model that a training stage left: its own, or `merged` beside an adapter."""
    merged = stage / "merged"
    return merged if merged.is_dir() else stage


class _Trainer(MetaAlignTrainer, SFTTrainer):
    """TRL's, with whole checkpoints."""


def make_trainer(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    rows: Collection[Conversation],
    folder: Path,
    config: SftConfig | None = None,
    start: Path | None = None,
    name: str = "",
    grouped: bool = True,
) -> SFTTrainer:
    """TRL's trainer on tokenised rows; checkpoints go into `folder`.

    Args:
        recipe: The recipe, for its model, seed and tiers.
        tokenizer: The model's tokenizer.
        rows: What is learned; read several times.
        folder: Where checkpoints go.
        config: How to train; default: the recipe's `sft` section.
        start: Folder of the model to go on from; default: the recipe's base or new model.
        name: What lines of the log begin with; default: the stage.
        grouped: Whether the rows of a batch are of similar length, which saves padding.

    Raises:
        DataError: the template refuses a row.
        StageError: no row is short enough.
    """
    config = recipe.sft if config is None else config
    stage = name or ("rejection" if config is recipe.rejection else "sft")
    packing = config.packing
    arguments = TrlConfig(
        **trainer_arguments(config, recipe, folder),
        train_sampling_strategy="group_by_length" if packing == "none" and grouped else "random",
        packing=packing == "packed",
        padding_free=packing == "padding_free",
        max_length=config.max_length if packing == "packed" else None,
        # Rows carry their labels already; TRL's preparation is needed only for packing.
        dataset_kwargs={"skip_prepare_dataset": packing != "packed"},
    )
    with arguments.main_process_first(desc="tokenising"):  # the others find the rows on disk
        learned, validation = _tokenised(recipe, config, tokenizer, rows, folder.parent / "tokenised", stage)
    if packing == "packed":
        learned = learned.remove_columns("length")  # TRL packs what it finds
    # After the arguments, which start the processes' group and ZeRO-3, and so decide how models are loaded.
    lora = config.lora
    model = load_model(recipe.model, tokenizer, start, quantise=lora is not None and lora.quantise)
    new = new_token_ids(recipe.model, tokenizer) if start is None else []
    peft = lora_config(lora, model, new) if lora is not None else None
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=learned,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=peft,
        callbacks=callbacks(config, stage),
    )
    if peft is not None:
        give_wrapped_heads_a_bias(trainer.model)
    _score_learned_positions_only(trainer.model)
    return trainer


def _score_learned_positions_only(model: Any) -> None:
    """Let the head compute only the positions that have a label, where TRL would not.

    TRL 1.16 does so on a GPU. On a CPU it scores every position, in float32 whatever the autocast, which takes a third
    of the step of a small model. The loss is the same. Distributed training, and models that change their logits after
    the head, go TRL's way.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    config = inner.config.get_text_config()
    changed = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_router_logits")
    if (
        torch.cuda.is_available()
        or torch.distributed.is_initialized()
        or any(getattr(config, c, None) for c in changed)
    ):
        return
    ordinary = inner.forward

    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **options: Any) -> Any:
        if not fused_lm_head or labels is None or options.get("shift_labels") is not None:
            return ordinary(*args, fused_lm_head=fused_lm_head, labels=labels, **options)
        options = {
            name: value
            for name, value in options.items()
            if name not in ("shift_labels", "num_items_in_batch")
        }
        hidden = inner.base_model(*args, **options | {"use_cache": False}).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        mask = targets != IGNORED
        scores = inner.get_output_embeddings()(hidden[mask]).float().log_softmax(-1)
        log_probs = scores.gather(-1, targets[mask][:, None])[:, 0]
        with torch.no_grad():
            entropy = -(scores.exp() * scores).sum(-1)
            is_top1 = (scores.argmax(-1) == targets[mask]).float()
        placed = [x.new_zeros(mask.shape).masked_scatter(mask, x) for x in (log_probs, entropy, is_top1)]
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / mask.sum().clamp(min=1),
            log_probs=placed[0],
            entropy=placed[1],
            is_top1=placed[2],
            label_mask=mask,
        )

    inner.forward = forward


def _tokenised(
    recipe: Recipe,
    config: SftConfig,
    tokenizer: PreTrainedTokenizerFast,
    rows: Collection[Conversation],
    folder: Path,
    stage: str,
) -> tuple[Dataset, Dataset | None]:
    """The rows to learn and to validate on."""
    assembler, started = PromptAssembler.from_tokenizer(tokenizer), time.perf_counter()
    held_out: frozenset[str] = frozenset()
    if config.validation is not None:
        held_out = held_out_questions(rows, config.validation.share, recipe.seed)
    if isinstance(rows, ConversationFiles):
        content = rows.made_from
    else:
        content = {"rows": hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()}
    unlearned = 0

    def chosen(validating: bool) -> Iterator[Conversation]:
        nonlocal unlearned
        for row in rows:
            if held_out and (question_of(row) in held_out) != validating:
                continue
            unlearned += any(m.get("tool_calls") for m in row["messages"][:-1])
            yield row

    def made(*, validating: bool) -> tuple[Dataset | None, int]:
        about = {
            "rows": content,
            "meta_prompt": recipe.meta_prompt,
            "loss": config.loss,
            "held_out": sorted(held_out),
            "validating": validating,
        }
        encode = partial(encode_conversations, assembler, meta_prompt=recipe.meta_prompt, loss=config.loss)
        return tokenised(lambda: encode(chosen(validating)), about, tokenizer, config.max_length, folder)

    learned, dropped = made(validating=False)
    validation, _ = made(validating=True) if held_out else (None, 0)
    if config.loss == "answer" and unlearned:
        logger.warning(
            "%s.loss: %d rows call tools before their answer; `all_turns` learns that", stage, unlearned
        )
    if learned is None:
        raise StageError(
            f"{stage}.max_length: {config.max_length} tokens is shorter than every row; raise it"
        )
    count = len(learned) + (len(validation) if validation is not None else 0)
    logger.info(
        "%s: %d rows, %d too long, %d for validation, %.0f rows/s tokenised",
        stage, count, dropped, count - len(learned), count / (time.perf_counter() - started),
    )  # fmt: skip
    return learned, validation


def train(
    recipe: Recipe, data: Path, folder: Path, config: SftConfig | None = None, start: Path | None = None
) -> dict[str, float]:
    """Train on `data`, save model and tokenizer to `folder`, and return the trainer's metrics; see `make_trainer`."""
    refuse_incomplete_adapter(recipe)
    config = recipe.sft if config is None else config
    set_seed(recipe.seed)
    rows = ConversationFiles(data, config.mixture, recipe.seed)
    if start is None and recipe.model.new is not None:
        texts = (text for row in rows for text in texts_of(row))
        tokenizer = new_tokenizer(recipe.model, texts)
    else:
        tokenizer = load_tokenizer(recipe.model, start)
    first = folder / "copying"
    if start is None and recipe.model.new is not None and recipe.model.new.copying_steps:
        start = _learn_to_copy(recipe, tokenizer, first, recipe.model.new.copying_steps)
    trainer = make_trainer(recipe, tokenizer, rows, folder, config, start)
    metrics = fit(trainer, folder, folder.name.removesuffix(".new"))
    save(trainer, tokenizer, folder, recipe.model)
    if trainer.accelerator.is_main_process:
        shutil.rmtree(first, ignore_errors=True)
    if config.lora is not None and trainer.accelerator.is_main_process:
        save_merged(folder, load_model(recipe.model, tokenizer, start), tokenizer)
    return metrics | tokens_seen(trainer) | {"rows": len(rows), "peak_memory_mib": round(peak_memory_mib())}


def _learn_to_copy(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int) -> Path:
    """Train the new model to repeat letters; returns its folder, which is there already if a killed run got so far."""
    done = folder / "model"
    if (done / "config.json").is_file():
        return done
    config = recipe.sft.model_copy(
        update={
            "steps": steps,
            "epochs": None,
            "warmup_steps": min(recipe.sft.warmup_steps, steps // 5),
            "mixture": (),
        }
        | {"validation": None, "loss": "answer"}
    )
    rows: list[Conversation] = [{"messages": c} for c in copying(steps * config.batch_size, recipe.seed)]
    # In a batch of one length, what is to be copied always stands at the same distance: the model learns distances,
    # each batch another one, and never how to copy.
    trainer = make_trainer(
        recipe, tokenizer, rows, folder / "training", config, name="sft: copying", grouped=False
    )
    fit(trainer, folder / "training", "sft: copying")
    # Not rounded: training goes on from here. Renamed when whole, as a kill may come at any time.
    trainer.save_model(str(folder / "unfinished"))
    if trainer.accelerator.is_main_process:
        (folder / "unfinished").rename(done)
    trainer.accelerator.wait_for_everyone()
    return done
