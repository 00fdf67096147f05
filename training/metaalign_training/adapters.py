"""LoRA adapters of several stages as one: what a user can load on the base."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from metaalign_training.errors import StageError

__all__ = ["CONFIG", "WEIGHTS", "rank_of", "stack"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def rank_of(folder: Path) -> int:
    """The rank of the adapter in `folder`."""
    return int(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["r"])


def stack(folders: Sequence[Path], target: Path) -> None:
    """Write to `target` one adapter that adds what those in `folders` add, each trained with those before it merged.

    A merged adapter changes a weight W to W + s B A, whatever W is. So the sum of two is one adapter of both ranks
    together, whose A lies above each other and whose B lies beside each other, and whose scale s is 1.

    Raises:
        StageError: an adapter has more than LoRA's matrices, such as resized embeddings.
    """
    configs = [json.loads((folder / CONFIG).read_text(encoding="utf-8")) for folder in folders]
    ranks = [int(config["r"]) for config in configs]
    total = sum(ranks)
    stacked: dict[str, torch.Tensor] = {}
    start = 0
    for folder, config, rank in zip(folders, configs, ranks, strict=True):
        scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        for name, part in load_file(folder / WEIGHTS).items():
            if name.endswith(".lora_A.weight"):
                whole = stacked.setdefault(name, part.new_zeros(total, part.shape[1]))
                whole[start : start + rank] = part
            elif name.endswith(".lora_B.weight"):
                whole = stacked.setdefault(name, part.new_zeros(part.shape[0], total))
                whole[:, start : start + rank] = part * scale
            else:
                raise StageError(
                    f"export.adapter_only: {folder / WEIGHTS} also has {name}, which no adapter alone can hold;"
                    " export merged weights"
                )
        start += rank
    merged: dict[str, Any] = configs[0] | {"r": total, "lora_alpha": total, "use_rslora": False}
    merged["target_modules"] = sorted({name for config in configs for name in config["target_modules"]})
    target.mkdir(parents=True, exist_ok=True)
    save_file(stacked, target / WEIGHTS, metadata={"format": "pt"})
    (target / CONFIG).write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
