"""`/playground`: a page for people, which asks the other routes as any client does.

Its files are package data (`metaalign_server/playground`) and hold no secret, so they take no key: a browser cannot
send one with an address that is typed. What the page asks for takes the key that the reader gives it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

import metaalign
from metaalign.dimensions import DIMENSIONS
from metaalign.preferences import LIMITS
from metaalign_server.platform.refusal import Refusal

__all__ = ["PLAYGROUND_PATHS", "router"]

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).resolve().parent.parent / "playground"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # Nothing from other hosts, nothing inline, in no frame; and the page's code cannot turn text into markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it is sent."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> _File:
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _known() -> bytes:
    """Return what the page must know of the contract, as JSON."""
    dimensions = [
        {"name": d.name, "summary": d.summary, "values": list(d.values), "open": d.pattern is not None}
        for d in DIMENSIONS.values()
    ]
    known = {"version": metaalign.__version__, "limits": LIMITS, "dimensions": dimensions}
    return json.dumps(known).encode()


def _read_files() -> dict[str, _File]:
    """Read all files into memory, so that no request waits for a disk and no path leads out of the folder."""
    files = {
        path.name: _File.of(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(_FOLDER.iterdir())
        if path.suffix in _TYPES
    }
    files["known.json"] = _File.of(_known(), "application/json")
    return files


_FILES = _read_files()
_PAGE = _FILES.pop("index.html")

PLAYGROUND_PATHS = frozenset({"/playground", "/playground/", *(f"/playground/{name}" for name in _FILES)})
"""Paths that take no key, where the playground is on."""


@router.get("/playground")
async def page(request: Request) -> Response:
    """Return the page."""
    return _respond(request, _PAGE)


@router.get("/playground/")
async def page_with_slash() -> Response:
    """Lead to the page; relative, because a proxy may publish the server under a path."""
    return RedirectResponse("../playground")


@router.get("/playground/{name}")
async def file(request: Request, name: str) -> Response:
    """Return one of the page's files."""
    if name not in _FILES:
        raise Refusal("route_not_found", "no such file")
    return _respond(request, _FILES[name])


def _respond(request: Request, file: _File) -> Response:
    headers = _HEADERS | {"ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
