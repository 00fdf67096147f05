"""The JSON Schema of the `preferences` field: `python -m metaalign.schema FILE` writes it (`make generated`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from metaalign.dimensions import DIMENSIONS
from metaalign.preferences import LIMITS, Preferences
from metaalign.verifiers import CHECKS

__all__ = ["preferences_schema", "schema_text"]


def preferences_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `preferences`, with every bound, documented dimension and check."""
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
        "x-checks": {name: _arguments(model) for name, (model, _) in sorted(CHECKS.items())},
    }


def _arguments(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a check's arguments without the names that pydantic gives to classes."""
    schema = model.model_json_schema()
    return {key: schema[key] for key in ("properties", "required", "additionalProperties") if key in schema}


def schema_text() -> str:
    """Return the exact content of the committed file."""
    return json.dumps(preferences_schema(), indent=2, ensure_ascii=False) + "\n"


def main(argv: list[str]) -> None:
    """Write the schema to the file that `argv` names."""
    Path(argv[1]).write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv)
