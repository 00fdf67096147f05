"""Encoded rows on disk: made once, read from there by every process, and found again by what they were made from.

    WORK/tokenised/KEY/   the rows as an Arrow file, which is mapped into memory, and `made.json`

Rows are encoded as they are read, so neither they nor their ids have to fit into memory. A folder is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from metaalign_training.encoding import length_of

__all__ = ["tokenised"]

logger = logging.getLogger(__name__)

_ENCODING = 1
"""Raise it when rows are encoded differently, so that older folders are not used."""
_KEPT = 6
"""Folders that are kept: those used last."""


def tokenised(
    encode: Callable[[], Iterable[Mapping[str, Sequence[int]]]],
    made_from: Mapping[str, Any],
    tokenizer: Any,
    max_length: int | None,
    folder: Path,
) -> tuple[Dataset | None, int]:
    """Encode rows, or find them in `folder`.

    Args:
        encode: Gives the rows as `input_ids` and `labels`; called only if they are not there.
        made_from: Everything but the tokenizer that affects the ids.
        tokenizer: The tokenizer, with its chat template.
        max_length: Longer rows are dropped: a cut answer would teach the model to stop midway.
        folder: Where such rows are kept.

    Returns:
        The rows with a further column `length`, None if there are none; and how many were dropped.
    """
    about = [_ENCODING, made_from, max_length, tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    place = folder / key
    if not (place / _MADE).is_file():
        _write(place, encode, max_length)
    else:
        logger.info("tokenised rows are in %s already", place)
    made: dict[str, int] = json.loads((place / _MADE).read_text(encoding="utf-8"))
    (place / _MADE).touch()
    return (Dataset.from_file(str(place / _ROWS)) if made["rows"] else None), made["dropped"]


_MADE, _ROWS, _BATCH = "made.json", "rows.arrow", 1000


def _columns(rows: Sequence[Mapping[str, Sequence[int]]], schema: pa.Schema) -> pa.RecordBatch:
    columns: list[pa.Array] = []
    for name in ("input_ids", "labels"):
        lengths = [len(row[name]) for row in rows]
        values = np.fromiter((token for row in rows for token in row[name]), np.int32, sum(lengths))
        columns.append(pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), values))
    columns.append(pa.array([length_of(row) for row in rows], pa.int32()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _write(
    place: Path, encode: Callable[[], Iterable[Mapping[str, Sequence[int]]]], max_length: int | None
) -> None:
    aside = place.with_name(f"{place.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        counts = _write_rows(aside / _ROWS, encode(), max_length)
        (aside / _MADE).write_text(json.dumps(counts), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    others = sorted(place.parent.glob(f"*/{_MADE}"), key=lambda made: made.stat().st_mtime)
    for made in others[:-_KEPT]:
        shutil.rmtree(made.parent)


def _write_rows(
    path: Path, rows: Iterable[Mapping[str, Sequence[int]]], max_length: int | None
) -> dict[str, int]:
    counts = {"rows": 0, "dropped": 0}
    lists = pa.list_(pa.int32())
    schema = pa.schema([("input_ids", lists), ("labels", lists), ("length", pa.int32())])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        batch: list[Mapping[str, Sequence[int]]] = []
        for row in rows:
            if max_length is not None and length_of(row) > max_length:
                counts["dropped"] += 1
                continue
            counts["rows"] += 1
            batch.append(row)
            if len(batch) == _BATCH:
                stream.write_batch(_columns(batch, schema))
                batch.clear()
        if batch:
            stream.write_batch(_columns(batch, schema))
    return counts
