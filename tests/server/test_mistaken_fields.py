"""Names that are probably meant as `preferences`: what is taken for one, and what looking costs."""

from __future__ import annotations

import difflib

import pytest

from metaalign import RefusedField
from metaalign_server.engine.mistaken_fields import refuse_mistaken_fields


@pytest.mark.parametrize("name", ["preferenecs", "preferance", "prefrences", "PREFERENCES", "preferences_"])
def test_a_typing_error_is_taken_for_preferences(name: str) -> None:
    with pytest.raises(RefusedField, match=f"^{name}: unknown field; preferences are given in"):
        refuse_mistaken_fields({name: {}}, {"preferences": 0})


@pytest.mark.parametrize("name", ["reference", "presence_penalty", "prefix", "performance", "p", "provider"])
def test_other_words_are_not(name: str) -> None:
    refuse_mistaken_fields({name: {}, "preferences": {}, "prefill": 1}, {"preferences": 0})


def test_a_body_of_such_names_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    class Counting(difflib.SequenceMatcher[str]):
        def __init__(self, junk: None, name: str, other: str) -> None:
            compared.append(name)
            super().__init__(junk, name, other)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    body: dict[object, object] = {f"p{number:09d}": 0 for number in range(100_000)}
    refuse_mistaken_fields(body | {"p" * 10**6: 0}, {})
    assert len(compared) == 16
