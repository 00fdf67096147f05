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
from metaalign.surrogates import has_surrogates

__all__ = ["MOST_VALUES", "refuse_large_body", "refuse_surrogates", "stop_at_first_error"]

_LISTS = ("list", "set", "frozenset", "tuple")
_ITEMS = ("input", "messages", "system", "tools")
_MOST_ITEMS = 4_096
"""Of items and their parts. OpenAI allows 2,048 messages; to validate an item of `input` takes 0.1 ms."""
_KEYS = 4_096
"""Of one object."""
_NUMBERS = frozenset({"allowed_token_ids", "logprob_token_ids", "prompt", "stop_token_ids", "tokens"})
"""Fields that hold as many numbers as a prompt or a vocabulary has tokens."""
_CHECKED = frozenset({"input", "messages", "preferences", "prompt", "system", "user"})
"""Fields whose texts are checked where they are read, with errors of their own."""
MOST_VALUES = 16_384
"""Of one field: 4,096 messages or parts with all that is in them."""


def stop_at_first_error(model: type[BaseModel]) -> None:
    """Let every list in `model` be validated up to its first invalid item only.

    Lists in other models inside it, which pydantic validates by theirs, are bounded by `refuse_large_body` alone.
    """
    schema = _failing_fast(model.__pydantic_core_schema__)
    model.__pydantic_core_schema__ = schema
    model.__pydantic_validator__ = SchemaValidator(schema)


def _failing_fast(schema: Any) -> Any:
    if isinstance(schema, dict):
        copied = {name: _failing_fast(value) for name, value in schema.items()}
        return copied | {"fail_fast": True} if copied.get("type") in _LISTS else copied
    return type(schema)(map(_failing_fast, schema)) if isinstance(schema, list | tuple) else schema


def refuse_large_body(body: Mapping[str, Any], most: int = MOST_VALUES) -> None:
    """Refuse a body that would be validated for long: more items, keys or values than anybody sends.

    Args:
        body: The request's body, as JSON has it.
        most: Values and keys of one field, at any depth.

    Raises:
        RefusedField: the message names the field and the bound.
    """
    if len(body) > _KEYS:
        raise RefusedField(f"body: more than {_KEYS} fields; leave some out", param="body")
    for name, value in body.items():
        if not isinstance(value, dict | list):
            continue
        if name in _ITEMS and isinstance(value, list) and _items(value) > _MOST_ITEMS:
            raise RefusedField(f"{name}: more than {_MOST_ITEMS} items and parts; leave some out", param=name)
        _refuse_many_values(name, value, most)


def _items(items: list[Any]) -> int:
    contents = (item.get("content") for item in items[:_MOST_ITEMS] if isinstance(item, dict))
    return len(items) + sum(len(content) for content in contents if isinstance(content, list))


def _refuse_many_values(name: str, value: Any, most: int) -> None:
    found, stack = 0, [value]
    while stack:
        inside = stack.pop()
        if isinstance(inside, dict):
            if len(inside) > _KEYS:
                raise RefusedField(
                    f"{name[:64]}: an object of more than {_KEYS} keys; leave some out", param=name[:64]
                )
            found += len(inside)
            inside = inside.values()
        elif name not in _NUMBERS:
            found += len(inside)
        containers = [one for one in inside if isinstance(one, dict | list)]
        found += len(containers)
        if found > most:
            raise RefusedField(f"{name[:64]}: more than {most} values; leave some out", param=name[:64])
        stack.extend(containers)


def refuse_surrogates(body: Mapping[str, Any]) -> None:
    """Refuse lone surrogates, which no answer can repeat, in all fields that have no check of their own.

    Raises:
        RefusedField: the message names the field.
    """
    for name, value in body.items():
        if name in _CHECKED:
            continue
        stack = [name, value]
        while stack:
            inside = stack.pop()
            if isinstance(inside, str):
                if has_surrogates(inside):
                    shown = "body" if has_surrogates(name) else name[:64]
                    raise RefusedField(f"{shown}: must be valid Unicode without lone surrogates", param=shown)
            elif isinstance(inside, dict):
                stack.extend(inside)
                stack.extend(inside.values())
            elif isinstance(inside, list) and name not in _NUMBERS:
                stack.extend(inside)
