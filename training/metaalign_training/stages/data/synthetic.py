"""Rows of the synthetic world: conversations for SFT, questions with their opposites for DPO, and the held-out set."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from metaalign_training.errors import StageError
from metaalign_training.recipe import WorldConfig
from metaalign_training.rows import CheckRow, Conversation, Question, write_rows
from metaalign_training.world.drafts import PARTS, SPLITS, Draft, draw
from metaalign_training.world.sample import Check, Sample
from metaalign_training.world.samples import realise, twin

__all__ = ["WorldReport", "build_world", "evaluation_rows"]

logger = logging.getLogger(__name__)


class WorldReport(TypedDict):
    """Number of rows in each file, and of conversations by part of the MetaAlign Dataset and by split."""

    sft: int
    prompts: int
    eval: int
    parts: dict[str, int]
    splits: dict[str, int]


def _check_row(check: Check) -> CheckRow:
    return {
        "asked": check.asked,
        "content": check.content,
        "subject": check.subject,
        "facts": check.facts,
    }


def _question_row(sample: Sample, other: Sample | None) -> Question:
    """A question with the checks on its answer, and the same under the opposite preference."""
    row: Question = {
        "split": sample.split,
        "part": sample.part,
        "prompt": sample.prompt(),
        "answer": sample.answer,
        "check": _check_row(sample.check),
    }
    if sample.rejected is not None:
        row["rejected"] = sample.rejected
    if other is not None:
        row["opposite"] = {"prompt": other.prompt(), "answer": other.answer, "check": _check_row(other.check)}
    return row


def _with_opposite(draft: Draft, rng: random.Random) -> Question:
    other = twin(draft, rng)
    return _question_row(realise(draft), realise(other) if other is not None else None)


def evaluation_rows(seed: int, per_split: int) -> Iterator[Question]:
    """The held-out questions of all splits; every call with the same seed gives the same ones."""
    for split in SPLITS:
        rng = random.Random(f"evaluation {seed} {split}")
        for _ in range(per_split):
            yield _with_opposite(draw(rng, split, training=False), rng)


def build_world(config: WorldConfig, seed: int, folder: Path) -> WorldReport:
    """Write `sft.jsonl`, `prompts.jsonl` and `eval.jsonl`, and return the counts by part and split.

    No training row has the prompt of a held-out row, and no question for later stages that of a conversation, except
    plain questions, of which there are too few.
    """
    dropped = {split for part in config.without_parts for split in PARTS[part]}
    shares = {split: share for split, share in config.shares.items() if split not in dropped and share}
    if not shares:
        raise StageError("data.world.without_parts: no split is left to draw from; leave out fewer parts")
    # Held-out questions do not depend on the recipe, so all seeds and ablations are scored on the same ones.
    held_out = list(evaluation_rows(0, config.evaluation_per_split))
    write_rows(folder / "eval.jsonl", held_out)
    known = {json.dumps(row["prompt"]) for row in held_out if row["split"] != "none"}
    rng = random.Random(seed)
    splits, weights = list(shares), list(shares.values())
    counts: Counter[str] = Counter()

    trained: set[str] = set()
    asked: set[str] = set()

    def drafts(count: int) -> Iterator[tuple[Draft, Sample]]:
        while count:
            draft = draw(rng, rng.choices(splits, weights)[0], training=True)
            sample = realise(draft)
            prompt = json.dumps(sample.prompt())
            if prompt in known:
                counts["left out: held out"] += 1
                continue
            if prompt in trained:
                continue
            count -= 1
            yield draft, sample

    def conversations() -> Iterator[Conversation]:
        for number, (_, sample) in enumerate(drafts(config.samples), start=1):
            answer = sample.answer
            if config.noise and sample.rejected is not None and rng.random() < config.noise:
                answer = sample.rejected
                counts["noisy answers"] += 1
            counts[sample.split] += 1
            if config.pair_prompts and sample.split != "none":
                asked.add(json.dumps(sample.prompt()))
            yield {"split": sample.split, "part": sample.part, "messages": sample.conversation(answer)}
            if number % 20_000 == 0:
                logger.info("build-data: %d of %d samples", number, config.samples)

    rows = write_rows(folder / "sft.jsonl", conversations())
    trained |= asked
    prompts = write_rows(
        folder / "prompts.jsonl", (_with_opposite(draft, rng) for draft, _ in drafts(config.pair_prompts))
    )
    parts: Counter[str] = Counter()
    for part, own in PARTS.items():
        parts[part] = sum(counts[split] for split in own)
    return {
        "sft": rows,
        "prompts": prompts,
        "eval": len(held_out),
        "parts": dict(parts),
        "splits": dict(counts),
    }
