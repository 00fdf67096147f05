"""How `make docs` turns the Markdown pages into a site. The pages are written for GitHub; what differs is done here.

The root of the site is the repository, so a link between two pages is the same link on GitHub and here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from pygments.lexers.data import JsonLexer
from pygments.token import Error, Text

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DRAWINGS = "docs/drawings/"

project = "MetaAlign"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
copyright = "MetaAlign contributors, Apache-2.0"

extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "clients/typescript/README.md",
    "docker/**/README.md",
    "docker/README.md",
    "docs/**.md",
    "examples/README.md",
]
# Not walked at all: environments, and folders that installers and builds write.
exclude_patterns = [".*", "build", "dist", "**/node_modules", "checkpoints", "server", "tests", "training"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 6  # the anchors of GitHub
highlight_language = "text"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

html_theme = "furo"
html_title = f"MetaAlign {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["root"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s:]+)\)")
_MERMAID = re.compile(r"<!-- drawing: (\S+) -->\n```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.+)\n\n((?:- .+\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^- \[(.+?)\]\((\S+?)\.md\)", re.MULTILINE)


class ShownJson(JsonLexer):
    """JSON with comments, and with an ellipsis for what is left out."""

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Any, str]]:
        for place, kind, value in super().get_tokens_unprocessed(text):
            yield place, Text if kind is Error else kind, value


def _read(app: Sphinx, document: str, source: list[str]) -> None:
    """Change what only GitHub understands."""
    folder = (ROOT / document).parent
    text = _MERMAID.sub(lambda found: f"![{Path(found[1]).stem.replace('-', ' ')}]({found[1]})", source[0])
    text = _LINK.sub(lambda found: _of_folder(found, folder), text)
    if document == root_doc:
        text = _SECTION.sub(_with_contents, text)
    source[0] = text


def _of_folder(link: re.Match[str], folder: Path) -> str:
    """GitHub shows a folder's README, or its files; here there is only the first."""
    if not (folder / link[2]).is_dir():
        return link[0]
    return f"[{link[1]}]({link[2]}/README.md)" if (folder / link[2] / "README.md").is_file() else link[1]


def _with_contents(section: re.Match[str]) -> str:
    """The lists of the first page are the site's navigation."""
    entries = "\n".join(f"{title} <{page}>" for title, page in _ENTRY.findall(section[2]))
    return f"{section[0]}\n```{{toctree}}\n:hidden:\n:caption: {section[1]}\n\n{entries}\n```\n"


def _inline_drawings(app: Sphinx, document: nodes.document) -> None:
    """Put our drawings into the page, so that they follow the reader's choice of light or dark."""
    for image in list(document.findall(nodes.image)):
        path = str(image["uri"])
        if path.startswith(DRAWINGS):
            svg = (ROOT / path).read_text(encoding="utf-8")
            svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(image.get("alt", ""))}" ', 1)
            image.replace_self(nodes.raw("", f'<div class="drawing-frame">{svg}</div>', format="html"))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("json", ShownJson)
    app.add_lexer("jsonc", ShownJson)
    app.connect("source-read", _read)
    app.connect("doctree-read", _inline_drawings)
