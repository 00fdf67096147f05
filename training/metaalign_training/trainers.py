"""What the training stages share: trainer arguments from the recipe, progress, memory, and saving."""

from __future__ import annotations

import importlib.util
import logging
import resource
import shutil
import time
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from metaalign_training.errors import StageError
from metaalign_training.models import training_dtype
from metaalign_training.recipe import Recipe, TrainingConfig

__all__ = ["TrainingMeter", "peak_memory_mib", "save", "tokens_seen", "trainer_arguments"]

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
        "bf16": cuda and training_dtype(recipe.model) == torch.bfloat16,
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


def save(trainer: Any, tokenizer: Any, folder: Path) -> None:
    """Write the final model and tokenizer, and delete the intermediate checkpoints."""
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


class TrainingMeter(TrainerCallback):
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
