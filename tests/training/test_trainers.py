"""Checkpoints are whole or absent, whenever the process is killed or the disk full; validation keeps the best one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers import Trainer

from metaalign_training.choosing import ConversationFiles, held_out_questions, question_of
from metaalign_training.cli import main
from metaalign_training.errors import DataError
from metaalign_training.recipe import FileShare
from metaalign_training.recipe_files import load_recipe
from metaalign_training.rows import write_rows
from metaalign_training.trainers import _full_disk_is_an_os_error

SAVING = {"sft.save_every": "2", "sft.steps": "6"}


def arguments(work: Path, stage: str = "sft", **settings: str) -> list[str]:
    changes = (SAVING if stage == "sft" else {}) | settings
    return [
        stage,
        "tiny",
        "--work",
        str(work),
        *(a for n, v in changes.items() for a in ("--set", f"{n}={v}")),
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    assert main(["build-data", "tiny", "--work", str(folder)]) == 0
    return folder


@pytest.fixture
def work(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "work")
    return tmp_path / "work"


# The second of two saves begins, and is cut off after its weights.
_KILLED = """
import os, signal, sys
from transformers import Trainer
def die(self, folder):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return save(self, folder)
save, Trainer._save_optimizer_and_scheduler = Trainer._save_optimizer_and_scheduler, die
from metaalign_training.cli import main
main(sys.argv[1:])
"""


def test_a_kill_during_a_save_leaves_the_checkpoint_before(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments(work)],
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert sorted(p.name for p in (work / "sft").glob("*checkpoint*")) == ["checkpoint-2"]
    assert (work / "sft" / "unfinished" / "checkpoint-4" / "model.safetensors").is_file()
    assert main(arguments(work)) == 0
    assert "continues from " + str(work / "sft" / "checkpoint-2") in caplog.text
    left = {p.name for p in (work / "sft").iterdir()}
    assert "model.safetensors" in left
    assert not {name for name in left if name.startswith(("checkpoint", "unfinished"))}


def test_a_full_disk_leaves_the_checkpoint_before(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = Trainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        if self.state.global_step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        assert main(arguments(work)) == 1
    assert "no space left" in capsys.readouterr().err
    names = {p.name for p in (work / "sft").iterdir()}
    assert "checkpoint-2" in names
    assert "unfinished" not in names, "what cannot be used takes no space"
    assert main(arguments(work)) == 0


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_known_by_its_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What torch.save says on one: the position in the file is not the expected one."""

    def saving(words: str) -> None:
        with _full_disk_is_an_os_error(tmp_path):
            raise RuntimeError(words)

    with pytest.raises(RuntimeError):
        saving("unexpected pos 3520 vs 3412")
    with pytest.raises(OSError, match="No space left"):
        saving("I/O error: No space left on device (os error 28)")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(100, 100, 0))
    with pytest.raises(OSError, match="No space left"):
        saving("unexpected pos 3520 vs 3412")


