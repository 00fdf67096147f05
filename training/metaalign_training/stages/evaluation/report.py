"""`metaalign-train report OUT name=FOLDER …`: results side by side, as Markdown and as HTML with charts.

A name that is given several times stands for several seeds of one system. Their scores of one question belong
together: intervals are over questions, and the spread between seeds is shown beside them. Systems are compared with
the first one on the questions that both answered.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from metaalign_training.card import markdown_table
from metaalign_training.stages.evaluation import charts
from metaalign_training.stages.evaluation.intervals import (
    Difference,
    Share,
    mean_with_interval,
    paired_difference,
)
from metaalign_training.stages.evaluation.results import (
    ScoreRow,
    by_dimension,
    read_results,
    read_scores,
    split_name,
)

__all__ = ["write_report"]

_RESAMPLES = 1000
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
_SWAP = "swap discrimination (both of two opposite preferences right)"


@dataclass(frozen=True, slots=True)
class _Point:
    """One score of one question.

    Attributes:
        place: Position of the seed among the system's runs.
        key: The question as it was asked, for pairing.
        question: What variants of it have in common, for intervals.
    """

    place: int
    key: str
    question: str
    score: float


_Systems: TypeAlias = Mapping[str, Sequence[Sequence[ScoreRow]]]
"""System -> rows of each seed."""
_Table: TypeAlias = dict[str, dict[str, list[_Point]]]
"""Name of a row -> system -> its scores."""


def _points(runs: Sequence[Sequence[ScoreRow]], part: str) -> list[_Point]:
    """All scores of a system by split; `part` is `score`, `swap`, or the name of a dimension."""
    points = []
    for place, rows in enumerate(runs):
        for row in rows:
            if part == "score":
                value = float(row["score"] or 0.0)
            elif part == "swap":
                value = row["swap"]
            else:
                value = float(part not in row["failed"])
            name = split_name(row["suite"], row["split"])
            key = f"{name} {row.get('prompt', row['id'])}"
            points.append(_Point(place, key, row.get("question", key), value))
    return points


def _split_table(systems: _Systems) -> _Table:
    table: _Table = {}
    for system, runs in systems.items():
        names = dict.fromkeys(split_name(r["suite"], r["split"]) for rows in runs for r in rows)
        for name in names:
            own = [[r for r in rows if split_name(r["suite"], r["split"]) == name] for rows in runs]
            table.setdefault(name, {})[system] = _points(own, "score")
    return table


def _claim_table(systems: _Systems, splits: _Table) -> _Table:
    """Claims of the paper, whose splits have equally many items and so weigh the same, and swap discrimination."""
    table: _Table = {}
    for claim in _CLAIMS:
        present = [splits[split] for split in claim.splits if split in splits]
        own = {name: [p for part in present for p in part.get(name, [])] for name in systems}
        if any(own.values()):
            table[f"{claim.key} {claim.title}"] = {n: points for n, points in own.items() if points}
    swaps = {
        n: _points([[r for r in rows if "swap" in r] for rows in runs], "swap") for n, runs in systems.items()
    }
    if any(swaps.values()):
        table[_SWAP] = {n: points for n, points in swaps.items() if points}
    return table


def _overall_table(systems: _Systems) -> _Table:
    """Published suites with more than one split."""
    table: _Table = {}
    for system, runs in systems.items():
        splits: dict[str, set[str]] = defaultdict(set)
        for rows in runs:
            for row in rows:
                splits[row["suite"]].add(row["split"])
        for suite, own in splits.items():
            if len(own) > 1 and suite != "rows":
                chosen = [[r for r in rows if r["suite"] == suite] for rows in runs]
                table.setdefault(f"{suite}: all", {})[system] = _points(chosen, "score")
    return table


def _dimension_table(systems: _Systems) -> _Table:
    table: _Table = {}
    for system, runs in systems.items():
        by_run = [by_dimension(rows) for rows in runs]
        for name in sorted({name for own in by_run for name in own}):
            table.setdefault(name, {})[system] = _points([own.get(name, []) for own in by_run], name)
    return dict(sorted(table.items()))


def _share(points: Sequence[_Point], label: str) -> Share:
    return mean_with_interval([p.score for p in points], _RESAMPLES, label, [p.question for p in points])


def _difference(first: Iterable[_Point], other: Iterable[_Point], label: str) -> Difference | None:
    """First minus other on the questions that both answered; a question's seeds are averaged."""
    sides: list[dict[str, tuple[str, list[float]]]] = []
    for points in (first, other):
        by_key: dict[str, tuple[str, list[float]]] = {}
        for point in points:
            by_key.setdefault(point.key, (point.question, []))[1].append(point.score)
        sides.append(by_key)
    shared = [key for key in sides[0] if key in sides[1]]
    if not shared:
        return None
    gaps = [_mean(sides[0][key][1]) - _mean(sides[1][key][1]) for key in shared]
    return paired_difference(gaps, _RESAMPLES, label, [sides[0][key][0] for key in shared])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _cell(points: Sequence[_Point] | None, label: str) -> str:
    if not points:
        return "-"
    share = _share(points, label)
    text = f"{share.share:.3f} [{share.low:.3f}, {share.high:.3f}]"
    seeds: dict[int, list[float]] = defaultdict(list)
    for point in points:
        seeds[point.place].append(point.score)
    if len(seeds) > 1:
        means = list(map(_mean, seeds.values()))
        text += f" seeds {min(means):.3f}-{max(means):.3f}"
    return text


