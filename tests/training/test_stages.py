"""The stages as a user runs them: all, one alone, again, after a kill, on a full disk, on a wrong checkpoint."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from metaalign.prompt import verify_checkpoint
from metaalign_training.cli import main
from metaalign_training.inference.generation import TransformersGenerator
from metaalign_training.messages import Message
from metaalign_training.models import load_tokenizer
from metaalign_training.recipe_files import load_recipe
from metaalign_training.stages import sft
from metaalign_training.world.samples import make_sample
from metaalign_training.world.verifiers import obeys
from tests.processes import ROOT

CHECKPOINT = ROOT / "checkpoints" / "metaalign-demo"
COMMAND = [sys.executable, "-m", "metaalign_training.cli"]


def record(work: Path, stage: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((work / stage / "record.json").read_text())
    return tree


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [x for x in capsys.readouterr().err.split("\n") if x.startswith("metaalign-train: ")]
    return line


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of the tiny recipe."""
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["run", "tiny", "--work", str(folder)]) == 0
    return folder


def test_every_stage_leaves_a_record(work: Path) -> None:
    for stage in ("build-data", "sft", "pairs", "dpo", "evaluate", "export"):
        tree = record(work, stage)
        assert tree["status"] == "done"
        assert tree["versions"]["torch"]
        assert tree["config"]
        assert tree["metrics"]
        assert stage == "build-data" or all(len(digest) == 64 for digest in tree["inputs"].values())
    assert record(work, "sft")["config"]["seed"] == 1


def test_the_export_is_whole(work: Path) -> None:
    manifest = verify_checkpoint(work / "checkpoint")
    assert manifest is not None
    assert manifest.evaluation == record(work, "evaluate")["metrics"]
    assert set(manifest.datasets) == {"sft.jsonl", "pairs.jsonl"}
    assert manifest.recipe["training"]["dpo"]["pairs"] == record(work, "pairs")["metrics"]["pairs"]
    card = (work / "checkpoint" / "README.md").read_text()
    assert "| seen | " in card
    assert str(work) not in card + manifest.model_dump_json()


def test_the_report_has_a_picture_for_each_claim(work: Path) -> None:
    page = (work / "evaluate" / "report.html").read_text()
    for claim in ("C1", "C2", "C3", "C4"):
        assert f'<img alt="{claim}: ' in page
    assert '<img alt="Loss of sft"' in page
    assert '<img alt="Loss of dpo"' in page
    assert "| consensus | " in (work / "evaluate" / "report.md").read_text()


def test_done_stages_are_not_run_again(work: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()}
    assert main(["run", "tiny", "--work", str(work)]) == 0
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()} == before


