"""`metaalign-train grpo RECIPE [--work DIR]`: learning from rewards online through TRL (GRPO, arXiv 2402.03300).

Each step samples a group of answers to each of its questions from the model as it is, scores them, and makes the better
ones of a group likelier. TRL would render and tokenise the prompts by itself: it is given keys instead, and the ids of
the row with that key, which the server's assembler made. A killed run resumes from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, set_seed
from trl import GRPOConfig as TrlConfig
from trl import GRPOTrainer

from metaalign.prompt import PromptAssembler
from metaalign_training.choosing import draw_questions
from metaalign_training.encoding import as_served, encode_prompt, template_variables
from metaalign_training.errors import StageError
from metaalign_training.grading import Reward, Verifiers, decidable, graded, implicit, open_judge
from metaalign_training.inference.generation import TransformersGenerator
from metaalign_training.inference.offline import VllmGenerator, vllm_is_installed
from metaalign_training.models import load_model, load_tokenizer, lora_config, save_merged, save_untied
from metaalign_training.recipe import GrpoConfig, Recipe, RewardKind
from metaalign_training.rows import Question
from metaalign_training.trainers import (
    MetaAlignTrainer,
    callbacks,
    fit,
    peak_memory_mib,
    save,
    trainer_arguments,
)

__all__ = ["make_trainer", "open_rewards", "train"]

logger = logging.getLogger(__name__)


class _TokenisedGRPOTrainer(MetaAlignTrainer, GRPOTrainer):
    """Takes prompts as keys of rows that are tokenised already; answers come from the model itself, or from vLLM.

    Attributes:
        ids: Key -> token ids of the prompt.
        longest: Tokens of the longest answer.
        engine: vLLM with a copy of the weights in `weights`, which is renewed before each use; None for the model.
    """

    ids: dict[str, list[int]]
    engine: VllmGenerator | None = None
    weights: Path
    longest: int

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.ids[key] for key in prompts], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        if self.engine is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)  # type: ignore[no-untyped-call]
        save_untied(self.model, self.weights)
        self.engine.reload()
        seed = int(torch.randint(2**31, ()))
        answers = self.engine.sample(
            prompt_ids,
            max_new_tokens=self.longest,
            temperature=self.temperature,
            seed=seed,
        )
        return answers, None


def make_trainer(
    recipe: Recipe,
    config: GrpoConfig,
    tokenizer: PreTrainedTokenizerFast,
    start: Path,
    questions: Sequence[Question],
    rewards: Mapping[RewardKind, Reward],
    folder: Path,
) -> _TokenisedGRPOTrainer:
    """TRL's trainer on tokenised questions, from the model in `start`; checkpoints go into `folder`.

    Args:
        recipe: The recipe, for its model, seed and tiers.
        config: Its `grpo` section.
        tokenizer: The model's tokenizer.
        start: The model before, which is also the reference if `beta` is above 0.
        questions: What is asked.
        rewards: Name -> reward; `config.rewards` has the weights.
        folder: Where checkpoints go.

    Raises:
        StageError: no question is short enough.
    """
    assembler = PromptAssembler.from_tokenizer(tokenizer)
    ids: dict[str, list[int]] = {}
    for number, row in enumerate(questions):
        prompt = as_served(assembler, row["prompt"], recipe.meta_prompt)
        encoded = encode_prompt(assembler, prompt, **template_variables(assembler, row, prompt))
        if config.max_length is None or len(encoded) + config.max_new_tokens <= config.max_length:
            ids[str(number)] = encoded
    if not ids:
        raise StageError(
            f"grpo.max_length: {config.max_length} tokens do not hold any question with `max_new_tokens`; raise it"
        )
    logger.info("grpo: %d questions, %d too long", len(ids), len(questions) - len(ids))
    lora = config.lora
    arguments = TrlConfig(
        **trainer_arguments(config, recipe, folder),
        num_generations=config.candidates,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        top_k=0,
        beta=config.beta,
        loss_type=config.loss,
        scale_rewards="group" if config.scale_rewards else "none",
        reward_weights=[config.rewards[name] for name in rewards],
    )
    model = load_model(recipe.model, tokenizer, start, quantise=lora is not None and lora.quantise)
    trainer = _TokenisedGRPOTrainer(
        model=model,
        reward_funcs=[_as_trl_calls_it(name, reward, questions) for name, reward in rewards.items()],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": key} for key in ids]),
        processing_class=tokenizer,
        peft_config=lora_config(lora, model, []) if lora is not None else None,
        callbacks=callbacks(config, "grpo"),
    )
    trainer.ids, trainer.longest = ids, config.max_new_tokens
    return trainer


def _as_trl_calls_it(name: str, reward: Reward, questions: Sequence[Question]) -> Any:
    def call(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return reward([questions[int(key)] for key in prompts], completions)

    call.__name__ = name  # TRL logs it as rewards/NAME
    return call


def open_rewards(recipe: Recipe, models: tuple[Path, Path] | None, folder: Path) -> dict[RewardKind, Reward]:
    """The recipe's rewards by name.

    Args:
        recipe: Its `grpo.rewards` names them.
        models: DPO's model and the model that DPO started from, for `implicit`.
        folder: Where the judge's answers are kept.
    """
    config = recipe.grpo
    if config is None:
        raise StageError("grpo: the recipe has no `grpo` section")
    rewards: dict[RewardKind, Reward] = {}
    for name in config.rewards:
        if name == "implicit":
            if models is None or recipe.dpo is None:
                raise StageError("grpo.rewards: `implicit` needs a `dpo` stage, whose model gives the reward")
            model, reference = (TransformersGenerator(m, recipe.meta_prompt) for m in models)
            rewards[name] = implicit(model, reference, recipe.dpo.beta)
        elif name == "judge" and config.judge is not None:
            rewards[name] = graded(open_judge(config.judge, folder / "judge.jsonl"))
        else:
            rewards[name] = graded(Verifiers())
    return rewards


@contextlib.contextmanager
def _rollouts(trainer: _TokenisedGRPOTrainer, config: GrpoConfig, folder: Path) -> Iterator[None]:
    """Answers by vLLM if the recipe says so, or says `auto` and vLLM is there and one process trains."""
    several = trainer.accelerator.num_processes > 1
    quantised = config.lora is not None and config.lora.quantise
    if config.engine == "vllm" and (several or quantised):
        raise StageError(
            "grpo.engine: vllm samples for one process and from whole weights; with several processes, or with"
            " `lora.quantise`, use `transformers`"
        )
    if config.engine == "transformers" or several or quantised or not vllm_is_installed():
        yield
        return
    trainer.weights = folder / "weights"
    save_untied(trainer.model, trainer.weights)
    trainer.processing_class.save_pretrained(trainer.weights)  # type: ignore[union-attr]
    try:
        with contextlib.closing(VllmGenerator(trainer.weights)) as trainer.engine:
            yield
    finally:
        trainer.engine = None
        shutil.rmtree(trainer.weights)  # a second copy of the model, which the stage's result does not need


def train(
    recipe: Recipe, start: Path, data: Path, folder: Path, models: tuple[Path, Path] | None = None
) -> dict[str, float]:
    """Train the model in `start`, save it to `folder`, and return the trainer's metrics; see `open_rewards`."""
    config = recipe.grpo
    if config is None:
        raise StageError("grpo: the recipe has no `grpo` section")
    set_seed(recipe.seed)
    tokenizer = load_tokenizer(recipe.model, start)
    questions = draw_questions(
        data / "prompts.jsonl",
        config.prompts,
        f"{recipe.seed} grpo",
        usable=decidable if "verifier" in config.rewards else None,
    )
    if torch.cuda.is_available():  # before accelerate says so: models that give rewards are loaded first
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    rewards = open_rewards(recipe, models, folder)
    trainer = make_trainer(recipe, config, tokenizer, start, questions, rewards, folder)
    with _rollouts(trainer, config, folder):
        metrics = fit(trainer, folder, "grpo")
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    if steps:
        metrics["first_reward"], metrics["last_reward"] = steps[0]["reward"], steps[-1]["reward"]
    metrics["tokens"] = float(trainer.state.num_input_tokens_seen)
    save(trainer, tokenizer, folder, recipe.model)
    if config.lora is not None and trainer.accelerator.is_main_process:
        save_merged(folder, load_model(recipe.model, tokenizer, start), tokenizer)
    return metrics | {"questions": len(questions), "peak_memory_mib": round(peak_memory_mib())}
