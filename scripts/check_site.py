"""Checks a built site: `python scripts/check_site.py build/docs`.

It must work without a network, and its links must lead somewhere.

Only the standard library, since it runs in any Python.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["problems"]

_FETCHING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "manifest"}
_CSS_ADDRESS = re.compile(r"""(?:url\(|@import)\s*['"]?([^'")\s;]+)""")


class _Page(HTMLParser):
    """What a page fetches, where its links lead, and what can be linked in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors = {"", "top"}
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self._in_style = tag == "style"
        self.fetched += [given[name] for name in ("src", "poster", "data") if name in given]
        self.fetched += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.fetched += _CSS_ADDRESS.findall(given.get("style", ""))
        if tag == "link" and _FETCHING_LINKS & set(given.get("rel", "").split()):
            self.fetched.append(given.get("href", ""))
        elif tag in ("image", "use"):
            self.fetched.append(given.get("href") or given.get("xlink:href", ""))
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.fetched += _CSS_ADDRESS.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def problems(site: Path) -> Iterator[str]:
    """What is wrong with the site in a folder, a line each."""
    pages = {file.resolve(): _Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    for file, page in pages.items():
        name = file.relative_to(site.resolve())
        for address in page.fetched:
            if _is_elsewhere(address):
                yield f"{name}: fetches {address}"
        for address in page.links:
            if urlsplit(address).scheme or _is_elsewhere(address):
                continue
            path, _, anchor = address.partition("#")
            target = (file.parent / unquote(path)).resolve() if path else file
            if not target.exists():
                yield f"{name}: links to {address}, which is not there"
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                yield f"{name}: links to {address}, which has no such place"
    for file in sorted(site.rglob("*.css")):
        for address in _CSS_ADDRESS.findall(file.read_text(encoding="utf-8")):
            if _is_elsewhere(address):
                yield f"{file.relative_to(site)}: fetches {address}"


def main() -> int:
    """Print the problems of the site that is named; return 1 if there are any."""
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found) or f"{sys.argv[1]}/index.html")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
