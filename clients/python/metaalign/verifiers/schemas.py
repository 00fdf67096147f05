"""JSON Schema (2020-12 and what `$schema` names) within bounds: no schema and no text keeps the program busy.

A schema is refused if it is too large or points to another document. Its regular expressions run in an engine that
gives up in time, and every keyword looks at the clock.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["SECONDS", "OutOfTime", "first_error", "problem_of"]

SECONDS = 0.5
"""A document that takes longer is not decided."""
_BYTES, _DEPTH, _PATTERN, _STATES = 65_536, 48, 512, 20_000
_KEYWORDS_DEEP = 120
# Well below Python's own limit on frames, of which a keyword takes about four.


@dataclass(slots=True)
class _Budget:
    """What one check may still use: the clock's time at which it ends, and how many keywords it stands in."""

    deadline: float
    depth: int = 0


_BUDGET: ContextVar[_Budget] = ContextVar("budget")


class OutOfTime(Exception):
    """The check took longer than it may, or went deeper."""


def problem_of(schema: Mapping[str, Any]) -> str | None:
    """Return why a schema cannot be checked against, or None; the sentence quotes nothing of it."""
    try:
        import jsonschema
        import regex
    except ImportError as error:
        raise ImportError(
            "checks against a JSON Schema need jsonschema and regex: pip install 'metaalign[verifiers]'"
        ) from error
    try:
        if len(json.dumps(schema)) > _BYTES:
            return f"a schema of at most {_BYTES} bytes"
    except (ValueError, TypeError, RecursionError):
        return "a schema that is JSON"
    stack: list[tuple[str, Any, int]] = [("", schema, 0)]
    keys = set()
    while stack:
        key, value, depth = stack.pop()
        keys.add(key)
        if depth > _DEPTH:
            return f"a schema of at most {_DEPTH} levels"
        if isinstance(value, Mapping):
            stack.extend((str(inner), item, depth + 1) for inner, item in value.items())
            if key == "patternProperties":
                stack.extend(("pattern", pattern, depth) for pattern in value)
        elif isinstance(value, list):
            stack.extend(("", item, depth + 1) for item in value)
        elif key in ("$ref", "$dynamicRef") and not str(value).startswith("#"):
            return "a schema without references to other documents"
        elif key == "pattern" and isinstance(value, str):
            if len(value) > _PATTERN:
                return f"regular expressions of at most {_PATTERN} characters"
            if (size := _size(value)) is None:
                return "regular expressions as in JavaScript, without references to groups"
            if size > _STATES:
                return f"regular expressions of at most {_STATES} steps, repetitions multiplied"
            try:
                regex.compile(value)
            except (regex.error, RecursionError):
                return "regular expressions that compile"
    if {"patternProperties", "unevaluatedProperties"} <= keys:
        return "a schema without `unevaluatedProperties` beside `patternProperties`"
    try:
        draft = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        # Without formats, because Python's `re` would look at the patterns.
        with _panics_are_recursion_errors():
            draft.check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except (jsonschema.SchemaError, RecursionError):
        return "a valid JSON Schema"
    return None


_REFERENCE = r"\\[1-9kgRLX]"
_TOKEN = re.compile(
    rf"\\[pP]\{{[^}}]*\}}|{_REFERENCE}|\\.|\[(?:\\.|[^\]\\])*\]"
    r"|\((?:\?(?:[:=!]|<[=!]|<\w+>))?|\)|\{\d+(?:,\d*)?\}|.",
    re.DOTALL,
)


def _size(pattern: str) -> int | None:
    """Estimate the steps of a regular expression, in proportion to which the engine takes memory: `x{1000}` is 1000.

    None for references, recursion, flags and fuzzy matching, whose cost cannot be told.
    """
    groups, last, before = [0], 0, ""
    for token in _TOKEN.findall(pattern):
        if re.fullmatch(_REFERENCE, token) or token == "{" or (token == "?" and before == "("):
            return None
        if token[0] == "(":
            groups.append(0)
        elif token == ")" and len(groups) > 1:
            last = groups.pop() + 1
            groups[-1] += last
        elif token[0] == "{":
            times = max(1, *map(int, re.findall(r"\d+", token)))
            groups[-1] += last * (times - 1)
            last *= times
        else:
            last = 1
            groups[-1] += 1
        before = token
    return sum(groups)


def first_error(schema: Mapping[str, Any], document: Any) -> str | None:
    """Return which keyword a document breaks and where, or None if it is valid.

    Raises:
        OutOfTime: it cannot be decided within `SECONDS`, or by the schema's references at all.
    """
    import jsonschema
    from jsonschema_specifications import REGISTRY

    validator = _bounded(jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator))
    token = _BUDGET.set(_Budget(time.monotonic() + SECONDS))
    try:
        with _panics_are_recursion_errors():
            error = next(validator(schema, registry=REGISTRY).iter_errors(document), None)
    except TimeoutError as failure:
        raise OutOfTime("it takes too long") from failure
    except RecursionError as failure:
        raise OutOfTime("the schema goes round in circles or too deep") from failure
    except jsonschema.exceptions._WrappedReferencingError as failure:
        raise OutOfTime("a reference of the schema leads nowhere") from failure
    finally:
        _BUDGET.reset(token)
    if error is None:
        return None
    place = len(error.absolute_path)
    return f"breaks `{error.validator}`" + (f" {place} levels down" if place else "")


@contextmanager
def _panics_are_recursion_errors() -> Iterator[None]:
    # Where Python's limit is reached inside the library's compiled maps, they panic, and no `Exception` catches that.
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RecursionError from error
        raise


@lru_cache(maxsize=8)
def _bounded(base: Any) -> Any:
    """The validator class of a draft with keywords that keep to the time."""
    import jsonschema

    own = {"pattern": _pattern, "uniqueItems": _unique_items}
    if "patternProperties" in base.VALIDATORS:
        own |= {"patternProperties": _pattern_properties, "additionalProperties": _additional_properties}
    keywords = {name: _timed(own.get(name, keyword)) for name, keyword in base.VALIDATORS.items()}
    return jsonschema.validators.extend(base, keywords)


Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def _timed(keyword: Keyword) -> Keyword:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        budget = _BUDGET.get()
        if budget.depth >= _KEYWORDS_DEEP:
            raise RecursionError
        _left()
        budget.depth += 1
        try:
            for error in keyword(validator, value, instance, schema) or ():
                _left()
                yield error
        finally:
            budget.depth -= 1

    return run


def _left() -> float:
    left = _BUDGET.get().deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _matches(pattern: str, text: str) -> bool:
    import regex

    return regex.search(pattern, text, timeout=_left()) is not None


def _error(message: str) -> Any:
    import jsonschema

    return jsonschema.ValidationError(message)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield _error("does not match")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in known or any(_matches(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield _error("has further properties")
        elif isinstance(allowed, dict):
            yield from validator.descend(value, allowed, path=name)


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:
    # The library compares every two items where they cannot be sorted; written out, one pass is enough.
    if unique and isinstance(instance, list):
        written = {json.dumps(_numbers(item), sort_keys=True) for item in instance}
        if len(written) < len(instance):
            yield _error("has an item twice")


def _numbers(value: Any) -> Any:
    """`value` with 1.0 as 1, which JSON Schema holds for the same number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    return value
