"""`metaalign-train evaluate RECIPE [--model DIR]`: ask, score, and report.

Answers are written to `answers.jsonl` as they arrive, so a killed run asks only for the rest. Writes `results.json`,
`scores.jsonl`, `report.md` and `report.html`.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from metaalign_training.errors import StageError
from metaalign_training.inference.endpoint import open_endpoint, usage_report
from metaalign_training.inference.generation import (
    EndpointGenerator,
    Generator,
    TransformersGenerator,
    open_generator,
)
from metaalign_training.inference.journal import Journal
from metaalign_training.inference.judge import DEFAULT_RUBRIC, Judge
from metaalign_training.messages import MetaPromptView
from metaalign_training.recipe import EvaluationConfig, Recipe
from metaalign_training.rows import read_rows
from metaalign_training.stages.evaluation.adapters import read_suite
from metaalign_training.stages.evaluation.intervals import ShareRow, mean_with_interval
from metaalign_training.stages.evaluation.items import Item, Score, score
from metaalign_training.stages.evaluation.report import write_report
from metaalign_training.stages.evaluation.results import (
    Results,
    ScoreRow,
    SplitRow,
    Summary,
    SwapRow,
    WinRow,
    summarise,
    write_results,
)

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

_ANSWERS_NAME = "answers.jsonl"
_CHUNK = 256


@contextmanager
def _open(
    config: EvaluationConfig, model: Path | None, meta_prompt: MetaPromptView, folder: Path
) -> Iterator[Generator]:
    if config.engine == "endpoint":
        if config.endpoint is None:
            raise StageError("evaluate.endpoint: missing; `engine: endpoint` needs one with a `base_url`")
        endpoint = open_endpoint(config.endpoint, folder / "endpoint.jsonl")
        yield EndpointGenerator(endpoint, meta_prompt, folded=not config.endpoint.speaks_user_info)
        return
    if model is None:
        raise StageError("evaluate: no checkpoint; run sft first, or name one with --model")
    with open_generator(config.engine, model, meta_prompt, config.batch_size) as generator:
        yield generator


def evaluate(recipe: Recipe, model: Path | None, rows: Path, folder: Path) -> Summary:
    """Score the checkpoint in `model`, or the recipe's endpoint, and return the summary.

    Args:
        recipe: Its `evaluate` section says what is measured.
        model: Checkpoint folder; None with `engine: endpoint`.
        rows: build-data's held-out rows, for suites that name no path.
        folder: Where the results go.
    """
    config = recipe.evaluate
    items: list[Item] = []
    for suite in config.suites:
        path = Path(suite.path) if suite.path is not None else rows
        items.extend(read_suite(suite.kind, path, suite.name, suite.limit, recipe.seed))
    twice = [key for key, count in Counter(map(_key, items)).items() if count > 1]
    if twice:
        raise StageError(
            f"evaluate.suites: two items are called {twice[0]}; give each suite a `name` of its own"
        )
    judge = Judge(open_endpoint(config.judge, folder / "judge.jsonl")) if config.judge is not None else None
    if judge is None and any(item.expected.rubric is not None for item in items):
        raise StageError(
            "evaluate.judge: a suite can only be scored by a judge; configure one, or leave the suite out"
        )
    baseline = _baseline(config, judge)
    with _open(config, model, recipe.meta_prompt, folder) as generator:
        answers = _answers(generator, items, config, folder / _ANSWERS_NAME)
        swap = _swap(generator, items, config, recipe.seed) if config.swap else None
    scores = _scores(items, answers, judge)
    results: Results = {
        "name": recipe.name,
        "seed": recipe.seed,
        "meta_prompt": recipe.meta_prompt,
        "engine": config.engine,
        "suites": _by_split(items, scores, config.resamples, recipe.seed),
        "dimensions": _by_dimension(items, scores, config.resamples, recipe.seed),
        "swap": swap,
        "win_rate": _win_rate(items, answers, judge, baseline, config),
    }
    if judge is not None:
        results["judge"] = {
            "unreadable": judge.unreadable,
            **usage_report({"judge": judge.endpoint})["judge"],
        }
    write_results(folder, results, map(_score_row, items, scores))
    write_report(folder, {recipe.name: [folder]})
    return summarise(results)


def _score_row(item: Item, one: Score) -> ScoreRow:
    return {
        "suite": item.suite,
        "split": item.split,
        "id": item.id,
        "score": one.value,
        "failed": one.failed,
    }


def _key(item: Item) -> str:
    return f"{item.suite}/{item.id}"


def _answers(generator: Generator, items: Sequence[Item], config: EvaluationConfig, path: Path) -> list[str]:
    journal = Journal(path)
    missing = [item for item in items if _key(item) not in journal.answers]
    with journal.writing():
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            texts = generator.generate([i.prompt for i in chunk], max_new_tokens=config.max_new_tokens)
            for item, (text, *_) in zip(chunk, texts, strict=True):
                journal.add(_key(item), text)
            logger.info(
                "evaluate: %d of %d answers", len(items) - len(missing) + start + len(chunk), len(items)
            )
    return [journal.answers[_key(item)] for item in items]


def _scores(items: Sequence[Item], answers: Sequence[str], judge: Judge | None) -> list[Score]:
    scores = [score(answer, item.expected) for item, answer in zip(items, answers, strict=True)]
    judged = [n for n, s in enumerate(scores) if s.value is None]
    if judged and judge is not None:
        cases = [(items[n].prompt, answers[n], str(items[n].expected.rubric)) for n in judged]
        for n, rating in zip(judged, judge.rate_all(cases, "judge: ratings"), strict=True):
            scores[n] = Score((rating - 1) / 4, [] if rating >= 4 else [f"rating {rating}"])
    return scores


def _value(one: Score) -> float:
    if one.value is None:
        raise StageError("evaluate.judge: an item was not scored; configure a judge")
    return one.value


def _by_split(
    items: Sequence[Item], scores: Sequence[Score], resamples: int, seed: int
) -> dict[str, dict[str, SplitRow]]:
    groups: dict[str, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for item, one in zip(items, scores, strict=True):
        groups[item.suite][item.split].append(one)
    results: dict[str, dict[str, SplitRow]] = {}
    for suite, splits in groups.items():
        results[suite] = {}
        for split, own in splits.items():
            share = mean_with_interval([_value(s) for s in own], resamples, f"{seed} {suite} {split}")
            failed = Counter(name for s in own for name in s.failed)
            results[suite][split] = {**share.to_json(), "failed": dict(failed.most_common(8))}
            logger.info(
                "evaluate: %s %-14s %.3f [%.3f, %.3f]", suite, split, share.share, share.low, share.high
            )
    return results


def _by_dimension(
    items: Sequence[Item], scores: Sequence[Score], resamples: int, seed: int
) -> dict[str, ShareRow]:
    """For each dimension, the share of answers that obey it where it was asked for."""
    obeyed: dict[str, list[float]] = defaultdict(list)
    for item, one in zip(items, scores, strict=True):
        if item.expected.check is not None:
            for dimension in item.expected.check.asked:
                obeyed[dimension].append(float(dimension not in one.failed))
    return {
        name: mean_with_interval(values, resamples, f"{seed} {name}").to_json()
        for name, values in sorted(obeyed.items())
    }


def _swap(generator: Generator, items: Sequence[Item], config: EvaluationConfig, seed: int) -> SwapRow | None:
    """Swap discrimination: under each of two opposite preferences, its own answer must be the likelier one.

    An item counts only if both are right: a model that cannot see preferences scores 0, one that guesses 0.25.
    """
    cases = [item for item in items if item.opposite is not None and item.answer]
    if not cases or not isinstance(generator, TransformersGenerator):
        return None
    pairs = []
    for item in cases:
        if item.opposite is not None:
            for prompt in (item.prompt, item.opposite.prompt):
                pairs += [(prompt, item.answer), (prompt, item.opposite.answer)]
    values = generator.log_likelihoods(pairs)
    right = [
        float(values[i] > values[i + 1] and values[i + 3] > values[i + 2]) for i in range(0, len(values), 4)
    ]
    splits: dict[str, list[float]] = defaultdict(list)
    for item, value in zip(cases, right, strict=True):
        splits[item.split].append(value)
    return {
        **mean_with_interval(right, config.resamples, f"{seed} swap").to_json(),
        "splits": {
            k: mean_with_interval(v, config.resamples, f"{seed} swap {k}").to_json()
            for k, v in splits.items()
        },
    }


def _baseline(config: EvaluationConfig, judge: Judge | None) -> dict[str, str]:
    """The answers to compare with, by item."""
    if config.baseline is None:
        return {}
    if judge is None:
        raise StageError(
            "evaluate.baseline: win rates need a judge; configure one, or leave the baseline out"
        )
    path = Path(config.baseline) / _ANSWERS_NAME
    return {str(row["key"]): str(row["answer"]) for _, row in read_rows(path)}


def _win_rate(
    items: Sequence[Item],
    answers: Sequence[str],
    judge: Judge | None,
    theirs: Mapping[str, str],
    config: EvaluationConfig,
) -> WinRow | None:
    """Wins, ties and losses against another checkpoint's answers to the same items, decided by the judge."""
    if config.baseline is None or judge is None:
        return None
    cases = [
        (item.prompt, answer, theirs[_key(item)], item.expected.rubric or DEFAULT_RUBRIC)
        for item, answer in zip(items, answers, strict=True)
        if _key(item) in theirs
    ]
    if not cases:
        raise StageError(
            f"evaluate.baseline: {config.baseline} answers none of these items; evaluate it on the same suites"
        )
    verdicts = Counter(judge.compare_all(cases, "judge: comparisons"))
    wins = [1.0] * verdicts["first"] + [0.5] * verdicts["tie"] + [0.0] * verdicts["second"]
    return {
        **mean_with_interval(wins, config.resamples, "win rate").to_json(),
        "wins": verdicts["first"],
        "ties": verdicts["tie"],
        "losses": verdicts["second"],
    }
