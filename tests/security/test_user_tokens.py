"""A user token allows one user's inference under its key until it expires, and only the owner of the key makes one."""

from __future__ import annotations

import base64
import hmac
import sqlite3
import time
from contextlib import closing
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metaalign import user_token
from metaalign.user_tokens import signing_key
from tests.security.world import CHAT, JSON, World, dumps

PROTOCOLS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {}, "user"),
    ("/v1/chat/completions", {}, "metadata.user_id"),
    ("/v1/chat/completions", {"user": "ada"}, "metadata.user_id"),
    ("/v1/completions", {"prompt": "hi"}, "user"),
    ("/v1/responses", {"input": "hi", "max_tokens": None, "max_output_tokens": 1}, "user"),
    ("/v1/responses", {"input": "hi", "max_tokens": None, "max_output_tokens": 1}, "metadata.user_id"),
    ("/v1/messages", {}, "metadata.user_id"),
    ("/v1/align", {"query": "hi"}, "user"),
    ("/v1/preferences/render", {"max_tokens": None, "temperature": None}, "user"),
]
"""Route, body, and a field that may name the user there."""


def ask(world: World, token: str, path: str = "/v1/chat/completions", **changes: Any) -> httpx.Response:
    """A request as `World.ask` makes it, under a token."""
    name = f"token {token}"
    world.keys[name] = token
    try:
        return world.ask(name, path, **changes)
    finally:
        del world.keys[name]
        world.clients.pop(name).close()


def refused(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else dumps(value)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def made(
    key: str,
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    signer: Ed25519PrivateKey | None = None,
) -> str:
    """A token for `ada`, put together by hand; None removes a field."""
    now = int(time.time())
    fields = (
        {"alg": "EdDSA", "kid": key.split("_")[2], "typ": "JWT"} | (header or {}),
        {"sub": "ada", "iat": now, "exp": now + 600} | (claims or {}),
    )
    signed = ".".join(encoded({k: v for k, v in part.items() if v is not None}) for part in fields)
    return f"{signed}.{encoded((signer or signing_key(key)).sign(signed.encode()))}"


@pytest.fixture(scope="module")
def key(world: World) -> str:
    return str(world.make_key("acme", "inference")["key"])


@pytest.fixture(scope="module")
def nothing(world: World) -> str:
    """What a request without any key gets."""
    return httpx.post(f"{world.server.url}/v1/chat/completions", json=CHAT, timeout=60).text


def test_a_token_is_made_without_the_server(world: World, key: str) -> None:
    """By our function, or by hand: it is a JSON Web Token."""
    for token in (user_token(key, "ada"), made(key)):
        assert ask(world, token).status_code == 200
        answer = httpx.post(
            f"{world.server.url}/v1/messages", json=CHAT, headers={"x-api-key": token}, timeout=60
        )
        assert answer.status_code == 200
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{world.server.url}/v1/models", headers=headers, timeout=60).status_code == 200


@pytest.mark.parametrize(("path", "body", "field"), PROTOCOLS)
def test_another_user_is_refused(world: World, key: str, path: str, body: dict[str, Any], field: str) -> None:
    """In whichever field it is named; one's own name, and no name, are accepted."""
    token = user_token(key, "ada")

    def named(user: str) -> dict[str, Any]:
        return {"user": user} if field == "user" else {"metadata": {"user_id": user}}

    assert ask(world, token, path, **body).status_code == 200
    assert ask(world, token, path, **body, **named("ada")).status_code == 200
    answer = ask(world, token, path, **body, **named("eve"))
    if path == "/v1/messages":  # Anthropic's errors have neither code nor param
        assert answer.status_code == 403
        assert field in answer.text
    else:
        assert refused(answer) == (403, "user_mismatch", field)


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("ada", "Ada"), ("ada", "ada "), ("ada", " ada"), ("ada", "ada\0"), ("ada", "ada\u200b"), ("ada", "аda"),
        ("zoë", "zoe\u0308"), ("zoe\u0308", "zoë"), ("ada", "\uff41\uff44\uff41"), ("a/b", "a%2Fb"), ("ﬁn", "fin"),
        ("1", "01"), ("straße", "strasse"), ("İ", "i̇"), ("ada", "ada\n"), ("😀", "\U0001f601"),
    ],
)  # fmt: skip
def test_users_that_look_alike(world: World, key: str, mine: str, other: str) -> None:
    """Ids are compared character by character, in no normal form."""
    token = user_token(key, mine)
    assert ask(world, token, user=mine).status_code == 200
    assert refused(ask(world, token, user=other)) == (403, "user_mismatch", "user")


