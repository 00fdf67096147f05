"""Records of stages: what a forced run does to the result that is there, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from metaalign_training.errors import StageError
from metaalign_training.records import Stage, read_record

Work = Callable[[Path], dict[str, int]]


def writes(number: int) -> Work:
    """Work that leaves one file; what was there before is counted."""

    def work(folder: Path) -> dict[str, int]:
        before = len([p for p in folder.iterdir() if p.name != "record.json"])
        (folder / "result").write_text(str(number))
        return {"number": number, "before": before}

    return work


def fails(error: Exception) -> Work:
    """Work that breaks in the middle."""

    def work(folder: Path) -> dict[str, int]:
        (folder / "half").touch()
        raise error

    return work


def stage(folder: Path, **config: int) -> Stage:
    return Stage("sft", folder / "sft", config, {})


def result(folder: Path) -> str:
    return (folder / "sft" / "result").read_text()


def test_a_forced_run_replaces_the_result_once_it_is_complete(tmp_path: Path) -> None:
    stage(tmp_path, seed=1).run(writes(1))

    def looks(folder: Path) -> dict[str, int]:
        assert result(tmp_path) == "1"
        return writes(2)(folder)

    assert stage(tmp_path, seed=2).run(looks, force=True) == {"number": 2, "before": 0}
    assert result(tmp_path) == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]
    assert stage(tmp_path, seed=2).run(writes(3)) == {"number": 2, "before": 0}


def test_a_forced_run_that_fails_keeps_the_result_and_continues_without_force(tmp_path: Path) -> None:
    stage(tmp_path, seed=1).run(writes(1))
    with pytest.raises(StageError, match="broke"):
        stage(tmp_path, seed=1).run(fails(StageError("broke")), force=True)
    assert result(tmp_path) == "1"
    record = read_record(tmp_path / "sft")
    assert record is not None
    assert record["status"] == "done"
    assert stage(tmp_path, seed=1).run(writes(2)) == {"number": 2, "before": 1}
    assert result(tmp_path) == "2"


def test_what_another_forced_run_began_is_left_alone(tmp_path: Path) -> None:
    stage(tmp_path, seed=1).run(writes(1))
    with pytest.raises(StageError, match="broke"):
        stage(tmp_path, seed=2).run(fails(StageError("broke")), force=True)
    assert stage(tmp_path, seed=1).run(writes(3)) == {"number": 1, "before": 0}
    assert stage(tmp_path, seed=2).run(writes(4), force=True) == {"number": 4, "before": 0}


def test_a_missing_input_keeps_the_result(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    Stage("sft", tmp_path / "sft", {}, {"rows": rows}).run(writes(1))
    rows.unlink()
    with pytest.raises(StageError, match=r"rows\.jsonl is missing"):
        Stage("sft", tmp_path / "sft", {}, {"rows": rows}).run(writes(2), force=True)
    assert result(tmp_path) == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_killed_while_the_folders_change_places_is_done(moved: bool, tmp_path: Path) -> None:
    stage(tmp_path, seed=1).run(writes(1))
    stage(tmp_path / "aside", seed=2).run(writes(2))
    (tmp_path / "aside" / "sft").rename(tmp_path / "sft.new")
    (tmp_path / "aside").rmdir()
    if moved:
        (tmp_path / "sft").rename(tmp_path / "sft.old")
    assert stage(tmp_path, seed=2).run(fails(StageError("asked again"))) == {"number": 2, "before": 0}
    assert result(tmp_path) == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


def test_processes_that_train_together_work_where_the_first_began(tmp_path: Path) -> None:
    stage(tmp_path, seed=1).run(writes(1))
    stage(tmp_path, seed=2).restart()
    follower = Stage("sft", tmp_path / "sft", {"seed": 2}, {}, main=False)
    places: list[Path] = []

    def notes(folder: Path) -> dict[str, int]:
        places.append(folder)
        return {}

    follower.run(notes)
    stage(tmp_path, seed=2).run(notes)
    Stage("sft", tmp_path / "sft", {"seed": 3}, {}, main=False).run(notes)
    assert places == [tmp_path / "sft.new", tmp_path / "sft.new", tmp_path / "sft"]


def test_a_process_that_is_there_before_the_first_finds_its_folder(tmp_path: Path) -> None:
    follower = Stage("sft", tmp_path / "sft", {"seed": 2}, {}, main=False)
    assert follower.run(lambda folder: {"found": len(list(folder.iterdir()))}) == {"found": 0}
    assert stage(tmp_path, seed=2).run(writes(1)) == {"number": 1, "before": 0}
