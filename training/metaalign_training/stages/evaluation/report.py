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
    Results,
    ScoreRow,
    by_dimension,
    overall_name,
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
_Rows: TypeAlias = list[list[str]]
"""A table; the first row is its header."""
_Results: TypeAlias = Mapping[str, Sequence[Results]]
"""System -> results of each seed."""


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
    """Each suite as a whole: all its answers weigh the same."""
    table: _Table = {}
    for system, runs in systems.items():
        for suite in dict.fromkeys(row["suite"] for rows in runs for row in rows):
            chosen = [[r for r in rows if r["suite"] == suite] for rows in runs]
            table.setdefault(overall_name(suite), {})[system] = _points(chosen, "score")
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


def _shares(title: str, table: _Table, names: Sequence[str]) -> _Rows:
    rows = [[title, *names, "questions"]]
    for name, own in table.items():
        questions = {p.key for points in own.values() for p in points}
        rows.append([name, *(_cell(own.get(n), name) for n in names), str(len(questions))])
    return rows


def _gaps(table: _Table, names: Sequence[str]) -> dict[str, dict[str, Difference | None]]:
    """Row -> other system -> the first system's lead over it."""
    first, *others = names
    return {
        name: {o: _difference(own[first], own[o], f"{name} {o}") if o in own else None for o in others}
        for name, own in table.items()
        if first in own
    }


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
:root{{--text:#222;--back:#fff;--line:#ccc;--head:#f3f3f3}}
@media (prefers-color-scheme:dark){{:root{{--text:#e6e6e6;--back:#16181c;--line:#43474e;--head:#22252b}}}}
body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:var(--text);
background:var(--back)}}
.wide{{overflow-x:auto;margin:1rem 0}}
table{{border-collapse:collapse}}th{{background:var(--head)}}
td,th{{border:1px solid var(--line);padding:.25rem .6rem;text-align:left;font-variant-numeric:tabular-nums}}
td:not(:first-child){{white-space:nowrap}}
figure{{margin:1.5rem 0}}figcaption{{font-weight:600}}
img{{display:block;width:40rem;max-width:100%}}
@media (max-width:40rem){{td,th{{padding:.2rem .35rem;font-size:13px}}}}
</style>
<h1>{title}</h1>
{body}
</html>
"""


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading, what it says, its tables (the first row is the header), and its charts, which only HTML has."""

    title: str
    text: str = ""
    tables: Sequence[_Rows] = ()
    charts: Sequence[charts.Chart] = ()

    def markdown(self) -> str:
        tables = (markdown_table(rows[0], rows[1:]) for rows in self.tables)
        return "\n\n".join([f"## {self.title}", *filter(None, [self.text]), *tables])

    def html(self) -> str:
        parts = [
            f"<h2>{html.escape(self.title)}</h2>",
            f"<p>{html.escape(self.text)}</p>" if self.text else "",
        ]
        parts += [_picture(chart, self.title) for chart in self.charts]
        parts += [_html_table(rows) for rows in self.tables]
        return "\n".join(filter(None, parts))


def _picture(chart: charts.Chart, heading: str) -> str:
    data = "data:image/png;base64,"
    title = html.escape(chart.title)
    caption = f"<figcaption>{title}</figcaption>" if chart.title != heading else ""
    return (
        f'<figure>{caption}<picture><source media="(prefers-color-scheme:dark)" srcset="{data}{chart.dark}">'
        f'<img alt="{title}" src="{data}{chart.light}"></picture></figure>'
    )


def _html_table(rows: _Rows) -> str:
    lines = []
    for place, row in enumerate(rows):
        tag = "td" if place else "th"
        lines.append("<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def write_report(out: Path, folders: Mapping[str, Sequence[Path]]) -> None:
    """Write `report.md` and `report.html` to `out`.

    Args:
        out: Folder.
        folders: Name of a system -> its evaluation folders, one per seed. The others are compared with the first.

    Raises:
        StageError: a folder has no scores.
    """
    systems = {name: [read_scores(folder) for folder in runs] for name, runs in folders.items()}
    results = {name: [read_results(folder) for folder in runs] for name, runs in folders.items()}
    names = list(systems)
    splits = _split_table(systems)
    claims, overall = _claim_table(systems, splits), _overall_table(systems)
    sections = [_overall_section(overall, names)]
    if claims:
        sections.append(_claims_section(claims, splits, names))
    if len(names) > 1:
        sections.append(_paired_section(claims, overall, splits, names))
    sections.append(_splits_section(splits, names))
    if dimensions := _dimension_table(systems):
        picture = _bars("By dimension", list(dimensions), dimensions, names)
        sections.append(
            _Section(
                "By dimension, where it was asked for",
                "",
                [_shares("dimension", dimensions, names)],
                [picture],
            )
        )
    sections += [
        *_published_metrics(results),
        *_win_rates(results),
        *_loss_section(results),
    ]
    title = f"Evaluation of {', '.join(names)}"
    out.mkdir(parents=True, exist_ok=True)
    markdown = "\n\n".join([f"# {title}", _INTRODUCTION, *(section.markdown() for section in sections)])
    (out / "report.md").write_text(markdown + "\n", encoding="utf-8")
    body = "\n".join([f"<p>{html.escape(_INTRODUCTION)}</p>", *(section.html() for section in sections)])
    (out / "report.html").write_text(_PAGE.format(title=html.escape(title), body=body), encoding="utf-8")


_INTRODUCTION = "Mean score with its 95 % interval over questions."


def _bars(title: str, chosen: Sequence[str], table: _Table, names: Sequence[str]) -> charts.Chart:
    return charts.scores(
        title, chosen, {n: [_share(table[s][n], s) if n in table[s] else None for s in chosen] for n in names}
    )


def _overall_section(overall: _Table, names: Sequence[str]) -> _Section:
    text = (
        "The mean over all answers of a suite, whatever their split: each weighs the same, so large splits count more."
        " The interval draws whole questions with all their variants."
    )
    pictures = [_bars("Suites", list(overall), overall, names)] if len(overall) > 1 else []
    return _Section("Suites", text, [_shares("suite", overall, names)], pictures)


def _claims_section(claims: _Table, splits: _Table, names: Sequence[str]) -> _Section:
    pictures = []
    for claim in _CLAIMS:
        if chosen := [split for split in claim.splits if split in splits]:
            pictures.append(_bars(f"{claim.key}: {claim.title}", chosen, splits, names))
    return _Section(
        "Claims" if pictures else "Swap discrimination", "", [_shares("claim", claims, names)], pictures
    )


def _paired_section(claims: _Table, overall: _Table, splits: _Table, names: Sequence[str]) -> _Section:
    gaps = _gaps({**claims, **overall, **splits}, names)
    headlines = [row for row in (*claims, *overall) if row in gaps]
    leads = {o: [gaps[row][o] for row in headlines] for o in names[1:]}
    title = f"{names[0]} minus the others, paired by question"
    rows = [["", *(f"minus {n}" for n in names[1:])]]
    rows += [[name, *map(_gap_cell, own.values())] for name, own in gaps.items()]
    text = "Only questions that both answered count. p is that of a sign-flip test, not corrected for their number."
    return _Section(title, text, [rows], [charts.leads(title, headlines, leads)])


def _splits_section(splits: _Table, names: Sequence[str]) -> _Section:
    """A chart for each published suite with several splits, one for those with one, and one for our own rows."""
    groups: dict[str, list[str]] = defaultdict(list)
    for split in splits:
        groups[split.partition(": ")[0] if ": " in split else ""].append(split)
    own, published = groups.pop("", []), {n: rows for n, rows in groups.items() if len(rows) > 1}
    single = [rows[0] for name, rows in groups.items() if name not in published]
    pictures = [_bars(name, rows, splits, names) for name, rows in published.items()]
    if own:
        pictures.insert(0, _bars("By split", own, splits, names))
    if single:
        pictures.append(_bars("Suites with one split", single, splits, names))
    return _Section("By split", "", [_shares("split", splits, names)], pictures)


def _loss_section(results: _Results) -> list[_Section]:
    """The losses of each training stage, of the first seed of each system that was trained where it was evaluated."""
    stages: dict[str, dict[str, tuple[charts.Curve, charts.Curve]]] = defaultdict(dict)
    for name, runs in results.items():
        for stage, entries in runs[0].get("losses", {}).items():
            training: charts.Curve = [(e["step"], e["loss"]) for e in entries if "loss" in e]
            validation: charts.Curve = [
                (e["step"], e["validation_loss"]) for e in entries if "validation_loss" in e
            ]
            if training:
                stages[stage][name] = (training, validation)
    if not stages:
        return []
    rows = [["stage", "system", "steps", "last training loss", "lowest validation loss"]]
    for stage, curves in stages.items():
        for name, (training, validation) in curves.items():
            lowest = min((loss, step) for step, loss in validation) if validation else None
            shown = "-" if lowest is None else f"{lowest[0]:.4f} at step {lowest[1]:g}"
            rows.append([stage, name, f"{training[-1][0]:g}", f"{training[-1][1]:.4f}", shown])
    pictures = [charts.losses(f"Loss of {stage}", curves) for stage, curves in stages.items()]
    return [_Section("Loss in training", "", [rows], pictures)]


def _published_metrics(results: _Results) -> list[_Section]:
    """Further scores that a suite's authors report, as a table; seeds are averaged."""
    rows = [["split", "score", "system", "mean"]]
    for name, runs in results.items():
        values: dict[tuple[str, str], list[float]] = defaultdict(list)
        for run in runs:
            for suite, splits in run["suites"].items():
                for split, row in splits.items():
                    for metric, value in row.get("metrics", {}).items():
                        values[split_name(suite, split), metric].append(value)
        rows += [[split, metric, name, f"{_mean(own):.3f}"] for (split, metric), own in values.items()]
    return [_Section("Further scores of the authors", "", [rows])] if len(rows) > 1 else []


def _win_rates(results: _Results) -> list[_Section]:
    rows = [["system", "win rate", "wins", "ties", "losses"]]
    for name, runs in results.items():
        for run in runs:
            if win := run.get("win_rate"):
                counts = [str(win["wins"]), str(win["ties"]), str(win["losses"])]
                rows.append([name, f"{win['share']:.3f}", *counts])
    return [_Section("Win rate by the judge", "", [rows])] if len(rows) > 1 else []
