"""Stored preferences on the inference routes: references, labels, policy, learned examples; limits for clients."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml

from metaalign_training.rows import read_pairs
from tests.processes import command
from tests.server.conftest import MODEL, Twin

QUERY = "Tell me three things about the otter."
MESSAGES: list[Any] = [{"role": "user", "content": QUERY}]
PIRATE = {"system": {"attributes": {"tone": "pirate"}}}
BULLETS = {"user": {"attributes": {"format": "bullets"}}}
SHORT = {"user": {"attributes": {"length": "short"}}}
ALL_BUT_ADMIN = ["inference", "system", "profiles:read", "profiles:write"]
_names = (f"tenant-{number}" for number in itertools.count(1))


@dataclass(frozen=True)
class Customer:
    """A new tenant and one of its keys."""

    name: str
    key: str
    http: httpx.Client

    def profile(self, name: str, *versions: Any) -> None:
        """Make a profile with these versions."""
        first, *later = versions
        made = self.http.post("/v1/profiles", json={"name": name, "preferences": first})
        assert made.status_code == 201, made.text
        for preferences in later:
            made = self.http.post(f"/v1/profiles/{name}/versions", json={"preferences": preferences})
            assert made.status_code == 201, made.text

    def ask(self, **body: Any) -> dict[str, Any]:
        """A short greedy answer from `/v1/chat/completions`, with the ids of its prompt."""
        answer = self.http.post(
            "/v1/chat/completions",
            json={"messages": MESSAGES, "max_tokens": 4, "temperature": 0, "return_token_ids": True} | body,
        )
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture
def customers(http: httpx.Client, twin: Twin) -> Iterator[Any]:
    """Makes tenants with a key each."""
    clients: list[httpx.Client] = []

    def make(scopes: list[str] = ALL_BUT_ADMIN, limits: Any = None, **tenant: Any) -> Customer:
        name = next(_names)
        made = http.post("/v1/admin/tenants", json={"name": name} | tenant)
        assert made.status_code == 201, made.text
        key = new_key(http, name, scopes, limits)
        client = httpx.Client(base_url=twin.url, headers={"authorization": f"Bearer {key}"}, timeout=60)
        clients.append(client)
        return Customer(name, key, client)

    yield make
    for client in clients:
        client.close()


def new_key(http: httpx.Client, tenant: str, scopes: list[str], limits: Any = None) -> str:
    made = http.post("/v1/admin/keys", json={"tenant": tenant, "scopes": scopes, "limits": limits})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def test_three_doors_are_one(customers: Any) -> None:
    """Body, header and model name: the same prompt as the preferences themselves, and the same receipt."""
    customer = customers()
    customer.profile("support", PIRATE | BULLETS)
    expected = customer.ask(preferences=PIRATE | BULLETS)
    bodies = [
        customer.ask(preferences={"profile": "support"}),
        customer.ask(model=f"{MODEL}@support"),
        customer.ask(model=f"{MODEL}@support:1", preferences={"profile": "support:1"}),
    ]
    by_header = customer.http.post(
        "/v1/chat/completions",
        headers={"X-MetaAlign-Profile": "support"},
        json={"messages": MESSAGES, "max_tokens": 4, "temperature": 0, "return_token_ids": True},
    )
    assert by_header.headers["x-metaalign-profiles"] == "support:1"
    answers = [*bodies, by_header.json()]
    assert [answer["model"] for answer in answers] == [MODEL, f"{MODEL}@support", f"{MODEL}@support:1", MODEL]
    for answer in answers:
        assert answer["prompt_token_ids"] == expected["prompt_token_ids"]
        assert answer["metaalign"]["profiles"] == ["support:1"]
        assert answer["metaalign"]["spec_hash"] == expected["metaalign"]["spec_hash"]


def test_profiles_are_composed_and_the_request_comes_last(customers: Any) -> None:
    customer = customers()
    customer.profile("a", {"user": {"attributes": {"tone": "formal", "length": "short"}}})
    customer.profile("b", {"user": {"attributes": {"tone": "casual"}}})
    rendered = customer.http.post(
        "/v1/preferences/render",
        json={"preferences": {"profile": ["a", "b"], "user": {"attributes": {"length": "long"}}}},
    ).json()
    assert rendered["metaalign"]["profiles"] == ["a:1", "b:1"]
    lost = {(o["dimension"], o["value"], o["kept"], o["by"]) for o in rendered["metaalign"]["overridden"]}
    assert lost == {
        ("tone", "formal", "casual", "user:profile b:1"),
        ("length", "short", "long", "user:request"),
    }


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"preferences": {"profile": "nobody"}}, 404, "profile_not_found"),
        ({"preferences": {"profile": "support:9"}}, 404, "profile_not_found"),
        ({"preferences": {"profile": "support@canary"}}, 404, "profile_not_found"),
        ({"model": f"{MODEL}@nobody"}, 404, "profile_not_found"),
        ({"model": f"{MODEL}@Not A Name"}, 400, "invalid_preferences"),
        ({"preferences": {"profile": "Not A Name"}}, 400, "invalid_preferences"),
        ({"preferences": {"profile": "support"}, "model": f"{MODEL}@other"}, 400, "conflicting_profiles"),
    ],
)
def test_a_profile_that_cannot_be_meant(customers: Any, request_: Any, status: int, code: str) -> None:
    customer = customers()
    customer.profile("support", PIRATE)
    answer = customer.http.post("/v1/chat/completions", json={"messages": MESSAGES} | request_)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["param"]


def test_labels_versions_archive(customers: Any) -> None:
    """A name alone means `stable`, and the newest version where there is no such label."""
    customer = customers()
    customer.profile("support", PIRATE, BULLETS)
    url = "/v1/profiles/support"

    def served(reference: str) -> Any:
        body = {"messages": MESSAGES, "preferences": {"profile": reference}, "max_tokens": 1}
        answer = customer.http.post("/v1/chat/completions", json=body)
        return answer.json()["metaalign"]["profiles"] if answer.status_code == 200 else answer.status_code

    assert served("support") == ["support:2"]
    assert customer.http.put(f"{url}/labels/stable", json={"version": 1}).status_code == 200
    assert (served("support"), served("support@stable")) == (["support:1"], ["support:1"])
    customer.http.put(f"{url}/labels/stable", json={"version": 2})
    assert served("support") == ["support:2"]
    assert customer.http.post(f"{url}/labels/stable/rollback").status_code == 200
    assert served("support") == ["support:1"]
    assert customer.http.patch(url, json={"archived": True}).status_code == 200
    assert served("support") == served("support:1") == 404
    customer.http.patch(url, json={"archived": False})
    assert served("support") == ["support:1"]
    assert customer.http.delete(url).status_code == 204
    assert served("support") == 404
    customer.profile("support", PIRATE)  # numbers are not reused: a receipt always names one text
    assert served("support") == ["support:3"]


def test_a_weighted_label_is_sticky_by_user(customers: Any) -> None:
    customer = customers()
    customer.profile("support", PIRATE, BULLETS)
    targets = {"versions": [{"version": 1, "weight": 70}, {"version": 2, "weight": 30}]}
    assert customer.http.put("/v1/profiles/support/labels/canary", json=targets).status_code == 200

    def served(user: str) -> str:
        body = {"preferences": {"profile": "support@canary"}, "user": user}
        return str(customer.http.post("/v1/preferences/render", json=body).json()["metaalign"]["profiles"][0])

    first = {f"user-{number}": served(f"user-{number}") for number in range(60)}
    assert {user: served(user) for user in first} == first
    assert 5 <= sum(version == "support:2" for version in first.values()) <= 35


def test_a_policy_stands_on_every_route(customers: Any) -> None:
    """Its text and its dimensions apply with and without `preferences`, also to raw completions."""
    policy = {"info": "Answer for Acme.", "priorities": ["safety"], "attributes": {"tone": "formal"}}
    customer = customers(policy=policy)
    attempt = {"system": {"attributes": {"tone": "pirate"}, "priorities": ["fun"]}}
    expected = customer.ask()["prompt_token_ids"]
    rendered = customer.http.post("/v1/preferences/render", json={"preferences": attempt}).json()
    assert "Acme" in rendered["system_info"]
    assert "pirate" not in rendered["system_info"]
    assert {o["dimension"] for o in rendered["metaalign"]["overridden"]} == {"tone", "priorities"}
    raw = {"model": MODEL, "max_tokens": 4, "temperature": 0, "return_token_ids": True}
    completion = customer.http.post("/v1/completions", json=raw | {"prompt": QUERY}).json()
    assert completion["choices"][0]["prompt_token_ids"] == expected
    assert customer.http.post("/v1/completions", json=raw | {"prompt": [5, 81]}).status_code == 400
    message = {"model": MODEL, "max_tokens": 4, "messages": MESSAGES}
    assert customer.http.post("/v1/messages", json=message).json()["metaalign"]["applied"] is True
    counted = customer.http.post("/v1/messages/count_tokens", json=message | {"max_tokens": 4}).json()
    assert counted["input_tokens"] == len(expected)


def test_stored_system_text_is_used_but_not_shown(customers: Any, http: httpx.Client, twin: Twin) -> None:
    """A key with `inference` alone gets answers under a stored System tier, but cannot read it."""
    customer = customers()
    customer.profile("support", PIRATE)
    key = new_key(http, customer.name, ["inference"])
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=twin.url, headers=headers, timeout=60) as user:
        body: dict[str, Any] = {"messages": MESSAGES, "preferences": {"profile": "support"}, "temperature": 0}
        answer = user.post("/v1/chat/completions", json=body | {"max_tokens": 30}).json()
        assert "Arr" in answer["choices"][0]["message"]["content"]
        for extra in ({"return_token_ids": True}, {"prompt_logprobs": 1}):
            refusal = user.post("/v1/chat/completions", json=body | extra)
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "missing_scope")
        assert (
            user.post("/v1/preferences/render", json={"preferences": body["preferences"]}).status_code == 403
        )
        assert user.get("/v1/profiles/support").status_code == 403
        written = user.post("/v1/profiles", json={"name": "mine", "preferences": BULLETS})
        assert written.status_code == 403


def test_feedback_becomes_examples_and_training_pairs(customers: Any, twin: Twin, tmp_path: Path) -> None:
    """Liked answers come back as examples, to that user only; pairs are read by the training package."""
    customer = customers(scopes=ALL_BUT_ADMIN)
    customer.profile("support", BULLETS)
    customer.http.patch("/v1/profiles/support", json={"learn": {"examples": 2, "scope": "user"}})
    profile = {"profile": "support"}
    ids = [customer.ask(preferences=profile, user="ada", max_tokens=30)["id"] for _ in range(3)]
    other = customer.ask(preferences=profile, user="ada", max_tokens=5)["id"]
    unkept = customer.ask(preferences=profile, user="ada", store=False)["id"]

    def rate(answer: str, **opinion: Any) -> int:
        return int(customer.http.post("/v1/feedback", json={"id": answer} | opinion).status_code)

    assert [rate(answer, rating="up") for answer in ids] == [200] * 3
    assert rate(other, rating="down") == 200
    assert rate(ids[0], chosen="- Otters are grand.") == 200
    assert rate(unkept, rating="up") == 404
    assert rate("chatcmpl-unknown", rating="up") == 404
    assert rate(ids[0]) == 400

    def rendered(user: str) -> dict[str, Any]:
        body = {"preferences": profile, "user": user}
        document: dict[str, Any] = customer.http.post("/v1/preferences/render", json=body).json()
        return document

    learned = rendered("ada")
    assert learned["metaalign"]["learned_examples"] == 2
    assert "- Otters are grand." in learned["user_info"]  # the latest feedback counts
    assert rendered("bob")["metaalign"]["learned_examples"] == 0

    store = f"sqlite:///{twin.server.log.parent / 'store.db'}"
    file = tmp_path / "pairs.jsonl"
    code, said, _ = command(store, "export-feedback", str(file), "--tenant", customer.name)
    assert code == 0, said
    pairs = list(read_pairs(file))
    assert [{"role": "assistant", "content": "- Otters are grand."}] in [row["chosen"] for row in pairs]
    assert {row["prompt"][-1]["content"] for row in map(json.loads, file.read_text().splitlines())} == {QUERY}
    assert len(pairs) == 2  # the explicit one; liked against disliked: the two liked answers are one text
    assert command(store, "export-feedback", str(file))[0] == 1  # never written over

    erased = customer.http.post("/v1/feedback/erase", json={"user": "ada"}).json()
    assert erased == {"exchanges": 4, "feedback": 4, "responses": 0}
    assert rendered("ada")["metaalign"]["learned_examples"] == 0
    assert rate(ids[0], rating="up") == 404


@pytest.mark.parametrize("protocol", ["chat", "stream", "completions", "responses", "messages", "align"])
def test_every_protocols_answer_can_be_rated(customers: Any, protocol: str) -> None:
    """By the id that the client sees, also for streams."""
    customer = customers()
    body: dict[str, Any] = {"model": MODEL, "temperature": 0, "preferences": BULLETS}
    path, extra = {
        "chat": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 5}),
        "stream": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 5, "stream": True}),
        "completions": ("/v1/completions", {"prompt": QUERY, "max_tokens": 5}),
        "responses": ("/v1/responses", {"input": QUERY, "max_output_tokens": 16}),
        "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 5}),
        "align": ("/v1/align", {"query": QUERY, "max_tokens": 5}),
    }[protocol]
    answer = customer.http.post(path, json=body | extra)
    assert answer.status_code == 200, answer.text
    document = json.loads(answer.text.split("data: ")[1]) if protocol == "stream" else answer.json()
    said = customer.http.post("/v1/feedback", json={"id": document["id"], "rating": "up"})
    assert said.status_code == 200, said.text


def test_limits_as_openais_client_sees_them(customers: Any, twin: Twin) -> None:
    customer = customers(limits={"requests_per_minute": 2, "tokens_per_minute": 100_000})
    with openai.OpenAI(base_url=f"{twin.url}/v1", api_key=customer.key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=MESSAGES, max_completion_tokens=4
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "2"
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        assert raw.headers["x-ratelimit-limit-tokens"] == "100000"
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=4)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=4)
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 120  # the window slides
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    with (
        anthropic.Anthropic(base_url=twin.url, api_key=customer.key, max_retries=0) as claude,
        pytest.raises(anthropic.RateLimitError) as refused,
    ):
        claude.messages.create(model=MODEL, max_tokens=4, messages=MESSAGES)
    assert refused.value.response.json()["error"]["type"] == "rate_limit_error"


def test_tokens_are_counted(customers: Any) -> None:
    """Prompt and answer tokens count, also in a stream, until the day's budget is used up."""
    customer = customers(limits={"tokens_per_day": 900})
    body = {"messages": MESSAGES, "max_tokens": 30, "ignore_eos": True}
    assert customer.http.post("/v1/chat/completions", json=body).status_code == 200
    long = body | {"stream": True, "max_tokens": 700}
    with customer.http.stream("POST", "/v1/chat/completions", json=long) as answer:
        assert answer.status_code == 200
        used = 900 - int(answer.headers["x-ratelimit-remaining-tokens"])
        assert 30 < used < 60
        answer.read()
    statuses = [customer.http.post("/v1/chat/completions", json=body).status_code for _ in range(6)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    answer = customer.http.post("/v1/chat/completions", json=body)
    assert answer.json()["error"]["code"] == "budget_exhausted"


@contextlib.contextmanager
def admitted(url: str, key: str) -> Iterator[Callable[[], bytes]]:
    """A request that holds its place while it waits for its body; call the result to send that and get the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps({"messages": MESSAGES, "max_tokens": 1}).encode()
    with (
        socket.create_connection((host, int(port)), timeout=60) as connection,
        connection.makefile("rb") as read,
    ):
        connection.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "expect: 100-continue\r\nconnection: close\r\n\r\n".encode()
        )
        assert read.readline().startswith(b"HTTP/1.1 100")  # sent when the application asks for the body
        assert read.readline() == b"\r\n"

        def finish() -> bytes:
            connection.sendall(body)
            return read.read()

        yield finish


@pytest.mark.parametrize("leave", [False, True], ids=["answered", "left"])
def test_concurrency_is_counted_under_load(customers: Any, twin: Twin, leave: bool) -> None:
    """A request is refused while all places are taken; a place is free again when its request is over."""
    customer = customers(limits={"concurrency": 3})

    def ask(_: object) -> str:
        body = {"messages": MESSAGES, "max_tokens": 1}
        answer = customer.http.post("/v1/chat/completions", json=body)
        return "answered" if answer.status_code == 200 else str(answer.json()["error"]["code"])

    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(admitted(twin.url, customer.key)) for _ in range(3)]
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            assert list(pool.map(ask, range(10))) == ["concurrency_limit_exceeded"] * 10
        if not leave:
            assert all(finish().startswith(b"HTTP/1.1 200") for finish in held)
            assert ask(None) == "answered"
    deadline = time.monotonic() + 10  # the server notices only after a while who has disconnected
    while (outcome := ask(None)) != "answered" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert outcome == "answered"


def test_writes_can_be_repeated_and_do_not_overwrite(customers: Any) -> None:
    """Idempotency keys, ETags, and what `If-Match` accepts."""
    customer = customers()
    body = {"name": "support", "preferences": PIRATE}
    key = {"idempotency-key": "one"}
    first = customer.http.post("/v1/profiles", json=body, headers=key)
    again = customer.http.post("/v1/profiles", json=body, headers=key)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    other = customer.http.post("/v1/profiles", json=body | {"name": "other"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert customer.http.post("/v1/profiles", json=body).status_code == 409

    url = "/v1/profiles/support"
    read = customer.http.get(url)
    tag = {"if-match": read.headers["etag"]}
    assert read.json()["etag"] == read.headers["etag"]
    assert (
        customer.http.post(f"{url}/versions", json={"preferences": BULLETS}, headers=tag).status_code == 201
    )
    stale = customer.http.post(f"{url}/versions", json={"preferences": SHORT}, headers=tag)
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "precondition_failed")
    assert customer.http.get(url).json()["latest"] == 2


def test_profiles_move_between_tenants_as_a_document(customers: Any) -> None:
    ours, theirs = customers(), customers()
    ours.profile("support", PIRATE, BULLETS)
    ours.profile("sales", SHORT)
    ours.http.put("/v1/profiles/support/labels/stable", json={"version": 1})
    exported = ours.http.get("/v1/profiles:export").json()
    as_yaml = ours.http.get("/v1/profiles:export", params={"format": "yaml"})
    assert as_yaml.headers["content-type"].startswith("application/yaml")
    assert yaml.safe_load(as_yaml.text) == exported
    taken = theirs.http.post(
        "/v1/profiles:import", content=as_yaml.text, headers={"content-type": "application/yaml"}
    )
    assert taken.json() == {"created": ["sales", "support"], "extended": [], "unchanged": []}
    assert theirs.http.get("/v1/profiles:export").json() == exported
    assert theirs.http.post("/v1/profiles:import", json=exported).json()["unchanged"] == ["sales", "support"]
    for content in ("{", "a: [", "profiles: &a [*a]", "- 1"):
        refused = theirs.http.post(
            "/v1/profiles:import", content=content, headers={"content-type": "application/yaml"}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_document"), content


def test_pages_and_diff(customers: Any) -> None:
    customer = customers()
    for number in range(5):
        customer.profile(f"p{number}", BULLETS)
    found, after = [], ""
    while True:
        page = customer.http.get("/v1/profiles", params={"limit": 2, "after": after}).json()
        found += [profile["name"] for profile in page["data"]]
        if not page["has_more"]:
            break
        after = found[-1]
    assert found == [f"p{number}" for number in range(5)]
    customer.profile("support", PIRATE, PIRATE | BULLETS, BULLETS)
    newest = customer.http.get("/v1/profiles/support/versions", params={"limit": 2}).json()
    assert [v["version"] for v in newest["data"]] == [3, 2]
    oldest = customer.http.get("/v1/profiles/support/versions", params={"before": 2}).json()
    assert [(v["version"], v["preferences"]) for v in oldest["data"]] == [(1, PIRATE)]
    diff = customer.http.get("/v1/profiles/support/diff", params={"from": 1, "to": 3}).json()
    assert diff["changes"] == [
        {"path": "system.attributes.tone", "from": "pirate", "to": None},
        {"path": "user.attributes.format", "from": None, "to": "bullets"},
    ]


def test_admin_routes(http: httpx.Client, customers: Any, twin: Twin) -> None:
    """Keys over the API, as by command: shown once, listed without secret, rotated with grace, revoked at once."""
    customer = customers()
    listed = http.get("/v1/admin/keys", params={"tenant": customer.name}).json()["data"]
    assert len(listed) == 1
    assert "key" not in listed[0]
    rotated = http.post(f"/v1/admin/keys/{listed[0]['id']}/rotate", json={"grace_seconds": 3600}).json()
    new = {"authorization": f"Bearer {rotated['key']}"}

    def status(headers: dict[str, str] | None = None) -> int:
        return int(customer.http.get("/v1/profiles", headers=headers).status_code)

    assert (status(), status(new)) == (200, 200)
    revoked = http.post(f"/v1/admin/keys/{listed[0]['id']}/revoke").json()
    assert revoked["revoked_at"]
    assert (status(), status(new)) == (401, 200)
    tenant = http.get(f"/v1/admin/tenants/{customer.name}")
    tag = {"if-match": tenant.headers["etag"]}
    url = f"/v1/admin/tenants/{customer.name}"
    assert http.patch(url, json={"disabled": True}, headers=tag).json()["disabled"] is True
    assert status(new) == 401
    assert http.patch(url, json={"disabled": False}, headers=tag).status_code == 412
    actions = [
        entry["action"]
        for entry in http.get("/v1/admin/audit", params={"tenant": customer.name}).json()["data"]
    ]
    assert actions == [
        "tenant.update",
        "key.revoke",
        "key.rotate",
        "key.create",
        "key.create",
        "tenant.create",
    ]
    mistakes: list[dict[str, Any]] = [
        {"scopes": ["root"]},
        {"scopes": []},
        {"scopes": ["inference"], "tenant": "no-such-tenant"},
        {"scopes": ["inference"], "limits": {"requests_per_minute": -1}},
        {"scopes": ["inference"], "expires_at": 1},
    ]
    for body in mistakes:
        refused = http.post("/v1/admin/keys", json=body)
        assert refused.status_code in (400, 404)
        assert refused.json()["error"]["param"]
