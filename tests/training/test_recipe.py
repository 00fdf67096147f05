"""Recipes: the packaged ones load, changes apply, and every mistake is one line that names the field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from metaalign_training.cli import main
from metaalign_training.errors import RecipeError
from metaalign_training.recipe_files import load_recipe, packaged_recipes

MINIMAL = {
    "name": "mine",
    "seed": 3,
    "model": {"base": "some/model"},
    "data": {"world": {"samples": 10, "shares": {"seen": 1}, "evaluation_per_split": 1}},
    "sft": {"steps": 2, "batch_size": 2, "learning_rate": 0.001},
}


def write(path: Path, tree: object) -> Path:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipes_load(name: str) -> None:
    assert load_recipe(name).name


def test_the_baselines_differ_from_the_demo_in_what_they_see_alone() -> None:
    demo = load_recipe("demo-small").model_dump()
    for name, view in (("demo-static", "none"), ("demo-system-only", "system")):
        baseline = load_recipe(name).model_dump()
        assert baseline.pop("meta_prompt") == view
        assert baseline | {"name": 0} == {k: v for k, v in demo.items() if k != "meta_prompt"} | {"name": 0}


def test_extends_and_changes(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", MINIMAL)
    child = write(tmp_path / "child.yaml", {"extends": "base.yaml", "sft": {"steps": 7}})
    recipe = load_recipe(child, ["seed=9", "sft.learning_rate=0.5"])
    assert (recipe.sft.steps, recipe.sft.batch_size, recipe.seed) == (7, 2, 9)
    assert recipe.sft.learning_rate == 0.5


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    tree = MINIMAL | {"data": {"instructions": {"sources": [{"path": "a.jsonl"}], "teacher": {}}}}
    (tmp_path / "sub").mkdir()
    recipe = load_recipe(write(tmp_path / "sub" / "r.yaml", tree))
    assert recipe.data.instructions is not None
    assert recipe.data.instructions.sources[0].path == str(tmp_path / "sub" / "a.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 3}, "sed"),
        ({"seed": "x"}, "seed"),
        ({"model": {}}, "base"),
        ({"model": {"base": "a", "new": {}}}, "new"),
        ({"sft": {"steps": 1, "epochs": 1, "batch_size": 1, "learning_rate": 1}}, "steps"),
        (
            {"sft": {"steps": 1, "batch_size": 1, "learning_rate": 1, "packing": "packed"}},
            "flash_attention_2",
        ),
        (
            {
                "rejection": {
                    "steps": 1,
                    "batch_size": 1,
                    "learning_rate": 1,
                    "packing": "packed",
                    "samples": {"prompts": 1},
                }
            },
            "rejection.packing",
        ),
        ({"export": {"adapter_only": True}}, "sft.lora"),
        (
            {
                "model": {"base": "a"},
                "sft": {"steps": 1, "batch_size": 1, "learning_rate": 1, "lora": {}},
                "dpo": {"steps": 1, "batch_size": 1, "learning_rate": 1},
                "export": {"adapter_only": True},
            },
            "dpo.lora",
        ),
        ({"evaluate": {"engine": "endpoint"}}, "base_url"),
        ({"data": {}}, "instructions"),
        ({"data": {"world": {"samples": 1, "shares": {"sen": 1}, "evaluation_per_split": 1}}}, "sen"),
    ],
)
def test_a_mistake_names_file_and_field(
    change: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "bad.yaml", MINIMAL | change)
    assert main(["sft", str(path), "--work", str(tmp_path / "work")]) == 1
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert line.startswith("metaalign-train: ")
    assert "bad.yaml" in line
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "not a readable YAML"), ("- a", "mapping"), ("extends: bad.yaml", "extends itself")],
)
def test_a_file_that_is_no_recipe(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_recipe_that_does_not_exist_lists_the_packaged_ones() -> None:
    with pytest.raises(RecipeError, match="demo-static"):
        load_recipe("nothing-of-that-name")


@pytest.mark.parametrize("change", ["steps", "=3", "seed.x=1", "seed=["])
def test_a_change_that_cannot_be_made(change: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe("demo", [change])
