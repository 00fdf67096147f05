"""docs/recipes.md is whole and says which versions were tested; `make clients-test` runs it."""

from __future__ import annotations

import json
import re

import pytest

from tests.clients.recipes import (
    CONDITIONS,
    PAGE,
    PARTS,
    Recipe,
    agrees,
    expected,
    hurried,
    raised,
    recipes,
    steered,
    timeouts,
)
from tests.processes import ROOT


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.client)
def test_every_recipe_asks_streams_calls_a_tool_and_asks_for_a_profile(recipe: Recipe) -> None:
    parts = recipe.parts()
    assert tuple(parts) == PARTS
    for name, text in parts.items():
        shown = expected(text)
        assert shown, name
        if name != "Tool":
            assert agrees(shown[0], "Ahoy! The fox eats mice. The fox weighs about 6 kilograms. Arr, matey!")
    if recipe.language == "python":
        compile(recipe.program, recipe.client, "exec")


def test_the_table_of_exceptions_has_every_client_once() -> None:
    assert list(raised()) == [recipe.client for recipe in recipes()]
    assert all(set(row) == set(CONDITIONS) for row in raised().values())


def test_the_table_of_timeouts_fits_every_recipe() -> None:
    assert list(timeouts()) == [recipe.client for recipe in recipes()]
    assert [client for client, (setting, _) in timeouts().items() if setting == "-"] == ["llm"]
    for recipe in recipes():
        if recipe.client == "llm":
            continue
        text = recipe.files.get("yaml", recipe.program)
        changed = hurried(text, recipe.client, 7)
        assert re.search(r"timeout\"?[=:] ?7(?:_000)?\b", changed), recipe.client
        if recipe.language == "python" and not recipe.files:
            compile(changed, recipe.client, "exec")


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.client)
def test_every_recipe_can_be_steered(recipe: Recipe) -> None:
    """By its own preferences, or by a profile where its client sends none."""
    program = steered(recipe.until("Tool"))
    if recipe.client == "llm":
        assert steered(recipe.files["yaml"]).count("@faint") == 1
        return
    assert (
        len(re.findall(r'system"?: "Answer like a pirate\.", "strength": \{"system": 0\.2\}', program)) == 1
    )
    assert program.count(".spec_hash, ") == 1
    if recipe.language == "python":
        compile(program, recipe.client, "exec")


def test_the_page_names_the_versions_that_are_installed() -> None:
    pins = re.findall(
        r"^([\w-]+)(?:\[\w+\])?==(\d+\.\d+)",
        "".join((ROOT / f"requirements/{name}.txt").read_text() for name in ("clients", "clients-older")),
        re.MULTILINE,
    )
    wanted = json.loads((ROOT / "tests/clients/node/package.json").read_text())["dependencies"]
    shown = ("openai", "@anthropic-ai/sdk", "@langchain/openai", "ai", "@ai-sdk/openai-compatible")
    pins += [(name, ".".join(wanted[name].split(".")[:2])) for name in shown]
    assert len(pins) == 18
    for name, version in pins:
        assert re.search(rf"(?<![\d.]){re.escape(version)}(?![\d])", PAGE), (name, version)


@pytest.mark.parametrize(
    ("shown", "line", "same"),
    [
        ("Ahoy! … matey!", "Ahoy! Mice. Arr, matey!", True),
        ("Ahoy! … matey!", "Ahoy! Mice.", False),
        ("True", "True", True),
        ("a.c", "abc", False),
    ],
)
def test_an_ellipsis_stands_for_any_text(shown: str, line: str, same: bool) -> None:
    assert agrees(shown, line) is same
