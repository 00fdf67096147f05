"""Who wins: hand-written tables."""

from __future__ import annotations

from typing import Any

import pytest

from metaalign import parse_preferences
from metaalign.prompt import Layer, Overridden, render, request_layers, resolve


def layer(source: str, value: Any) -> Layer:
    preferences = parse_preferences(value)
    return Layer(source, preferences.system, preferences.user)


def attributes(tier: str, locked: list[str] | None = None, **values: str) -> dict[str, Any]:
    part: dict[str, Any] = {"attributes": values}
    if locked:
        part["locked"] = locked
    return {tier: part}


@pytest.mark.parametrize(
    ("layers", "system", "user", "overridden"),
    [
        ([], {}, {}, []),
        # a dimension of the System tier beats the User tier, whoever comes first
        (
            [
                (
                    "request",
                    {
                        **attributes("system", length="short"),
                        **attributes("user", length="long", tone="pirate"),
                    },
                )
            ],
            {"length": "short"},
            {"tone": "pirate"},
            [("length", "user", "long", "short", "system:request")],
        ),
        (
            [
                ("profile a", attributes("user", tone="formal")),
                ("request", attributes("system", tone="pirate")),
            ],
            {"tone": "pirate"},
            {},
            [("tone", "user", "formal", "pirate", "system:request")],
        ),
        # within a tier the later layer wins
        (
            [
                ("profile a", attributes("user", tone="formal")),
                ("request", attributes("user", tone="casual")),
            ],
            {},
            {"tone": "casual"},
            [("tone", "user", "formal", "casual", "user:request")],
        ),
        # unless the earlier one locked it
        (
            [
                ("tenant", attributes("system", ["tone"], tone="formal")),
                ("profile a", attributes("system", tone="casual")),
                ("request", {**attributes("system", tone="pirate"), **attributes("user", tone="cheerful")}),
            ],
            {"tone": "formal"},
            {},
            [
                ("tone", "system", "casual", "formal", "system:tenant"),
                ("tone", "system", "pirate", "formal", "system:tenant"),
                ("tone", "user", "cheerful", "formal", "system:tenant"),
            ],
        ),
        # a lock may come later; what came before it is overridden as usual
        (
            [
                ("profile a", attributes("system", tone="casual")),
                ("profile b", attributes("system", ["tone"], tone="formal")),
                ("request", attributes("system", tone="pirate")),
            ],
            {"tone": "formal"},
            {},
            [
                ("tone", "system", "casual", "formal", "system:profile b"),
                ("tone", "system", "pirate", "formal", "system:profile b"),
            ],
        ),
        # equal values do not conflict
        (
            [
                ("profile a", attributes("user", tone="formal")),
                ("request", attributes("system", tone="formal")),
            ],
            {"tone": "formal"},
            {},
            [],
        ),
        # other dimensions stay as they are
        (
            [
                ("a", attributes("system", units="metric")),
                ("b", attributes("user", name="Ada")),
                ("c", attributes("system", mood="calm")),
            ],
            {"units": "metric", "mood": "calm"},
            {"name": "Ada"},
            [],
        ),
    ],
)
def test_attributes(layers: Any, system: Any, user: Any, overridden: Any) -> None:
    resolution = resolve([layer(source, value) for source, value in layers])
    assert dict(resolution.system.attributes) == system
    assert dict(resolution.user.attributes) == user
    assert resolution.overridden == tuple(Overridden(*row) for row in overridden)


def test_texts_follow_in_layer_order_and_messages_come_last() -> None:
    layers = [
        layer("tenant", "Tenant."),
        layer("profile a", {"system": "Profile.", "user": "Of the profile."}),
        *request_layers(
            parse_preferences({"system": "Request.", "user": "Of the request."}),
            system_messages=["Message one.", "", "Message two."],
            user_info_messages=["Of a message."],
        ),
    ]
    resolution = resolve(layers)
    assert resolution.system.texts == ("Tenant.", "Profile.", "Request.", "Message one.", "Message two.")
    assert resolution.user.texts == ("Of the profile.", "Of the request.", "Of a message.")


def test_nothing_overrides_a_binding_layer() -> None:
    """A tenant's policy holds, whether it locks names or not; attempts to change it are reported."""
    policy = parse_preferences(
        {"system": {"info": "Policy.", "priorities": ["law"], "attributes": {"tone": "formal"}}}
    )
    resolution = resolve(
        [
            Layer("tenant", policy.system, binding=True),
            layer(
                "request",
                {
                    "system": {"priorities": ["fun"], "attributes": {"tone": "pirate", "length": "short"}},
                    "user": {"attributes": {"tone": "casual"}},
                },
            ),
        ]
    )
    assert resolution.system.priorities == ("law",)
    assert dict(resolution.system.attributes) == {"tone": "formal", "length": "short"}
    assert resolution.user.attributes == ()
    assert resolution.overridden == (
        Overridden("tone", "system", "pirate", "formal", "system:tenant"),
        Overridden("tone", "user", "casual", "formal", "system:tenant"),
        Overridden("priorities", "system", "fun", "law", "system:tenant"),
    )


def test_later_priorities_replace_earlier_ones() -> None:
    resolution = resolve(
        [
            layer("profile a", {"system": {"priorities": ["honesty", "brevity"]}}),
            layer("request", {"system": {"priorities": ["harmlessness"]}}),
        ]
    )
    assert resolution.system.priorities == ("harmlessness",)
    lost = Overridden("priorities", "system", "honesty, brevity", "harmlessness", "system:request")
    assert resolution.overridden == (lost,)


def test_examples_of_all_layers_are_kept() -> None:
    one, two = ({"query": q, "preferred": "x"} for q in ("one", "two"))
    resolution = resolve(
        [layer("a", {"user": {"examples": [one]}}), layer("b", {"user": {"examples": [two]}})]
    )
    assert [example.query for example in resolution.user.examples] == ["one", "two"]


def test_rendered_words() -> None:
    preferences = parse_preferences(
        {
            "system": {
                "info": "You sell tea.",
                "priorities": ["honesty", "brevity"],
                "attributes": {"length": "short", "reading_level": "grade 5", "language": "Basque"},
            },
            "user": {
                "info": "I am Ada.",
                "attributes": {"tone": "wry", "closing": "Bye {now}!"},
                "examples": [
                    {"query": "Hi?", "preferred": "Yo.", "rejected": "Good day."},
                    {"query": "Q", "rejected": "R"},
                ],
            },
        }
    )
    meta_prompt = render(resolve(request_layers(preferences)))
    assert meta_prompt.system_info == (
        "You sell tea.\n\n"
        "Priorities, most important first: honesty, brevity.\n"
        "Keep the answer short.\n"
        "Reading level: grade 5.\n"
        "Answer in this language: Basque."
    )
    assert meta_prompt.user_info == (
        "I am Ada.\n\n"
        "Question: Hi?\nPreferred answer: Yo.\nRejected answer: Good day.\n\n"
        "Question: Q\nRejected answer: R\n\n"
        "Use this tone: wry.\n"
        "End with these words: Bye {now}!"
    )
