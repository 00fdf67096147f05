"""What the pages show is what happens: their blocks of code are run in order, or said here not to be, and why."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from metaalign import parse_preferences
from metaalign.cli.main import _parser as client_parser
from metaalign_server.cli import _parser as server_parser
from metaalign_training.cli import _parser as training_parser
from metaalign_training.recipe import Recipe
from tests.examples.snippets import RUN, Block, agrees, blocks, open_session, shown_json
from tests.processes import ROOT, free_port, running
from tests.security.world import World

OPEN, KEYED, WITHOUT_KEY = "open", "keyed", "without key"
PAGES = {
    "README.md": KEYED,
    "docs/clients.md": KEYED,
    "docs/concepts.md": KEYED,
    "docs/platform.md": WITHOUT_KEY,
    "docs/quickstart.md": OPEN,
    "docs/steering.md": KEYED,
    "docs/verifiers.md": KEYED,
}
"""Pages whose blocks of bash and Python are run, and the server that they find: one without any key, as `make serve`
starts it, or one with keys, of which the page has the operator's or makes its own."""

STARTS = "the server is up already; `tests/e2e` starts it as users do"
CONTAINERS = (
    "needs a container engine; `make docker-check`, `make stack-test` and `make image-test` stand for it"
)
SERVERS = "takes more machines or GPUs than a test has"
TRAINS = "takes a recipe of the reader's own; tests/training runs these commands, and here their arguments are read"
NOT_RUN: dict[str, dict[str, str]] = {
    "README.md": {
        "make serve      # from a fresh clone": STARTS,
        "make serve MODEL=": SERVERS,
        "metaalign-train run tiny ": TRAINS,
    },
    "checkpoints/metaalign-demo/README.md": {"# `metaalign-demo` is this folder": STARTS},
    "clients/typescript/README.md": {"npm install metaalign": "the package is not published"},
    "docker/README.md": {"": CONTAINERS},
    "docker/kubernetes/README.md": {"": "needs a cluster; `make kubernetes-test` checks the manifests"},
    "docs/capacity.md": {"python -m benchmarks.capacity": "measures for minutes"},
    "docs/platform.md": {"psql DATABASE": "for a PostgreSQL of the reader's own"},
    "docs/playground.md": {"make serve": STARTS},
    "docs/quickstart.md": {"make serve": STARTS, ". .venv/bin/activate": STARTS},
    "docs/scaling.md": {"": SERVERS},
    "docs/training.md": {"": TRAINS},
    "examples/README.md": {"METAALIGN_FEEDBACK=true make serve": STARTS, "export METAALIGN_API_KEY": STARTS},
}
"""Beginnings of the blocks of a page that are not run here, with the reason. "" is all of the page."""

ELSEWHERE = {
    ("clients/typescript/README.md", "ts"): "clients/typescript/test/readme.test.ts",
    ("docs/quickstart.md", "ts"): "clients/typescript/test/readme.test.ts",
    ("docs/recipes.md", ""): "tests/clients",
    ("docs/clients.md", "yaml"): "test_the_suite_of_the_clients_guide_passes",
    ("docs/scaling.md", "yaml"): "a file of accelerate's, which needs two machines",
    ("docs/training.md", "yaml"): "test_recipes_in_pages_are_recipes",
    ("docs/evaluation.md", "yaml"): "test_recipes_in_pages_are_recipes",
    ("docs/errors.md", "json"): "test_the_error_that_is_shown",
    ("docs/reference/preferences.md", "json"): "test_preferences_in_pages_are_valid",
    ("README.md", "jsonc"): "a grammar of the field; docs/reference/preferences.md has a valid one",
    ("docs/steering.md", "json"): "test_preferences_in_pages_are_valid",
    ("docs/verifiers.md", "jsonc"): "test_preferences_in_pages_are_valid",
}
"""Blocks that something else looks at, by page and language; "" is every language."""

NO_CODE = ("", "text", "mermaid")
"""Texts, what a program prints, and drawings."""

DEMO = (ROOT / "docs/demo_checkpoint.md").read_text(encoding="utf-8")
REQUESTS = re.findall(r"^\*\*([^\n]+)\*\* · `([^\n]+)`\n\n```\n(.*?)^```", DEMO, re.MULTILINE | re.DOTALL)

PARSERS: dict[str, Callable[[], ArgumentParser]] = {
    "metaalign": client_parser,
    "metaalign-server": server_parser,
    "metaalign-train": training_parser,
}


