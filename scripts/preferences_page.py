"""Writes `docs/reference/preferences.md` from the schema: `python scripts/preferences_page.py FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaalign.dimensions import DIMENSIONS
from metaalign.preferences import LIMITS
from metaalign.schema import preferences_schema
from schema_words import default_words, table, type_words

__all__ = ["preferences_page"]

_HEAD = """\
# The `preferences` field

Written by `make generated` from the models in `clients/python/metaalign/preferences.py`. The same as [JSON
Schema](../preferences.schema.json), draft 2020-12.

Every route for inference takes `preferences`, and so do `/v1/align`, `/v1/preferences/render` and profiles. It is a
string, which is short for `{"system": "…"}`, or an object. Unknown keys are errors at every level, and lengths are
counted in Unicode code points. What wins when two sources disagree is in [concepts](../concepts.md#who-wins).

```json
{
  "profile": ["support@stable"],
  "system": {
    "info": "You answer customers of a zoo.",
    "attributes": {"tone": "formal", "length": "short"},
    "priorities": ["harmlessness", "helpfulness"],
    "locked": ["tone"]
  },
  "user": {
    "info": "My name is Ada.",
    "attributes": {"format": "bullets", "units": "imperial"},
    "examples": [{"query": "How heavy is an otter?", "preferred": "An otter weighs 22 pounds."}]
  },
  "verify": true,
  "strength": {"user": 1.5}
}
```

"""

_DIMENSIONS = """\
## Dimensions

Keys of `attributes` with a fixed wording. What the model reads is the sentence in the last column. A closed dimension
takes only the values listed; the others also take any text of at most {value} characters on one line. Any other name
is a dimension of your own and is rendered as `Name: value.`

"""

_CHECKS = """\
## Checks

What `verify` may name, with the arguments of each. What makes a text pass is in [verifiers](../verifiers.md).

"""

_MEANINGS = {
    "Preferences": {
        "version": "version of this field",
        "profile": "stored [profiles](../platform.md#profiles): name, `name@label` or `name:version`; later ones win",
        "system": 'the provider\'s preferences: System Info. A string is short for `{"info": …}`',
        "user": 'the user\'s own preferences: User Info. A string is short for `{"info": …}`',
        "verify": "[checks](../verifiers.md) of the answer, for the receipt; `true`: those that its dimensions imply",
        "strength": "how strongly the tiers act ([steering](../steering.md)); a number is for both",
        "blend": "User tiers to mix ([steering](../steering.md#blends)); the weights sum to 1",
        "candidates": "answers to sample; the one that the preferences make likeliest is returned"
        " ([steering](../steering.md#candidates))",
    },
    "SystemPreferences": {
        "info": "free text",
        "attributes": "dimension → value; see [dimensions](#dimensions)",
        "priorities": "criteria, most important first; no entry twice",
        "locked": "dimensions that no later layer may change; each must be in `attributes` beside it",
        "strength_bounds": "what `strength` may be in later layers",
    },
    "UserPreferences": {
        "info": "free text",
        "attributes": "dimension → value; see [dimensions](#dimensions)",
        "examples": "exchanges that show a preference instead of stating it",
    },
    "Example": {
        "query": "the question",
        "preferred": "an answer that the user liked",
        "rejected": "an answer that the user did not like",
    },
    "Strength": {
        "system": "of the System tier: 1 as trained, 0 as if it were not there; below 1 takes the scope `system`",
        "user": "of the User tier",
    },
    "StrengthBounds": {
        "system": "lowest and highest strength of the System tier; twice the same fixes it",
        "user": "of the User tier",
    },
    "BlendPart": {
        "weight": "its share",
        "profile": "a stored profile with a `user` part and nothing else",
        "user": "the User tier itself; either this or `profile`",
    },
    "NamedCheck": {"name": "name of a check", "arguments": "its arguments"},
}
"""What each key means. A key that is missing here is an error, so a new one gets its line."""

_TITLES = {
    "Preferences": ("Keys", "All texts together hold at most {total} characters."),
    "SystemPreferences": ("`system`", "Writing it takes a key with the scope `system`."),
    "UserPreferences": ("`user`", "The User tier."),
    "Example": ("`user.examples`", "At least one of the two answers is given."),
    "Strength": ("`strength`", "A tier that is left out keeps the strength of an earlier layer, or 1."),
    "StrengthBounds": (
        "`system.strength_bounds`",
        "A strength outside them becomes the nearest inside, and the receipt says so.",
    ),
    "BlendPart": ("`blend`", "At most {blend} parts, each with a weight and one source."),
    "NamedCheck": ("`verify`", "Stored preferences hold no `verify`."),
}

_LINKS = {
    "SystemPreferences": "[object](#system)",
    "UserPreferences": "[object](#user)",
    "Example": "[object](#userexamples)",
    "Strength": "[object](#strength)",
    "StrengthBounds": "[object](#systemstrength_bounds)",
    "BlendPart": "[object](#blend)",
    "NamedCheck": "[object](#verify)",
}


def _keys(name: str, model: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    required = model.get("required", ())
    for key, schema in model["properties"].items():
        words = type_words(schema, _LINKS.__getitem__)
        yield f"`{key}`", words, default_words(schema, required=key in required), _MEANINGS[name][key]


def _dimensions() -> Iterator[tuple[str, ...]]:
    for dimension in DIMENSIONS.values():
        for value, sentence in dimension.values.items():
            yield f"`{dimension.name}`", dimension.summary, f"`{value}`", sentence
        if dimension.pattern is not None:
            yield f"`{dimension.name}`", dimension.summary, "any *value*", dimension.pattern.format("*value*")


def _arguments(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    given = schema.get("properties", {}).items()
    return "; ".join(
        f"`{key}`{'' if key in required else ' (optional)'}: {type_words(value)}" for key, value in given
    )


def preferences_page() -> str:
    """`docs/reference/preferences.md`."""
    schema = preferences_schema()
    parts = [_HEAD]
    for name, (title, text) in _TITLES.items():
        rows = table(("key", "type", "default", "meaning"), _keys(name, schema["$defs"][name]))
        parts.append(f"## {title}\n\n{text.format(**LIMITS)}\n\n{rows}\n")
    parts.append(_DIMENSIONS.format(value=LIMITS["attribute_value"]))
    parts.append(table(("dimension", "controls", "value", "what the model reads"), _dimensions()) + "\n")
    checks = ((f"`{name}`", _arguments(arguments) or "–") for name, arguments in schema["x-checks"].items())
    parts.append(_CHECKS + table(("check", "arguments"), checks))
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(preferences_page(), encoding="utf-8")
