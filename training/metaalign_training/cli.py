"""`metaalign-train demo [--out DIR] [--recipe FILE] [--steps N] [--seed N]`: data, SFT, evaluation, export.

Each stage leaves its result in the work folder and is not run again unless the recipe changed; a killed training run
continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaalign import MetaAlignError
from metaalign_training.config import Recipe, RecipeError, load_recipe

__all__ = ["main", "run_demo"]

logger = logging.getLogger(__name__)

# Measured on two cores: without these glibc gives memory back after every step, and idle threads spin.
_PROCESS_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="metaalign-train", description="Make Meta-aligned checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train the demo checkpoint from nothing")
    demo.add_argument(
        "--out", type=Path, default=Path("checkpoints/metaalign-demo"), help="folder to export to"
    )
    demo.add_argument("--work", type=Path, default=Path("build/demo"), help="folder for intermediate results")
    demo.add_argument("--recipe", type=Path, help="YAML recipe; default: the packaged one")
    demo.add_argument("--steps", type=int, help="training steps, instead of the recipe's")
    demo.add_argument("--seed", type=int, help="seed, instead of the recipe's")
    return parser


def _restart_with_environment() -> None:
    """Start this process anew with variables that are read only when a process begins."""
    missing = {name: value for name, value in _PROCESS_ENVIRONMENT.items() if name not in os.environ}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, "-m", "metaalign_training.cli", *sys.argv[1:]])


def run_demo(recipe: Recipe, work: Path, out: Path) -> dict[str, Any]:
    """Run all stages; returns the evaluation."""
    from metaalign_training.data import DATA_NAME, build_data, read_conversations
    from metaalign_training.evaluate import evaluate
    from metaalign_training.export import export
    from metaalign_training.sft import train
    from metaalign_training.tokenizer import train_tokenizer

    fingerprint = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:12]
    folder = work / fingerprint
    trained = folder / "sft"
    trained.mkdir(parents=True, exist_ok=True)
    record_path = folder / "record.json"
    record: dict[str, Any] = json.loads(record_path.read_text()) if record_path.is_file() else {}

    def keep(stage: str, result: Any) -> None:
        record[stage] = result
        record_path.write_text(json.dumps(record, indent=2) + "\n")

    if "data" not in record:
        keep("data", build_data(recipe, folder))
    if "sft" not in record:
        conversations = read_conversations(folder / DATA_NAME)
        tokenizer = train_tokenizer(
            (message["content"] for messages in conversations for message in messages),
            recipe.data.vocabulary_size,
        )
        keep("sft", train(recipe, tokenizer, conversations, trained))
    if "evaluation" not in record:
        keep("evaluation", evaluate(recipe, trained))
    manifest = export(
        recipe,
        trained,
        out,
        data_sha256=record["data"],
        training=record["sft"],
        evaluation=record["evaluation"],
    )
    logger.info("export: %s, template %s", out, manifest.template.sha256[:12])
    evaluation: dict[str, Any] = record["evaluation"]
    return evaluation


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 failed with one line on standard error."""
    if argv is None:
        _restart_with_environment()
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        recipe = load_recipe(options.recipe)
        if options.seed is not None:
            recipe = recipe.model_copy(update={"seed": options.seed})
        if options.steps is not None:
            recipe = recipe.model_copy(update={"sft": recipe.sft.model_copy(update={"steps": options.steps})})
        run_demo(recipe, options.work, options.out)
    except (RecipeError, MetaAlignError, OSError, ValueError) as error:
        sys.stderr.write(f"metaalign-train: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
