"""The files of an evaluation, `results.json` and `scores.jsonl`: what they hold, written and read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypeAlias, TypedDict

from metaalign_training.errors import StageError
from metaalign_training.rows import read_rows
from metaalign_training.stages.evaluation.intervals import ShareRow

__all__ = [
    "Results",
    "ScoreRow",
    "SplitRow",
    "Summary",
    "SwapRow",
    "WinRow",
    "read_results",
    "read_scores",
    "summarise",
    "write_results",
]

_RESULTS_NAME = "results.json"
_SCORES_NAME = "scores.jsonl"

Summary: TypeAlias = dict[str, ShareRow]
"""Split -> mean score, for record, manifest and card. Splits of published suites are named `suite: split`."""


class SplitRow(ShareRow):
    """A split's mean score, and the checks that failed most often."""

    failed: dict[str, int]


class SwapRow(ShareRow):
    """Swap discrimination, over all splits and by split."""

    splits: dict[str, ShareRow]


class WinRow(ShareRow):
    """Share of comparisons with the baseline that were won; a tie is half a win."""

    wins: int
    ties: int
    losses: int


class Results(TypedDict):
    """`results.json`.

    Attributes:
        suites: Suite -> split -> score.
        dimensions: Dimension -> share of the answers that obey it where it was asked for.
        swap, win_rate: None if not measured.
        judge: The judge's usage, and how many of its replies could not be read.
    """

    name: str
    seed: int
    meta_prompt: str
    engine: str
    suites: dict[str, dict[str, SplitRow]]
    dimensions: dict[str, ShareRow]
    swap: SwapRow | None
    win_rate: WinRow | None
    judge: NotRequired[Mapping[str, float]]


class ScoreRow(TypedDict):
    """One item's score in `scores.jsonl`."""

    suite: str
    split: str
    id: str
    score: float | None
    failed: list[str]


def write_results(folder: Path, results: Results, scores: Iterator[ScoreRow]) -> None:
    """Write both files."""
    (folder / _SCORES_NAME).write_text("".join(json.dumps(row) + "\n" for row in scores), encoding="utf-8")
    (folder / _RESULTS_NAME).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def read_results(folder: Path) -> Results:
    """The results of an evaluation folder."""
    results: Results = json.loads((folder / _RESULTS_NAME).read_text(encoding="utf-8"))
    return results


def read_scores(folder: Path) -> Iterator[tuple[str, float]]:
    """(split, score) of each item; splits are named as in `Summary`.

    Raises:
        StageError: nothing was evaluated there.
    """
    path = folder / _SCORES_NAME
    if not path.is_file():
        raise StageError(f"report: {path} is missing; run `metaalign-train evaluate` there first")
    for _, row in read_rows(path):
        yield _name(row["suite"], row["split"]), float(row["score"])


def _name(suite: str, split: str) -> str:
    return split if suite == "rows" else f"{suite}: {split}"


def summarise(results: Results) -> Summary:
    """Share, interval and n of every split, and of swap discrimination as `swap`."""
    flat = {
        _name(suite, split): _share(row)
        for suite, splits in results["suites"].items()
        for split, row in splits.items()
    }
    if results["swap"] is not None:
        flat["swap"] = _share(results["swap"])
    return flat


def _share(row: ShareRow) -> ShareRow:
    return {"share": row["share"], "low": row["low"], "high": row["high"], "n": row["n"]}
