"""Times of answers tell nothing about keys, profiles and prompts of others (`python -m benchmarks.timing` for more)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from tests.security.timing import Connection, Verdict, compare, http
from tests.security.world import CHAT, MODEL, World

TENANTS: list[dict[str, Any]] = [{"name": "acme"}, {"name": "other"}]
Measure = Callable[[World, Connection, int], Verdict]


@dataclass(frozen=True)
class Comparison:
    """Two kinds of requests, and whether they may, and must, be told apart."""

    measure: Measure
    differ: bool = False


def _keys(wrong: Callable[[World], str]) -> Measure:
    def measure(world: World, connection: Connection, samples: int) -> Verdict:
        bad = http("GET", "/v1/models", wrong(world))
        none = http(
            "GET", "/v1/models", wrong(world), header="x-other-words"
        )  # as many bytes to read, but no key
        assert len(none) == len(bad)
        return compare(connection, [lambda _: none, lambda _: bad], samples, {401})

    return measure


def _known_id(world: World) -> str:
    """A key that exists, with the secret of another one."""
    start, _, _ = world.keys["acme"].rpartition("_" + world.keys["acme"].split("_", 3)[3])
    return f"{start}_{world.keys['other'].split('_', 3)[3]}"


def _unknown_id(world: World) -> str:
    word, environment, _, secret = world.keys["acme"].split("_", 3)
    return f"{word}_{environment}_{'a' * 24}_{secret}"


def _known_and_unknown(world: World, connection: Connection, samples: int) -> Verdict:
    known, unknown = (http("GET", "/v1/models", key(world)) for key in (_known_id, _unknown_id))
    return compare(connection, [lambda _: known, lambda _: unknown], samples, {401})


def _profile(make: Callable[[str, str], bytes]) -> Measure:
    """Another tenant's profile and none, as the tenant `other` asks for them."""

    def measure(world: World, connection: Connection, samples: int) -> Verdict:
        body = {"name": "hidden-a", "preferences": {"system": "a " * 500}}
        assert world.client("acme").post("/v1/profiles", json=body).status_code in (201, 409)
        theirs, nobodys = (make(world.keys["other"], name) for name in ("hidden-a", "hidden-b"))
        return compare(connection, [lambda _: theirs, lambda _: nobodys], samples, {404})

    return measure


def _read(key: str, name: str) -> bytes:
    return http("GET", f"/v1/profiles/{name}", key)


def _use(key: str, name: str) -> bytes:
    return http("POST", "/v1/chat/completions", key, CHAT | {"preferences": {"profile": name}})


def _prefix(warmer: str) -> Measure:
    """A long prefix that `warmer` has just sent, and one that nobody has, as the tenant `other` sends them."""

    def measure(world: World, connection: Connection, samples: int) -> Verdict:
        def request(who: str, kind: str, number: int) -> bytes:
            text = f"{kind} {number} " + "the quick brown fox " * 40
            return http(
                "POST", "/v1/completions", world.keys[who], {"model": MODEL, "prompt": text, "max_tokens": 1}
            )

        def warmed(number: int) -> bytes:
            _, status, _ = connection.send(request(warmer, run + "a", number))
            assert status == 200
            return request("other", run + "a", number)

        def cold(number: int) -> bytes:
            _, status, _ = connection.send(request(warmer, run + "b", number))  # as much went before
            assert status == 200
            return request("other", run + "c", number)

        run = f"{warmer} {samples}"
        return compare(connection, [warmed, cold], samples, {200})

    return measure


COMPARISONS = {
    "no key, a malformed one": Comparison(_keys(lambda world: "wrong")),
    "no key, one of an unknown id": Comparison(_keys(_unknown_id)),
    "no key, a known id with a wrong secret": Comparison(_keys(_known_id)),
    "a known id with a wrong secret, an unknown id": Comparison(_known_and_unknown),
    "another tenant's profile and none, read": Comparison(_profile(_read)),
    "another tenant's profile and none, used": Comparison(_profile(_use)),
    "another tenant's cached prefix and none": Comparison(_prefix("acme")),
    "one's own cached prefix and none": Comparison(_prefix("other"), differ=True),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_times_tell_nothing(world: World, name: str) -> None:
    """Except about oneself, which shows that the method sees differences."""
    comparison = COMPARISONS[name]
    with closing(Connection(world.server.url)) as connection:
        verdict = comparison.measure(world, connection, 150)
    assert verdict.differ == comparison.differ, verdict
