"""Bounds on what a request hands to the engine: numbers, and what it compiles (schemas, expressions, grammars, tools).

A grammar is compiled by the engine for each new constraint, and no request can be cancelled then. Measured with
xgrammar 0.2 on one core: 2000 optional properties take 21 s, a regular expression of 4000 characters 79 s, a list of
100 000 values more memory than the model. Under the bounds here the worst that was found takes a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from pydantic import BaseModel

from metaalign import RefusedField

__all__ = ["refuse_heavy_constraints", "refuse_huge_numbers"]

_FIELDS = ("structured_outputs", "response_format", "text", "output_config", "tools")
_TEXTS = frozenset({"input", "messages", "preferences", "prompt", "system", "tools"})
_NODES = 10_000
_PROPERTIES = 1_000
_PATTERN, _PATTERNS = 512, 2_048
_GRAMMAR = 16_384


def refuse_heavy_constraints(request: BaseModel) -> None:
    """Refuse a request whose answer is bound to more than can be compiled in a few seconds.

    Raises:
        RefusedField: names the field and the bound.
    """
    for name in _FIELDS:
        value = getattr(request, name, None)
        if value:
            _check(name, _plain(value))


def refuse_huge_numbers(request: BaseModel) -> None:
    """Refuse whole numbers that the engine's messages cannot carry.

    Raises:
        RefusedField: names the field.
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

    nodes = properties = patterns = 0
    stack: list[tuple[str, Any]] = [(name, tree)]
    while stack:
        key, value = stack.pop()
        nodes += 1
        if nodes > _NODES:
            raise refuse(f"more than {_NODES} values")
        if isinstance(value, Mapping):
            if key == "properties":
                properties += len(value)
            if key == "patternProperties":
                stack.extend(("pattern", pattern) for pattern in value)
            stack.extend(value.items())
        elif isinstance(value, list | tuple):
            stack.extend((key, item) for item in value)
        elif isinstance(value, str):
            if key in ("pattern", "regex"):
                patterns += len(value)
                if len(value) > _PATTERN:
                    raise refuse(f"a regular expression of more than {_PATTERN} characters")
            elif key == "grammar" and len(value) > _GRAMMAR:
                raise refuse(f"a grammar of more than {_GRAMMAR} characters")
            elif key == "$ref" and not value.startswith("#"):
                # xgrammar ignores it, and quotes it on standard error.
                raise refuse("a reference to another document")
            elif key == "json":
                stack.append(("schema", _parsed(value)))
        if properties > _PROPERTIES:
            raise refuse(f"more than {_PROPERTIES} properties")
        if patterns > _PATTERNS:
            raise refuse(f"regular expressions of more than {_PATTERNS} characters together")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the engine says what is wrong with it
