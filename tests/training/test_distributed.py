"""Training in several processes, as `--accelerate` starts them: on CPU with gloo, by the shipped files."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from metaalign_training.cli import main
from tests.processes import ROOT
from tests.training.endpoints import fake_teacher

SHIPPED = ROOT / "training" / "metaalign_training" / "accelerate"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with everything that DPO reads."""
    folder = tmp_path_factory.mktemp("distributed")
    for stage in ("build-data", "sft"):
        assert main([stage, "tiny", "--work", str(folder)]) == 0
    return folder


def command(stage: str, work: Path, config: Path | str, *changes: str) -> subprocess.CompletedProcess[str]:
    words = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "metaalign_training.cli", stage, "tiny", "--work", str(work)]
    command += [*words, "--accelerate", str(config)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env)


def on_two_cpus(name: str, folder: Path) -> Path:
    """A shipped file, changed for two CPU processes."""
    settings = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text()) | {"num_processes": 2}
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings | {"mixed_precision": "no"}))
    return config


def metrics(work: Path, stage: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((work / stage / "record.json").read_text())
    assert tree["status"] == "done"
    return dict(tree["metrics"])


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_the_reference_is_whole_on_every_rank(name: str, prepared: Path, tmp_path: Path) -> None:
    """Policy and reference are the same model before the first step, so its loss is ln 2."""
    work = tmp_path / "work"
    shutil.copytree(prepared, work)
    done = command("dpo", work, on_two_cpus(name, tmp_path), "dpo.steps=1")
    assert done.returncode == 0, done.stderr[-30_000:]
    assert metrics(work, "dpo")["train_loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_a_file_that_starts_one_process_for_many_is_refused(prepared: Path, tmp_path: Path) -> None:
    config = tmp_path / "cpu.yaml"
    settings = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_CPU", "use_cpu": True}
    config.write_text(yaml.safe_dump(settings | {"num_processes": 2, "num_machines": 1}))
    done = command("dpo", prepared, config, "dpo.steps=1")
    assert done.returncode == 1
    assert "MULTI_CPU" in done.stderr
    assert "num_processes to 1" in done.stderr


LATER = [
    "model.new=null",
    f"model.base={ROOT / 'checkpoints' / 'metaalign-demo'}",
    "sft.learning_rate=0.00001",
    "sft.steps=1",
    "dpo=null",
    "rejection={steps: 2, batch_size: 4, learning_rate: 0.001, log_every: 1,"
    " samples: {prompts: 16, candidates: 2, engine: transformers, max_new_tokens: 24}}",
]


@pytest.mark.slow
def test_rejection_and_grpo_on_two_ranks(tmp_path: Path) -> None:
    """DDP and FSDP2 make the same weights by GRPO; the judge rates each rank's own answers, once each."""

    def rate(body: dict[str, Any]) -> str:
        return json.dumps({"rating": 1 + len(body["messages"][-1]["content"]) % 5})

    def weights(stage: Path) -> dict[str, torch.Tensor]:
        return load_file(stage / "model.safetensors")

    with fake_teacher(rate, models=("j",)) as judge:
        changes = [
            *LATER,
            "grpo={steps: 2, batch_size: 4, candidates: 4, learning_rate: 0.001, temperature: 2, prompts: 8,"
            " max_new_tokens: 24, log_every: 1, rewards: {verifier: 1.0, judge: 0.5},"
            f" judge: {{base_url: '{judge.url}', model: j}}}}",
        ]
        words = [word for change in changes for word in ("--set", change)]
        work = {name: tmp_path / name for name in ("ddp", "fsdp2")}
        for stage in ("build-data", "sft"):
            assert main([stage, "tiny", "--work", str(work["ddp"]), *words]) == 0
        done = command("rejection", work["ddp"], on_two_cpus("ddp", tmp_path), *changes)
        assert done.returncode == 0, done.stderr[-30_000:]
        assert 0 < metrics(work["ddp"], "rejection")["rows"] <= 16
        shutil.copytree(work["ddp"], work["fsdp2"])
        for name, folder in work.items():
            done = command("grpo", folder, on_two_cpus(name, tmp_path), *changes)
            assert done.returncode == 0, done.stderr[-30_000:]
            rated = (folder / "grpo" / "judge.jsonl").read_text().splitlines()
            assert len({json.loads(line)["key"] for line in rated}) == len(rated) == len(judge.bodies)
            assert 2 < len(rated) <= 2 * 2 * 4  # two steps, two ranks, four answers each
            assert 0 < metrics(folder, "grpo")["first_reward"] <= 1.5
            judge.bodies.clear()
    one, other = (weights(folder / "grpo") for folder in work.values())
    assert all(torch.allclose(one[key], other[key], atol=1e-5) for key in one)
    sft, rejection = (weights(work["ddp"] / stage) for stage in ("sft", "rejection"))
    for before, after in ((sft, rejection), (rejection, one)):
        assert any(not torch.allclose(before[key], after[key], atol=1e-5) for key in before)


def test_rollouts_by_vllm_for_several_processes_are_refused_before_they_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = "grpo={steps: 1, batch_size: 4, candidates: 4, learning_rate: 0.1, prompts: 4, engine: vllm}"
    assert main(["grpo", "tiny", "--work", str(tmp_path), "--accelerate", "ddp", "--set", change]) == 1
    assert "grpo.engine: vllm samples for one process only" in capsys.readouterr().err
