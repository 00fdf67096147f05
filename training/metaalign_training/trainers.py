"""What the training stages share: trainer arguments from the recipe, progress, memory, resuming, and saving.

A checkpoint is written to `unfinished/` and renamed when it is whole, so a kill or a full disk leaves a whole one or
none, and always the one before.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from metaalign_training.errors import StageError
from metaalign_training.models import store_as_bfloat16, training_dtype
from metaalign_training.recipe import ModelConfig, Recipe, TrainingConfig

__all__ = [
    "LengthGroups",
    "MetaAlignTrainer",
    "callbacks",
    "fit",
    "peak_memory_mib",
    "save",
    "tokens_seen",
    "trainer_arguments",
]

logger = logging.getLogger(__name__)


class _TrainerArguments(TypedDict):
    """Fields of transformers' `TrainingArguments`."""

    output_dir: str
    max_steps: int
    num_train_epochs: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: int
    weight_decay: float
    adam_beta2: float
    max_grad_norm: float
    bf16: bool
    use_cpu: bool
    gradient_checkpointing: bool
    dataloader_pin_memory: bool
    logging_steps: int
    save_steps: int
    save_total_limit: int
    seed: int
    report_to: str
    run_name: str
    disable_tqdm: bool
    ddp_backend: NotRequired[str]
    ddp_find_unused_parameters: NotRequired[bool]
    eval_strategy: NotRequired[str]
    eval_steps: NotRequired[int]
    per_device_eval_batch_size: NotRequired[int]
    load_best_model_at_end: NotRequired[bool]
    metric_for_best_model: NotRequired[str]
    greater_is_better: NotRequired[bool]


def trainer_arguments(config: TrainingConfig, recipe: Recipe, folder: Path) -> _TrainerArguments:
    """Keyword arguments that TRL's configurations for SFT and DPO have in common."""
    if config.tracker != "none" and importlib.util.find_spec(config.tracker) is None:
        raise StageError(
            f"tracker: {config.tracker} is not installed; run `pip install {config.tracker}`, or set `tracker: none`"
        )
    cuda = torch.cuda.is_available()
    arguments: _TrainerArguments = {
        "output_dir": str(folder),
        "max_steps": config.steps if config.steps is not None else -1,
        "num_train_epochs": config.epochs if config.epochs is not None else 1,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulate,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "adam_beta2": 0.98,
        "max_grad_norm": 1.0,
        "bf16": training_dtype(recipe.model) == torch.bfloat16,
        "use_cpu": not cuda,
        "gradient_checkpointing": config.gradient_checkpointing,
        "dataloader_pin_memory": cuda,
        "logging_steps": config.log_every,
        "save_steps": config.save_every,
        "save_total_limit": 1,
        "seed": recipe.seed,
        "report_to": config.tracker,
        "run_name": recipe.name,
        "disable_tqdm": True,
    }
    if config.validation is not None:
        arguments["eval_strategy"] = "steps"
        arguments["eval_steps"] = config.save_every
        arguments["per_device_eval_batch_size"] = config.batch_size
        arguments["load_best_model_at_end"] = config.validation.keep_best
        arguments["metric_for_best_model"] = "eval_loss"
        arguments["greater_is_better"] = False
    if torch.distributed.is_torchelastic_launched():
        arguments["ddp_backend"] = "nccl" if cuda else "gloo"
        arguments["ddp_find_unused_parameters"] = False
    return arguments


def peak_memory_mib() -> float:
    """Peak memory so far, of the CUDA device if there is one, otherwise of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tokens_seen(trainer: Any) -> dict[str, float]:
    """`tokens`: how many the trainer has passed forward and backward, without padding, if TRL counted them."""
    counts = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    return {"tokens": counts[-1]} if counts else {}


class LengthGroups(LengthGroupedSampler):
    """Batches of rows of similar length, in random order.

    transformers gives them in the order of their length, fifty from long to short and then again. Every few dozen steps
    a model then learns short rows only and forgets long ones, and with high learning rates it learns far less.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw another order; accelerate calls this when an epoch begins, also after a kill."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Row numbers, batch after batch; the longest rows come first, so that too little memory shows at once."""
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        rows = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        whole = len(rows) // self.batch_size
        order = [
            0,
            *(1 + torch.randperm(max(whole - 1, 0), generator=generator)).tolist(),
            *range(max(whole, 1), whole + 1),
        ]
        for batch in order:
            yield from rows[batch * self.batch_size : (batch + 1) * self.batch_size]


