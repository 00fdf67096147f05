"""Published files: JSONL, JSON and CSV rows, and the persona format, which two stages read."""

from __future__ import annotations

import csv
import gzip
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaalign_training.errors import DataError
from metaalign_training.messages import Message, ask
from metaalign_training.rows import JsonObject, read_rows

__all__ = ["PersonaQuestion", "files_in", "need", "read_config", "read_entries", "read_personas"]

_LISTS = ("golds", "data")
"""Where a JSON file that is an object keeps its rows (LaMP, ManyIH)."""
_JSON = (".json", ".json.gz")
_SHOWN = 4
"""Statements of each kind that describe a persona."""


def files_in(folder: Path) -> list[Path]:
    """All JSON, JSONL, CSV and gzipped files below a folder, sorted."""
    return sorted(f for f in folder.rglob("*") if f.suffix in (".json", ".jsonl", ".csv", ".gz"))


def read_entries(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """Rows of a JSONL, JSON or CSV file, with their line or entry numbers.

    Raises:
        DataError: the file cannot be read; names file and line or entry.
    """
    if path.suffix == ".csv":
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from enumerate(csv.DictReader(file), start=2)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(path, None, f"cannot be read as UTF-8 CSV: {error}") from error
    elif path.name.endswith(_JSON):
        tree = _read_json(path)
        entries = next((tree[k] for k in _LISTS if k in tree), [tree]) if isinstance(tree, dict) else tree
        if not isinstance(entries, list):
            raise DataError(path, None, f"not a list of rows, and has none in {' or '.join(_LISTS)}")
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict):
                raise DataError(path, number, "not a JSON object")
            yield number, entry
    else:
        yield from read_rows(path)


def read_config(path: Path) -> JsonObject:
    """What a JSON file says about all its rows, under `config`; empty for other files."""
    tree = _read_json(path) if path.name.endswith(_JSON) else None
    config = tree.get("config") if isinstance(tree, dict) else None
    return config if isinstance(config, dict) else {}


def _read_json(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(path, None, f"not JSON: {error}") from error


def need(path: Path, number: int, row: JsonObject, *names: str) -> list[Any]:
    """The values of fields that a row must have.

    Raises:
        DataError: names file, line, and the first field that is missing or empty.
    """
    for name in names:
        if row.get(name) in (None, ""):
            raise DataError(
                path, number, f"`{name}` is missing; has {', '.join(sorted(map(str, row))) or 'nothing'}"
            )
    return [row[name] for name in names]


@dataclass(frozen=True, slots=True)
class PersonaQuestion:
    """A question about one statement (would I say this?), under a persona and under its opposite.

    Attributes:
        number: Line in the file.
        persona: Name of the persona, taken from the file name.
        prompt: The persona as User Info, and the question.
        answer: `Yes` or `No`.
        opposite_prompt: The same question under the opposite persona.
        opposite_answer: The other of the two.
    """

    number: int
    persona: str
    prompt: list[Message]
    answer: str
    opposite_prompt: list[Message]
    opposite_answer: str


def read_personas(path: Path) -> list[PersonaQuestion]:
    """One question for each statement of a file in the format of anthropics/evals (arXiv 2212.09251).

    A persona is described by statements that it would and would not make; the question is about another one.

    Raises:
        DataError: a field is missing, or there are too few statements to describe a persona.
    """
    rows = []
    for number, row in read_entries(path):
        statement, yes, _ = need(
            path, number, row, "statement", "answer_matching_behavior", "answer_not_matching_behavior"
        )
        rows.append((number, str(statement), str(yes).strip().lower() == "yes"))
    agreed = [s for _, s, yes in rows if yes]
    refused = [s for _, s, yes in rows if not yes]
    if min(len(agreed), len(refused)) <= _SHOWN:
        raise DataError(
            path, None, f"needs more than {_SHOWN} statements of either kind to show a persona by others"
        )
    persona = path.name.split(".")[0]
    questions = []
    for number, statement, yes in rows:
        rng = random.Random(f"{persona} {number}")
        likes = rng.sample([s for s in agreed if s != statement], _SHOWN)
        dislikes = rng.sample([s for s in refused if s != statement], _SHOWN)
        query = f"Would I say this? Answer Yes or No.\n“{statement}”"
        right, wrong = ("Yes", "No") if yes else ("No", "Yes")
        questions.append(
            PersonaQuestion(
                number,
                persona,
                _question(likes, dislikes, query),
                right,
                _question(dislikes, likes, query),
                wrong,
            )
        )
    return questions


def _question(likes: Sequence[str], dislikes: Sequence[str], query: str) -> list[Message]:
    said, unsaid = (" ".join(f"“{s}”" for s in group) for group in (likes, dislikes))
    disposition = f"What I would say: {said}\nWhat I would never say: {unsaid}"
    return ask({"user": {"info": disposition}}, {"role": "user", "content": query})
