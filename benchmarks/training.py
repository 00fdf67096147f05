"""`make bench-training` or `python -m benchmarks.training`: our SFT and DPO against a plain TRL script.

Both train the demo's shape from the same weights on the same rows with the same batch size, steps and optimiser, in
turn, each in its own process. The plain script gives TRL conversational rows to render, tokenise and batch;
`plain, our environment` is the same script with the allocator and thread settings that `metaalign-train` starts with.
Each row is seen once. Tokens are those of the rows, without padding. Ratios are taken within a round; the report has
their median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from metaalign_training.cli import PROCESS_ENVIRONMENT

BATCH = 32
VARIANTS = ("ours", "plain", "plain, our environment")


def _rows(count: int) -> list[dict[str, Any]]:
    """Conversations with a rejected answer, so that SFT and DPO can use the same ones."""
    import random

    from metaalign_training.world.samples import make_sample

    rng = random.Random(5)
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        sample = make_sample(rng, rng.choice(("seen", "conflict", "implicit", "consensus")), training=True)
        if sample.rejected is not None:
            rows.append({"prompt": sample.prompt(), "chosen": sample.answer, "rejected": sample.rejected})
    return rows


def _arguments(folder: Path, steps: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-4,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "max_length": None,
        "save_strategy": "no",
        "logging_steps": 1000,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 1,
    }


def _run_plain(
    stage: str, base: Path, rows: list[dict[str, Any]], steps: int, folder: Path
) -> dict[str, Any]:
    """Train as TRL's documentation shows."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # the subject of the comparison

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    started = time.perf_counter()

    def turn(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    trainer: Any
    if stage == "sft":
        data = Dataset.from_list([{"prompt": r["prompt"], "completion": turn(r["chosen"])} for r in rows])
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**_arguments(folder, steps)),
            train_dataset=data,
            processing_class=tokenizer,
        )
    else:
        data = Dataset.from_list(
            [
                {"prompt": r["prompt"], "chosen": turn(r["chosen"]), "rejected": turn(r["rejected"])}
                for r in rows
            ]
        )
        trainer = DPOTrainer(
            model=model,
            ref_model=AutoModelForCausalLM.from_pretrained(base),
            args=DPOConfig(**_arguments(folder, steps)),
            train_dataset=data,
            processing_class=tokenizer,
        )
    prepared = time.perf_counter() - started
    return _train(trainer, prepared, len(rows))


def _run_ours(stage: str, base: Path, rows: list[dict[str, Any]], steps: int, folder: Path) -> dict[str, Any]:
    from metaalign_training.messages import Message
    from metaalign_training.models import load_tokenizer
    from metaalign_training.recipe import DpoConfig, ModelConfig, SftConfig
    from metaalign_training.recipe_files import load_recipe
    from metaalign_training.rows import Conversation, Pair
    from metaalign_training.stages import dpo, sft

    common = {
        "steps": steps,
        "batch_size": BATCH,
        "learning_rate": 1e-4,
        "save_every": 100_000,
        "log_every": 1000,
    }
    recipe = load_recipe("tiny").model_copy(
        update={
            "model": ModelConfig(base=str(base)),
            "sft": SftConfig.model_validate(common),
            "dpo": DpoConfig.model_validate(common),
        }
    )
    tokenizer = load_tokenizer(recipe.model, base)
    started = time.perf_counter()

    def turn(text: str) -> list[Message]:
        return [{"role": "assistant", "content": text}]

    trainer: Any
    if stage == "sft":
        conversations: list[Conversation] = [{"messages": [*r["prompt"], *turn(r["chosen"])]} for r in rows]
        trainer = sft.make_trainer(recipe, tokenizer, conversations, folder)
    else:
        pairs: list[Pair] = [
            {"prompt": r["prompt"], "chosen": turn(r["chosen"]), "rejected": turn(r["rejected"])}
            for r in rows
        ]
        if recipe.dpo is None:
            raise RuntimeError("the recipe has no dpo section")
        trainer = dpo.make_trainer(recipe, recipe.dpo, tokenizer, base, pairs, folder)
    prepared = time.perf_counter() - started
    return _train(trainer, prepared, len(rows))


def _train(trainer: Any, prepared: float, rows: int) -> dict[str, Any]:
    import resource

    from transformers.trainer_callback import ProgressCallback

    trainer.remove_callback(ProgressCallback)
    tokens = 0
    dataset = trainer.train_dataset
    if "input_ids" in dataset.column_names:
        tokens = sum(map(len, dataset["input_ids"]))
    else:
        for row in dataset:
            tokens += 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    return {
        "rows_per_second": rows / prepared,
        "tokens_per_second": tokens / seconds,
        "total_tokens_per_second": tokens / (prepared + seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _worker(options: argparse.Namespace) -> None:
    rows = json.loads(options.rows.read_text())
    run = _run_ours if options.worker == "ours" else _run_plain
    with tempfile.TemporaryDirectory() as folder:
        # A folder of its own: tokenised rows lie beside it, and the next round is to make them again.
        print(json.dumps(run(options.stage, options.base, rows, options.steps, Path(folder) / "stage")))


def _measure(variant: str, stage: str, options: argparse.Namespace, rows: Path) -> dict[str, float]:
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1"}
    for name in PROCESS_ENVIRONMENT:
        environment.pop(name, None)
    if variant != "plain":
        environment |= PROCESS_ENVIRONMENT
    worker = "ours" if variant == "ours" else "plain"
    command = [sys.executable, "-m", "benchmarks.training", "--worker", worker, "--stage", stage]
    command += ["--rows", str(rows), "--base", str(options.base), "--steps", str(options.steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{variant}, {stage}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().split("\n")[-1])
    return result


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--base", type=Path, default=Path("checkpoints/metaalign-demo"))
    parser.add_argument("--worker", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=("sft", "dpo"), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _worker(options)
        return
    with tempfile.TemporaryDirectory(prefix="metaalign-bench-") as folder:
        rows = Path(folder) / "rows.json"
        rows.write_text(json.dumps(_rows(options.steps * BATCH)))
        for stage in ("sft", "dpo"):
            rounds: list[dict[str, dict[str, float]]] = []
            for number in range(options.rounds):
                order = VARIANTS[number % 3 :] + VARIANTS[: number % 3]
                rounds.append({v: _measure(v, stage, options, rows) for v in order})
            _print_stage(stage, options.steps, rounds)


_COLUMNS = {
    "tokens_per_second": "tokens/s",
    "total_tokens_per_second": "tokens/s, preparation included",
    "rows_per_second": "rows/s prepared",
    "peak_mib": "peak MiB",
}


def _print_stage(stage: str, steps: int, rounds: list[dict[str, dict[str, float]]]) -> None:
    print(f"\n**{stage.upper()}**, {steps} steps of {BATCH} rows, {len(rounds)} rounds\n")
    print("| | " + " | ".join(_COLUMNS.values()) + " |\n|" + "---|" * (len(_COLUMNS) + 1))
    for variant in VARIANTS:
        cells = [f"{statistics.median(r[variant][c] for r in rounds):.0f}" for c in _COLUMNS]
        print(f"| {variant} | " + " | ".join(cells) + " |")
    for variant in VARIANTS[1:]:
        cells = [f"{statistics.median(r['ours'][c] / r[variant][c] for r in rounds):.2f}x" for c in _COLUMNS]
        print(f"| ours / {variant} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
