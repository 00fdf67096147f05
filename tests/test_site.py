"""The documentation site as far as it can be checked without Sphinx: generated pages, navigation and drawings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from check_site import problems
from cli_page import cli_page
from metaalign.dimensions import DIMENSIONS
from metaalign_server.settings import Settings
from preferences_page import preferences_page
from routes_page import ANY_KEY, PUBLIC, routes_page, scope_of
from schema_words import table, type_words
from settings_page import settings_page
from tests import pictures
from tests.processes import ROOT
from tests.security import test_scopes

DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text(encoding="utf-8")
DRAWINGS = sorted((DOCS / "drawings").glob("*.svg"))
MERMAID = re.compile(r"(?:<!-- drawing: (\S+) -->\n)?```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPENAPI = json.loads((ROOT / "clients/openapi.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("preferences", preferences_page),
        ("routes", routes_page),
        ("settings", settings_page),
        ("cli", cli_page),
    ],
)
def test_generated_pages_are_those_of_the_code(name: str, page: Callable[[], str]) -> None:
    committed = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert committed == page(), "run `make generated`"


def test_the_scopes_that_are_shown_are_those_that_are_attacked() -> None:
    shown = {
        (method, path): scope_of(method, path, operation)
        for path, operations in OPENAPI["paths"].items()
        for method, operation in operations.items()
    }
    assert (PUBLIC, ANY_KEY) == (test_scopes.PUBLIC, test_scopes.ANY_KEY)
    assert shown == test_scopes.ROUTES


def test_the_reference_leaves_nothing_out() -> None:
    routes, settings, preferences = routes_page(), settings_page(), preferences_page()
    for path, operations in OPENAPI["paths"].items():
        for method in operations:
            assert f"### `{method.upper()} {path}`\n" in routes
    # Every object that the page names is explained on it.
    assert set(re.findall(r"\]\(#(\w+)\)", routes)) <= {
        heading.lower() for heading in re.findall(r"^### (\w+)$", routes, re.MULTILINE)
    }
    for name in Settings.model_fields:
        assert f"| `METAALIGN_{name.upper()}` |" in settings
    for dimension in DIMENSIONS.values():
        for sentence in dimension.values.values():
            assert sentence in preferences


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "minLength": 1, "maxLength": 1}, "string, 1 character"),
        ({"type": "string", "minLength": 1}, "string, not empty"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number, above 0, at most 1"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "integer"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true or false"),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}, "list (at most 2) of: `a`, `b`"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object; value: integer"),
        ({"$ref": "#/components/schemas/Thing"}, "Thing"),
    ],
)
def test_types_in_words(schema: dict[str, object], words: str) -> None:
    assert type_words(schema) == words


def test_tables_leave_out_empty_columns() -> None:
    assert table(("a", "b"), [("1|2", ""), ("x\ny", "")]) == "| a |\n|---|\n| 1\\|2 |\n| x y |\n"
    assert table(("a", "b"), []) == ""


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_every_page_is_in_the_navigation(page: Path) -> None:
    if page.name != "index.md":
        assert (
            len(re.findall(rf"^- \[[^\n]+\]\({re.escape(str(page.relative_to(DOCS)))}\)", INDEX, re.M)) == 1
        )


@pytest.mark.parametrize("page", ["docs/architecture.md", "docker/README.md"])
def test_what_mermaid_draws_is_in_the_drawing(page: str) -> None:
    """GitHub draws the block, and the site shows the drawing: every word of the first is in the second."""
    found = MERMAID.findall((ROOT / page).read_text(encoding="utf-8"))
    assert found
    for drawing, block in found:
        assert drawing, "a block of mermaid has its drawing named above it"
        svg = (ROOT / page).parent / drawing
        shown = " ".join(ElementTree.parse(svg).getroot().itertext())  # noqa: S314
        with_label = re.findall(r"(\w+)[\[(]", block)  # is not shown itself
        words = re.findall(r"\w{3,}", re.sub(r"<[^>]+>", " ", block).casefold())
        missing = set(words) - {"flowchart", *with_label} - set(re.findall(r"\w+", shown.casefold()))
        assert not missing, (svg.name, missing)


def test_other_pages_have_no_mermaid() -> None:
    for page in DOCS.rglob("*.md"):
        if page.name != "architecture.md":
            assert not MERMAID.search(page.read_text(encoding="utf-8")), page


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.stem)
def test_drawings(drawing: Path) -> None:
    """They are shown, fetch nothing, look alike, and follow light and dark."""
    text = drawing.read_text(encoding="utf-8")
    style = re.search(r"<style>.*?</style>", text, re.DOTALL)
    other = re.search(r"<style>.*?</style>", DRAWINGS[0].read_text(encoding="utf-8"), re.DOTALL)
    assert style
    assert other
    assert style[0] == other[0]
    assert "prefers-color-scheme:dark" in style[0]
    root = ElementTree.fromstring(text)  # noqa: S314
    assert root.get("class") == "drawing"
    assert not re.search(r"href|url\(", text)
    # Colours come from the style alone.
    assert not re.search(r' (fill|stroke)="', text)
    used = [
        page
        for page in (*DOCS.rglob("*.md"), ROOT / "docker/README.md")
        if drawing.name in page.read_text("utf-8")
    ]
    assert used


def test_the_picture_of_the_playground_is_of_todays_page() -> None:
    assert pictures.RECORD.read_text(encoding="utf-8") == pictures.record(), pictures.HOW
    assert f"]({pictures.PICTURE.name})" in (DOCS / "playground.md").read_text(encoding="utf-8")


def test_the_theme_of_a_page_sets_every_colour_of_a_drawing() -> None:
    style = re.search(r"<style>.*?</style>", DRAWINGS[0].read_text(encoding="utf-8"), re.DOTALL)
    assert style
    css = (DOCS / "site/static/site.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"(--[\w-]+):(#\w+)", part)) for part in style[0].split("@media", 1))
    for theme, colours in (("light", light), ("dark", dark)):
        block = re.search(rf'body\[data-theme="{theme}"\] \.drawing {{(.*?)}}', css, re.DOTALL)
        assert block
        assert dict(re.findall(r"(--[\w-]+): (#\w+)", block[1])) == colours


def test_the_site_has_pins_of_its_own() -> None:
    lines = (ROOT / "requirements/docs.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert {"sphinx", "myst-parser", "furo"} <= {pin.partition("==")[0] for pin in pins}
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin) for pin in pins)


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<img src="https://example.com/a.png">', "index.html: fetches https://example.com/a.png"),
        ('<script src="//example.com/a.js"></script>', "index.html: fetches //example.com/a.js"),
        (
            '<link rel="stylesheet" href="http://example.com/a.css">',
            "index.html: fetches http://example.com/a.css",
        ),
        (
            "<style>@import 'https://example.com/a.css';</style>",
            "index.html: fetches https://example.com/a.css",
        ),
        ('<p style="background: url(https://example.com/a)">', "index.html: fetches https://example.com/a"),
        (
            '<img srcset="a.png 1x, https://example.com/b.png 2x">',
            "index.html: fetches https://example.com/b.png",
        ),
        ('<a href="gone.html">', "index.html: links to gone.html, which is not there"),
        ('<a href="#gone">', "index.html: links to #gone, which has no such place"),
        ('<a href="https://example.com">', None),
        ('<img src="data:image/png;base64,AA=="><a href="#here" id="here">', None),
    ],
)
def test_the_check_of_the_site(tmp_path: Path, html: str, problem: str | None) -> None:
    (tmp_path / "index.html").write_text(html)
    assert list(problems(tmp_path)) == ([problem] if problem else [])


def test_style_sheets_fetch_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text(
        'a { background: url("https://example.com/a.png") } b { background: url(b.png) }'
    )
    assert list(problems(tmp_path)) == ["a.css: fetches https://example.com/a.png"]
