"""The data card: what is in the data, where it came from, what was left out, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from metaalign_training.recipe import InstructionConfig

__all__ = ["Annotated", "AnnotationReport", "InstructionReport", "SourceReport", "write_card"]


class SourceReport(TypedDict):
    """How many rows of a source are used, how many are unusable, and how many the filters left out, by reason."""

    rows: int
    unusable: NotRequired[int]
    left_out: NotRequired[dict[str, int]]


class AnnotationReport(TypedDict):
    """Outcomes of the comparisons, and the usage of teacher and annotator.

    Attributes:
        counts: Outcome -> number of comparisons.
        left_out: Source -> reason -> number of comparisons that give no row.
        usage: Endpoint -> requests, tokens, cost.
    """

    counts: dict[str, int]
    left_out: dict[str, dict[str, int]]
    usage: dict[str, dict[str, float]]


class Annotated(TypedDict, total=False):
    """Empty if nothing had to be annotated."""

    annotation: AnnotationReport


class InstructionReport(Annotated):
    """What is in the data, where it came from, what was left out, and what it cost.

    Attributes:
        sources: Path or data set -> its rows.
        filtered: Reason -> number of rows left out.
        set_aside: Number of questions that are not SFT's but the later stages'.
        sft, pairs, eval: Number of rows in each file.
        parts: Part of the MetaAlign Dataset -> number of pairs.
        coverage: Group of the preference library -> how many of its entries were used.
    """

    sources: dict[str, SourceReport]
    filtered: dict[str, int]
    set_aside: int
    sft: int
    pairs: int
    eval: int
    parts: dict[str, int]
    coverage: dict[str, str]


_CARD = """---
pretty_name: MetaAlign data
tags: [metaalign, preferences, sft, dpo]
configs:
- config_name: sft
  data_files: sft.jsonl
- config_name: pairs
  data_files: pairs.jsonl
---
# Data card

Built with seed {seed}. {sft} conversations (`sft.jsonl`), {pairs} preference pairs (`pairs.jsonl`), {eval} held-out
questions (`eval.jsonl`).{aside} Tiers are messages with the roles `system` (System Info) and `user_info` (User Info).

## Parts

{parts}

## Sources

{sources}

Licences are the sources' own; check them before you publish this data.

## Left out

{filtered}

## Annotation

Teacher `{teacher}`. The same two answers were ranked under opposite preferences, in both orders; a verdict that
changed with the order is a tie.

{annotation}

## Coverage of the preference library

{coverage}
"""


def _table(header: str, rows: Mapping[str, object]) -> str:
    if not rows:
        return "Nothing."
    lines = [f"| {header} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)


def _source(report: SourceReport) -> str:
    left_out = {"unusable": report.get("unusable", 0), **report.get("left_out", {})}
    return ", ".join(
        [f"{report['rows']} rows", *(f"{n} left out: {why}" for why, n in left_out.items() if n)]
    )


def write_card(
    path: Path,
    config: InstructionConfig,
    seed: int,
    report: InstructionReport,
    coverage: Mapping[str, Mapping[str, int]],
) -> None:
    """Write the card for the data that the report describes."""
    annotation: AnnotationReport = {"counts": {}, "left_out": {}, "usage": {}}
    if "annotation" in report:
        annotation = report["annotation"]
    usage = {
        f"{name}: {key}": value for name, use in annotation["usage"].items() for key, value in use.items()
    }
    lost = {
        f"{source}: comparisons left out": ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        for source, reasons in annotation["left_out"].items()
    }
    leaves = {f"{group}: {leaf}": count for group, own in coverage.items() for leaf, count in own.items()}
    sources = {Path(name).name: _source(own) for name, own in report["sources"].items()}
    aside = ""
    if report["set_aside"]:
        aside = (
            f" {report['set_aside']} questions are set aside for the stages after SFT: `pairs.jsonl` and"
            " `prompts.jsonl` are of these, `sft.jsonl` of the others."
        )
    path.write_text(
        _CARD.format(
            seed=seed,
            aside=aside,
            sft=report["sft"],
            pairs=report["pairs"],
            eval=report["eval"],
            parts=_table("part, pairs", report["parts"]),
            sources=_table("source", sources),
            filtered=_table("reason", report["filtered"]),
            teacher=config.teacher.model if config.teacher.base_url else Path(config.teacher.model).name,
            annotation=_table("what", {**annotation["counts"], **lost, **usage}),
            coverage=_table("leaf, times used", leaves),
        ),
        encoding="utf-8",
    )
