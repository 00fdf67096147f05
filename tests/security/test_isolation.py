"""A tenant cannot see, change or slow down anything of another tenant's."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.security.world import CHAT, MODEL, World


@pytest.fixture(scope="module")
def name(world: World) -> str:
    """A profile of acme's, with a label."""
    acme = world.client("acme")
    body = {"name": "private", "preferences": {"system": "acme only"}}
    assert acme.post("/v1/profiles", json=body).status_code == 201
    assert acme.put("/v1/profiles/private/labels/stable", json={"version": 1}).status_code == 200
    return "private"


def of_nothing(text: str, name: str) -> str:
    return text.replace(name, "NAME")


@pytest.mark.parametrize("reference", ["{}", "{}:1", "{}@stable"])
@pytest.mark.parametrize("door", ["body", "header", "model"])
def test_another_tenants_profile(world: World, name: str, door: str, reference: str) -> None:
    """In each of the three ways to use it: 404, word for word as for a name that does not exist."""
    answers = []
    for asked in (name, "nobodys"):
        text = reference.format(asked)
        body: dict[str, Any] = dict(CHAT)
        headers = {}
        if door == "body":
            body["preferences"] = {"profile": text}
        elif door == "header":
            headers["x-metaalign-profile"] = text
        else:
            body["model"] = f"{MODEL}@{text}"
        answer = world.client("other").post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 404
        answers.append(of_nothing(answer.text, asked))
        assert world.client("acme").post("/v1/chat/completions", json=body, headers=headers).status_code == (
            200 if asked == name else 404
        )
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/profiles/{}", None),
        ("PATCH", "/v1/profiles/{}", {"archived": True}),
        ("DELETE", "/v1/profiles/{}", None),
        ("GET", "/v1/profiles/{}/versions", None),
        ("GET", "/v1/profiles/{}/versions/1", None),
        ("POST", "/v1/profiles/{}/versions", {"preferences": "mine now"}),
        ("GET", "/v1/profiles/{}/diff?from=1&to=1", None),
        ("PUT", "/v1/profiles/{}/labels/stable", {"version": 1}),
        ("DELETE", "/v1/profiles/{}/labels/stable", None),
        ("POST", "/v1/profiles/{}/labels/stable/rollback", None),
    ],
)
def test_managing_another_tenants_profile(
    world: World, name: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    before = world.client("acme").get(f"/v1/profiles/{name}").json()
    answers = []
    for asked in (name, "nobodys"):
        answer = world.client("other").request(method, path.format(asked), json=body)
        assert answer.status_code == 404
        answers.append(of_nothing(answer.text, asked))
    assert answers[0] == answers[1]
    etag = {"if-match": before["etag"]}
    assert (
        world.client("other").request(method, path.format(name), json=body, headers=etag).status_code == 404
    )
    assert world.client("acme").get(f"/v1/profiles/{name}").json() == before


def test_lists_and_exports_are_ones_own(world: World, name: str) -> None:
    assert world.client("other").get("/v1/profiles?archived=true").json() == {"data": [], "has_more": False}
    assert world.client("other").get("/v1/profiles:export").json() == {"profiles": []}
    same = {"name": name, "preferences": {"user": "other's own"}}
    assert world.client("pool-a").post("/v1/profiles", json=same).status_code == 201  # names do not clash
    assert world.client("acme").get(f"/v1/profiles/{name}/versions/1").json()["preferences"] == {
        "system": {"info": "acme only"}
    }


def test_another_tenants_exchange(world: World) -> None:
    answer = world.ask("acme", user="someone").json()
    ids = [answer["id"], "chatcmpl-nothing"]
    told = [world.client("other").post("/v1/feedback", json={"id": one, "rating": "up"}) for one in ids]
    assert [response.status_code for response in told] == [404, 404]
    assert of_nothing(told[0].text, ids[0]) == of_nothing(told[1].text, ids[1])
    mine = world.client("acme").post("/v1/feedback", json={"id": answer["id"], "rating": "up"})
    assert mine.status_code == 200


def test_erasure_is_of_ones_own(world: World) -> None:
    """Two tenants have a user with the same id; erasing one tenant's rows leaves the other's."""
    for who in ("acme", "other"):
        answer = world.ask(who, user="shared-id").json()
        assert (
            world.client(who).post("/v1/feedback", json={"id": answer["id"], "rating": "up"}).status_code
            == 200
        )
    erased = world.client("other").post("/v1/feedback/erase", json={"user": "shared-id"}).json()
    assert erased == {"exchanges": 1, "feedback": 1, "responses": 0}
    again = world.client("other").post("/v1/feedback/erase", json={"user": "shared-id"}).json()
    assert again == {"exchanges": 0, "feedback": 0, "responses": 0}
    kept = world.client("acme").post("/v1/feedback/erase", json={"user": "shared-id"}).json()
    assert kept == {"exchanges": 1, "feedback": 1, "responses": 0}


def cached(world: World, who: str, text: str, **changes: Any) -> int:
    answer = world.ask(who, messages=[{"role": "user", "content": text}], **changes)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


@pytest.mark.parametrize("preferences", [None, {"user": "word " * 60}])
def test_prefix_cache(world: World, preferences: Any) -> None:
    """A cached prefix is answered sooner; a tenant must not learn from that what another has asked."""
    text = f"{preferences is None} " + "the quick brown fox " * 30
    assert cached(world, "acme", text, preferences=preferences) == 0
    assert cached(world, "acme", text, preferences=preferences) > 0
    assert cached(world, "other", text, preferences=preferences) == 0
    assert cached(world, "pool-a", text, preferences=preferences) == 0
    assert cached(world, "pool-b", text, preferences=preferences) > 0
    assert cached(world, "other", text, preferences=preferences) > 0


def test_prefix_cache_of_other_routes(world: World) -> None:
    text = "a lazy dog sleeps " * 30
    assert cached(world, "acme", text) == 0

    def usage(who: str, path: str, **body: Any) -> Any:
        return world.ask(who, path, **body).json()["usage"]

    responses: dict[str, Any] = {"input": text, "max_tokens": None, "max_output_tokens": 1}
    assert usage("other", "/v1/responses", **responses)["input_tokens_details"]["cached_tokens"] == 0
    assert usage("acme", "/v1/responses", **responses)["input_tokens_details"]["cached_tokens"] > 0
    raw = {"prompt": "raw " + text}
    assert usage("acme", "/v1/completions", **raw)["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage("other", "/v1/completions", **raw)["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage("acme", "/v1/completions", **raw)["prompt_tokens_details"]["cached_tokens"] > 0
    beams: dict[str, Any] = {
        "messages": [{"role": "user", "content": "beam " + text}],
        "use_beam_search": True,
        "n": 2,
    }
    for who in ("acme", "other"):
        world.ask(who, max_tokens=2, **beams)
    assert cached(world, "pool-a", "beam " + text) == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_clients_salt_is_refused(world: World, path: str) -> None:
    body: dict[str, Any] = {"prompt": "hi"} if path == "/v1/completions" else {}
    body |= {"input": "hi"} if path == "/v1/responses" else {}
    refused = world.ask("acme", path, cache_salt="x", **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache_salt")


def test_the_same_request_id(world: World) -> None:
    """One tenant's stream survives when another tenant uses the same request id and disconnects."""
    body = CHAT | {"max_tokens": 1900, "ignore_eos": True, "stream": True, "request_id": "chosen"}
    headers = {"x-request-id": "chosen"}
    events: list[str] = []
    opened = threading.Event()

    def read() -> None:
        with world.client("acme").stream(
            "POST", "/v1/chat/completions", json=body, headers=headers
        ) as stream:
            for line in stream.iter_lines():
                events.append(line)
                opened.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert opened.wait(30)
    for _ in range(3):
        with world.client("other").stream(
            "POST", "/v1/chat/completions", json=body, headers=headers
        ) as stream:
            next(stream.iter_lines())
    reader.join(60)
    assert [line for line in events if line][-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in events if line.startswith("data: {")]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert not any("error" in chunk for chunk in chunks)


def test_idempotency_keys_are_ones_own(world: World) -> None:
    """With the same idempotency key and body, each tenant gets its own write, not a replay of the other's."""
    body = {"name": "once", "preferences": {"user": "a"}}
    headers = {"idempotency-key": "the-same"}
    for who in ("acme", "other"):
        first = world.client(who).post("/v1/profiles", json=body, headers=headers)
        assert first.status_code == 201
        assert "idempotent-replayed" not in first.headers
    assert world.client("other").delete("/v1/profiles/once").status_code == 204
    assert world.client("acme").get("/v1/profiles/once").status_code == 200


def test_a_replay_needs_the_scopes_of_the_write(world: World) -> None:
    """A weaker key of the same tenant cannot get by replay what it may not do."""
    body = {"name": "stronger", "preferences": {"system": "a"}}
    headers = {"idempotency-key": "strong"}
    assert world.client("acme").post("/v1/profiles", json=body, headers=headers).status_code == 201
    weak = world.make_key("acme", "profiles:write")["key"]
    again = httpx.post(
        world.server.url + "/v1/profiles",
        json=body,
        headers=headers | {"authorization": f"Bearer {weak}"},
        timeout=60,
    )
    assert (again.status_code, again.json()["error"]["code"]) == (403, "system_tier_forbidden")


def test_a_flood_waits_behind_itself(world: World) -> None:
    """While one tenant asks for more than the engine can run, another tenant's request is answered."""
    flood = CHAT | {"max_tokens": 60, "ignore_eos": True, "n": 8, "temperature": 1}
    with ThreadPoolExecutor(24) as threads:
        asked = [
            threads.submit(
                httpx.post,
                world.server.url + "/v1/chat/completions",
                json=flood,
                headers={"authorization": f"Bearer {world.keys['acme']}"},
                timeout=120,
            )
            for _ in range(48)
        ]
        with world.stays_responsive(20):
            for answer in asked:
                assert answer.result().status_code in (200, 503)
