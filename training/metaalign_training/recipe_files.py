"""Recipes as files: packaged ones by name, YAML files, `extends`, and changes from the command line.

`extends: other.yaml` starts from another recipe and overrides its fields. Relative paths are relative to the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from metaalign.preferences import describe_validation_error
from metaalign_training.errors import RecipeError
from metaalign_training.recipe import Recipe

__all__ = ["load_recipe", "packaged_recipes"]


def _packaged_folder() -> Path:
    return Path(str(resources.files("metaalign_training").joinpath("recipes")))


def packaged_recipes() -> list[str]:
    """Names of the packaged recipes."""
    folder = _packaged_folder()
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_recipe(source: Path | str = "demo", changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by packaged name or from a YAML file, and apply changes such as `sft.steps=100`.

    Raises:
        RecipeError: it cannot be read, or a field is wrong.
    """
    try:
        tree = _read(_locate(source, None))
        for change in changes:
            _apply(tree, change)
        return Recipe.model_validate(tree)
    except ValidationError as error:
        message, _ = describe_validation_error(error, str(source))
        raise RecipeError(message) from None


def _locate(source: Path | str, beside: Path | None) -> Path:
    name = str(source)
    if beside is not None and (beside / name).is_file():
        return beside / name
    short = name.removesuffix(".yaml")
    if short in packaged_recipes() and not Path(name).is_file():
        return _packaged_folder() / f"{short}.yaml"
    return Path(name)


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, object]:
    if path in seen:
        raise RecipeError(f"{path}: extends itself through {seen[-1]}; remove one `extends`")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(packaged_recipes())
        raise RecipeError(f"{path}: no such file, and no packaged recipe of that name ({known})") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable YAML file: {_one_line(error)}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of `name`, `seed`, `model`, `data`, `sft`, …")
    if path.parent != _packaged_folder():  # paths in packaged recipes are relative to the working directory
        _make_absolute(tree, path.parent)
    base = tree.pop("extends", None)
    if base is None:
        return tree
    return _merge(_read(_locate(base, path.parent), (*seen, path)), tree)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


_PATHS = frozenset(("path", "library", "priorities", "baseline"))


def _make_absolute(tree: Any, folder: Path) -> None:
    """Make paths relative to the recipe's folder absolute."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in _PATHS and isinstance(value, str):
                tree[key] = str(folder / value)
            elif key == "decontaminate" and isinstance(value, list):
                tree[key] = [str(folder / v) for v in value]
            elif key == "base" and isinstance(value, str) and value.startswith("."):
                tree[key] = str(folder / value)
            else:
                _make_absolute(value, folder)
    elif isinstance(tree, list):
        for item in tree:
            _make_absolute(item, folder)


def _merge(base: dict[str, object], over: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _apply(tree: dict[str, object], change: str) -> None:
    """Set `a.b=value` in the tree; the value is YAML."""
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise RecipeError(f"--set {change}: must look like sft.steps=100")
    *parents, last = name.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"--set {change}: {parent} has no fields")
        tree = child
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: the value is not valid YAML: {_one_line(error)}") from error