class MetaAlignTrainer:
    """Mixed into transformers' `Trainer`: its checkpoints are whole or absent, and its batches in random order."""

    _aside: str | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        trainer: Any = self
        sampler = super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        # The batches of one step, on all devices: they wait for the longest.
        size = sampler.batch_size * trainer.args.world_size
        return LengthGroups(size, list(sampler.lengths), trainer.args.seed)

    def _get_output_dir(self, trial: Any) -> str:
        return self._aside or super()._get_output_dir(trial)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        folder, state, main = Path(trainer.args.output_dir), trainer.state, trainer.args.should_save
        aside = folder / "unfinished"
        if main:
            shutil.rmtree(aside, ignore_errors=True)  # what a killed run left
        trainer.accelerator.wait_for_everyone()
        self._aside = str(aside)
        try:
            with _full_disk_is_an_os_error(folder):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        finally:
            self._aside = None
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if state.best_global_step:
            state.best_model_checkpoint = str(folder / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}")
        trainer.accelerator.wait_for_everyone()
        if main:
            state.save_to_json(str(aside / name / _STATE))  # with the place of the best one
            _sync(aside / name)
            shutil.rmtree(folder / name, ignore_errors=True)
            (aside / name).rename(folder / name)
            aside.rmdir()
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=trainer.args.save_total_limit,
                best_model_checkpoint=state.best_model_checkpoint,
            )
        trainer.accelerator.wait_for_everyone()


_STATE = "trainer_state.json"
_LITTLE = 2**20
"""Bytes; a disk with less is full."""


def _sync(folder: Path) -> None:
    """Wait until the files are on disk: without this, a power failure can leave a whole name for half a file."""
    for path in (*(p for p in folder.rglob("*") if p.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _full_disk_is_an_os_error(folder: Path) -> Iterator[None]:
    # safetensors reports it in an error of its own, and torch.save as a file whose position is not the expected one.
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if "No space left" in str(error) or shutil.disk_usage(folder).free < _LITTLE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _last_checkpoint(folder: Path, stage: str) -> Path | None:
    """The last whole checkpoint."""

    def step(path: Path) -> int:
        number = path.name.rpartition("-")[2]
        return int(number) if number.isdigit() else -1

    for path in sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=step, reverse=True):
        if (path / _STATE).is_file():
            return path
        logger.warning("%s: %s is incomplete and left out; the one before is used", stage, path)
    return None


def fit(trainer: Any, folder: Path, stage: str) -> dict[str, float]:
    """Train, from the last checkpoint in `folder` if there is one, and return the metrics.

    Leaves `losses.json`: step -> training loss, and validation loss if there is one.
    """
    trainer.remove_callback(PrinterCallback)
    last = _last_checkpoint(folder, stage)
    if last is not None:
        logger.info("%s: continues from %s", stage, last)
    metrics = dict(trainer.train(resume_from_checkpoint=str(last) if last is not None else None).metrics)
    names = {"loss": "loss", "eval_loss": "validation_loss"}
    losses = [
        {"step": entry["step"], ours: entry[theirs]}
        for entry in trainer.state.log_history
        for theirs, ours in names.items()
        if theirs in entry
    ]
    validated = [entry for entry in losses if "validation_loss" in entry]
    if validated:
        kept = min(validated, key=lambda e: e["validation_loss"])
        if not trainer.args.load_best_model_at_end:
            kept = validated[-1]
        metrics |= {"validation_loss": kept["validation_loss"], "validation_step": kept["step"]}
    if trainer.args.should_save:
        (folder / "losses.json").write_text(json.dumps(losses) + "\n", encoding="utf-8")
    return metrics


def save(trainer: Any, tokenizer: Any, folder: Path, config: ModelConfig) -> None:
    """Write the final model and tokenizer, and delete the intermediate checkpoints."""
    with _full_disk_is_an_os_error(folder):
        trainer.save_model(str(folder))
        if trainer.accelerator.is_main_process and config.new is not None and config.dtype == "bfloat16":
            store_as_bfloat16(folder)
    if trainer.accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
        for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            shutil.rmtree(checkpoint)


def callbacks(config: TrainingConfig, stage: str) -> list[TrainerCallback]:
    """Progress, and with validation the last step's and early stopping."""
    own: list[TrainerCallback] = [_TrainingMeter(stage)]
    if config.validation is not None:
        own.append(_ValidateAtTheEnd())
        if config.validation.patience is not None:
            own.append(EarlyStoppingCallback(config.validation.patience))
    return own


class _ValidateAtTheEnd(TrainerCallback):
    """The last step is saved, and so must be compared with the others, also off the beat of `save_every`."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Validate after the last step."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


class _TrainingMeter(TrainerCallback):
    """Logs step, loss and remaining time."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._started = time.monotonic()
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; a resumed run does not begin at step 0."""
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log one line whenever the trainer reports."""
        logs = kwargs.get("logs") or {}
        if "eval_loss" in logs and state.is_world_process_zero:
            logger.info(
                "%s: step %d/%d, validation loss %.4f",
                self._stage, state.global_step, state.max_steps, float(logs["eval_loss"]),
            )  # fmt: skip
        done = state.global_step - self._first_step
        if "loss" not in logs or not done or not state.is_world_process_zero:
            return
        left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        logger.info(
            "%s: step %d/%d, loss %.4f, %.0f s left",
            self._stage,
            state.global_step,
            state.max_steps,
            float(logs["loss"]),
            left,
        )
