"""Writes the OpenAPI document of a server with default settings.

`python scripts/openapi_document.py clients/openapi.json` (`make generated`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from metaalign_server.serving.app import create_app


def main() -> None:
    """Write it to the file that is named."""
    text = json.dumps(create_app().openapi(), indent=1, ensure_ascii=False) + "\n"
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
