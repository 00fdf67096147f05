"""`metaalign-train evaluate RECIPE [--model DIR]`: ask, score, and report; `rescore`: score stored answers again.

Answers are written to `answers.jsonl` as they arrive, so a killed run asks only for the rest. Writes `results.json`,
`scores.jsonl`, `answers.md`, `report.md` and `report.html`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from metaalign_training.errors import StageError, TrainingError
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
from metaalign_training.stages.evaluation.adapters import read_suite, suite_file
from metaalign_training.stages.evaluation.intervals import ShareRow, mean_with_interval
from metaalign_training.stages.evaluation.items import Item, Score, score
from metaalign_training.stages.evaluation.report import write_report
from metaalign_training.stages.evaluation.results import (
    LossRow,
    Results,
    ScoreRow,
    SplitRow,
    Summary,
    SwapRow,
    WinRow,
    by_dimension,
    read_results,
    read_scores,
    summarise,
    write_results,
)
from metaalign_training.stages.evaluation.samples import write_samples

__all__ = ["evaluate", "rescore", "suite_problems"]

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


def evaluate(
    recipe: Recipe,
    model: Path | None,
    rows: Path,
    folder: Path,
    losses: Mapping[str, Path] | None = None,
) -> Summary:
    """Score the checkpoint in `model`, or the recipe's endpoint, and return the summary.

    Args:
        recipe: Its `evaluate` section says what is measured.
        model: Checkpoint folder; None with `engine: endpoint`.
        rows: build-data's held-out rows, for suites that name no path.
        folder: Where the results go.
        losses: Training stage of the checkpoint -> its `losses.json`.
    """
    config = recipe.evaluate
    items = _items(recipe, rows)
    judge = _judge(config, items, folder)
    baseline = _baseline(config, judge)
    with _open(config, model, recipe.meta_prompt, folder) as generator:
        answers = _answers(generator, items, config, folder / _ANSWERS_NAME)
        swaps = _swaps(generator, items) if config.swap else {}
    curves = {name: json.loads(path.read_bytes()) for name, path in (losses or {}).items() if path.is_file()}
    return _conclude(recipe, items, answers, swaps, judge, baseline, folder, curves)


def rescore(recipe: Recipe, rows: Path, folder: Path) -> Summary:
    """Score the answers that an evaluation stored, as `evaluate` would score them now; no model is loaded.

    Raises:
        StageError: an answer is missing.
    """
    config = recipe.evaluate
    items = _items(recipe, rows)
    stored = Journal(folder / _ANSWERS_NAME).answers
    missing = sum(_key(item) not in stored for item in items)
    if missing:
        raise StageError(
            f"rescore: {missing} of {len(items)} questions have no answer in {folder / _ANSWERS_NAME}; "
            "run `metaalign-train evaluate` with the same recipe first"
        )
    judge = _judge(config, items, folder)
    swaps = {f"{r['suite']}/{r['id']}": r["swap"] for r in read_scores(folder) if "swap" in r}
    answers = [stored[_key(item)] for item in items]
    losses = read_results(folder).get("losses", {})
    return _conclude(recipe, items, answers, swaps, judge, _baseline(config, judge), folder, losses)


def _items(recipe: Recipe, rows: Path) -> list[Item]:
    items: list[Item] = []
    for suite in recipe.evaluate.suites:
        items.extend(
            read_suite(
                suite.kind,
                suite_file(suite, rows),
                suite.name,
                suite.limit,
                recipe.seed,
                run_code=recipe.evaluate.run_code,
            )
        )
    twice = [key for key, count in Counter(map(_key, items)).items() if count > 1]
    if twice:
        raise StageError(
            f"evaluate.suites: two items are called {twice[0]}; give each suite a `name` of its own"
        )
    return items


def suite_problems(config: EvaluationConfig) -> list[str]:
    """What is wrong with the suites that name a path: files that cannot be read, or a judge that is not there."""
    found, needing = [], []
    for index, suite in enumerate(config.suites):
        if suite.path is None:
            continue
        try:
            items = read_suite(
                suite.kind, Path(suite.path), suite.name, suite.limit, run_code=config.run_code
            )
        except (TrainingError, OSError) as error:
            found.append(f"evaluate.suites[{index}]: {error}")
            continue
        needing += [item.suite for item in items if item.expected.needs_judge]
    if needing and config.judge is None:
        names = ", ".join(sorted(set(needing)))
        found.append(f"evaluate.judge: only a judge can score {names}; configure one, or leave the suite out")
    return found


def _judge(config: EvaluationConfig, items: Sequence[Item], folder: Path) -> Judge | None:
    if config.judge is not None:
        return Judge(open_endpoint(config.judge, folder / "judge.jsonl"))
    needing = sorted({item.suite for item in items if item.expected.needs_judge})
    if needing:
        raise StageError(
            f"evaluate.judge: only a judge can score {', '.join(needing)}; configure one, or leave the suite out"
        )
    return None


def _conclude(
    recipe: Recipe,
    items: Sequence[Item],
    answers: Sequence[str],
    swaps: Mapping[str, float],
    judge: Judge | None,
    baseline: Mapping[str, str],
    folder: Path,
    losses: Mapping[str, list[LossRow]],
) -> Summary:
    """Score the answers, and write all files."""
    config = recipe.evaluate
    scores = _scores(items, answers, judge)
    rows = [_score_row(item, one, swaps) for item, one in zip(items, scores, strict=True)]
    suites = _by_split(items, scores, config.resamples, recipe.seed)
    results: Results = {
        "name": recipe.name,
        "seed": recipe.seed,
        "meta_prompt": recipe.meta_prompt,
        "engine": config.engine,
        "suites": suites,
        "overall": _overall(rows, config.resamples, recipe.seed),
        "dimensions": _by_dimension(rows, config.resamples, recipe.seed),
        "swap": _swap(rows, config.resamples, recipe.seed),
        "win_rate": _win_rate(items, answers, judge, baseline, config),
    }
    if losses:
        results["losses"] = losses
    if judge is not None:
        results["judge"] = {
            "unreadable": judge.unreadable,
            **usage_report({"judge": judge.endpoint})["judge"],
        }
    write_results(folder, results, iter(rows))
    write_samples(folder, items, answers, scores, recipe.seed)
    write_report(folder, {recipe.name: [folder]})
    return summarise(results)


def _score_row(item: Item, one: Score, swaps: Mapping[str, float]) -> ScoreRow:
    row: ScoreRow = {
        "suite": item.suite,
        "split": item.split,
        "id": item.id,
        "score": _value(one),
        "failed": one.failed,
        "prompt": item.fingerprint,
        "question": item.question,
    }
    if item.expected.check is not None or item.expected.dimensions:
        row["asked"] = list(item.expected.asked)
    if (swap := swaps.get(_key(item))) is not None:
        row["swap"] = swap
    return row


def _key(item: Item) -> str:
    return f"{item.suite}/{item.id}"


def _answers(generator: Generator, items: Sequence[Item], config: EvaluationConfig, path: Path) -> list[str]:
    journal = Journal(path)
    missing = [item for item in items if _key(item) not in journal.answers]
    with journal.writing():
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            texts = generator.generate(
                [i.prompt for i in chunk],
                max_new_tokens=config.max_new_tokens,
                tools=[i.tools for i in chunk] if any(i.tools for i in chunk) else (),
            )
            for item, (text, *_) in zip(chunk, texts, strict=True):
                journal.add(_key(item), text)
            logger.info(
                "evaluate: %d of %d answers", len(items) - len(missing) + start + len(chunk), len(items)
            )
    return [journal.answers[_key(item)] for item in items]


def _scores(items: Sequence[Item], answers: Sequence[str], judge: Judge | None) -> list[Score]:
    scores = [score(answer, item.expected) for item, answer in zip(items, answers, strict=True)]
    if judge is None:
        return scores
    judged = [n for n, s in enumerate(scores) if s.value is None]
    rated = [n for n in judged if items[n].expected.rubric is not None]
    cases = [(items[n].prompt, answers[n], str(items[n].expected.rubric)) for n in rated]
    for n, rating in zip(rated, judge.rate_all(cases, "judge: ratings"), strict=True):
        scores[n] = Score((rating - 1) / 4, [] if rating >= 4 else [f"rating {rating}"])
    stated = [(n, c) for n in judged for c in items[n].expected.criteria]
    checks = [(items[n].prompt, answers[n], criterion) for n, criterion in stated]
    broken: dict[int, list[str]] = defaultdict(list)
    for (n, criterion), holds in zip(stated, judge.check_all(checks, "judge: criteria"), strict=True):
        if not holds:
            broken[n].append(criterion)
    for n in {n for n, _ in stated}:
        scores[n] = Score(0.0 if n in broken else 1.0, broken.get(n, []), scores[n].metrics)
    return scores


def _value(one: Score) -> float:
    if one.value is None:
        raise StageError("evaluate.judge: an item was not scored; configure a judge")
    return one.value


def _by_split(
    items: Sequence[Item], scores: Sequence[Score], resamples: int, seed: int
) -> dict[str, dict[str, SplitRow]]:
    groups: dict[str, dict[str, list[tuple[Item, Score]]]] = defaultdict(lambda: defaultdict(list))
    for item, one in zip(items, scores, strict=True):
        groups[item.suite][item.split].append((item, one))
    results: dict[str, dict[str, SplitRow]] = {}
    for suite, splits in groups.items():
        results[suite] = {}
        for split, own in splits.items():
            share = mean_with_interval(
                [_value(s) for _, s in own],
                resamples,
                f"{seed} {suite} {split}",
                [item.question for item, _ in own],
            )
            failed = Counter(name for _, s in own for name in s.failed)
            shown = share.to_json()
            row: SplitRow = {
                "share": shown["share"],
                "low": shown["low"],
                "high": shown["high"],
                "n": shown["n"],
                "failed": dict(failed.most_common(8)),
            }
            if metrics := _pooled_metrics([s for _, s in own]):
                row["metrics"] = metrics
            results[suite][split] = row
            logger.info(
                "evaluate: %s %-14s %.3f [%.3f, %.3f]", suite, split, share.share, share.low, share.high
            )
    return results


def _pooled_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """The further scores of a published definition, over all items that have them."""
    sums: dict[str, tuple[float, int]] = {}
    for one in scores:
        for name, (total, count) in one.metrics.items():
            before = sums.get(name, (0.0, 0))
            sums[name] = (before[0] + total, before[1] + count)
    return {name: round(total / count, 3) for name, (total, count) in sums.items() if count}


def _overall(rows: Sequence[ScoreRow], resamples: int, seed: int) -> dict[str, ShareRow]:
    """Suite -> mean over all its questions."""
    suites: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        suites[row["suite"]].append(row)
    return {
        suite: mean_with_interval(
            [float(r["score"] or 0.0) for r in own],
            resamples,
            f"{seed} {suite}",
            [r["question"] for r in own],
        ).to_json()
        for suite, own in suites.items()
    }


def _by_dimension(rows: Sequence[ScoreRow], resamples: int, seed: int) -> dict[str, ShareRow]:
    """For each dimension, the share of answers that obey it where it was asked for."""
    return {
        name: mean_with_interval(
            [float(name not in r["failed"]) for r in own],
            resamples,
            f"{seed} {name}",
            [r["question"] for r in own],
        ).to_json()
        for name, own in by_dimension(rows).items()
    }


def _swaps(generator: Generator, items: Sequence[Item]) -> dict[str, float]:
    """Swap discrimination by item: under each of two opposite preferences, its own answer must be the likelier one.

    An item counts only if both are right: a model that cannot see preferences scores 0, one that guesses 0.25.
    """
    cases = [item for item in items if item.opposite is not None and item.answer]
    if not cases or not isinstance(generator, TransformersGenerator):
        return {}
    pairs = []
    for item in cases:
        if item.opposite is not None:
            for prompt in (item.prompt, item.opposite.prompt):
                pairs += [(prompt, item.answer), (prompt, item.opposite.answer)]
    values = generator.log_likelihoods(pairs, [item.tools for item in cases for _ in range(4)])
    right = [
        float(values[i] > values[i + 1] and values[i + 3] > values[i + 2]) for i in range(0, len(values), 4)
    ]
    return {_key(item): value for item, value in zip(cases, right, strict=True)}


def _swap(rows: Sequence[ScoreRow], resamples: int, seed: int) -> SwapRow | None:
    measured = [row for row in rows if "swap" in row]
    if not measured:
        return None
    splits: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in measured:
        splits[row["split"]].append(row)

    def share(own: Sequence[ScoreRow], name: str) -> ShareRow:
        values, questions = [r["swap"] for r in own], [r["question"] for r in own]
        return mean_with_interval(values, resamples, f"{seed} {name}", questions).to_json()

    return {
        **share(measured, "swap"),
        "splits": {split: share(own, f"swap {split}") for split, own in splits.items()},
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


def _rubric(item: Item) -> str:
    return item.expected.rubric or " ".join(item.expected.criteria) or DEFAULT_RUBRIC


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
        (item.prompt, answer, theirs[_key(item)], _rubric(item))
        for item, answer in zip(items, answers, strict=True)
        if _key(item) in theirs
    ]
    if not cases:
        raise StageError(
            f"evaluate.baseline: {config.baseline} answers none of these items; evaluate it on the same suites"
        )
    found = judge.compare_all(cases, "judge: comparisons")
    verdicts = Counter(found)
    wins = [{"first": 1.0, "tie": 0.5, "second": 0.0}[verdict] for verdict in found]
    questions = [item.question for item in items if _key(item) in theirs]
    return {
        **mean_with_interval(wins, config.resamples, "win rate", questions).to_json(),
        "wins": verdicts["first"],
        "ties": verdicts["tie"],
        "losses": verdicts["second"],
    }
