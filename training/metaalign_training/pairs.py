"""Preference pairs sampled from the SFT model itself, labelled by the world's verifiers or by a judge.

For each question the model answers a few times. The better answer is `chosen`, a worse one `rejected`. If the question
has an opposite preference, the model answers that too, and the same two answers make two pairs, turned round: swap the
preference, and chosen and rejected swap (arXiv 2410.14184, step 1B).
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from metaalign_training.endpoint import open_endpoint
from metaalign_training.errors import DataError, StageError
from metaalign_training.evaluation.judge import Judge
from metaalign_training.generation import Generator, open_generator
from metaalign_training.recipe import PairConfig, Recipe
from metaalign_training.rows import Row, mix, read_pairs, read_rows, write_rows
from metaalign_training.world.samples import Check
from metaalign_training.world.verifiers import failures

__all__ = ["make_pairs", "sample_pairs"]

logger = logging.getLogger(__name__)

_CHUNK = 512


def make_pairs(recipe: Recipe, sft: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Write all pairs for DPO to `pairs.jsonl`, sampled ones first, and return how many there are of each kind.

    Raises:
        StageError: there are none.
    """
    if recipe.dpo is None:
        raise StageError("dpo: the recipe has no `dpo` section")
    config = recipe.dpo.pairs
    rows: list[Row] = []
    if config.prompts:
        questions = _questions(data / "prompts.jsonl", config.prompts)
        judge = (
            Judge(open_endpoint(config.judge, folder / "judge.jsonl")) if config.judge is not None else None
        )
        with open_generator(config.engine, sft, recipe.meta_prompt) as generator:
            rows = sample_pairs(generator, questions, config, recipe.seed, judge)
        logger.info("dpo: %d pairs from %d questions", len(rows), len(questions))
    own = data / "pairs.jsonl"
    if config.build_data and own.is_file():
        rows.extend(read_pairs(own))
    rows = mix(rows, config.files, read_pairs, recipe.seed)
    if not rows:
        raise StageError(
            "dpo: no pairs; set `dpo.pairs.prompts` (and `data.world.pair_prompts`), or name `dpo.pairs.files`"
        )
    write_rows(folder / "pairs.jsonl", rows)
    return {"pairs": len(rows), **Counter(str(row.get("source", "file")) for row in rows)}


def _questions(path: Path, count: int) -> list[tuple[int, Row]]:
    rows = list(read_rows(path))[:count]
    if not rows:
        raise DataError(path, None, "has no question to sample answers for; raise `data.world.pair_prompts`")
    return rows


def sample_pairs(
    generator: Generator,
    questions: Sequence[tuple[int, Row]],
    config: PairConfig,
    seed: int,
    judge: Judge | None = None,
) -> list[Row]:
    """Sample answers and pair them; a question whose answers are all good, or all bad, gives no pair of its own."""
    rng = random.Random(f"pairs {seed}")
    pairs: list[Row] = []
    for start in range(0, len(questions), _CHUNK):
        chunk = [row for _, row in questions[start : start + _CHUNK]]
        prompts = [row["prompt"] for row in chunk]
        turned = [row["opposite"]["prompt"] if "opposite" in row else None for row in chunk]
        asked = prompts + [p for p in turned if p is not None]
        answers = generator.generate(
            asked,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            samples=config.candidates,
            seed=seed + start,
        )
        rest = iter(answers[len(prompts) :])
        for row, own, has_opposite in zip(chunk, answers, turned, strict=False):
            other = next(rest) if has_opposite is not None else []
            pairs.extend(_own_pairs(row, own, config, _grader(row, judge), rng))
            if config.swap and other:
                pairs.extend(_swap_pairs(row, own, other, judge, rng))
        logger.info("dpo: %d of %d questions, %d pairs", start + len(chunk), len(questions), len(pairs))
    return pairs


Grade = Callable[[str], float]


def _grader(row: Row, judge: Judge | None) -> Grade:
    """Higher is better, zero and above is good: minus the failed checks, or the judge's rating above 4 of 5."""
    if judge is not None:
        return lambda answer: judge.rate(row["prompt"], answer) - 4.0
    if "check" not in row:
        raise StageError("dpo.pairs.label: the questions have no `check`; use `label: judge`")
    check = Check.from_json(row["check"])
    return lambda answer: -float(len(failures(answer, check)))


def _pair(row: Row, prompt: Any, chosen: str, rejected: str, source: str) -> Row:
    return {
        "split": row.get("split", ""),
        "part": row.get("part", ""),
        "source": source,
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def _own_pairs(
    row: Row, own: list[str], config: PairConfig, grade: Grade, rng: random.Random
) -> Iterator[Row]:
    """The best of the model's answers against a worse one of them."""
    graded = sorted({answer: grade(answer) for answer in own if answer.strip()}.items(), key=lambda g: -g[1])
    if not graded:
        return
    best, value = graded[0]
    if value >= 0:
        worse = [answer for answer, other in graded if other < value]
        if worse:
            yield _pair(row, row["prompt"], best, rng.choice(worse), "sampled")
    elif config.reference and row.get("answer"):
        yield _pair(row, row["prompt"], row["answer"], best, "reference")


def _swap_pairs(
    row: Row, own: list[str], other: list[str], judge: Judge | None, rng: random.Random
) -> Iterator[Row]:
    """One answer that is right here and wrong there, one that is right there and wrong here: two pairs."""
    turned = row["opposite"]
    grade, grade_turned = _grader(row, judge), _grader(turned, judge)
    here = [a for a in dict.fromkeys(own) if a.strip() and grade(a) >= 0 > grade_turned(a)]
    there = [a for a in dict.fromkeys(other) if a.strip() and grade_turned(a) >= 0 > grade(a)]
    if here and there:
        mine, theirs = rng.choice(here), rng.choice(there)
        yield _pair(row, row["prompt"], mine, theirs, "swap")
        yield _pair(row, turned["prompt"], theirs, mine, "swap")
