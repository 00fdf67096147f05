"""What commands print: tables and colours on a terminal, plain text and JSON for other programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from metaalign.client.failures import APIError
from metaalign.errors import MetaAlignError
from metaalign.receipt import Receipt, SteeringApplied

__all__ = ["as_json", "note", "print_answer", "print_json", "receipt_lines", "steering_line", "table", "told"]


def as_json(value: object) -> Any:
    """`value` as JSON has it, whatever objects of ours are in it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return value


def print_json(value: object) -> None:
    print(json.dumps(as_json(value), indent=2, ensure_ascii=False))


def print_answer(pieces: Iterable[str]) -> None:
    """Print an answer as it comes. Its line ends where it breaks off, too: what is wrong is told on the next one."""
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except MetaAlignError:
        print()
        raise
    print()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: drawn on a terminal, and with tabs between the columns elsewhere."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(str(cell).replace("\n", " ").replace("\t", " ") for cell in row))
        return
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise MetaAlignError("tables take `pip install 'metaalign[cli]'`; or use --json") from None
    drawn = Table(*columns, show_lines=any("\n" in str(cell) for row in rows for cell in row))
    for row in rows:
        # As text: what a model says must not be read as markup.
        drawn.add_row(*(Text(str(cell)) for cell in row))
    Console().print(drawn)


def note(text: str) -> None:
    """A line beside the result, which a pipe does not get."""
    sys.stderr.write(f"{text}\n")


def told(error: MetaAlignError) -> str:
    """What is wrong, and what to do about it."""
    remedy = f" {error.remedy}" if isinstance(error, APIError) and error.remedy else ""
    return f"{error.message.rstrip('.')}.{remedy}"


def receipt_lines(receipt: Receipt | None) -> list[str]:
    """What was applied, in words."""
    if receipt is None:
        return ["no preference was applied"]
    steering = [steering_line(receipt.steering)] if receipt.steering is not None else []
    if not receipt.applied:
        return ["no preference was applied", *steering]
    tokens = receipt.tokens
    lines = [
        f"applied {receipt.spec_hash[:12]}: {tokens.system_info} tokens of System Info,"
        f" {tokens.user_info} of User Info",
        *steering,
    ]
    if receipt.profiles:
        lines.append(f"profiles: {', '.join(receipt.profiles)}")
    lines += [
        f"{lost.tier} {lost.dimension} = {lost.value} lost to {lost.kept} ({lost.by})"
        for lost in receipt.overridden
    ]
    for answer in receipt.verified or ():
        lines += [
            f"{'passed' if check.passed else 'failed'} {check.name}: {check.why}" for check in answer.checks
        ]
    return lines


def steering_line(steering: SteeringApplied) -> str:
    """How the answer was steered, in the words of the options."""
    strength = steering.strength
    said = [f"strength system={strength.system:g},user={strength.user:g}", f"branches {steering.branches}"]
    if steering.blend is not None:
        said.append(f"blend {'+'.join(f'{weight:g}' for weight in steering.blend)}")
    if steering.candidates is not None:
        said.append(f"candidates {steering.candidates}")
    if steering.score is not None:
        said.append(f"score {steering.score:.3f}")
    return f"steering: {'; '.join(said)}"
