"""The repository's own pages and settings: what they name exists, and where their links lead."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaalign_server.settings import Settings
from tests.processes import ROOT

BIN = Path(sys.executable).parent
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
INDENTED = re.compile(r"^(?: {4}|\t).+$", re.MULTILINE)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PROGRAMS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
FORMS = [ROOT / ".github/ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]
DEVCONTAINER = ROOT / ".devcontainer/devcontainer.json"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def pages() -> list[Path]:
    """Every Markdown file that git tracks or is about to."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in sorted(listed.splitlines()) if (ROOT / name).is_file()]


PAGES = pages()


def anchors(page: Path) -> Iterator[str]:
    """What a link can name after `#`, by GitHub's rule for headings."""
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_the_repository_lead_somewhere(page: Path) -> None:
    text = SPAN.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), target
        assert file.exists(), target
        assert not anchor or anchor in set(anchors(file)), target


@cache
def commands(*program: str) -> set[str]:
    """The commands that the help of a program lists."""
    done = subprocess.run(
        [BIN / program[0], *program[1:], "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    return set(re.findall(r"^    ([a-z][a-z-]+)(?: |$)", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, *FORMS, DEVCONTAINER], ids=name_of)
def test_what_is_to_be_typed_exists(page: Path) -> None:
    """Targets of make, our programs with their commands, modules to run, and tests that are named."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        text = "\0".join([*FENCE.findall(text), *SPAN.findall(FENCE.sub("", text)), *INDENTED.findall(text)])
    assert set(re.findall(r"(?<![\w-])make\s+([a-z][a-z-]*)", text)) <= TARGETS
    for program, listed, action in re.findall(
        r"(?<!from )(metaalign(?:-\w+)?) ([a-z{][a-z,{}-]*)(?: ([a-z]+))?", text
    ):
        assert program in PROGRAMS
        for command in listed.strip("{}").split(","):
            assert command in commands(program), f"{program} {command}"
            if command in ("keys", "tenants", "profiles") and action:
                assert action in commands(program, command), f"{program} {command} {action}"
    for module in re.findall(r"-m (benchmarks\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for file, test in re.findall(r"([\w/]+\.py)::(\w+)", text):
        places = [folder / file for folder in (ROOT, ROOT / "tests", ROOT / "tests/reliability")]
        written = "".join(place.read_text(encoding="utf-8") for place in places if place.is_file())
        assert re.search(rf"^(?:async )?def {test}\(", written, re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("number", range(1, len(DECISIONS) + 1))
def test_decisions_are_numbered_and_dated(number: int) -> None:
    page = DECISIONS[number - 1]
    title, _, status, *_ = page.read_text(encoding="utf-8").splitlines()
    assert page.name.startswith(f"{number:04}-")
    assert title.startswith(f"# {number}. ")
    match = re.match(r"Status: (?:proposed|accepted|superseded),? (\d{4}-\d\d-\d\d)(?:$|[; ])", status)
    assert match, status
    date.fromisoformat(match[1])


def test_hooks_are_the_linters_of_make_lint() -> None:
    """Nothing is fetched: the programs are those of the environment."""
    linters = re.search(r"^lint:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    assert linters
    recipe = [line.strip() for line in linters[1].splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].replace(".venv/bin", "$(BIN)") in recipe
        assert (BIN / hook["entry"].split()[0].removeprefix(".venv/bin/")).is_file()


def test_the_container_forwards_the_servers_port() -> None:
    container = json.loads(DEVCONTAINER.read_text(encoding="utf-8"))
    assert container["forwardPorts"] == [Settings.model_fields["port"].default]
    assert container["postCreateCommand"] == "make install"
    assert re.fullmatch(r"[\w./-]+/python:3\.11-\w+", container["image"])


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_forms_can_be_filled_in(form: Path) -> None:
    """GitHub drops a form with an element that it does not know, or with two of one name."""
    document: dict[str, Any] = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(document)
    fields = [element for element in document["body"] if element["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    for names in ([field["id"] for field in fields], [field["attributes"]["label"] for field in fields]):
        assert len(names) == len(set(names))
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_a_bug_report_asks_for_what_is_needed() -> None:
    form = yaml.safe_load(FORMS[0].read_text(encoding="utf-8"))
    asked = {element.get("id") for element in form["body"]}
    assert {"version", "command", "request_id", "receipt"} <= asked
