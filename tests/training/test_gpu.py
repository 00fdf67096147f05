"""What needs a CUDA device: bfloat16, LoRA with checkpointed gradients, and FSDP2 through accelerate's launcher."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metaalign_training.cli import main
from tests.processes import ROOT

pytestmark = pytest.mark.gpu
CHECKPOINT = ROOT / "checkpoints" / "metaalign-demo"


def weights_dtype(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        return str(tensors.get_tensor(next(iter(tensors.keys()))).dtype)


def test_bfloat16_training(tmp_path: Path) -> None:
    assert main(["run", "tiny", "--work", str(tmp_path), "--set", f"model={{base: {CHECKPOINT}}}"]) == 0
    assert weights_dtype(tmp_path / "sft") == "torch.bfloat16"
    assert json.loads((tmp_path / "sft" / "record.json").read_text())["metrics"]["train_loss"] < 5


def test_lora_with_gradient_checkpointing(tmp_path: Path) -> None:
    changes = [f"model={{base: {CHECKPOINT}}}", "sft.lora.rank=8", "dpo.lora.rank=8"]
    changes += ["sft.gradient_checkpointing=true", "dpo.gradient_checkpointing=true"]
    arguments = [a for change in changes for a in ("--set", change)]
    assert main(["run", "tiny", "--work", str(tmp_path), *arguments]) == 0
    assert (tmp_path / "dpo" / "merged" / "model.safetensors").is_file()


def test_fsdp2(tmp_path: Path) -> None:
    """One process is enough to run the sharded code path."""
    packaged = ROOT / "training" / "metaalign_training" / "accelerate" / "fsdp2.yaml"
    config = tmp_path / "fsdp2.yaml"
    config.write_text(packaged.read_text().replace("num_processes: 8", "num_processes: 1"))
    work = ["--work", str(tmp_path / "work"), "--set", f"model={{base: {CHECKPOINT}}}"]
    assert main(["build-data", "tiny", *work]) == 0
    command = [
        sys.executable,
        "-m",
        "metaalign_training.cli",
        "sft",
        "tiny",
        *work,
        "--accelerate",
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "work" / "sft" / "model.safetensors").is_file()