def test_a_token_without_a_name_uses_its_user(world: World, key: str) -> None:
    """What a profile has learned from this user is used, and from nobody else."""
    acme = world.client("acme")
    profile = {"name": "signed", "preferences": {"user": "a"}, "learn": {"examples": 2, "scope": "user"}}
    assert acme.post("/v1/profiles", json=profile).status_code == 201
    chosen: dict[str, Any] = {"preferences": {"profile": "signed"}}
    answer = ask(world, user_token(key, "ada"), **chosen).json()
    by_ada = {"authorization": f"Bearer {user_token(key, 'ada')}"}
    by_eve = {"authorization": f"Bearer {user_token(key, 'eve')}"}
    url, opinion = f"{world.server.url}/v1/feedback", {"id": answer["id"], "chosen": "Hello, Ada."}
    foreign = httpx.post(url, json=opinion, headers=by_eve, timeout=60)
    assert refused(foreign)[:2] == (404, "exchange_not_found")
    assert httpx.post(url, json=opinion, headers=by_ada, timeout=60).status_code == 200
    world.flushed()

    def learned(token: str) -> int:
        return int(ask(world, token, **chosen).json()["metaalign"]["learned_examples"])

    assert learned(user_token(key, "ada")) == 1
    assert learned(user_token(key, "eve")) == 0
    assert world.ask("acme", user="ada", **chosen).json()["metaalign"]["learned_examples"] == 1
    other = world.make_key("other", "inference")["key"]
    assert refused(ask(world, user_token(other, "ada"), **chosen))[:2] == (404, "profile_not_found")


def test_no_token_is_more_than_inference(world: World) -> None:
    """Even a token of a key that may do everything; and one of a key without `inference` may do nothing."""
    strong = world.make_key(
        "acme", "inference", "system", "profiles:read", "profiles:write", "metrics", "admin"
    )
    token = user_token(strong["key"], "ada")
    headers = {"authorization": f"Bearer {token}"} | JSON
    assert refused(ask(world, token, preferences={"system": "a"}))[:2] == (403, "system_tier_forbidden")
    assert (
        refused(ask(world, token, messages=[{"role": "system", "content": "a"}, *CHAT["messages"]]))[0] == 403
    )
    for method, path in (
        ("GET", "/v1/profiles"), ("POST", "/v1/profiles"), ("GET", "/v1/profiles:export"), ("GET", "/metrics"),
        ("POST", "/v1/feedback/erase"), ("GET", "/v1/admin/keys"), ("POST", "/v1/admin/keys"),
        ("POST", "/v1/admin/users/erase"),
    ):  # fmt: skip
        answer = httpx.request(method, world.server.url + path, headers=headers, content=b"{}", timeout=60)
        assert refused(answer)[:2] == (403, "missing_scope"), path
    weak = world.make_key("acme", "profiles:read")["key"]
    assert refused(ask(world, user_token(weak, "ada")))[:2] == (403, "missing_scope")
    headers = {"authorization": f"Bearer {user_token(weak, 'ada')}"}
    answer = httpx.get(f"{world.server.url}/v1/profiles", headers=headers, timeout=60)
    assert refused(answer)[:2] == (403, "missing_scope")


def test_every_changed_byte_is_noticed(world: World, key: str, nothing: str) -> None:
    """Also the bits at the end of base64 that mean nothing; the answer is that of no key at all."""
    token = user_token(key, "ada")
    assert ask(world, token).status_code == 200
    with httpx.Client(base_url=world.server.url, timeout=60) as client:
        for place in range(len(token)):
            for letter in "AB._-=" if place % 16 == 0 else "AB":
                changed = token[:place] + letter + token[place + 1 :]
                if changed == token:
                    continue
                headers = {"authorization": f"Bearer {changed}"}
                answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
                assert (answer.status_code, answer.text) == (401, nothing), place
        signed, _, signature = token.rpartition(".")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = alphabet.index(signature[-1])
        same_bytes = [alphabet[(last & 0b110000) | n] for n in range(16)]  # 64 bytes leave four bits over
        for letter in set(same_bytes) - {signature[-1]}:
            headers = {"authorization": f"Bearer {signed}.{signature[:-1]}{letter}"}
            assert client.get("/v1/models", headers=headers).status_code == 401


