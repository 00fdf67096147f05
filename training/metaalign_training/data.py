"""Build the demo's data set: seeded samples of the synthetic world, as JSONL with a hash."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from pathlib import Path
from typing import Any

from metaalign_training.config import Recipe
from metaalign_training.world import make_sample

__all__ = ["DATA_NAME", "build_data", "read_conversations"]

logger = logging.getLogger(__name__)

DATA_NAME = "sft.jsonl"


def build_data(recipe: Recipe, folder: Path) -> str:
    """Write `sft.jsonl` into `folder`, one conversation a line, and return its SHA-256."""
    rng = random.Random(recipe.seed)
    splits, shares = list(recipe.data.shares), list(recipe.data.shares.values())
    digest = hashlib.sha256()
    partial = folder / (DATA_NAME + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for _ in range(recipe.data.samples):
            sample = make_sample(rng, rng.choices(splits, shares)[0], training=True)
            line = (
                json.dumps({"split": sample.split, "messages": sample.conversation()}, ensure_ascii=False)
                + "\n"
            )
            digest.update(line.encode())
            file.write(line)
    partial.replace(folder / DATA_NAME)
    logger.info("data: %d samples in %s", recipe.data.samples, folder / DATA_NAME)
    return digest.hexdigest()


def read_conversations(path: Path) -> list[list[dict[str, Any]]]:
    """Conversations of a JSONL file, in order.

    Raises:
        ValueError: names the file, the line and what is missing.
    """
    conversations = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                conversations.append(json.loads(line)["messages"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: not a JSON object with `messages`") from error
    return conversations
