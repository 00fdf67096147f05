"""Judge a checkpoint on held-out samples of the world: greedy answers, verified, with bootstrap intervals."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from metaalign import PromptAssembler
from metaalign_training.config import Recipe
from metaalign_training.verifiers import obeys
from metaalign_training.world import SPLITS, Sample, make_sample

__all__ = ["Answerer", "bootstrap_interval", "evaluate"]

logger = logging.getLogger(__name__)


class Answerer:
    """Greedy answers of a checkpoint by transformers, in batches of equal prompt length."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._assembler = PromptAssembler.from_tokenizer(self._tokenizer)

    @torch.inference_mode()
    def answers(self, conversations: list[list[dict[str, Any]]], max_new_tokens: int = 160) -> list[str]:
        """One answer a conversation; conversations end with the user's turn."""
        prompts = [self._assembler.assemble(m, add_generation_prompt=True).token_ids for m in conversations]
        answers = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            width = max(len(prompts[i]) for i in batch)
            pad = self._tokenizer.pad_token_id
            ids = torch.tensor([[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in batch])
            mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
            out = self._model.generate(
                ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False
            )
            for i, row in zip(batch, out[:, width:], strict=True):
                answers[i] = str(self._tokenizer.decode(row, skip_special_tokens=True))
        return answers


def bootstrap_interval(passed: list[bool], resamples: int, rng: random.Random) -> tuple[float, float]:
    """95 % percentile interval of the mean of `passed`."""
    means = sorted(sum(rng.choices(passed, k=len(passed))) / len(passed) for _ in range(resamples))
    return means[int(0.025 * resamples)], means[min(resamples - 1, int(0.975 * resamples))]


def held_out_samples(recipe: Recipe, split: str) -> list[Sample]:
    """The evaluation samples of `split`, the same for every run of a recipe."""
    rng = random.Random(f"evaluation {recipe.seed} {split}")
    return [make_sample(rng, split, training=False) for _ in range(recipe.evaluation.per_split)]


def evaluate(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Share of answers in which every check passes, by split: `{split: {"share", "low", "high", "n"}}`."""
    answerer = Answerer(folder)
    results: dict[str, Any] = {}
    for split in SPLITS:
        samples = held_out_samples(recipe, split)
        answers = answerer.answers([sample.conversation()[:-1] for sample in samples])
        passed = [obeys(answer, sample) for answer, sample in zip(answers, samples, strict=True)]
        low, high = bootstrap_interval(passed, recipe.evaluation.resamples, random.Random(recipe.seed))
        share = sum(passed) / len(passed)
        results[split] = {
            "share": round(share, 3),
            "low": round(low, 3),
            "high": round(high, 3),
            "n": len(passed),
        }
        logger.info("evaluate: %-12s %.3f [%.3f, %.3f]", split, share, low, high)
    return results
