"""The picture of the playground in the documentation: drawn by a test of the page, and said to be of which page."""

from __future__ import annotations

import hashlib

from tests.processes import ROOT

__all__ = ["HOW", "PICTURE", "RECORD", "record"]

PICTURE = ROOT / "docs/playground.png"
RECORD = PICTURE.with_suffix(".sha256")
"""What `sha256sum --check` reads: the picture, and what it was drawn from. Two machines draw no two pixels alike."""
HOW = "run `make pictures`, look at docs/playground.png, and commit it"
_PAGE = ROOT / "server/metaalign_server/playground"
_ANSWERS = ROOT / "checkpoints/metaalign-demo/model.safetensors"


def record() -> str:
    """The record that a picture drawn now would have."""
    files = [PICTURE, *sorted(_PAGE.iterdir()), _ANSWERS]
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(ROOT)}\n" for file in files
    )
