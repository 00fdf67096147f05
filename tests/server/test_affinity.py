"""Which server a request goes to when there are several."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaalign_server.serving.affinity import affinity_key, bound, ranked

TOKEN = b"ma_live_one"
PIRATE = {"system": {"attributes": {"tone": "pirate"}}}
names = st.text("abcdefgh0123456789", min_size=1, max_size=12)
loads = st.dictionaries(names, st.integers(0, 500), min_size=1, max_size=8)
keys = st.binary(min_size=16, max_size=16)


def key(body: dict[str, Any], token: bytes = TOKEN, profile: bytes = b"") -> bytes | None:
    return affinity_key(token, profile, json.dumps(body).encode())


def chat(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": r, "content": c} for r, c in messages], **more}


def test_the_dialogue_does_not_matter_beside_preferences() -> None:
    one = key(chat(("user", "otter"), preferences=PIRATE))
    assert one is not None
    assert one == key(chat(("user", "otter"), ("assistant", "…"), ("user", "fox"), preferences=PIRATE))
    assert one == key(
        chat(("user", "fox"), preferences=PIRATE) | {"temperature": 1, "stream": True, "user": "ada"}
    )


@pytest.mark.parametrize(
    "other",
    [
        key(chat(("user", "otter"), preferences="Answer formally.")),
        key(chat(("user", "otter"), preferences={"profile": "museum"})),
        key(chat(("user", "otter"), preferences=PIRATE), token=b"ma_live_two"),
        key(chat(("user", "otter"), preferences=PIRATE), profile=b"museum"),
        key(chat(("user", "otter"), preferences=PIRATE) | {"model": "m@museum"}),
        key(chat(("system", "Be brief."), ("user", "otter"), preferences=PIRATE)),
        key(chat(("user", "otter"), preferences=PIRATE, system="Be brief.")),
        key({"model": "m", "input": "otter", "instructions": "Be brief.", "preferences": PIRATE}),
    ],
)
def test_what_comes_before_the_dialogue_matters(other: bytes | None) -> None:
    assert other not in (None, key(chat(("user", "otter"), preferences=PIRATE)))


def test_without_preferences_a_dialogue_stays_where_it_began() -> None:
    began = key(chat(("user", "otter")))
    assert began == key(chat(("user", "otter"), ("assistant", "…"), ("user", "fox")))
    assert began != key(chat(("user", "fox")))
    assert key({"model": "m", "prompt": "otter"}) != key({"model": "m", "prompt": "fox"})
    assert key({"query": "otter"}) != key({"query": "fox"})


def test_the_order_of_a_bodys_fields_does_not_matter() -> None:
    assert affinity_key(TOKEN, b"", b'{"preferences": {"a": 1, "b": 2}, "model": "m"}') == affinity_key(
        TOKEN, b"", b'{"model":"m","preferences":{"b":2,"a":1}}'
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b" " * 5_000_000])
def test_a_body_that_is_no_request_goes_anywhere(body: bytes) -> None:
    assert affinity_key(TOKEN, b"", body) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_has_a_key_or_none(value: Any) -> None:
    found = affinity_key(
        TOKEN, b"", json.dumps({"messages": value, "preferences": value, "input": value}).encode()
    )
    assert found is not None
    assert len(found) == 16


@given(keys, loads, st.floats(1, 4), st.integers(1, 64))
def test_every_server_is_named_once_and_the_first_is_within_the_bound(
    key: bytes, loads: dict[str, int], slack: float, floor: int
) -> None:
    order = ranked(key, loads, slack=slack, floor=floor)
    assert sorted(order) == sorted(loads)
    allowed = bound(sum(loads.values()) + 1, len(loads), slack=slack, floor=floor)
    assert loads[order[0]] + 1 <= allowed


@given(keys, st.sets(names, min_size=2, max_size=8), st.data())
def test_only_the_keys_of_a_server_that_leaves_move(
    key: bytes, servers: set[str], data: st.DataObject
) -> None:
    idle = dict.fromkeys(servers, 0)
    before = ranked(key, idle, slack=1.25, floor=1)
    gone = data.draw(st.sampled_from(sorted(servers)))
    after = ranked(key, {name: 0 for name in idle if name != gone}, slack=1.25, floor=1)
    assert list(after) == [name for name in before if name != gone]


def test_keys_are_spread_evenly() -> None:
    idle = dict.fromkeys("abcd", 0)
    first = Counter(ranked(number.to_bytes(16), idle, slack=1.25, floor=1)[0] for number in range(4000))
    # 1000 each; the standard deviation is 27.
    assert all(abs(count - 1000) < 150 for count in first.values())


def test_a_favourite_over_its_bound_passes_on() -> None:
    favourite, second, third = ranked(b"k" * 16, dict.fromkeys("abc", 0), slack=1.25, floor=4)
    # The bound is ceil(1.25 * 13 / 3) = 6.
    assert ranked(b"k" * 16, {favourite: 5, second: 3, third: 4}, slack=1.25, floor=4)[0] == favourite
    assert list(ranked(b"k" * 16, {favourite: 6, second: 3, third: 3}, slack=1.25, floor=4)) == [
        second,
        third,
        favourite,
    ]
    # A floor above it keeps the request.
    assert ranked(b"k" * 16, {favourite: 6, second: 3, third: 3}, slack=1.25, floor=8)[0] == favourite


def test_without_a_key_the_least_loaded_is_first() -> None:
    assert list(ranked(None, {"a": 2, "b": 0, "c": 1}, slack=1.25, floor=8)) == ["b", "c", "a"]
    assert list(ranked(None, {}, slack=1.25, floor=8)) == []