def test_forged_tokens(world: World, key: str, nothing: str) -> None:
    now = int(time.time())
    key_id = key.split("_")[2]
    other = world.make_key("acme", "inference")["key"]
    public = signing_key(key).public_key().public_bytes_raw()
    unsigned = made(key).rpartition(".")[0]
    by_hmac = ".".join(made(key, {"alg": "HS256"}).split(".")[:2])
    attempts = {
        "unsigned": unsigned + ".",
        "two parts": unsigned,
        "no algorithm": made(key, {"alg": "none"}).rpartition(".")[0] + ".",
        "public key as a secret": f"{by_hmac}.{encoded(hmac.digest(public, by_hmac.encode(), 'sha256'))}",
        "another algorithm's name": made(key, {"alg": "ES256"}),
        "in lower case": made(key, {"alg": "eddsa"}),
        "a key in the header": made(other, {"kid": key_id, "jwk": {"kty": "OKP"}}),
        "signed by another key": made(key, signer=signing_key(other)),
        "for another key": made(other, {"kid": key_id}),
        "an unknown key": made(key, {"kid": "a" * 24}),
        "a number as a key": made(key, {"kid": 1}),
        "a key in other letters": made(key, {"kid": "ä" * 24}),
        "expired": made(key, claims={"iat": now - 4000, "exp": now - 400}),
        "for too long": made(key, claims={"exp": now + 90_000}),
        "for ever": made(key, claims={"exp": None}),
        "from the future": made(key, claims={"iat": now + 600, "exp": now + 700}),
        "without its birth": made(key, claims={"iat": None}),
        "a text as expiry": made(key, claims={"exp": str(now + 60)}),
        "a fraction as expiry": made(key, claims={"exp": now + 60.5}),
        "true as expiry": made(key, claims={"exp": True}),
        "a huge expiry": made(key, claims={"iat": -(10**400), "exp": -(10**400)}),
        "nobody": made(key, claims={"sub": ""}),
        "no user": made(key, claims={"sub": None}),
        "a number as user": made(key, claims={"sub": 7}),
        "a lone surrogate": made(key, claims={"sub": "\ud800"}),
        "a long user": made(key, claims={"sub": "a" * 513}),
        "a very long user": made(key, claims={"sub": "a" * 50_000}),
        "a scope": made(key, claims={"scope": "admin"}),
        "an audience": made(key, claims={"aud": "x"}),
        "padded": made(key) + "==",
        "deep": f"{encoded(b'[' * 3000)}.{encoded({})}.{encoded(b'')}",
        "empty parts": "..",
    }
    for name, token in attempts.items():
        answer = ask(world, token)
        assert (answer.status_code, answer.text) == (401, nothing), name
    assert ask(world, made(key)).status_code == 200


def test_a_token_ends_in_time(world: World, key: str) -> None:
    """Half a minute after its time, for clocks that differ; being used does not keep it alive."""
    now = int(time.time())
    token = made(key, claims={"iat": now - 100, "exp": now - 27})
    assert ask(world, token).status_code == 200
    while time.time() < now + 3.2:
        ask(world, token)
        time.sleep(0.2)
    assert ask(world, token).status_code == 401


def test_a_token_ends_with_its_key(world: World) -> None:
    operator = world.client("operator")
    assert operator.post("/v1/admin/tenants", json={"name": "closing"}).status_code == 201
    revoked, rotated = (world.make_key("acme", "inference") for _ in range(2))
    disabled = world.make_key("closing", "inference")
    expired = world.make_key("acme", "inference", expires_at=int(time.time()) + 2)
    tokens = [user_token(made["key"], "ada") for made in (revoked, rotated, disabled, expired)]
    for token in tokens:
        assert ask(world, token).status_code == 200
    assert operator.post(f"/v1/admin/keys/{revoked['id']}/revoke").status_code == 200
    successor = operator.post(f"/v1/admin/keys/{rotated['id']}/rotate", json={"grace_seconds": 0})
    assert operator.patch("/v1/admin/tenants/closing", json={"disabled": True}).status_code == 200
    for token in tokens[:3]:
        assert ask(world, token).status_code == 401
    assert ask(world, user_token(successor.json()["key"], "ada")).status_code == 200
    time.sleep(2.1)
    assert ask(world, tokens[3]).status_code == 401


def test_limits_of_the_key_hold_for_its_tokens(world: World) -> None:
    key = world.make_key("acme", "inference", limits={"requests_per_minute": 3})["key"]
    bearers = [user_token(key, "ada"), user_token(key, "eve"), key]
    statuses = [ask(world, bearer).status_code for bearer in bearers * 2]
    assert statuses == [200, 200, 200, 429, 429, 429]


def test_the_store_signs_nothing(world: World, key: str) -> None:
    """Nothing that lies in the store, the server's secret included, makes a token; nor does a key from before."""
    with closing(sqlite3.connect(world.store, timeout=10)) as connection:
        mine = connection.execute("SELECT * FROM api_keys WHERE id = ?", (key.split("_")[2],)).fetchone()
        (secret,) = connection.execute("SELECT value FROM server_state WHERE name = 'secret'").fetchone()
    held = [value for value in mine if isinstance(value, bytes)]
    assert len(held) == 2
    held += [secret.encode(), base64.urlsafe_b64decode(secret + "=")]
    held += [hmac.digest(first, second, "sha256") for first in held for second in held]
    for value in held:
        for seed in (value[:32], hmac.digest(value, b"metaalign user token", "sha256")):
            forged = made(key, signer=Ed25519PrivateKey.from_private_bytes(seed))
            assert ask(world, forged).status_code == 401
    older = world.make_key("acme", "inference")
    with closing(sqlite3.connect(world.store, timeout=10)) as connection, connection:
        connection.execute("UPDATE api_keys SET public_key = NULL WHERE id = ?", (older["id"],))
    assert ask(world, user_token(older["key"], "ada")).status_code == 401
    assert ask(world, older["key"]).status_code == 200


def test_a_token_is_not_logged(world: World, key: str) -> None:
    token = user_token(key, "user-canary-9914")
    assert ask(world, token).status_code == 200
    assert refused(ask(world, token, user="another-canary-9914"))[0] == 403
    log = world.server.log_text()
    assert "canary-9914" not in log
    assert token.rpartition(".")[2] not in log
