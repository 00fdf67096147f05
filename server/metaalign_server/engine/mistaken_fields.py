"""Names that people give to `preferences`, refused with the right place.

A field that the protocol does not know is otherwise ignored, and the answer follows no preference.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from metaalign import RefusedField

__all__ = ["refuse_mistaken_fields"]

_FIELD = "preferences are given in `preferences`, at the top level of the body"
_PROFILE = (
    "a profile is named in `preferences.profile`, in the header X-MetaAlign-Profile, or in the model's name"
)
_MISTAKEN = {
    "extra_body": "an argument of OpenAI's Python client, which sends what is in it at the top level of the body;"
    f" {_FIELD}",
    **dict.fromkeys(
        (
            "preference", "prefs", "pref", "user_preferences", "system_preferences", "user_preference",
            "system_preference", "user_prefs", "system_prefs", "metaalign", "metaalign_preferences", "meta_align",
            "system_info", "user_info",
        ),
        f"unknown field; {_FIELD}",
    ),
    **dict.fromkeys(("profile", "profiles", "metaalign_profile"), f"unknown field; {_PROFILE}"),
}  # fmt: skip
_LIKENESS = 0.8
"""Of difflib, from which a name is taken for `preferences` with a typing error."""
_LENGTHS = range(8, 16)
"""Of names that can be so alike: 2 * 11 / (11 + length), of difflib, must reach that."""
_COMPARED = 16
"""Names of one body that are compared, so that a body of nothing but such names costs no more than others."""


def refuse_mistaken_fields(body: Mapping[object, object], known: Mapping[str, object]) -> None:
    """Refuse names that are probably meant as `preferences`.

    Args:
        body: The request's body.
        known: The fields of its protocol, which are never mistaken.

    Raises:
        RefusedField: the message says where preferences are given.
    """
    compared = 0
    for name in body:
        if not isinstance(name, str) or name in known:
            continue
        plain = name.lower().replace("-", "_")
        told = _MISTAKEN.get(plain)
        # `reference` is a word of its own.
        if told is None and plain.startswith("p") and len(plain) in _LENGTHS and compared < _COMPARED:
            compared += 1
            if difflib.SequenceMatcher(None, plain, "preferences").ratio() >= _LIKENESS:
                told = f"unknown field; {_FIELD}"
        if told is not None:
            raise RefusedField(f"{name}: {told}", param=name)
