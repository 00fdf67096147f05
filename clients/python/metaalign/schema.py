"""The JSON Schema of the `preferences` field: `python -m metaalign.schema FILE` writes it (`make generated`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from metaalign.dimensions import DIMENSIONS
from metaalign.preferences import LIMITS, Preferences

__all__ = ["preferences_schema", "schema_text"]


def preferences_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `preferences`, with every bound and every documented dimension."""
    schema = Preferences.model_json_schema()
    dimensions = {
        d.name: {"description": d.summary, "values": d.values, "other_values": d.pattern is not None}
        for d in DIMENSIONS.values()
    }
    total = f"All texts together hold at most {LIMITS['total']} characters."
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "preferences",
        "description": 'Preferences of provider and user for one request. A bare string stands for {"system": …}.',
        "anyOf": [{"type": "string", "maxLength": LIMITS["info"]}, {"$ref": "#/$defs/Preferences"}],
        "$defs": {**schema.pop("$defs"), "Preferences": {**schema, "description": total}},
        "x-dimensions": dimensions,
    }


def schema_text() -> str:
    """Return the exact content of the committed file."""
    return json.dumps(preferences_schema(), indent=2, ensure_ascii=False) + "\n"


def main(argv: list[str]) -> None:
    """Write the schema to the file that `argv` names."""
    Path(argv[1]).write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv)
