"""Keys: everybody without a valid key gets the same answer, and an expired or revoked key is useless."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.security.world import CHAT, World


@pytest.fixture(scope="module")
def bad_headers(world: World) -> dict[str, dict[str, str]]:
    """Ways of not having a valid key."""
    good = world.keys["acme"]
    word, environment, key_id, secret = good.split("_", 3)
    other_secret = world.keys["other"].split("_", 3)[3]
    revoked = world.make_key("acme", "inference")
    world.client("operator").post(f"/v1/admin/keys/{revoked['id']}/revoke")
    expired = world.make_key("acme", "inference", expires_at=int(time.time()) + 1)
    disabled = {"name": "disabled"}
    assert world.client("operator").post("/v1/admin/tenants", json=disabled).status_code == 201
    of_disabled = world.make_key("disabled", "inference")["key"]
    assert (
        world.client("operator").patch("/v1/admin/tenants/disabled", json={"disabled": True}).status_code
        == 200
    )
    time.sleep(1.1)
    tokens = {
        "malformed": "wrong",
        "unknown": f"{word}_{environment}_{'a' * 24}_{secret}",
        "another's secret": f"{word}_{environment}_{key_id}_{other_secret}",
        "first letter": f"{word}_{environment}_{key_id}_{'a' if secret[0] != 'a' else 'b'}{secret[1:]}",
        "last letter": f"{good[:-2]}{'AA' if good[-2:] != 'AA' else 'BB'}",
        "cut": good[:-1],
        "longer": good + "a",
        "upper case": good.upper(),
        "revoked": revoked["key"],
        "expired": expired["key"],
        "of a disabled tenant": of_disabled,
        "very long": "ma_live_" + "a" * 50_000,
    }
    headers = {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}
    return headers | {
        "none": {},
        "empty": {"authorization": "Bearer"},
        "basic": {"authorization": f"Basic {good}"},
        "no scheme": {"authorization": good},
        "in a cookie": {"cookie": f"key={good}"},
        "in another header": {"x-auth-token": good},
        "x-api-key": {"x-api-key": good[:-3]},
    }


def test_key_guessing(world: World, bad_headers: dict[str, dict[str, str]]) -> None:
    """Every bad key gets the same bytes on every route, whether the route exists or not."""
    seen = set()
    for headers in bad_headers.values():
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/v1/nothing")):
            answer = httpx.request(method, world.server.url + path, headers=headers, timeout=60)
            shown = {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}
            seen.add((answer.status_code, answer.text, json.dumps(shown)))
    assert len(seen) == 1
    assert seen.pop()[0] == 401
    in_query = httpx.get(f"{world.server.url}/v1/models?api_key={world.keys['acme']}", timeout=60)
    assert in_query.status_code == 401


def test_a_revoked_key_ends_at_once(world: World) -> None:
    """It is in use from several threads; once the revocation is answered, nothing more is served."""
    made = world.make_key("acme", "inference")
    headers = {"authorization": f"Bearer {made['key']}"}
    revoked = threading.Event()
    stop = threading.Event()
    late: list[int] = []

    def use() -> None:
        with httpx.Client(base_url=world.server.url, headers=headers, timeout=60) as client:
            while not stop.is_set():
                after = revoked.is_set()
                status = client.get("/v1/models").status_code
                if after:
                    late.append(status)

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    time.sleep(0.5)
    assert world.client("operator").post(f"/v1/admin/keys/{made['id']}/revoke").status_code == 200
    revoked.set()
    time.sleep(0.5)
    stop.set()
    for user in users:
        user.join()
    assert late
    assert set(late) == {401}


def test_a_key_is_shown_once(world: World) -> None:
    made = world.make_key("acme", "inference")
    operator = world.client("operator")
    for path in ("/v1/admin/keys?tenant=acme&limit=200", "/v1/admin/audit?limit=200"):
        text = operator.get(path).text
        assert made["id"] in text
        assert made["key"].split("_", 3)[3] not in text
    rotated = operator.post(f"/v1/admin/keys/{made['id']}/rotate", json={"grace_seconds": 0}).json()
    assert made["key"].split("_", 3)[3] not in json.dumps(rotated)
    old = httpx.get(
        world.server.url + "/v1/models", headers={"authorization": f"Bearer {made['key']}"}, timeout=60
    )
    assert old.status_code == 401


def test_keys_are_not_in_the_store(world: World) -> None:
    """Neither the whole key nor its secret part is there, and user ids are there only as keyed hashes."""
    world.ask("acme", user="user-canary-4471")
    world.flushed()
    files = world.store_bytes()
    for key in world.keys.values():
        assert key.encode() not in files
        assert key.split("_", 3)[3].encode() not in files
    assert b"user-canary-4471" not in files


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": ["root"]}, {"scopes": []}, {"scopes": ["inference"] * 9}, {"scopes": "admin"},
        {"scopes": ["inference"], "expires_at": 0}, {"scopes": ["inference"], "expires_at": 10**30},
        {"scopes": ["inference"], "expires_at": -1}, {"scopes": ["inference"], "tenant": "../other"},
        {"scopes": ["inference"], "name": "x" * 101}, {"scopes": ["inference"], "limits": {"concurrency": 0}},
        {"scopes": ["inference"], "limits": {"requests_per_minute": -5}},
        {"scopes": ["inference"], "limits": {"tokens_per_day": 10**40}}, {"scopes": ["inference"], "id": "a" * 24},
    ],
)  # fmt: skip
def test_malformed_keys_are_not_made(world: World, body: dict[str, Any]) -> None:
    answer = world.client("operator").post("/v1/admin/keys", json={"tenant": "acme"} | body)
    assert answer.status_code in (400, 404), answer.text


def test_limits_hold_whatever_the_spelling(world: World) -> None:
    """A limit of two requests per minute cannot be raised by another header, protocol or spelling of the path."""
    key = world.make_key("acme", "inference", limits={"requests_per_minute": 2})["key"]
    statuses = []
    for path in ("/v1/chat/completions", "/v1/chat/completions%0A", "/v1/%63hat/completions", "/v1/messages"):
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
            answer = httpx.post(world.server.url + path, json=CHAT, headers=headers, timeout=60)
            statuses.append(answer.status_code)
    assert statuses.count(200) == 2
    assert set(statuses) <= {200, 404, 429}
