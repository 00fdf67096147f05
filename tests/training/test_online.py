"""Stages that learn from the model's own answers, and the losses of preference optimisation, on the demo checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from metaalign.prompt import PromptAssembler
from metaalign_training.cli import main
from metaalign_training.encoding import encode_pair
from metaalign_training.recipe_files import load_recipe
from metaalign_training.stages.dpo import train
from tests.processes import ROOT

DEMO = ROOT / "checkpoints" / "metaalign-demo"
SAMPLES = "{prompts: 32, candidates: 2, engine: transformers, max_new_tokens: 48}"
CHANGES = [
    "model.new=null",
    f"model.base={DEMO}",
    "sft.learning_rate=0.00001",
    f"rejection={{steps: 2, batch_size: 4, learning_rate: 0.001, samples: {SAMPLES}}}",
    "dpo.rounds=2",
    f"dpo.pairs={SAMPLES}",
    "grpo={steps: 2, batch_size: 8, candidates: 4, learning_rate: 0.0001, prompts: 8, max_new_tokens: 24,"
    " engine: transformers}",
]
PROMPT = [
    {"role": "system", "content": "Answer in French."},
    {"role": "user", "content": "What do otters eat?"},
]
PAIR: Any = {
    "prompt": PROMPT,
    "chosen": [{"role": "assistant", "content": "Bonjour! The otter eats fish."}],
    "rejected": [{"role": "assistant", "content": "The otter eats fish, and it likes it."}],
}


def record(work: Path, stage: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((work / stage / "record.json").read_text())
    return tree


@pytest.mark.filterwarnings("ignore:TRL currently supports vLLM")  # it does not start vLLM here
def test_each_stage_starts_from_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for change in CHANGES for word in ("--set", change)]
    assert (
        main(["build-data", "tiny", *words, "--work", str(tmp_path), "--set", "data.world.pair_prompts=64"])
        == 0
    )
    words += ["--set", "data.world.pair_prompts=64", "--work", str(tmp_path)]
    assert main(["run", "tiny", *words]) == 0
    stages = ("samples", "rejection", "pairs", "dpo", "pairs-2", "dpo-2", "grpo")
    assert all(record(tmp_path, stage)["status"] == "done" for stage in stages)
    assert 0 < record(tmp_path, "samples")["metrics"]["rows"] <= 32
    assert 0 <= record(tmp_path, "grpo")["metrics"]["last_reward"] <= 1
    # Each round has its own samples, of the model of the round before.
    assert (tmp_path / "pairs" / "pairs.jsonl").read_bytes() != (
        tmp_path / "pairs-2" / "pairs.jsonl"
    ).read_bytes()
    exported = (tmp_path / "checkpoint" / "model.safetensors").read_bytes()
    assert exported == (tmp_path / "grpo" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["grpo", "tiny", *words]) == 0  # finished stages are not run again
    assert "step" not in capsys.readouterr().err


def log_probabilities() -> tuple[float, float, int, int, float]:
    """Of the two answers, summed over their tokens; the numbers of tokens; the mean over question and better answer."""
    assembler = PromptAssembler.from_tokenizer(AutoTokenizer.from_pretrained(DEMO))
    model: Any = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    rows = encode_pair(assembler, PAIR["prompt"], PAIR["chosen"], PAIR["rejected"])
    sums, means = [], []
    for answer in (rows["chosen_ids"], rows["rejected_ids"]):
        ids = torch.tensor([rows["prompt_ids"] + answer])
        with torch.no_grad():
            logs = model(ids).logits[0, :-1].log_softmax(-1)
        start = len(rows["prompt_ids"]) - 1
        means.append(float(logs.gather(1, ids[0, 1:, None]).mean()))
        sums.append(float(logs[range(start, start + len(answer)), answer].sum()))
    return sums[0], sums[1], len(rows["chosen_ids"]), len(rows["rejected_ids"]), means[0]


def first_loss(loss: str, beta: float, margin: float) -> float:
    """By the formula of each paper; policy and reference are the same model."""
    chosen, rejected, long, short, whole = log_probabilities()

    def minus_log_sigmoid(x: float) -> float:
        return math.log1p(math.exp(-x))

    def log_odds(mean: float) -> float:
        return mean - math.log1p(-math.exp(mean))

    if loss == "simpo":
        return minus_log_sigmoid(beta * (chosen / long - rejected / short) - margin)
    if loss == "orpo":
        ratio = log_odds(chosen / long) - log_odds(rejected / short)
        # TRL's likelihood term, like that of the authors' code, counts the question too.
        return -whole + beta * minus_log_sigmoid(ratio)
    return {
        "dpo": math.log(2),
        "robust": math.log(2),
        "ipo": (1 / (2 * beta)) ** 2,
        "hinge": 1.0,
        "kto": 0.5,
    }[loss]


@pytest.mark.parametrize("loss", ["dpo", "ipo", "hinge", "robust", "simpo", "orpo", "kto"])
def test_the_first_loss_is_that_of_the_formula(loss: str, tmp_path: Path) -> None:
    beta = 2.0 if loss == "simpo" else 0.1
    changes = [
        *CHANGES[:2],
        f"dpo.loss={loss}",
        f"dpo.beta={beta}",
        "dpo.steps=1",
        "dpo.batch_size=2",
        "grpo=null",
    ]
    changes += ["dpo.label_smoothing=0.1"] if loss == "robust" else []
    recipe = load_recipe("tiny", changes)
    metrics = train(recipe, DEMO, [PAIR, PAIR], tmp_path)
    assert metrics["train_loss"] == pytest.approx(first_loss(loss, beta, 0.5), rel=2e-3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("dpo.label_smoothing=0.1", "robust"),
        ("dpo.loss=robust", "label_smoothing"),
        ("dpo.loss=sppo", "dpo.loss"),
        ("grpo={steps: 1, batch_size: 6, candidates: 4, learning_rate: 1, prompts: 1}", "candidates"),
        (
            "grpo={steps: 1, batch_size: 4, candidates: 4, learning_rate: 1, prompts: 1, rewards: {judge: 1}}",
            "judge",
        ),
        ("rejection={steps: 1, batch_size: 1, learning_rate: 1, samples: {prompts: 0}}", "samples.prompts"),
    ],
)
def test_a_mistake_names_the_field(
    change: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build-data", "tiny", "--work", str(tmp_path), "--set", change]) == 1
    assert field in capsys.readouterr().err
