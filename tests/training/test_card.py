"""Model cards: what a reader is told about worlds, instructions, hierarchies, baselines and adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from metaalign.prompt import verify_checkpoint
from metaalign_training.card import model_card
from metaalign_training.cli import main
from metaalign_training.recipe_files import load_recipe

SCORES = {"opinion": {"share": 0.5, "low": 0.4, "high": 0.6, "n": 100}}
INSTRUCTIONS = [
    "data.world=null",
    "data.instructions={sources: [{path: /private/home/questions.jsonl}], teacher: {base_url: 'http://10.0.0.7/v1', "
    "model: big-teacher}, annotator: {model: /models/judge}}",
]
COUNTS = {
    "sources": {"/private/home/questions.jsonl": {"rows": 70, "left_out": {"near-duplicate": 9, "too long": 1}}},
    "sft": 40,
    "pairs": 30,
    "eval": 5,
    "parts": {"helpful": 30},
    "annotation": {"usage": {"teacher": {"requests": 60}, "annotator": {"requests": 60}}},
}  # fmt: skip
TRAINING = {"sft": {"train_runtime": 90.0, "train_loss": 1.25, "validation_loss": 1.5, "rows": 40}}


def card(name: str, changes: list[str], data: Any = None, rank: int | None = None) -> str:
    return model_card(
        load_recipe(name, changes),
        parameters=1234,
        rank=rank,
        data=data or {},
        training=TRAINING,
        evaluation=SCORES,
    )


def metadata(text: str) -> Any:
    """What the Hugging Face hub reads."""
    return ModelCard(text).data


def test_the_demo_has_its_licence_and_its_world() -> None:
    text = card("demo", [])
    assert metadata(text).get("license") == "apache-2.0"
    assert "30 animals" in text
    assert "cannot hold a free conversation" in text
    assert (
        "| sft | SFT on the answer, all weights | 7000 steps | 32 | 0.002 | 40 | 1.2500 | 1.5000 | 1.5 |"
        in text
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (INSTRUCTIONS, "`big-teacher` under two opposite preferences. `judge` ranked"),
        (["data.world=null", "data.hierarchy={rows: 20}"], "authorities contradict each other"),
    ],
)
def test_a_new_model_is_not_the_demo(changes: list[str], told: str) -> None:
    text = card("tiny", changes, COUNTS)
    assert told in text
    assert "animals" not in text
    assert "random weights" in text
    assert "40 conversations, 30 preference pairs, 5 held-out questions" in text
    assert metadata(text).get("license") is None
    assert "No licence is given" in text


def test_sources_are_named_without_where_they_lie() -> None:
    text = card("tiny", INSTRUCTIONS, COUNTS)
    assert "| questions.jsonl | 70 | 10 |" in text
    pattern = {"/private/home/persona/*.jsonl": {"rows": 3}, "my-org/contested": {"rows": 4}}
    several = card("tiny", INSTRUCTIONS, {"sources": pattern})
    assert "| persona/*.jsonl | 3 | 0 |" in several
    assert "| my-org/contested | 4 | 0 |" in several
    assert "big-teacher" not in several  # ready pairs: nobody was asked
    for private in ("/private", "10.0.0.7", "/models"):
        assert private not in text


def test_a_baseline_says_what_it_does_not_see() -> None:
    assert "saw no preferences" in card("demo-static", [])
    assert "saw System Info (the role `system`) and no User Info" in card("demo-system-only", [])
    assert "follow the preferences" not in card("demo-static", [])


def test_an_adapter_names_its_base() -> None:
    text = card("qwen3-8b-lora", ["export={adapter_only: true, license: mit, push_to_hub: me/mine}"], rank=32)
    data = metadata(text)
    assert (data["license"], data["base_model"], data["library_name"]) == ("mit", "Qwen/Qwen3-8B", "peft")
    assert (
        "serve --model Qwen/Qwen3-8B --enable-lora --max-lora-rank 32 --lora-modules qwen3-8b-metaalign=me/mine"
        in text
    )
    assert "SFT on the answer, LoRA of rank 32" in text
    assert "animals" not in text


def test_a_base_that_keeps_its_template_has_no_third_tier() -> None:
    text = card("gemma-3-1b-lora", [])
    assert "one system message" in text
    assert "`user_info`" not in text


def test_a_hierarchy_from_data_to_card(tmp_path: Path) -> None:
    """Its numbers are those of the records."""
    changes = ["data.world=null", "data.hierarchy={rows: 40, evaluation_per_kind: 1}", "dpo=null"]
    words = [word for change in changes for word in ("--set", change)]
    assert main(["run", "tiny", *words, "--work", str(tmp_path)]) == 0
    text = (tmp_path / "checkpoint" / "README.md").read_text()
    metrics = {
        stage: json.loads((tmp_path / stage / "record.json").read_text())["metrics"]
        for stage in ("build-data", "sft", "evaluate")
    }
    assert f"{metrics['build-data']['sft']} conversations" in text
    assert all(f"{kind} {count}" in text for kind, count in metrics["build-data"]["kinds"].items())
    assert f"| {metrics['sft']['rows']} | {metrics['sft']['train_loss']:.4f} |" in text
    for split, row in metrics["evaluate"].items():
        assert (
            f"| {split} | {row['share']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['n']} |" in text
        )
    manifest = verify_checkpoint(tmp_path / "checkpoint")
    assert manifest is not None
    assert manifest.name == "metaalign-tiny"
