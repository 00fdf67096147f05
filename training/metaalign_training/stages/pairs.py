"""Preference pairs sampled from the SFT model itself, labelled by the world's verifiers or by a judge.

The model answers each question several times; the best answer is `chosen` and a worse one `rejected`. If the question
has an opposite preference, the model also answers that, and the same two answers make two pairs: swap the preference,
and chosen and rejected swap (arXiv 2410.14184, step 1B).
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metaalign_training.choosing import mix
from metaalign_training.errors import StageError
from metaalign_training.grading import Grader, open_grader, questions_to_grade
from metaalign_training.inference.generation import Generator, KeepingGenerator, open_generator
from metaalign_training.messages import Message
from metaalign_training.recipe import PairConfig, Recipe
from metaalign_training.rows import Asked, Pair, Question, read_pairs, write_rows

__all__ = ["make_pairs", "sample_pairs"]

logger = logging.getLogger(__name__)

_CHUNK = 512


def make_pairs(recipe: Recipe, model: Path, data: Path, folder: Path, turn: int = 1) -> dict[str, int]:
    """Write DPO's pairs to `pairs.jsonl`, and return how many there are of each source.

    Args:
        recipe: Its `dpo.pairs` says where pairs come from.
        model: The checkpoint that answers.
        data: build-data's folder.
        folder: Where the pairs go.
        turn: Round of iterative DPO; each asks other questions, and only the first adds ready pairs.

    Raises:
        StageError: there are no pairs.
    """
    if recipe.dpo is None:
        raise StageError("dpo: the recipe has no `dpo` section")
    config = recipe.dpo.pairs
    rows: list[Pair] = []
    counts: Counter[str] = Counter()
    if config.prompts:
        seed = f"{recipe.seed} dpo"
        skip = (turn - 1) * config.prompts
        questions = questions_to_grade(data / "prompts.jsonl", config, seed, skip)
        grader = open_grader(config, folder / "judge.jsonl")
        opener = partial(open_generator, config.engine, model, recipe.meta_prompt)
        with closing(KeepingGenerator(opener, folder / "answers.jsonl")) as generator:
            rows = sample_pairs(generator, questions, config, recipe.seed + turn - 1, grader)
            counts["sampled_tokens"] = generator.tokens
        logger.info("dpo: %d pairs from %d questions", len(rows), len(questions))
    if turn == 1:
        own = data / "pairs.jsonl"
        if config.build_data and own.is_file():
            rows.extend(read_pairs(own))
        rows = mix(rows, config.files, read_pairs, recipe.seed)
    if not rows and not config.thumbs:
        raise StageError(
            "dpo: no pairs; set `dpo.pairs.prompts` (and `data.world.pair_prompts`), or name `dpo.pairs.files`"
        )
    write_rows(folder / "pairs.jsonl", rows)
    return {"pairs": len(rows), **Counter(str(row.get("source", "file")) for row in rows), **counts}


def sample_pairs(
    generator: Generator,
    questions: Sequence[Question],
    config: PairConfig,
    seed: int,
    grader: Grader,
) -> list[Pair]:
    """Sample answers and pair them; a question whose answers are all good, or all bad, gives no sampled pair."""
    rng = random.Random(f"pairs {seed}")
    pairs: list[Pair] = []
    for start in range(0, len(questions), _CHUNK):
        chunk = questions[start : start + _CHUNK]
        prompts = [row["prompt"] for row in chunk]
        turned = [row["opposite"]["prompt"] if config.swap and "opposite" in row else None for row in chunk]
        asked = prompts + [p for p in turned if p is not None]
        answers = generator.generate(
            asked,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            samples=config.candidates,
            seed=seed + start,
            tools=[
                *(row.get("tools", ()) for row in chunk),
                *(row.get("tools", ()) for row, p in zip(chunk, turned, strict=True) if p is not None),
            ],
        )
        rest = iter(answers[len(prompts) :])
        asked_rows = [
            _Sampled(row, own, next(rest) if has_opposite is not None else [])
            for row, own, has_opposite in zip(chunk, answers, turned, strict=False)
        ]
        grader.prepare(case for sampled in asked_rows for case in sampled.cases())
        for sampled in asked_rows:
            pairs.extend(_own_pairs(sampled, config, grader, rng))
            if sampled.other:
                pairs.extend(_swap_pairs(sampled, grader, rng))
        logger.info("dpo: %d of %d questions, %d pairs", start + len(chunk), len(questions), len(pairs))
    return pairs


@dataclass(frozen=True, slots=True)
class _Sampled:
    """A question, the model's answers, and its answers under the opposite preference if swaps are wanted."""

    row: Question
    own: list[str]
    other: list[str]

    def cases(self) -> Iterator[tuple[Asked, str]]:
        """Every (question, answer) that needs a grade."""
        for answer in (*self.own, *self.other):
            yield self.row, answer
            if self.other:
                yield self.row["opposite"], answer


def _pair(row: Question, prompt: list[Message], chosen: str, rejected: str, source: str) -> Pair:
    pair: Pair = {
        "split": row.get("split", ""),
        "part": row.get("part", ""),
        "source": source,
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
    if row.get("tools"):
        pair["tools"] = row["tools"]
    return pair


def _own_pairs(sampled: _Sampled, config: PairConfig, grader: Grader, rng: random.Random) -> Iterator[Pair]:
    """The best of the model's answers against a worse one."""
    row = sampled.row
    answers = {answer: grader.grade(row, answer) for answer in sampled.own if answer.strip()}
    if not answers:
        return
    graded = sorted(answers.items(), key=lambda pair: -pair[1])
    best, value = graded[0]
    if value >= 0:
        worse = [answer for answer, other in graded if other < value]
        if worse:
            yield _pair(row, row["prompt"], best, rng.choice(worse), "sampled")
    elif config.reference and row.get("answer"):
        yield _pair(row, row["prompt"], row["answer"], best, "reference")


def _swap_pairs(sampled: _Sampled, grader: Grader, rng: random.Random) -> Iterator[Pair]:
    """Two pairs of one answer that serves only this preference and one that serves only the opposite."""
    row, turned = sampled.row, sampled.row["opposite"]

    def serves(answer: str, this: Asked, not_that: Asked) -> bool:
        return bool(answer.strip()) and grader.grade(this, answer) >= 0 > grader.grade(not_that, answer)

    here = [a for a in dict.fromkeys(sampled.own) if serves(a, row, turned)]
    there = [a for a in dict.fromkeys(sampled.other) if serves(a, turned, row)]
    if here and there:
        mine, theirs = rng.choice(here), rng.choice(there)
        yield _pair(row, row["prompt"], mine, theirs, "swap")
        yield _pair(row, turned["prompt"], theirs, mine, "swap")
