"""Training in several processes, as `--accelerate` starts them: on CPU with gloo, by the shipped files."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from metaalign_training.cli import main
from tests.processes import ROOT

SHIPPED = ROOT / "training" / "metaalign_training" / "accelerate"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with everything that DPO reads."""
    folder = tmp_path_factory.mktemp("distributed")
    for stage in ("build-data", "sft"):
        assert main([stage, "tiny", "--work", str(folder)]) == 0
    return folder


def dpo(work: Path, config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metaalign_training.cli", "dpo", "tiny", "--work", str(work)]
    command += ["--set", "dpo.steps=1", "--accelerate", str(config)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env)


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_the_reference_is_whole_on_every_rank(name: str, prepared: Path, tmp_path: Path) -> None:
    """Policy and reference are the same model before the first step, so its loss is ln 2."""
    work = tmp_path / "work"
    shutil.copytree(prepared, work)
    settings = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text()) | {"num_processes": 2}
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump(settings | {"mixed_precision": "no"}))
    done = dpo(work, config)
    assert done.returncode == 0, done.stderr[-3000:]
    loss = json.loads((work / "dpo" / "record.json").read_text())["metrics"]["train_loss"]
    assert loss == pytest.approx(math.log(2), abs=1e-4)


def test_a_file_that_starts_one_process_for_many_is_refused(prepared: Path, tmp_path: Path) -> None:
    config = tmp_path / "cpu.yaml"
    settings = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_CPU", "use_cpu": True}
    config.write_text(yaml.safe_dump(settings | {"num_processes": 2, "num_machines": 1}))
    done = dpo(prepared, config)
    assert done.returncode == 1
    assert "MULTI_CPU" in done.stderr
    assert "num_processes to 1" in done.stderr