def _gap_cell(gap: Difference | None) -> str:
    if gap is None:
        return "no common question"
    p = f"p {gap.p:.3f}" if gap.p >= 0.001 else "p < 0.001"
    return f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] {p}"


def _shares(title: str, table: _Table, names: Sequence[str], *, count: bool = False) -> str:
    rows = []
    for name, own in table.items():
        cells = [_cell(own.get(n), f"{name} {n}") for n in names]
        rows.append([name, *cells, *([str(len({p.key for points in own.values() for p in points}))] * count)])
    return markdown_table([title, *names, *(["questions"] * count)], rows)


def _gaps(table: _Table, names: Sequence[str]) -> dict[str, dict[str, Difference | None]]:
    """Row -> other system -> the first system's lead over it."""
    first, *others = names
    return {
        name: {o: _difference(own[first], own[o], f"{name} {o}") if o in own else None for o in others}
        for name, own in table.items()
        if first in own
    }


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MetaAlign evaluation</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{border:1px solid #ccc;padding:.25rem .6rem;text-align:left}}
img{{max-width:100%;display:block;margin:1rem 0}}</style>
<h1>Evaluation</h1>
{body}
</html>
"""


def _as_html(markdown: str) -> str:
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
        folders: Name of a system -> its evaluation folders, one per seed. The others are compared with the first.

    Raises:
        StageError: a folder has no scores.
    """
    systems = {name: [read_scores(folder) for folder in runs] for name, runs in folders.items()}
    names = list(systems)
    splits = _split_table(systems)
    claims, overall, dimensions = (
        _claim_table(systems, splits),
        _overall_table(systems),
        _dimension_table(systems),
    )
    parts = ["# Evaluation", "", "Mean score with its 95 % interval over questions.", ""]
    if claims:
        parts += [_shares("claim", claims, names), ""]
    if overall:
        parts += [_shares("suite", overall, names), ""]
    gaps: dict[str, dict[str, Difference | None]] = {}
    if len(names) > 1:
        gaps = _gaps({**claims, **overall, **splits}, names)
        rows = [[name, *map(_gap_cell, own.values())] for name, own in gaps.items()]
        parts += [
            f"## {names[0]} minus the others, paired by question",
            "",
            "Only questions that both answered count. p is that of a sign-flip test, not corrected for their number.",
            "",
            markdown_table(["", *(f"minus {n}" for n in names[1:])], rows),
            "",
        ]
    parts += ["## By split", "", _shares("split", splits, names, count=True), ""]
    parts += _published_metrics(folders)
    if dimensions:
        parts += ["## By dimension, where it was asked for", "", _shares("dimension", dimensions, names), ""]
    parts += _win_rates(folders)
    markdown = "\n".join(parts)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(markdown, encoding="utf-8")
    pictures = _pictures(names, splits, gaps, [*claims, *overall])
    images = [
        f'<img alt="{html.escape(title)}" src="data:image/png;base64,{image}">' for title, image in pictures
    ]
    page = _PAGE.format(body="\n".join([*images, _as_html(markdown)]))
    (out / "report.html").write_text(page, encoding="utf-8")


def _pictures(
    names: Sequence[str],
    splits: _Table,
    gaps: Mapping[str, Mapping[str, Difference | None]],
    headlines: Sequence[str],
) -> list[tuple[str, str]]:
    """(title, chart as base64 PNG)."""

    def bars(title: str, chosen: Sequence[str]) -> tuple[str, str]:
        shares = {n: [_share(splits[s][n], s) if n in splits[s] else None for s in chosen] for n in names}
        return title, charts.bars(title, chosen, shares)

    pictures = []
    shown: set[str] = set()
    for claim in _CLAIMS:
        if chosen := [split for split in claim.splits if split in splits]:
            pictures.append(bars(f"{claim.key}: {claim.title}", chosen))
            shown.update(chosen)
    if published := sorted(split for split in splits if ": " in split):
        pictures.append(bars("Published suites", published))
    if rest := [s for s in splits if s not in shown and ": " not in s]:
        pictures.append(bars("Other splits" if shown else "By split", rest))
    if gaps:
        rows = [row for row in headlines if row in gaps] or list(gaps)
        leads = {o: [gaps[row][o] for row in rows] for o in names[1:]}
        title = f"{names[0]} minus the others, paired by question"
        pictures.append((title, charts.leads(title, rows, leads)))
    return pictures


def _published_metrics(folders: Mapping[str, Sequence[Path]]) -> list[str]:
    """Further scores that a suite's authors report, as a table."""
    rows = []
    for name, runs in folders.items():
        for folder in runs:
            for suite, splits in read_results(folder)["suites"].items():
                for split, row in splits.items():
                    for metric, value in row.get("metrics", {}).items():
                        rows.append([split_name(suite, split), metric, name, f"{value:.3f}"])
    if not rows:
        return []
    return [
        "## Further scores of the authors",
        "",
        markdown_table(["split", "score", "system", "mean"], rows),
        "",
    ]


def _win_rates(folders: Mapping[str, Sequence[Path]]) -> list[str]:
    rows = []
    for name, runs in folders.items():
        for folder in runs:
            if win := read_results(folder).get("win_rate"):
                rows.append(
                    [name, f"{win['share']:.3f}", str(win["wins"]), str(win["ties"]), str(win["losses"])]
                )
    if not rows:
        return []
    header = ["system", "win rate", "wins", "ties", "losses"]
    return ["## Win rate by the judge", "", markdown_table(header, rows), ""]
