"""Rejection sampling's rows: the model answers each question several times, and the best good answer is kept.

`metaalign-train rejection RECIPE` runs this before it trains. Samples are on disk when they have been made, so a killed
run asks only for the rest.
"""

from __future__ import annotations

import logging
from contextlib import closing
from functools import partial
from pathlib import Path

from metaalign_training.errors import StageError
from metaalign_training.grading import Grader, open_grader, questions_to_grade
from metaalign_training.inference.generation import KeepingGenerator, open_generator
from metaalign_training.messages import Message
from metaalign_training.recipe import Recipe
from metaalign_training.rows import Conversation, Question, write_rows

__all__ = ["best_of", "make_samples"]

logger = logging.getLogger(__name__)

_CHUNK = 512


def make_samples(recipe: Recipe, model: Path, data: Path, folder: Path) -> dict[str, float]:
    """Write the best answers to `sft.jsonl`, and return how many questions have a good one.

    Raises:
        StageError: no answer is good.
    """
    if recipe.rejection is None:
        raise StageError("rejection: the recipe has no `rejection` section")
    config = recipe.rejection.samples
    questions = questions_to_grade(data / "prompts.jsonl", config, f"{recipe.seed} rejection")
    sampled: list[list[str]] = []
    opener = partial(open_generator, config.engine, model, recipe.meta_prompt)
    with closing(KeepingGenerator(opener, folder / "answers.jsonl")) as generator:
        for start in range(0, len(questions), _CHUNK):
            chunk = questions[start : start + _CHUNK]
            sampled += generator.generate(
                [row["prompt"] for row in chunk],
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                samples=config.candidates,
                seed=recipe.seed + start,
                tools=[row.get("tools", ()) for row in chunk],
            )
            logger.info("rejection: %d of %d questions", len(sampled), len(questions))
        tokens = generator.tokens
    grader = open_grader(config, folder / "judge.jsonl")
    rows = best_of(questions, sampled, grader)
    logger.info("rejection: %d of %d questions have a good answer", len(rows), len(questions))
    if not rows:
        raise StageError(
            "rejection.samples: none of the answers is good; raise `candidates`, or train the model before further"
        )
    write_rows(folder / "sft.jsonl", rows)
    return {
        "questions": len(questions),
        "rows": len(rows),
        "kept_share": round(len(rows) / len(questions), 4),
        "sampled_tokens": tokens,
    }


def best_of(questions: list[Question], answers: list[list[str]], grader: Grader) -> list[Conversation]:
    """A conversation for each question that has a good answer, with the best; of equally good ones, the first."""
    grader.prepare((row, a) for row, own in zip(questions, answers, strict=True) for a in own if a.strip())
    rows: list[Conversation] = []
    for row, own in zip(questions, answers, strict=True):
        graded = [(grader.grade(row, answer), answer) for answer in dict.fromkeys(own) if answer.strip()]
        value, best = max(graded, key=lambda pair: pair[0], default=(-1.0, ""))
        if value >= 0:
            answer: Message = {"role": "assistant", "content": best}
            conversation: Conversation = {
                "split": row.get("split", ""),
                "part": row.get("part", ""),
                "messages": [*row["prompt"], answer],
            }
            if row.get("tools"):
                conversation["tools"] = row["tools"]
            rows.append(conversation)
    return rows
