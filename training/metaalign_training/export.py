"""Write a checkpoint folder that the server, plain vLLM and transformers all load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from metaalign import Manifest, packaged_template, write_manifest
from metaalign_training.config import Recipe

__all__ = ["export"]

_FILES = (
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)

_CARD = """---
license: apache-2.0
pipeline_tag: text-generation
---
# {name}

A model of {parameters} parameters, trained from nothing by `make demo-checkpoint` on text that the recipe writes.
It shows that one model follows the preferences in its prompt; it knows 30 animals, 8 contested topics and 6
requests, speaks in set phrases, and cannot hold a free conversation. Do not use it for anything else.

Prompts are made by `chat_template.jinja` with the roles `system` (System Info), `user_info` (User Info), `user` and
`assistant`.

| split | share of answers in which every check passes | 95 % interval | n |
|---|---|---|---|
{rows}
"""


def export(
    recipe: Recipe,
    trained: Path,
    target: Path,
    *,
    data_sha256: str,
    training: dict[str, Any],
    evaluation: dict[str, Any],
) -> Manifest:
    """Copy the trained files, write template, card and manifest, and return the manifest."""
    from safetensors import safe_open

    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copyfile(trained / name, target / name)
    (target / "chat_template.jinja").write_text(packaged_template().source, encoding="utf-8")
    with safe_open(target / "model.safetensors", framework="numpy") as tensors:
        shapes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118  (not a mapping)
    parameters = 0
    for shape in shapes:
        size = 1
        for extent in shape:
            size *= extent
        parameters += size
    rows = "\n".join(
        f"| {split} | {r['share']:.3f} | {r['low']:.3f}-{r['high']:.3f} | {r['n']} |"
        for split, r in evaluation.items()
    )
    card = _CARD.format(name=recipe.name, parameters=f"{parameters:,}", rows=rows)
    (target / "README.md").write_text(card, encoding="utf-8")
    return write_manifest(
        target,
        base_model="none (random initialisation)",
        datasets={"synthetic-world": data_sha256},
        recipe={**recipe.model_dump(), "training": training},
        evaluation=evaluation,
    )
