"""Bounds on what a request passes to the engine: numbers, and what it compiles (schemas, regexes, grammars, tools).

These bounds are on what can be counted in a request. How long a constraint within them takes is found out by a trial
(`grammars`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

from pydantic import BaseModel

from metaalign import RefusedField

__all__ = ["constraint_of", "refuse_heavy_constraints", "refuse_huge_numbers"]

_FIELDS = ("structured_outputs", "response_format", "text", "output_config", "tools")
_TEXTS = frozenset({"input", "messages", "preferences", "prompt", "system", "tools"})
_SCHEMAS = frozenset({"schema", "json", "parameters", "input_schema"})
_WRITTEN = {"json": "schema", "structural_tag": "structural tag"}
"""Fields whose text is JSON, and as what their content is read."""
_NODES = 10_000
_PROPERTIES = 1_000
_REFERENCES = 300
_PATTERN, _PATTERNS = 512, 2_048
_GRAMMAR = 16_384
_LITERALS = 65_536


def refuse_heavy_constraints(request: BaseModel) -> None:
    """Refuse a request whose output constraint is too large.

    Raises:
        RefusedField: the message names the field and the bound.
    """
    for name in _FIELDS:
        value = getattr(request, name, None)
        if value:
            _check(name, _plain(value))


def constraint_of(request: BaseModel) -> str | None:
    """Return the field that constrains the output, if any."""
    return next((name for name in _FIELDS if getattr(request, name, None)), None)


def refuse_huge_numbers(request: BaseModel) -> None:
    """Refuse integers that the engine's messages cannot represent.

    Raises:
        RefusedField: the message names the field.
    """
    for name in request.model_fields_set - _TEXTS:
        stack = [getattr(request, name)]
        while stack:
            value = stack.pop()
            if isinstance(value, Mapping):
                stack.extend(value.values())
            elif isinstance(value, list):
                stack.extend(value)
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise RefusedField(f"{name}: a number of more than 64 bits", param=name)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_none=True, warnings=False)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _check(name: str, tree: Any) -> None:
    def refuse(what: str) -> RefusedField:
        return RefusedField(f"{name}: {what}; ask for less", param=name)

    nodes = properties = patterns = literals = 0
    schemas: list[_Schema] = []
    stack: list[tuple[str, Any, _Schema | None]] = [(name, tree, None)]
    while stack:
        key, value, schema = stack.pop()
        if schema is None and isinstance(value, Mapping) and _is_schema(key, value):
            schema = _Schema(value)
            schemas.append(schema)
        nodes += 1
        if nodes > _NODES:
            raise refuse(f"more than {_NODES} values")
        if isinstance(value, Mapping):
            if key == "properties":
                properties += len(value)
            if key == "patternProperties":
                stack.extend(("pattern", pattern, schema) for pattern in value)
            stack.extend((inner, item, schema) for inner, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend((key, item, schema) for item in value)
        elif isinstance(value, str):
            if key in ("pattern", "regex"):
                patterns += len(value)
                if len(value) > _PATTERN:
                    raise refuse(f"a regular expression of more than {_PATTERN} characters")
            elif key == "grammar" and len(value) > _GRAMMAR:
                raise refuse(f"a grammar of more than {_GRAMMAR} characters")
            elif key == "$ref" and not value.startswith("#"):
                # xgrammar ignores it, and prints it on standard error.
                raise refuse("a reference to another document")
            elif key == "$ref" and schema is not None:
                schema.references.add(value)
                if len(schema.references) > _REFERENCES:
                    raise refuse(f"more than {_REFERENCES} references")
            elif key in ("choice", "enum", "const"):
                literals += len(value)
                if literals > _LITERALS:
                    raise refuse(f"fixed texts of more than {_LITERALS} characters together")
            elif key in _WRITTEN:
                stack.append((_WRITTEN[key], _parsed(value), None))
        if properties > _PROPERTIES:
            raise refuse(f"more than {_PROPERTIES} properties")
        if patterns > _PATTERNS:
            raise refuse(f"regular expressions of more than {_PATTERNS} characters together")
    for schema in schemas:
        if circles := schema.circles():
            what = f"the reference {min(circles)[:100]!r} leads to nothing but itself"
            raise RefusedField(f"{name}: {what}; let it lead to a type", param=name)


def _is_schema(key: str, value: Mapping[str, Any]) -> bool:
    # OpenAI wraps the schema in `json_schema`; in a structural tag, `json_schema` is the schema.
    return key in _SCHEMAS or (key == "json_schema" and "schema" not in value)


@dataclass(frozen=True)
class _Schema:
    """A JSON Schema and its references."""

    root: Mapping[str, Any]
    references: set[str] = field(default_factory=set)

    def circles(self) -> set[str]:
        """Return the references that lead only to themselves; they make the engine fail in the middle of an answer."""
        open_ = self.references
        while True:
            left = {reference for reference in open_ if not self._leads_on(self._target(reference), open_)}
            if left == open_:
                return left
            open_ = left

    def _leads_on(self, value: Any, open_: set[str]) -> bool:
        """Return whether `value` leads to a type, treating the references in `open_` as unresolved."""
        if not isinstance(value, Mapping):
            return True
        if isinstance(reference := value.get("$ref"), str):
            return reference not in open_
        for name, enough in (("allOf", all), ("anyOf", any), ("oneOf", any)):
            if isinstance(parts := value.get(name), list) and parts:
                return enough([self._leads_on(part, open_) for part in parts])
        return True

    def _target(self, reference: str) -> Any:
        value: Any = self.root
        for step in reference.removeprefix("#").split("/")[1:]:
            value = (
                value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
            )
        return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the engine reports what is wrong with it