def every_page() -> list[str]:
    """Every Markdown page that git tracks or is about to."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.splitlines() if (ROOT / name).is_file())


ALL = [block for page in every_page() for block in blocks(page)]


def reason(block: Block) -> str | None:
    """Why a block is not run."""
    reasons = NOT_RUN.get(block.page, {})
    return next((why for start, why in reasons.items() if block.text.startswith(start)), None)


def named(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("block", [block for block in ALL if block.language not in NO_CODE], ids=named)
def test_every_block_is_accounted_for(block: Block) -> None:
    is_run = block.language in RUN and block.page in PAGES and reason(block) is None
    is_named = block.language in RUN and reason(block) is not None
    elsewhere = bool({(block.page, ""), (block.page, block.language)} & ELSEWHERE.keys())
    ways = [is_run, is_named, elsewhere or block.is_output]
    assert sum(ways) == 1, f"{named(block)} neither runs nor is named in NOT_RUN or ELSEWHERE, or does both"


def test_nothing_is_named_in_vain() -> None:
    for page, reasons in NOT_RUN.items():
        texts = [block.text for block in blocks(page) if block.language in RUN]
        for start in reasons:
            assert any(text.startswith(start) for text in texts), (page, start)
    for page, language in ELSEWHERE:
        assert not language or any(block.language == language for block in blocks(page)), (page, language)


@pytest.fixture
def store(world: World) -> str:
    return f"sqlite:///{world.store}"


@pytest.mark.parametrize("page", [page for page, server in PAGES.items() if server != OPEN])
def test_a_page_does_what_it_shows(world: World, store: str, page: str, tmp_path: Path) -> None:
    key = world.keys["operator"] if PAGES[page] == KEYED else None
    with open_session(tmp_path, world.server.url, store, key) as session:
        for block in blocks(page):
            if block.language in RUN and reason(block) is None:
                session.check(block)


@pytest.mark.parametrize("page", [page for page, server in PAGES.items() if server == OPEN])
def test_a_page_does_what_it_shows_from_nothing(page: str, tmp_path: Path) -> None:
    """On a server of its own, which nobody has made a key for."""
    port = free_port()
    log = tmp_path / "server.log"
    serve = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
    with (
        running(serve, f"http://127.0.0.1:{port}", log, env={"OMP_NUM_THREADS": "1"}) as server,
        open_session(tmp_path, server.url, f"sqlite:///{log}.db", None) as session,
    ):
        for block in blocks(page):
            if block.language in RUN and reason(block) is None:
                session.check(block)


def commands(text: str) -> Iterator[list[str]]:
    """The lines of a shell that begin with one of our programs, in words."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] in PARSERS:
            yield words


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.language == "bash" and reason(block) is not None], ids=named
)
def test_what_is_not_run_has_arguments_that_exist(block: Block) -> None:
    for program, *arguments in commands(block.text):
        _, unknown = PARSERS[program]().parse_known_args(arguments)
        # Those of vLLM are taken by `serve`.
        assert not unknown or (program, arguments[0]) == ("metaalign-server", "serve"), unknown


def errors_in(section: str, value: object) -> list[Any]:
    """What is wrong with a part of a recipe, beyond what the page leaves out."""
    annotation: Any = Recipe.model_fields[section].annotation
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        return [problem for problem in error.errors() if problem["type"] != "missing"]
    return []


@pytest.mark.parametrize(
    "block",
    [b for b in ALL if b.language == "yaml" and b.page in ("docs/training.md", "docs/evaluation.md")],
    ids=named,
)
def test_recipes_in_pages_are_recipes(block: Block) -> None:
    for section, value in yaml.safe_load(block.text.replace(", …", "")).items():
        assert not errors_in(section, value)


def test_preferences_in_pages_are_valid() -> None:
    for page in ("docs/reference/preferences.md", "docs/steering.md"):
        (whole,) = [b for b in blocks(page) if b.language == "json" and not b.is_output]
        parse_preferences(json.loads(whole.text))
    (verify,) = [block for block in blocks("docs/verifiers.md") if block.language == "jsonc"]
    shown = re.findall(r'^"preferences": (.*?)(?: +//.*)?$', verify.text, re.MULTILINE)
    assert len(shown) == 2
    for text in shown:
        parse_preferences(json.loads(text))


def test_the_error_that_is_shown(world: World) -> None:
    (block,) = [block for block in blocks("docs/errors.md") if block.language == "json"]
    body = {"query": "hi", "preferences": {"user": {"atributes": {}}}}
    answer = world.client("operator").post("/v1/align", json=body)
    assert answer.status_code == 400
    assert agrees(shown_json(block.text), answer.json()), answer.text


def test_twelve_requests_are_shown() -> None:
    assert len(REQUESTS) == 12


@pytest.mark.parametrize(("query", "preferences", "answer"), REQUESTS)
def test_the_demo_checkpoint_answers_as_documented(
    world: World, query: str, preferences: str, answer: str
) -> None:
    body = {"query": query, "preferences": json.loads(preferences), "temperature": 0}
    response = world.client("operator").post("/v1/align", json=body)
    assert response.json()["text"] == answer.removesuffix("\n")


def test_the_suite_of_the_clients_guide_passes(world: World, store: str, tmp_path: Path) -> None:
    (suite,) = [block.text for block in blocks("docs/clients.md") if block.language == "yaml"]
    (tmp_path / "suite.yaml").write_text(suite)
    with open_session(tmp_path, world.server.url, store, world.keys["operator"]) as session:
        printed = session.run("bash", "metaalign test suite.yaml")
    assert printed.splitlines()[-1].startswith("5 of 5 passed: 1.000 [")
