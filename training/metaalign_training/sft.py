"""Supervised fine-tuning through TRL, on rows that the contract's assembler tokenised. Resumes after a kill."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from metaalign import PromptAssembler
from metaalign_training.config import ModelConfig, Recipe
from metaalign_training.encoding import encode_conversation

__all__ = ["make_trainer", "new_model", "train"]

logger = logging.getLogger(__name__)


def new_model(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A model with random weights for `tokenizer`."""
    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.head_dim,
        intermediate_size=config.feed_forward,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(shape)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def make_trainer(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    conversations: list[list[dict[str, Any]]],
    folder: Path,
) -> SFTTrainer:
    """TRL's trainer on tokenised rows; checkpoints go into `folder`."""
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    rows = Dataset.from_list([encode_conversation(assembler, messages) for messages in conversations])
    config = TrlConfig(
        output_dir=str(folder),
        max_steps=recipe.sft.steps,
        per_device_train_batch_size=recipe.sft.batch_size,
        learning_rate=recipe.sft.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.sft.warmup_steps,
        weight_decay=recipe.sft.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length",
        max_length=None,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=25,
        save_steps=recipe.sft.save_every,
        save_total_limit=1,
        seed=recipe.seed,
        report_to="none",
        disable_tqdm=True,
    )
    return SFTTrainer(
        model=new_model(recipe.model, tokenizer), args=config, train_dataset=rows, processing_class=tokenizer
    )


def train(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    conversations: list[list[dict[str, Any]]],
    folder: Path,
) -> dict[str, float]:
    """Train, save the model and tokenizer into `folder`, and return the trainer's figures."""
    set_seed(recipe.seed)
    trainer = make_trainer(recipe, tokenizer, conversations, folder)
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    logger.info(
        "sft: %d rows, %d steps%s", len(conversations), recipe.sft.steps, f", from {last}" if last else ""
    )
    metrics: dict[str, float] = trainer.train(resume_from_checkpoint=last).metrics
    trainer.save_model(str(folder))
    tokenizer.save_pretrained(folder)
    return metrics
