"""The `preferences` field: what is accepted, what is refused, and which field the error names."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

import metaalign
from metaalign import LIMITS, InvalidPreferences, Preferences, parse_preferences
from metaalign.schema import preferences_schema, schema_text
from tests.processes import ROOT

GOOD: list[Any] = [
    "Answer like a pirate.",
    {},
    {"version": "1"},
    {"system": "x"},
    {"user": "x", "system": {"info": "y"}},
    {"profile": "support"},
    {"profile": ["support@stable", "tone:3"]},
    {"system": {"priorities": ["a", "b"], "attributes": {"length": "short"}, "locked": ["length"]}},
    {"user": {"attributes": {"tone": "any text at all", "made_up": "value"}}},
    {"user": {"examples": [{"query": "q", "preferred": "p"}, {"query": "q", "rejected": "r"}]}},
    {"user": {"info": "x" * LIMITS["info"]}},
    {"verify": True},
    {"verify": [{"name": "punctuation:no_comma"}, {"name": "format", "arguments": {"value": "json"}}]},
    {"user": {"attributes": {f"d{i}": "v" for i in range(LIMITS["attributes"])}}},
]

BAD: list[tuple[Any, str, bool]] = [  # value, param, whether JSON Schema can express it too
    (None, "preferences", True),
    (3, "preferences", True),
    (["x"], "preferences", True),
    ({"sytem": "x"}, "preferences.sytem", True),
    ({"user": {"atributes": {}}}, "preferences.user.atributes", True),
    ({"user": {"priorities": ["a"]}}, "preferences.user.priorities", True),
    ({"system": {"examples": []}}, "preferences.system.examples", True),
    ({"version": "2"}, "preferences.version", True),
    ({"verify": []}, "preferences.verify", True),
    ({"verify": 1}, "preferences.verify", True),
    ({"verify": False}, "preferences.verify", True),
    ({"verify": [{"name": "format", "args": {}}]}, "preferences.verify[0].args", True),
    ({"enforce": True}, "preferences.enforce", True),
    ({"version": 1}, "preferences.version", True),
    ({"user": 5}, "preferences.user", True),
    ({"user": {"info": 5}}, "preferences.user.info", True),
    ({"user": {"info": "x" * (LIMITS["info"] + 1)}}, "preferences.user.info", True),
    ({"user": {"attributes": {"tone": ""}}}, "preferences.user.attributes.tone", True),
    ({"user": {"attributes": {"tone": "x" * 201}}}, "preferences.user.attributes.tone", True),
    ({"user": {"attributes": {"tone": "a\nb"}}}, "preferences.user.attributes", False),
    ({"user": {"attributes": {"length": "huge"}}}, "preferences.user.attributes", False),
    ({"user": {"attributes": {f"d{i}": "v" for i in range(33)}}}, "preferences.user.attributes", True),
    ({"user": {"examples": [{"query": "q"}]}}, "preferences.user.examples[0]", False),
    ({"user": {"examples": [{"preferred": "p"}]}}, "preferences.user.examples[0].query", True),
    ({"user": {"examples": [{"query": "q", "preferred": "p"}] * 9}}, "preferences.user.examples", True),
    ({"system": {"locked": ["tone"]}}, "preferences.system", False),
    ({"system": {"priorities": ["a", "a"]}}, "preferences.system", False),
    ({"system": {"priorities": ["x" * 65]}}, "preferences.system.priorities[0]", True),
    ({"system": {"priorities": ["a\nb"]}}, "preferences.system.priorities[0]", True),
    ({"profile": "No Such"}, "preferences.profile[0]", True),
    ({"profile": ["ok", "a:b:c"]}, "preferences.profile[1]", True),
    (
        {
            "user": {"examples": [{"query": "q", "preferred": "x" * 2000}] * 8, "info": "y" * 8000},
            "system": "z" * 8000,
        },
        "preferences",
        False,
    ),
]


@pytest.mark.parametrize("value", GOOD)
def test_good(value: Any) -> None:
    parsed = parse_preferences(value)
    assert isinstance(parsed, Preferences)
    assert parse_preferences(parsed.model_dump(exclude_unset=True, mode="json")) == parsed
    jsonschema.validate(value, preferences_schema())


@pytest.mark.parametrize(("value", "param", "in_schema"), BAD)
def test_bad(value: Any, param: str, in_schema: bool) -> None:
    with pytest.raises(InvalidPreferences) as caught:
        parse_preferences(value)
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
    if in_schema:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, preferences_schema())


def test_errors_do_not_repeat_values() -> None:
    canary = "zanzibar-canary"
    for value in (
        {"user": {"attributes": {"length": canary}}},
        {"user": {"info": [canary]}},
        {"profile": f"{canary} {canary}"},
        {"user": {"info": f"{canary}\ud800"}},
    ):
        with pytest.raises(InvalidPreferences) as caught:
            parse_preferences(value)
        assert canary not in caught.value.message


def test_a_bare_string_is_system() -> None:
    assert parse_preferences("x") == parse_preferences({"system": {"info": "x"}})
    assert parse_preferences({"user": "x"}) == parse_preferences({"user": {"info": "x"}})


def test_frozen() -> None:
    parsed: Any = parse_preferences({"user": {"info": "x", "examples": [{"query": "q", "preferred": "p"}]}})
    for model, name in ((parsed, "user"), (parsed.user, "info"), (parsed.user.examples[0], "query")):
        with pytest.raises(ValidationError):
            setattr(model, name, None)


def test_the_published_schema_is_current() -> None:
    assert (ROOT / "docs" / "preferences.schema.json").read_text(encoding="utf-8") == schema_text()


def test_all_names_exist() -> None:
    for info in pkgutil.iter_modules(metaalign.__path__, "metaalign."):
        module = importlib.import_module(info.name)
        assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == []
