"""Charts of a report as base64 PNG, which, unlike SVG, mail programs and image viewers show."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from metaalign_training.stages.evaluation.intervals import Difference, Share

__all__ = ["bars", "leads"]


def bars(title: str, splits: Sequence[str], shares: Mapping[str, Sequence[Share | None]]) -> str:
    """A bar with its interval for each split and system."""
    pyplot = _pyplot()
    names = list(shares)
    width = min(13.0, max(6.0, 0.45 * len(splits) * (len(names) + 1)))
    figure, axes = pyplot.subplots(figsize=(width, 3.8))
    thickness = 0.8 / len(names)
    for place, name in enumerate(names):
        own = shares[name]
        errors = [
            [s.share - s.low if s else 0.0 for s in own],
            [s.high - s.share if s else 0.0 for s in own],
        ]
        positions = [i + (place - (len(names) - 1) / 2) * thickness for i in range(len(splits))]
        heights = [s.share if s else 0.0 for s in own]
        axes.bar(positions, heights, thickness * 0.92, yerr=_positive(errors), capsize=2, label=name)
    axes.set_xticks(range(len(splits)), splits, rotation=20, ha="right")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("score")
    axes.grid(axis="y", alpha=0.3)
    if len(names) > 1:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _finished(figure, axes, title)


def leads(title: str, rows: Sequence[str], gaps: Mapping[str, Sequence[Difference | None]]) -> str:
    """How far the first system is ahead of each other one: a dot with its interval, and a line at zero."""
    pyplot = _pyplot()
    names = list(gaps)
    figure, axes = pyplot.subplots(figsize=(9.0, max(2.4, 0.9 + 0.3 * len(rows) * len(names))))
    for place, name in enumerate(names):
        own = [(i, gap) for i, gap in enumerate(gaps[name]) if gap is not None]
        positions = [i + (place - (len(names) - 1) / 2) * 0.8 / len(names) for i, _ in own]
        errors = [[g.difference - g.low for _, g in own], [g.high - g.difference for _, g in own]]
        centres = [g.difference for _, g in own]
        axes.errorbar(centres, positions, xerr=_positive(errors), fmt="o", capsize=3, label=f"minus {name}")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row if len(row) < 50 else row[:47] + "…" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("difference of mean scores")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return _finished(figure, axes, title)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _positive(errors: Sequence[Sequence[float]]) -> list[list[float]]:
    """Rounding may push a bound slightly beyond the mean; an error bar cannot be negative."""
    return [[max(0.0, error) for error in side] for side in errors]


def _finished(figure: Any, axes: Any, title: str) -> str:
    axes.set_title(title, loc="left")
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=130)
    _pyplot().close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
