"""Which branches preferences come to, and who may set how strongly a tier acts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaalign import InvalidPreferences, parse_preferences
from metaalign.preferences import Preferences, SystemPreferences
from metaalign.prompt import Layer, Steered, request_layers, steer


def steered(field: Any, *before: Layer) -> Steered:
    return steer([*before, *request_layers(parse_preferences(field))])


def terms(found: Steered) -> dict[tuple[str, str], float]:
    return {(b.meta_prompt.system_info, b.meta_prompt.user_info): b.coefficient for b in found.branches}


def policy(**bounds: Any) -> Layer:
    said = {"info": "P", **({"strength_bounds": bounds} if bounds else {})}
    return Layer("tenant", SystemPreferences.model_validate(said), binding=True)


BOTH = {"system": "S", "user": "U"}


def test_the_branches_are_those_of_the_formula_without_those_that_count_nothing() -> None:
    full, system, none = ("S", "U"), ("S", ""), ("", "")
    assert terms(steered(BOTH | {"strength": 1})) == {full: 1}
    assert terms(steered(BOTH | {"strength": 1.5})) == {full: 1.5, none: -0.5}
    assert terms(steered(BOTH | {"strength": {"user": 2}})) == {full: 2, system: -1}
    assert terms(steered(BOTH | {"strength": {"user": 0}})) == {system: 1}
    assert terms(steered(BOTH | {"strength": 0})) == {none: 1}
    assert terms(steered(BOTH | {"strength": {"system": 1.2, "user": 2}})) == {
        full: 2,
        system: -0.8,
        none: -0.2,
    }


def test_a_blend_mixes_user_tiers_under_one_system_tier() -> None:
    parts = [{"user": "a", "weight": 0.7}, {"user": "b", "weight": 0.3}]
    found = steered({"system": "S", "user": "U", "blend": parts})
    assert terms(found) == {("S", "U\n\na"): 0.7, ("S", "U\n\nb"): 0.3}
    assert found.blend == (0.7, 0.3)
    with pytest.raises(InvalidPreferences, match=r"strength\.user"):
        steered({"blend": parts, "strength": 2})
    assert terms(steered({"system": "S", "blend": parts, "strength": {"system": 1.5}})) == {
        ("S", "a"): 0.7, ("S", "b"): 0.3, ("S", ""): 0.5, ("", ""): -0.5,
    }  # fmt: skip


def test_what_system_overrides_is_in_no_branch() -> None:
    field = {
        "system": {"attributes": {"tone": "pirate"}},
        "user": {"attributes": {"tone": "formal"}},
        "strength": {"user": 4},
    }
    found = steered(field)
    assert not any(branch.meta_prompt.user_info for branch in found.branches)
    assert [entry.value for entry in found.resolution.overridden] == ["formal"]


@given(
    system=st.floats(0, 4),
    user=st.floats(0, 4),
    field=st.sampled_from([BOTH, {"system": "S"}, {"user": "U"}, {"verify": True}]),
)
def test_the_coefficients_sum_to_one(system: float, user: float, field: dict[str, Any]) -> None:
    found = steered(field | {"strength": {"system": system, "user": user}})
    assert sum(branch.coefficient for branch in found.branches) == pytest.approx(1)
    assert 1 <= len(found.branches) <= 3
    assert all(branch.coefficient for branch in found.branches)


def test_a_policy_is_weakened_only_where_it_says_so() -> None:
    found = steered({"strength": {"system": 0.2}}, policy())
    assert found.strength == (1, 1)
    (entry,) = found.resolution.overridden
    assert (entry.dimension, entry.tier, entry.value, entry.kept, entry.by) == (
        "strength", "system", "0.2", "1", "system:tenant",
    )  # fmt: skip
    assert steered({"strength": {"system": 0.2}}, policy(system=[0.1, 2])).strength == (0.2, 1)
    assert steered({"strength": {"user": 3}}, policy(user=[1.5, 1.5])).strength == (1, 1.5)
    assert steered({}, policy(user=[1.5, 2])).strength == (1, 1.5)


def test_a_request_replaces_what_a_profile_stores_tier_by_tier() -> None:
    profile = Layer.of(
        "profile p:1", Preferences.model_validate({"user": "U", "strength": {"system": 2, "user": 3}})
    )
    assert steered({"strength": {"user": 1}}, profile).strength == (2, 1)


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ({"strength": 4.5}, "preferences.strength"),
        ({"strength": -1}, "preferences.strength"),
        ({"strength": True}, "preferences.strength"),
        ({"strength": "1"}, "preferences.strength"),
        ({"strength": {"usr": 1}}, "preferences.strength"),
        ({"blend": [{"user": "a", "weight": 0.5}]}, "preferences.blend"),
        ({"blend": [{"weight": 1}]}, "preferences.blend[0]"),
        ({"blend": [{"user": "a", "profile": "b", "weight": 1}]}, "preferences.blend[0]"),
        ({"candidates": 0}, "preferences.candidates"),
        ({"candidates": 17}, "preferences.candidates"),
        ({"candidates": True}, "preferences.candidates"),
        ({"system": {"strength_bounds": {"user": [2, 1]}}}, "preferences.system.strength_bounds"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidPreferences) as raised:
        parse_preferences(field)
    assert (raised.value.param or "").startswith(param)
