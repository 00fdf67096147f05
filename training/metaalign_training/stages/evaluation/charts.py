"""Charts of a report as base64 PNG, which mail programs show, unlike SVG; each for light and for dark pages."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from metaalign_training.stages.evaluation.intervals import Difference, Share

__all__ = ["Chart", "Curve", "leads", "losses", "scores"]

Curve: TypeAlias = Sequence[tuple[float, float]]
"""(step, loss), in order."""

_WIDTH = 6.4
_LONGEST = 32
"""Characters of a line of a label; a label has at most two."""
_THEMES = {
    "light": ("#222222", "#8a8a8a", ["#0072b2", "#d55e00", "#009e73", "#b0578d", "#8a6d00", "#56b4e9"]),
    "dark": ("#e6e6e6", "#8a8a8a", ["#56b4e9", "#ff9d5c", "#3fd0a4", "#e79ac6", "#f0e442", "#9db8ff"]),
}
"""Name -> colour of text, of lines, and of the systems, which people with colour blindness can tell apart."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart drawn for light and for dark pages, each as base64 PNG without a background."""

    title: str
    light: str
    dark: str


def scores(title: str, rows: Sequence[str], shares: Mapping[str, Sequence[Share | None]]) -> Chart:
    """A bar with its interval for each row and system; labels lie, however many and long they are."""

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(layout="constrained", figsize=(_WIDTH, _height(rows, len(shares))))
        for place, (name, own) in enumerate(shares.items()):
            known = [
                (y, s)
                for y, s in zip(_places(len(rows), place, len(shares)), own, strict=True)
                if s is not None
            ]
            heights, values = [y for y, _ in known], [s.share for _, s in known]
            errors = _around(values, [s.low for _, s in known], [s.high for _, s in known])
            bars = axes.barh(heights, values, 0.7 / len(shares), alpha=0.45, label=name)
            colour = bars.patches[0].get_facecolor()[:3] if known else None
            axes.errorbar(values, heights, xerr=errors, fmt="o", markersize=4, capsize=2, color=colour)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("score")
        _label_rows(axes, rows)
        _legend(axes, len(shares) > 1)
        return figure

    return _drawn(title, draw)


def leads(title: str, rows: Sequence[str], gaps: Mapping[str, Sequence[Difference | None]]) -> Chart:
    """How far the first system is ahead of each other one: a dot with its interval, and a line at zero."""

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(layout="constrained", figsize=(_WIDTH, _height(rows, len(gaps))))
        for place, (name, own) in enumerate(gaps.items()):
            known = [
                (y, g)
                for y, g in zip(_places(len(rows), place, len(gaps)), own, strict=True)
                if g is not None
            ]
            values = [g.difference for _, g in known]
            errors = _around(values, [g.low for _, g in known], [g.high for _, g in known])
            axes.errorbar(
                values, [y for y, _ in known], xerr=errors, fmt="o", capsize=3, label=f"minus {name}"
            )
        axes.axvline(0, color=pyplot.rcParams["text.color"], linewidth=0.8)
        axes.set_xlabel("difference of mean scores")
        _label_rows(axes, rows)
        _legend(axes, show=True)
        return figure

    return _drawn(title, draw)


def losses(title: str, curves: Mapping[str, tuple[Curve, Curve]]) -> Chart:
    """Loss by step; system -> its training loss (a line) and its validation loss (dashed, with dots)."""

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(layout="constrained", figsize=(_WIDTH, 3.0))
        for name, (training, validation) in curves.items():
            (line,) = axes.plot(*_columns(training), label=f"{name}, training")
            if validation:
                axes.plot(
                    *_columns(validation),
                    "o--",
                    markersize=3,
                    color=line.get_color(),
                    label=f"{name}, validation",
                )
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        _legend(axes, show=True)
        return figure

    return _drawn(title, draw)


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [step for step, _ in curve], [loss for _, loss in curve]


def _height(rows: Sequence[str], systems: int) -> float:
    """Inches, so that neither labels nor intervals touch."""
    lines = max(len(_lines(row)) for row in rows)
    return 0.9 + len(rows) * max(0.12 + 0.18 * lines, 0.2 * systems)


def _lines(label: str) -> list[str]:
    """The label in one line or two; what does not fit is cut."""
    return textwrap.wrap(label, _LONGEST, max_lines=2, placeholder="…") or [label]


def _places(rows: int, place: int, systems: int) -> list[float]:
    return [row + (place - (systems - 1) / 2) * 0.7 / systems for row in range(rows)]


def _around(values: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[list[float]]:
    """Lengths of error bars; rounding may push a bound slightly beyond the mean, and they cannot be negative."""
    below = [max(0.0, value - bound) for value, bound in zip(values, low, strict=True)]
    above = [max(0.0, bound - value) for value, bound in zip(values, high, strict=True)]
    return [below, above]


def _label_rows(axes: Any, rows: Sequence[str]) -> None:
    axes.set_yticks(range(len(rows)), ["\n".join(_lines(row)) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _legend(axes: Any, show: bool) -> None:
    axes.grid(axis="both" if axes.get_ylabel() else "x", alpha=0.3)
    if show:  # above the plot, where it hides nothing
        axes.legend(
            fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2
        )


def _drawn(title: str, draw: Callable[[Any], Any]) -> Chart:
    import matplotlib
    from cycler import cycler

    matplotlib.use("Agg")
    from matplotlib import pyplot

    images = {}
    for theme, (text, line, colours) in _THEMES.items():
        style: dict[Any, Any] = dict.fromkeys(
            ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), text
        )
        style |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), line)
        style |= {"axes.spines.top": False, "axes.spines.right": False}
        with matplotlib.rc_context({**style, "axes.prop_cycle": cycler(color=colours)}):
            figure = draw(pyplot)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=130, transparent=True)
            pyplot.close(figure)
        images[theme] = base64.b64encode(buffer.getvalue()).decode()
    return Chart(title, images["light"], images["dark"])
