"""The files of an evaluation, `results.json` and `scores.jsonl`: what they hold, written and read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypeAlias, TypedDict, cast

from metaalign_training.errors import StageError
from metaalign_training.rows import read_rows
from metaalign_training.stages.evaluation.intervals import ShareRow

__all__ = [
    "LossRow",
    "Results",
    "ScoreRow",
    "SplitRow",
    "Summary",
    "SwapRow",
    "WinRow",
    "by_dimension",
    "overall_name",
    "read_results",
    "read_scores",
    "split_name",
    "summarise",
    "write_results",
]

_RESULTS_NAME = "results.json"
_SCORES_NAME = "scores.jsonl"

Summary: TypeAlias = dict[str, ShareRow]
"""Split -> mean score, for record, manifest and card. Splits of published suites are named `suite: split`; `suite: all`
is the mean over all answers of a suite that has several splits."""


class SplitRow(ShareRow):
    """A split's mean score, the checks that failed most often, and further scores of a published definition."""

    failed: dict[str, int]
    metrics: NotRequired[dict[str, float]]


class SwapRow(ShareRow):
    """Swap discrimination, over all splits and by split."""

    splits: dict[str, ShareRow]


class WinRow(ShareRow):
    """Share of comparisons with the baseline that were won; a tie is half a win."""

    wins: int
    ties: int
    losses: int


class LossRow(TypedDict):
    """A line of a training stage's `losses.json`."""

    step: int
    loss: NotRequired[float]
    validation_loss: NotRequired[float]


class Results(TypedDict):
    """`results.json`.

    Attributes:
        suites: Suite -> split -> score.
        overall: Suite -> mean over all its questions.
        dimensions: Dimension -> share of the answers that obey it where it was asked for.
        swap, win_rate: None if not measured.
        losses: Training stage of the evaluated model -> its losses, if they are known.
        judge: The judge's usage, and how many of its replies could not be read.
    """

    name: str
    seed: int
    meta_prompt: str
    engine: str
    suites: dict[str, dict[str, SplitRow]]
    overall: dict[str, ShareRow]
    dimensions: dict[str, ShareRow]
    swap: SwapRow | None
    win_rate: WinRow | None
    losses: NotRequired[Mapping[str, list[LossRow]]]
    judge: NotRequired[Mapping[str, float]]


class ScoreRow(TypedDict):
    """One item's score in `scores.jsonl`.

    Attributes:
        prompt: Hash of the prompt; files that were written before it was recorded lack it.
        question: What variants of one question have in common, for intervals; likewise.
        asked: Dimensions that were asked for.
        swap: Whether both of two opposite preferences were told apart.
    """

    suite: str
    split: str
    id: str
    score: float | None
    failed: list[str]
    prompt: NotRequired[str]
    question: NotRequired[str]
    asked: NotRequired[list[str]]
    swap: NotRequired[float]


def write_results(folder: Path, results: Results, scores: Iterator[ScoreRow]) -> None:
    """Write both files, each completely or not at all."""
    _write(folder / _SCORES_NAME, "".join(json.dumps(row) + "\n" for row in scores))
    _write(folder / _RESULTS_NAME, json.dumps(results, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_results(folder: Path) -> Results:
    """The results of an evaluation folder."""
    results: Results = json.loads((folder / _RESULTS_NAME).read_text(encoding="utf-8"))
    return results


def read_scores(folder: Path) -> list[ScoreRow]:
    """The score of each item.

    Raises:
        StageError: nothing was evaluated there.
    """
    path = folder / _SCORES_NAME
    if not path.is_file():
        raise StageError(f"report: {path} is missing; run `metaalign-train evaluate` there first")
    return [cast(ScoreRow, row) for _, row in read_rows(path)]


def by_dimension(rows: Iterable[ScoreRow]) -> dict[str, list[ScoreRow]]:
    """Dimension -> the items that ask for it."""
    asked: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        for dimension in row.get("asked", ()):
            asked[dimension].append(row)
    return dict(sorted(asked.items()))


def split_name(suite: str, split: str) -> str:
    """A split as summaries and reports call it."""
    return split if suite == "rows" else f"{suite}: {split}"


def overall_name(suite: str) -> str:
    """A suite as a whole as summaries and reports call it."""
    return f"{suite}: all"


def summarise(results: Results) -> Summary:
    """Share, interval and n of every split, of suites as a whole, and of swap discrimination as `swap`."""
    flat = {
        split_name(suite, split): _share(row)
        for suite, splits in results["suites"].items()
        for split, row in splits.items()
    }
    for suite, splits in results["suites"].items():
        if len(splits) > 1:
            flat[overall_name(suite)] = _share(results["overall"][suite])
    if results["swap"] is not None:
        flat["swap"] = _share(results["swap"])
    return flat


def _share(row: ShareRow) -> ShareRow:
    return {"share": row["share"], "low": row["low"], "high": row["high"], "n": row["n"]}
