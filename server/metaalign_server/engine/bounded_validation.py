"""Bounds on the time that the validation of a request takes, for which the event loop and everybody else wait.

Pydantic goes on after an error, and in a union tries every member. An item that is nothing the Responses protocol knows
made 234 errors, and a request of 100 kB with 6 000 of them held the server for more than a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

from metaalign import RefusedField

__all__ = ["refuse_many_items", "stop_at_first_error"]

_LISTS = ("list", "set", "frozenset", "tuple")
_ITEMS = ("input", "messages", "system", "tools")
_MOST = 4_096
"""Of items and their parts. OpenAI allows 2,048 messages; to validate an item of `input` takes 0.1 ms."""


def stop_at_first_error(model: type[BaseModel]) -> None:
    """Let every list in `model`, at any depth, be validated up to its first invalid item only."""
    schema = _failing_fast(model.__pydantic_core_schema__)
    model.__pydantic_core_schema__ = schema
    model.__pydantic_validator__ = SchemaValidator(schema)


def _failing_fast(schema: Any) -> Any:
    if isinstance(schema, dict):
        copied = {name: _failing_fast(value) for name, value in schema.items()}
        return copied | {"fail_fast": True} if copied.get("type") in _LISTS else copied
    return type(schema)(map(_failing_fast, schema)) if isinstance(schema, list | tuple) else schema


def refuse_many_items(body: Mapping[str, Any]) -> None:
    """Refuse a body with more messages, parts or tools than anybody sends, before they are validated.

    Raises:
        RefusedField: the message names the field and the bound.
    """
    for name in _ITEMS:
        items = body.get(name)
        if not isinstance(items, list):
            continue
        found = len(items)
        if found <= _MOST:
            contents = (item.get("content") for item in items if isinstance(item, dict))
            found += sum(len(content) for content in contents if isinstance(content, list))
        if found > _MOST:
            raise RefusedField(f"{name}: more than {_MOST} items and parts; leave some out", param=name)
