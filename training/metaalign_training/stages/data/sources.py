"""Instructions and pairs from a user's files or from Hugging Face data sets."""

from __future__ import annotations

import csv
import glob
import json
import logging
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaalign.verifiers import Check, InvalidCheck, parse_checks, published_checks
from metaalign_training.errors import DataError
from metaalign_training.messages import Message
from metaalign_training.recipe import InstructionConfig, SourceConfig
from metaalign_training.rows import (
    JsonObject,
    Pair,
    Question,
    check_pair,
    check_question,
    check_variables,
    read_rows,
)

__all__ = [
    "Instruction",
    "files_of",
    "parse_dialogue",
    "read_check_source",
    "read_instructions",
    "read_pair_source",
    "source_files",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Instruction:
    """Something to ask.

    Attributes:
        text: The user's words.
        part: Part of the data set that is built from it.
        query: Kind of request, for the priority matrix.
        answer: The true answer, for facts.
        origin: Where it came from: file and line, or data set and row.
    """

    text: str
    part: str
    query: str
    answer: str
    origin: str


def source_files(config: InstructionConfig) -> list[Path]:
    """All files that affect the data, so that a changed file is noticed.

    Raises:
        DataError: a path matches nothing.
    """
    files = [path for source in config.sources if source.path is not None for path in files_of(source)]
    files += [Path(p) for p in (config.library, config.priorities) if p is not None]
    return files + [Path(p) for p in config.decontaminate]


def files_of(source: SourceConfig) -> list[Path]:
    """The files of a source with a `path`; DataError if it matches none."""
    found = sorted(Path(p) for p in glob.glob(source.path or ""))
    if not found:
        raise DataError(source.path or "sources", None, "no such file; paths are relative to the recipe")
    return found


def _rows(source: SourceConfig) -> Iterator[tuple[Path | str, int, JsonObject]]:
    if source.dataset is not None:
        yield from _hub_rows(source)
        return
    for path in files_of(source):
        kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
        if kind == "jsonl":
            for number, row in read_rows(path):
                yield path, number, row
        elif kind == "csv":
            yield from _csv_rows(path)
        elif kind == "json":
            yield from _json_rows(path)
        elif kind == "parquet":
            from datasets import Dataset

            for number, row in enumerate(Dataset.from_parquet(str(path)), start=1):
                yield path, number, row
        else:
            raise DataError(
                path, None, "unknown kind of file; .jsonl, .jsonl.gz, .json, .csv and .parquet are read"
            )


def _hub_rows(source: SourceConfig) -> Iterator[tuple[str, int, JsonObject]]:
    from datasets import load_dataset

    name = str(source.dataset)
    try:
        dataset = load_dataset(name, source.subset, split=source.split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            name, None, f"cannot be loaded ({reason}); check name, subset, split and network"
        ) from error
    for number, row in enumerate(dataset, start=1):
        yield name, number, row


def _csv_rows(path: Path) -> Iterator[tuple[Path, int, JsonObject]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        path, reader.line_num, "has more or fewer cells than the header; quote commas"
                    )
                yield path, reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, None, f"cannot be read as UTF-8 CSV: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[Path, int, JsonObject]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, None, f"not JSON: {error}") from error
    if not isinstance(tree, list) or not all(isinstance(row, dict) for row in tree):
        raise DataError(path, None, "must be a JSON array of objects")
    for number, row in enumerate(tree, start=1):
        yield path, number, row


def _text(path: Path | str, number: int, row: JsonObject, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        columns = ", ".join(sorted(map(str, row))) or "none"
        raise DataError(path, number, f"column `{name}` is missing or empty; the row has: {columns}")
    return value.strip()


def read_instructions(source: SourceConfig, seed: int) -> list[Instruction]:
    """The instructions of a source of kind `instructions` or `facts`.

    Raises:
        DataError: a row is wrong (names file, line, column and remedy), or the source is empty.
    """
    found = []
    for path, number, row in _rows(source):
        query = source.query
        if source.query_column is not None:
            value = _text(path, number, row, source.query_column)
            if value not in source.query_values:
                known = ", ".join(source.query_values)
                raise DataError(
                    path, number, f"`{source.query_column}` is {value!r}; `query_values` names {known}"
                )
            query = source.query_values[value]
        answer = _text(path, number, row, source.answer) if source.kind == "facts" else ""
        text = _text(path, number, row, source.text)
        name = path.name if isinstance(path, Path) else path
        found.append(Instruction(text, source.part, query, answer, f"{name}:{number}"))
    if not found:
        raise DataError(source.path or str(source.dataset), None, "is empty; there is nothing to build from")
    if source.limit is not None and source.limit < len(found):
        found = random.Random(f"source {seed}").sample(found, source.limit)
    return found


def read_check_source(source: SourceConfig, seed: int) -> list[Question]:
    """The questions of a source of kind `checks`, each with the checks on its answer in `expect.verify`.

    Raises:
        DataError: a row, or one of its checks, is wrong, or the source is empty.
    """
    found: list[Question] = []
    for path, number, row in _rows(source):
        asked = row.get(source.text)
        if not isinstance(asked, list):
            system: list[Message] = [{"role": "system", "content": source.system}] if source.system else []
            asked = [*system, {"role": "user", "content": _text(path, number, row, source.text)}]
        question: Question = {"split": "checks", "part": source.part, "prompt": asked}
        if (problem := check_question({**question})) is not None:
            raise DataError(path, number, problem)
        try:
            checks = _checks_of(row, str(asked[-1]["content"]))
        except (InvalidCheck, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                path, number, f"needs `verify`, or `instruction_id_list` and `kwargs`: {error}"
            ) from error
        if not checks:
            raise DataError(path, number, "has no check; leave the row out")
        question["expect"] = {
            "verify": [
                {"name": c.name, "arguments": c.arguments.model_dump(by_alias=True, exclude_none=True)}
                for c in checks
            ]
        }
        found.append(question)
    if not found:
        raise DataError(source.path or str(source.dataset), None, "is empty; there is nothing to build from")
    if source.limit is not None and source.limit < len(found):
        found = random.Random(f"source {seed}").sample(found, source.limit)
    return found


def _checks_of(row: JsonObject, prompt: str) -> tuple[Check, ...]:
    if "verify" in row:
        return parse_checks(row["verify"], prompt=prompt)
    return published_checks(row["instruction_id_list"], row["kwargs"], prompt=prompt)


_TURN = re.compile(r"\n\n(Human|Assistant): ?")


def parse_dialogue(text: str) -> list[Message]:
    """The messages of a dialogue with `Human:` and `Assistant:` turns, as in HH-RLHF (arXiv 2204.05862).

    Raises:
        ValueError: it has no such turns, or does not end with the assistant's.
    """
    pieces = _TURN.split(text)
    if len(pieces) < 5 or pieces[0].strip():
        raise ValueError("not a dialogue of `Human:` and `Assistant:` turns")
    roles = {"Human": "user", "Assistant": "assistant"}
    messages: list[Message] = [
        {"role": roles[name], "content": content.strip()}
        for name, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if messages[-1]["role"] != "assistant":
        raise ValueError("the last turn is not the assistant's")
    return messages


def read_pair_source(source: SourceConfig, seed: int) -> tuple[list[Pair], int]:
    """The pairs of a source of kind `pairs`, and how many of its rows could not be used.

    Rows are dialogues of `Human:` and `Assistant:` turns that share all but their last answer, or TRL's `prompt`,
    `chosen`, `rejected`. Some published rows have no usable contrast (equal or empty answers, different prompts):
    they are counted and left out. A row without the columns is an error.
    """
    rows: list[Pair] = []
    system: list[Message] = [{"role": "system", "content": source.system}] if source.system else []
    unusable = 0
    for path, number, row in _rows(source):
        if row.get("chosen") is None or row.get("rejected") is None:
            raise DataError(path, number, "needs `chosen` and `rejected`")
        if problem := check_variables(row):
            raise DataError(path, number, problem)
        pair = _pair_of(row)
        if pair is None or check_pair(pair) is not None:
            unusable += 1
            continue
        made: Pair = {
            "part": source.part,
            "source": "file",
            "prompt": [*system, *pair["prompt"]],
            "chosen": pair["chosen"],
            "rejected": pair["rejected"],
        }
        if row.get("tools"):
            made["tools"] = row["tools"]
        if row.get("chat_template_kwargs"):
            made["chat_template_kwargs"] = row["chat_template_kwargs"]
        rows.append(made)
    if not rows:
        raise DataError(source.path or str(source.dataset), None, "has no usable pair")
    if unusable > len(rows):
        logger.warning(
            "build-data: %d of %d rows of %s are left out: chosen and rejected must be two answers to one prompt",
            unusable, unusable + len(rows), source.path or source.dataset,
        )  # fmt: skip
    if source.limit is not None and source.limit < len(rows):
        rows = random.Random(f"source {seed}").sample(rows, source.limit)
    return rows, unusable


def _pair_of(row: JsonObject) -> JsonObject | None:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        return {"prompt": row.get("prompt"), "chosen": chosen, "rejected": rejected}
    try:
        one, two = parse_dialogue(str(chosen)), parse_dialogue(str(rejected))
    except ValueError:
        return None
    if one[:-1] != two[:-1]:
        return None
    return {"prompt": one[:-1], "chosen": one[-1:], "rejected": two[-1:]}
