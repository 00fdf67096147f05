"""`metaalign-train report OUT name=FOLDER …`: results side by side, as Markdown and as HTML with a chart per claim.

A name that is given several times stands for several seeds of one system: their scores are pooled, and the spread
between seeds is shown beside the interval.
"""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaalign_training.stages.evaluation.intervals import Share, ShareRow, mean_with_interval
from metaalign_training.stages.evaluation.results import read_results, read_scores

__all__ = ["write_report"]

_DIVERSE = (
    "seen",
    "questions",
    "combinations",
    "wordings",
    "values",
    "conflict",
    "stance",
    "safety",
    "implicit",
)


@dataclass(frozen=True, slots=True)
class _Claim:
    """One claim of the paper (arXiv 2410.14184) and the splits that test it."""

    key: str
    title: str
    splits: tuple[str, ...]


_CLAIMS = (
    _Claim("C1", "follows diverse preferences", _DIVERSE),
    _Claim("C2", "resolves conflicts in favour of System Info", ("conflict", "safety")),
    _Claim(
        "C3",
        "generalises to preferences not seen in training",
        ("combinations", "wordings", "values", "questions"),
    ),
    _Claim("C4", "keeps facts under pressure from User Info", ("consensus",)),
)
_Scores = dict[str, dict[str, list[list[float]]]]


def _read_scores(folders: Mapping[str, Sequence[Path]]) -> _Scores:
    """System -> `suite: split` -> scores by seed."""
    scores: _Scores = {}
    for name, runs in folders.items():
        table: dict[str, list[list[float]]] = defaultdict(list)
        for folder in runs:
            by_split: dict[str, list[float]] = defaultdict(list)
            for split, score in read_scores(folder):
                by_split[split].append(score)
            for split, values in by_split.items():
                table[split].append(values)
        scores[name] = dict(table)
    return scores


def _pooled(runs: Sequence[Sequence[float]], label: str) -> Share:
    return mean_with_interval([v for run in runs for v in run], 1000, label)


def _cell(runs: Sequence[Sequence[float]] | None, label: str) -> str:
    if not runs:
        return "-"
    share = _pooled(runs, label)
    text = f"{share.share:.3f} [{share.low:.3f}, {share.high:.3f}]"
    if len(runs) > 1:
        means = [sum(run) / len(run) for run in runs]
        text += f" seeds {min(means):.3f}-{max(means):.3f}"
    return text


