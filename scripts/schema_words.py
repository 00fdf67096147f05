"""JSON Schema in words, for the pages of reference that are generated: types, bounds, defaults, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["REFERENCE", "cell", "default_words", "table", "type_words"]

Schema = Mapping[str, Any]

REFERENCE = "#/components/schemas/"
"""How the OpenAPI document names a schema of its own."""

_NAMES = {
    "array": "list",
    "boolean": "true or false",
    "integer": "integer",
    "null": "null",
    "number": "number",
    "object": "object",
    "string": "string",
}
_LARGE = (
    2**31 - 1
)  # from here on, bounds are those of integers in databases and clients, and say nothing to a reader


def cell(text: str) -> str:
    """Text for a cell of a table: on one line, with bars that end no cell."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown without its empty columns; nothing if there are no rows."""
    columns = [column for column in zip(head, *rows, strict=True) if any(column[1:])]
    if not columns:
        return ""
    titles, *lines = (f"| {' | '.join(cell(text) for text in row)} |" for row in zip(*columns, strict=True))
    return "\n".join([titles, f"|{'---|' * len(columns)}", *lines, ""])


def default_words(schema: Schema, *, required: bool = False) -> str:
    """What holds if the key is left out."""
    if required:
        return "required"
    value = schema.get("default")
    return f"`{json.dumps(value, ensure_ascii=False)}`" if value not in (None, [], {}, "") else "–"


def type_words(schema: Schema, refer: Callable[[str], str] = str) -> str:
    """A type with its bounds. `refer` says how a named schema is written; an empty answer leaves it out."""
    if "$ref" in schema:
        return refer(str(schema["$ref"]).removeprefix(REFERENCE).removeprefix("#/$defs/"))
    for several in ("anyOf", "oneOf"):
        if several in schema and "properties" not in schema:
            options = [
                type_words(option, refer) for option in schema[several] if option.get("type") != "null"
            ]
            return ", or ".join(dict.fromkeys(option for option in options if option))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return _list(schema, refer)
    if kind == "object":
        return _object(schema, refer)
    words = _NAMES.get(str(kind), "any JSON value")
    bounds = _bounds(schema, "minLength", "maxLength", "characters") if kind == "string" else _range(schema)
    pattern = f"matching `{schema['pattern']}`" if "pattern" in schema else ""
    return ", ".join(part for part in (words, bounds, pattern) if part)


def _list(schema: Schema, refer: Callable[[str], str]) -> str:
    bounds = _bounds(schema, "minItems", "maxItems", "")
    items: Schema = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
    of = type_words(items, refer) if items else ""
    return f"list{f' ({bounds})' if bounds else ''}{f' of: {of}' if of else ''}"


def _object(schema: Schema, refer: Callable[[str], str]) -> str:
    bounds = _bounds(schema, "minProperties", "maxProperties", "keys")
    for pattern, value in schema.get("patternProperties", {}).items():
        words = f"object with keys matching `{pattern}`; value: {type_words(value, refer)}"
        return f"{words}; {bounds}" if bounds else words
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        return f"object; value: {type_words(values, refer)}"
    return f"object, {bounds}" if bounds else "object"


def _bounds(schema: Schema, least: str, most: str, what: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is not None and low == high:
        return f"{low} {what.removesuffix('s')}".strip()
    what = f" {what}" if what else ""
    if low is not None and high is not None:
        return f"{low} to {high}{what}"
    if high is not None:
        return f"at most {high}{what}"
    if low is not None and low > 1:
        return f"at least {low}{what}"
    return "not empty" if low else ""


def _range(schema: Schema) -> str:
    low, high = (
        value if value is None or abs(value) < _LARGE else None
        for value in (schema.get("minimum"), schema.get("maximum"))
    )
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f"above {above:g}" + (f", at most {high:g}" if high is not None else "")
    if low is not None and high is not None:
        return f"{low:.0f} to {high:.0f}" if schema.get("type") == "integer" else f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:.0f}" if schema.get("type") == "integer" else f"at least {low:g}"
    return f"at most {high:.0f}" if high is not None else ""