def test_another_recipe_is_refused_until_forced(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(work, copy)
    change = ["--work", str(copy), "--set", "sft.learning_rate=0.001"]
    assert main(["sft", "tiny", *change]) == 1
    message = error_of(capsys)
    assert "section.learning_rate" in message
    assert "--force" in message
    assert main(["sft", "tiny", *change, "--force"]) == 0
    assert main(["dpo", "tiny", *change]) == 1
    assert "input sft" in error_of(capsys)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sft --set sft.learning_rate=-1", "learning_rate"),
        ("sft --set sft.mixture=[{path: /nowhere.jsonl}]", "/nowhere.jsonl is missing"),
        ("sft --set sft.tracker=wandb", "pip install wandb"),
        ("sft --set model={base: /nowhere}", "model.base"),
        ("sft --accelerate fsdp7", "fsdp2"),
        ("dpo --set dpo.max_length=8", "dpo.max_length"),
        ("build-data --set data.world.shares={seen: 1} --set data.world.without_parts=[helpful]", "without_parts"),
        ("evaluate --set evaluate.baseline=/nowhere", "win rates need a judge"),
        ("evaluate --set evaluate.suites=[{path: /nowhere.jsonl}]", "/nowhere.jsonl"),
        ("evaluate --model /nowhere", "/nowhere"),
    ],
)  # fmt: skip
def test_a_forced_run_that_cannot_start_keeps_the_old_result(
    command: str, message: str, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(work, copy)
    stage, *options = re.split(r" (?=--)", command)
    arguments = [word for option in options for word in option.split(" ", 1)]
    before = contents(copy / stage)
    assert before
    assert main([stage, "tiny", "--work", str(copy), "--force", *arguments]) == 1
    assert message in error_of(capsys)
    assert contents(copy / stage) == before
    assert main([stage, "tiny", "--work", str(copy)]) == 0
    assert contents(copy / stage) == before


def test_an_export_that_cannot_start_keeps_the_old_checkpoint(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(work, copy)
    command = ["export", "tiny", "--work", str(copy), "--out", str(out)]
    assert main(command) == 0
    before = contents(out)
    (copy / "dpo" / "tokenizer_config.json").unlink()
    assert main([*command, "--force"]) == 1
    assert "tokenizer_config.json is missing" in error_of(capsys)
    assert contents(out) == before
    assert verify_checkpoint(out) is not None


def test_a_stage_without_the_one_before_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage, before in (
        ("sft", "build-data"),
        ("dpo", "build-data"),
        ("evaluate", "dpo"),
        ("export", "dpo"),
    ):
        assert main([stage, "tiny", "--work", str(tmp_path)]) == 1
        assert f"metaalign-train {before}" in error_of(capsys)


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle of training: data are kept, training resumes at its checkpoint, the result is complete."""
    changes = ["--set", "sft.steps=300", "--set", "sft.save_every=10", "--set", "dpo=null"]
    command = [*COMMAND, "run", "tiny", "--work", str(tmp_path), *changes]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("sft/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert record(tmp_path, "sft")["status"] == "running"
    built = (tmp_path / "build-data" / "sft.jsonl").stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert again.returncode == 0, again.stderr
    assert "build-data: done already" in again.stderr
    assert "sft: continues from" in again.stderr
    assert (tmp_path / "build-data" / "sft.jsonl").stat().st_mtime_ns == built
    assert record(tmp_path, "sft")["status"] == "done"
    assert not list(tmp_path.glob("sft/checkpoint-*"))
    assert verify_checkpoint(tmp_path / "checkpoint") is not None


def test_an_evaluation_goes_on_with_what_is_missing(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(work, copy)
    answers = copy / "evaluate" / "answers.jsonl"
    lines = answers.read_text().splitlines(keepends=True)
    marked = json.dumps(json.loads(lines[0]) | {"answer": "kept"}) + "\n"
    answers.write_text(marked + "".join(lines[1:10]))
    tree = record(copy, "evaluate") | {"status": "running"}
    (copy / "evaluate" / "record.json").write_text(json.dumps(tree))
    assert main(["evaluate", "tiny", "--work", str(copy)]) == 0
    again = answers.read_text().splitlines(keepends=True)
    assert again[0] == marked
    assert [json.loads(x)["key"] for x in again] == [json.loads(x)["key"] for x in lines]


def test_a_full_disk_is_one_line_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build-data").mkdir()
    partial = tmp_path / "build-data" / "sft.jsonl.partial"
    partial.symlink_to("/dev/full")
    assert main(["build-data", "tiny", "--work", str(tmp_path)]) == 1
    assert "no space left" in error_of(capsys)
    partial.unlink()
    assert main(["build-data", "tiny", "--work", str(tmp_path)]) == 0


def test_a_checkpoint_whose_template_was_changed_is_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(work / "checkpoint", changed)
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    command = ["evaluate", "tiny", "--work", str(tmp_path / "w"), "--model", str(changed)]
    assert main(["build-data", "tiny", "--work", str(tmp_path / "w")]) == 0
    assert main(command) == 1
    assert "chat_template.jinja" in error_of(capsys)
    base = ["--set", "model.new=null", "--set", f"model.base={changed}", "--set", "dpo=null"]
    assert main(["sft", "tiny", "--work", str(tmp_path / "w"), *base]) == 1
    assert "chat_template.jinja" in error_of(capsys)


def test_a_tracker_that_is_not_installed_is_one_line(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "build-data", tmp_path / "build-data")
    assert main(["sft", "tiny", "--work", str(tmp_path), "--set", "sft.tracker=wandb"]) == 1
    assert "pip install wandb" in error_of(capsys)


def test_an_export_that_cannot_be_pushed_is_kept(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    copy = tmp_path / "copy"
    shutil.copytree(work, copy)
    command = ["export", "tiny", "--work", str(copy), "--out", str(tmp_path / "out"), "--force"]
    assert main([*command, "--set", "export.push_to_hub=me/mine"]) == 1
    message = error_of(capsys)
    assert "me/mine was not written" in message
    assert verify_checkpoint(tmp_path / "out") is not None


@pytest.mark.parametrize("content", ["", "{"])
def test_a_broken_record_is_one_line(
    content: str, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build-data").mkdir()
    (tmp_path / "build-data" / "record.json").write_text(content)
    assert main(["build-data", "tiny", "--work", str(tmp_path)]) == 1
    assert "record.json" in error_of(capsys)


def test_lora_from_a_base_checkpoint(work: Path, tmp_path: Path) -> None:
    """An adapter on the demo checkpoint, merged, exported, and exported alone."""
    base = ["--set", "model.new=null", "--set", f"model.base={CHECKPOINT}", "--set", "dpo.lora.rank=4"]
    base += ["--set", "sft.lora.rank=4", "--set", "sft.max_length=300", "--work", str(tmp_path)]
    assert main(["run", "tiny", *base]) == 0
    assert (tmp_path / "sft" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "dpo" / "merged" / "model.safetensors").is_file()
    manifest = verify_checkpoint(tmp_path / "checkpoint")
    assert manifest is not None
    assert manifest.base_model == str(CHECKPOINT)
    alone = ["--set", "model.template=own", "--set", "export.adapter_only=true", "--set", "dpo=null"]
    assert main(["run", "tiny", *base[:-1], str(tmp_path / "own"), *alone]) == 0
    assert (tmp_path / "own" / "checkpoint" / "adapter_config.json").is_file()
    assert not (tmp_path / "own" / "checkpoint" / "model.safetensors").exists()


def test_a_new_model_is_stored_in_half_the_space(work: Path, tmp_path: Path) -> None:
    """`dtype: bfloat16` rounds the stored weights; `config.json` still says that they are computed with in float32."""
    folder = tmp_path / "work"
    shutil.copytree(work / "build-data", folder / "build-data")
    assert main(["sft", "tiny", "--work", str(folder), "--set", "model.dtype=bfloat16"]) == 0
    weights = load_file(folder / "sft" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert json.loads((folder / "sft" / "config.json").read_text())["dtype"] == "float32"
    size, before = ((f / "sft" / "model.safetensors").stat().st_size for f in (folder, work))
    assert size < 0.55 * before
    prompt: list[Message] = [{"role": "user", "content": "Where does the otter live?"}]
    whole = TransformersGenerator(folder / "sft").generate([prompt], max_new_tokens=12)
    rounded = {name: tensor.float() for name, tensor in weights.items()}
    save_file(rounded, folder / "sft" / "model.safetensors", metadata={"format": "pt"})
    assert TransformersGenerator(folder / "sft").generate([prompt], max_new_tokens=12) == whole


def test_a_new_model_learns_to_copy_first(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the data, with a schedule of its own; a killed run does not repeat it."""
    folder = tmp_path / "work"
    shutil.copytree(work / "build-data", folder / "build-data")
    run = [
        "sft",
        "tiny",
        "--work",
        str(folder),
        "--set",
        "model.new.copying_steps=4",
        "--set",
        "sft.log_every=2",
    ]
    assert main(run) == 0
    assert "sft: copying: step 4/4" in caplog.text
    assert not (folder / "sft" / "copying").exists()
    assert record(folder, "sft")["config"]["model"]["new"]["copying_steps"] == 4
    recipe = load_recipe("tiny")
    tokenizer = load_tokenizer(recipe.model, folder / "sft")
    learned = sft._learn_to_copy(recipe, tokenizer, tmp_path / "copying", 3)
    written = (learned / "model.safetensors").stat().st_mtime_ns
    assert sft._learn_to_copy(recipe, tokenizer, tmp_path / "copying", 3) == learned
    assert (learned / "model.safetensors").stat().st_mtime_ns == written


def test_two_processes_train_together(tmp_path: Path) -> None:
    """Data parallel over two CPU processes, as a launcher starts them: one record, one model, written once."""
    assert main(["build-data", "tiny", "--work", str(tmp_path)]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "metaalign_training.cli", "sft", "tiny", "--work", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("train_loss") == 1
    tree = record(tmp_path, "sft")
    assert tree["status"] == "done"
    assert (tmp_path / "sft" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3"])
def test_accelerate_configurations_are_valid(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import DistributedType

    config = load_config_from_file(
        str(ROOT / "training" / "metaalign_training" / "accelerate" / f"{name}.yaml")
    )
    kinds = {
        "ddp": DistributedType.MULTI_GPU,
        "fsdp2": DistributedType.FSDP,
        "deepspeed-zero2": DistributedType.DEEPSPEED,
        "deepspeed-zero3": DistributedType.DEEPSPEED,
    }
    assert config.distributed_type == kinds[name]
    assert config.mixed_precision == "bf16"
    known = {action.dest for action in launch_command_parser()._actions}
    section = {**config.fsdp_config, **config.deepspeed_config}
    assert {k if k in known else k.removeprefix("deepspeed_") for k in section} <= known
    assert bool(section) is (name != "ddp")


def test_an_unknown_accelerate_configuration_lists_the_known(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sft", "tiny", "--work", str(tmp_path), "--accelerate", "fsdp7"]) == 1
    assert "fsdp2" in error_of(capsys)


def test_the_committed_checkpoint() -> None:
    """It passes verification, is small, and answers unseen samples as well as its own evaluation says."""
    manifest = verify_checkpoint(CHECKPOINT)
    assert manifest is not None
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 20 * 1024 * 1024
    rng = random.Random("committed checkpoint")
    samples = [make_sample(rng, "seen", training=False) for _ in range(64)]
    answers = TransformersGenerator(CHECKPOINT).generate([s.prompt() for s in samples], max_new_tokens=160)
    share = sum(obeys(a[0], s.check) for a, s in zip(answers, samples, strict=True)) / len(samples)
    assert share >= manifest.evaluation["seen"]["low"] - 0.1