def _claim_runs(scores: _Scores, name: str, claim: _Claim) -> list[list[float]] | None:
    """The scores of all splits of a claim, by seed. Splits have equally many items, so they weigh the same."""
    tables = [scores[name].get(split) for split in claim.splits]
    present = [table for table in tables if table]
    if not present:
        return None
    seeds = min(len(table) for table in present)
    return [[v for table in present for v in table[seed]] for seed in range(seeds)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _markdown(scores: _Scores, swaps: Mapping[str, Share | None], extra: str) -> str:
    names = list(scores)
    parts = ["# Evaluation", ""]
    claims = [
        [
            f"{claim.key} {claim.title}",
            *(_cell(_claim_runs(scores, n, claim), f"{claim.key} {n}") for n in names),
        ]
        for claim in _CLAIMS
        if any(_claim_runs(scores, n, claim) for n in names)
    ]
    if any(swaps.values()):
        cells = [
            f"{s.share:.3f} [{s.low:.3f}, {s.high:.3f}]" if s is not None else "-" for s in swaps.values()
        ]
        claims.append(["swap discrimination (both of two opposite preferences right)", *cells])
    if claims:
        parts += ["Mean score with 95 % bootstrap interval.", "", _table(["claim", *names], claims), ""]
    splits = list(dict.fromkeys(split for table in scores.values() for split in table))
    rows = [[split, *(_cell(scores[n].get(split), f"{split} {n}") for n in names)] for split in splits]
    items = {split: sum(map(len, next(t[split] for t in scores.values() if split in t))) for split in splits}
    for row in rows:
        row.append(str(items[row[0]]))
    parts += ["## By split", "", _table(["split", *names, "items"], rows), "", extra]
    return "\n".join(parts)


def _chart(title: str, splits: Sequence[str], scores: _Scores) -> str:
    """A bar chart with intervals as base64 PNG, which, unlike SVG, mail programs and image viewers show."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(scores)
    figure, axes = pyplot.subplots(figsize=(min(13.0, max(6.0, 0.45 * len(splits) * (len(names) + 1))), 3.8))
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        shares = [_pooled(scores[name][s], s) if s in scores[name] else None for s in splits]
        heights = [s.share if s else 0.0 for s in shares]
        # Rounding may push a bound slightly beyond the mean; an error bar cannot be negative.
        errors = [
            [max(0.0, s.share - s.low) if s else 0.0 for s in shares],
            [max(0.0, s.high - s.share) if s else 0.0 for s in shares],
        ]
        positions = [i + (place - (len(names) - 1) / 2) * width for i in range(len(splits))]
        axes.bar(positions, heights, width * 0.92, yerr=errors, capsize=2, label=name)
    axes.set_xticks(range(len(splits)), splits, rotation=20, ha="right")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("score")
    axes.set_title(title, loc="left")
    axes.grid(axis="y", alpha=0.3)
    if len(names) > 1:
        axes.legend(fontsize=8, ncols=len(names), loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=130)
    pyplot.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MetaAlign evaluation</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{border:1px solid #ccc;padding:.25rem .6rem;text-align:left}}
img{{max-width:100%;display:block;margin:1rem 0}}</style>
<h1>Evaluation</h1>
{body}
</html>
"""


def _html_table(markdown: str) -> str:
    """Our own report's Markdown headings and tables as HTML."""
    out: list[str] = []
    open_table = False
    for line in markdown.split("\n")[1:]:
        if line.startswith("|---"):
            continue
        if line.startswith("|"):
            cells = [html.escape(c.strip()) for c in line.strip("|").split("|")]
            tag = "td" if open_table else "th"
            if not open_table:
                out.append("<table>")
                open_table = True
            out.append("<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>")
            continue
        if open_table:
            out.append("</table>")
            open_table = False
        if line.startswith("## "):
            out.append(f"<h2>{html.escape(line[3:])}</h2>")
        elif line.strip():
            out.append(f"<p>{html.escape(line)}</p>")
    if open_table:
        out.append("</table>")
    return "\n".join(out)


def write_report(out: Path, folders: Mapping[str, Sequence[Path]]) -> None:
    """Write `report.md` and `report.html` to `out`.

    Args:
        out: Folder.
        folders: Name of a system -> its evaluation folders, one per seed.

    Raises:
        StageError: a folder has no scores.
    """
    scores = _read_scores(folders)
    swaps: dict[str, Share | None] = {}
    wins: list[list[str]] = []
    for name, runs in folders.items():
        results = [read_results(folder) for folder in runs]
        found = [swap for r in results if (swap := r.get("swap"))]
        swaps[name] = _mean_of(found) if found else None
        for r in results:
            if win := r.get("win_rate"):
                wins.append(
                    [name, f"{win['share']:.3f}", str(win["wins"]), str(win["ties"]), str(win["losses"])]
                )
    extra = _dimension_table({name: _dimensions(runs) for name, runs in folders.items()})
    if wins:
        extra += (
            "## Win rate by the judge\n\n"
            + _table(["system", "win rate", "wins", "ties", "losses"], wins)
            + "\n"
        )
    markdown = _markdown(scores, swaps, extra)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(markdown, encoding="utf-8")
    charts = []
    for claim in _CLAIMS:
        splits = [s for s in claim.splits if any(s in table for table in scores.values())]
        if splits:
            image = _chart(f"{claim.key}: {claim.title}", splits, scores)
            title = html.escape(f"{claim.key}: {claim.title}")
            charts.append(f'<img alt="{title}" src="data:image/png;base64,{image}">')
    others = sorted({split for table in scores.values() for split in table if ": " in split})
    if others:
        image = _chart("Published suites", others, scores)
        charts.append(f'<img alt="published suites" src="data:image/png;base64,{image}">')
    body = "\n".join([*charts, _html_table(markdown)])
    (out / "report.html").write_text(_PAGE.format(body=body), encoding="utf-8")


def _dimensions(runs: Sequence[Path]) -> dict[str, Share]:
    """Dimension -> share of answers that obey it where it was asked for, over all seeds."""
    table: dict[str, list[ShareRow]] = defaultdict(list)
    for folder in runs:
        for name, row in read_results(folder).get("dimensions", {}).items():
            table[name].append(row)
    return {name: _mean_of(rows) for name, rows in table.items()}


def _dimension_table(systems: Mapping[str, Mapping[str, Share]]) -> str:
    names = sorted({name for own in systems.values() for name in own})
    if not names:
        return ""
    rows = [
        [
            name,
            *(
                f"{own[name].share:.3f} [{own[name].low:.3f}, {own[name].high:.3f}]" if name in own else "-"
                for own in systems.values()
            ),
        ]
        for name in names
    ]
    return "## By dimension, where it was asked for\n\n" + _table(["dimension", *systems], rows) + "\n\n"


def _mean_of(shares: Sequence[ShareRow]) -> Share:
    """Mean over seeds, with the lowest and highest bound of any seed."""
    return Share(
        sum(s["share"] for s in shares) / len(shares),
        min(s["low"] for s in shares),
        max(s["high"] for s in shares),
        sum(s["n"] for s in shares),
    )