def test_an_incomplete_checkpoint_of_another_program_is_left_out(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (work / "sft" / "checkpoint-4").mkdir(parents=True)
    assert main(arguments(work)) == 0
    assert "checkpoint-4 is incomplete and left out" in caplog.text


def losses(work: Path, stage: str = "sft") -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((work / stage / "losses.json").read_text())
    return found


def metrics(work: Path, stage: str = "sft") -> dict[str, float]:
    found: dict[str, float] = json.loads((work / stage / "record.json").read_text())["metrics"]
    return found


def test_the_best_checkpoint_is_kept(work: Path) -> None:
    """A learning rate that breaks the model after its first steps: the result is the checkpoint before."""
    breaking = {
        "sft.validation": "{share: 0.1}",
        "sft.learning_rate": "3",
        "sft.warmup_steps": "5",
        "sft.steps": "8",
        "sft.log_every": "1",
    }
    assert main(arguments(work, **breaking)) == 0
    validated = {e["step"]: e["validation_loss"] for e in losses(work) if "validation_loss" in e}
    assert list(validated) == [2, 4, 6, 8]
    best = min(validated, key=lambda step: validated[step])
    assert best < 8
    assert metrics(work)["validation_step"] == best
    assert metrics(work)["validation_loss"] == validated[best]
    assert sum("loss" in e for e in losses(work)) == 8
    # What was saved has the loss that was measured: the same rows, the saved weights.
    recipe = load_recipe("tiny", [f"{n}={v}" for n, v in (SAVING | breaking).items()])
    from metaalign_training.models import load_tokenizer
    from metaalign_training.rows import read_conversations
    from metaalign_training.stages.sft import make_trainer

    tokenizer = load_tokenizer(recipe.model, work / "sft")
    rows = read_conversations(work / "build-data" / "sft.jsonl")
    trainer = make_trainer(recipe, tokenizer, rows, work / "probe", start=work / "sft")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(validated[best], rel=1e-4)


def test_training_stops_when_it_no_longer_helps(work: Path) -> None:
    settings = {"sft.validation": "{share: 0.1, patience: 1}", "sft.learning_rate": "3", "sft.steps": "60"}
    assert main(arguments(work, **settings)) == 0
    assert max(e["step"] for e in losses(work)) < 60


def test_a_killed_run_with_validation_resumes_with_its_best(work: Path) -> None:
    settings = {"sft.validation": "{share: 0.1}"}
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments(work, **settings)],
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    state = json.loads((work / "sft" / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(work / "sft" / "checkpoint-2")
    assert main(arguments(work, **settings)) == 0
    assert [e["step"] for e in losses(work) if "validation_loss" in e] == [2, 4, 6]


@pytest.mark.parametrize("loss", ["dpo", "simpo", "orpo", "kto"])
def test_preference_losses_validate_too(loss: str, work: Path) -> None:
    assert main(arguments(work)) == 0
    settings = {
        "dpo.loss": loss,
        "dpo.validation": "{share: 0.2}",
        "sft.save_every": "2",
        "sft.steps": "6",
    }
    assert main(arguments(work, "dpo", **settings)) == 0
    assert metrics(work, "dpo")["validation_loss"] > 0


def test_questions_are_learned_or_validated_on_but_not_both() -> None:
    rows = [{"messages": [{"role": "user", "content": f"Question {n % 10}?"}]} for n in range(40)]
    held_out = held_out_questions(rows, 0.2, 1)
    assert len(held_out) == 2
    assert held_out < {question_of(row) for row in rows}
    assert held_out_questions(rows, 0.2, 1) == held_out != held_out_questions(rows, 0.2, 2)
    assert len(held_out_questions(rows, 0.01, 1)) == 1
    with pytest.raises(DataError, match="all rows ask the same"):
        held_out_questions(rows[::10], 0.5, 1)


def test_rows_are_tokenised_once(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another learning rate needs the same ids; another length, other rows or another tokenizer do not."""
    caplog.set_level("INFO")
    assert main(arguments(work)) == 0
    (first,) = (work / "tokenised").iterdir()
    assert "are in" not in caplog.text
    assert main([*arguments(work, **{"sft.learning_rate": "0.1"}), "--force"]) == 0
    assert f"tokenised rows are in {first} already" in caplog.text
    for change in ({"sft.max_length": "70"}, {"sft.validation": "{share: 0.1}"}, {"sft.loss": "all_turns"}):
        before = len(list((work / "tokenised").iterdir()))
        assert main([*arguments(work, **change), "--force"]) == 0
        assert len(list((work / "tokenised").iterdir())) > before
    with (work / "build-data" / "sft.jsonl").open("a") as file:
        file.write(
            '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'
        )
    caplog.clear()
    assert main([*arguments(work), "--force"]) == 0
    assert "already" not in caplog.text
    assert len(list((work / "tokenised").iterdir())) <= 6


def test_a_row_that_cannot_be_tokenised_leaves_nothing_behind(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = work / "build-data" / "sft.jsonl"
    rows = path.read_text().splitlines()
    tree = json.loads(rows[150]) | {"chat_template_kwargs": {"nothing": True}}
    path.write_text("\n".join([*rows[:150], json.dumps(tree), *rows[151:]]) + "\n")
    assert main(arguments(work)) == 1
    assert "sft rows:151: chat_template_kwargs.nothing" in capsys.readouterr().err
    assert not list((work / "tokenised").iterdir())
    path.write_text("\n".join(rows) + "\n")
    assert main([*arguments(work), "--force"]) == 0


def test_a_mixture_is_drawn_by_the_seed_without_reading_it_all(tmp_path: Path) -> None:
    def write(name: str, count: int) -> Path:
        rows = [
            {"messages": [{"role": "user", "content": f"{name} {n}"}, {"role": "assistant", "content": "x"}]}
            for n in range(count)
        ]
        write_rows(tmp_path / name, rows)
        return tmp_path / name

    own, more = write("own.jsonl", 10), write("more.jsonl", 100)
    mixture = [FileShare(path=str(more), share=0.25)]
    files = ConversationFiles(own, mixture, 1)
    asked = [question_of(row) for row in files]
    assert len(asked) == len(files) == 35
    assert asked[:10] == [f"own.jsonl {n}" for n in range(10)]
    assert asked == [question_of(row) for row in files], "each reading gives the same"
    assert set(asked) != {question_of(row) for row in ConversationFiles(own, mixture, 2)}
    assert next(iter(files)) in files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sft.validation={share: 0.9}", "sft.validation.share"),
        ("sft.validation={keep_best: false, patience: 2}", "`patience` needs `keep_best: true`"),
        (
            "grpo={steps: 1, batch_size: 8, learning_rate: 0.1, prompts: 4, validation: {}}",
            "`validation` has no effect",
        ),
    ],
)
def test_a_validation_that_makes_no_sense(
    change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sft", "tiny", "--work", str(tmp_path), "--set", change]) == 1
    assert message in capsys.readouterr().err
