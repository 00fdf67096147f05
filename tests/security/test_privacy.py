"""What users write stays out of logs, metrics, traces and other answers, and after erasure out of the store."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.processes import command
from tests.security.world import CHAT, JSON, World, dumps

CANARY = "zanzibar7319canary"


def say(where: str) -> str:
    """A canary that shows where it was planted."""
    return f"{CANARY}-{where}"


def provoke(world: World) -> list[httpx.Response]:
    """Requests of all kinds, good and bad, each with canaries wherever a text may be; returns the answers."""
    acme, inference = world.client("acme"), world.client("acme/inference")
    system = {"info": say("system"), "attributes": {"mood": say("attribute")}}
    user = {"info": say("user"), "examples": [{"query": say("query"), "preferred": say("preferred")}]}
    told = [{"role": "user", "content": say("message")}]
    chat = CHAT | {"messages": told, "user": say("userid"), "max_tokens": 2}
    answers = []

    def post(path: str, body: Any, client: httpx.Client = acme, headers: Any = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else dumps(body)
        answers.append(client.post(path, content=content, headers=JSON | (headers or {})))
        return answers[-1]

    for extra in (
        {},
        {"preferences": {"system": system, "user": user}},
        {"tools": [{"type": "function", "function": {"name": "f", "description": say("tool")}}]},
        {"preferences": {say("key"): 1}},
        {"preferences": {"user": {"attributes": {"length": say("value")}}}},
        {"preferences": {"profile": say("profile")}},
        {"preferences": {"user": say("long") * 1000}},
        {"temperature": say("number")},
        {"messages": say("messages")},
        {"messages": [{"role": say("role") + " x", "content": "a"}]},
        {"messages": [{"role": "user", "content": say("surrogate") + "\ud800"}]},
        {"user": say("user") + "\ud800"},
        {"structured_outputs": {"regex": say("regex") + "["}},
        {"structured_outputs": {"grammar": say("grammar")}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"$ref": say("ref")}},
            }
        },
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
        {"structured_outputs": {"grammar": "root ::= root"}},
        {"bad_words": [say("bad")]},
        {"stop": [say("stop")]},
        {"logit_bias": {say("bias"): 1}},
        {"vllm_xargs": {say("xarg"): say("xvalue")}},
        {"chat_template": say("template")},
        {"cache_salt": say("salt")},
        {"request_id": say("requestid")},
        {"model": say("model")},
        {say("unknown"): say("unknown")},
        {"documents": [{"text": say("document")}]},
        {"messages": [*told, {"role": "assistant", "content": None, "tool_calls": [{"id": say("call")}]}]},
        {"continue_final_message": True, "add_generation_prompt": False},
        {"messages": [{"role": "user", "content": say("word") + " word" * 9000}]},
    ):
        post("/v1/chat/completions", chat | extra)
        post("/v1/chat/completions", chat | extra | {"stream": True})
    post("/v1/chat/completions", b'{"' + say("json").encode())
    post("/v1/chat/completions", dumps(chat), headers={"content-type": "text/" + say("type")})
    post("/v1/chat/completions", chat, headers={"x-metaalign-profile": say("header")})
    post("/v1/chat/completions", chat, headers={"x-request-id": say("id") + "!"})
    post("/v1/chat/completions", chat | {"preferences": say("forbidden")}, inference)
    post("/v1/chat/completions", chat, headers={"authorization": f"Bearer {say('bearer')}"})
    post("/v1/completions", {"model": CHAT["model"], "prompt": say("prompt"), "max_tokens": 2})
    post("/v1/completions", {"model": CHAT["model"], "prompt": say("prompt"), "suffix": say("suffix")})
    post(
        "/v1/responses", {"model": CHAT["model"], "input": say("input"), "instructions": say("instructions")}
    )
    post("/v1/responses", {"model": CHAT["model"], "input": [{"type": say("type"), "x": say("item")}]})
    claude = {
        "model": CHAT["model"],
        "max_tokens": 2,
        "messages": told,
        "metadata": {"user_id": say("claude")},
    }
    post("/v1/messages", claude | {"system": say("claudesystem")})
    post("/v1/messages", claude | {"messages": [{"role": "user", "content": [{"type": say("block")}]}]})
    post("/v1/messages/count_tokens", claude)
    post("/v1/align", {"query": say("align"), say("alignkey"): 1})
    post("/v1/align", {"query": say("align"), "max_tokens": 2, "preferences": {"user": user}})
    post("/v1/preferences/render", {"preferences": {"system": system}, "messages": told})
    post(
        "/v1/profiles",
        {"name": "canary", "preferences": {"system": system, "user": user}, "note": say("note")},
    )
    post("/v1/profiles", {"name": say("NAME"), "preferences": {"user": user}})
    post("/v1/profiles", {"name": "other", "preferences": {"user": {say("profilekey"): 1}}})
    post(
        "/v1/profiles/canary/versions",
        {"preferences": {"system": system}},
        headers={"idempotency-key": say("idem")},
    )
    post(
        "/v1/profiles/canary/versions",
        {"preferences": {"system": {}}},
        headers={"idempotency-key": say("idem")},
    )
    post("/v1/profiles:import", b"a: " + say("yaml").encode(), headers={"content-type": "application/yaml"})
    post(
        "/v1/profiles:import", b"[&a *b " + say("yaml").encode(), headers={"content-type": "application/yaml"}
    )
    post(
        "/v1/profiles:import",
        {"profiles": [{"name": "x", "versions": [{"number": 1, "preferences": {say("y"): 1}}]}]},
    )
    answers.append(acme.get(f"/v1/profiles/{say('path')}"))
    answers.append(acme.get(f"/v1/{say('route')}?{say('query')}=1"))
    answers.append(acme.get("/v1/profiles/canary/versions/1", headers={"if-match": say("etag")}))
    asked = post("/v1/chat/completions", chat | {"preferences": {"profile": "canary"}}).json()
    post("/v1/feedback", {"id": asked["id"], "chosen": say("chosen"), "rejected": say("rejected")})
    post("/v1/feedback", {"id": say("exchange"), "rating": "up"})
    post("/v1/feedback", {"id": asked["id"], "rating": say("rating")})
    post("/v1/feedback/erase", {"user": say("nobody")})
    with acme.stream(
        "POST", "/v1/chat/completions", json=chat | {"stream": True, "max_tokens": 500}
    ) as stream:
        next(stream.iter_bytes())  # and away
    return answers


def test_nothing_private_in_logs_and_metrics(world: World) -> None:
    """Even at log level debug there are no texts, keys or user ids, whatever goes wrong."""
    answers = provoke(world)
    statuses = {answer.status_code for answer in answers}
    assert statuses >= {200, 201, 400, 401, 403, 404, 422}
    world.flushed()
    log = world.server.log_text()
    assert '"level": "debug"' in log
    assert CANARY not in log, next(line for line in log.splitlines() if CANARY in line)[:1000]
    assert CANARY not in world.client("operator").get("/metrics").text
    for key in world.keys.values():
        assert key.split("_", 3)[3] not in log
    for name in (
        "/v1/admin/audit?limit=200",
        "/v1/admin/keys",
        "/v1/admin/tenants",
        "/openapi.json",
        "/version",
    ):
        assert CANARY not in world.client("operator").get(name).text
    for path in ("/v1/models", "/v1/profiles", "/v1/nothing"):
        assert CANARY not in world.client("other").get(path).text


def test_errors_do_not_repeat_secrets(world: World) -> None:
    """A refused key is not repeated in the answer, and an internal error only says where to look."""
    refused = httpx.get(world.server.url + "/v1/models", headers={"x-api-key": say("key")}, timeout=60)
    assert CANARY not in refused.text
    failed = world.ask(
        "acme",
        messages=[{"role": "user", "content": say("message")}],
        structured_outputs={"grammar": "root ::= root"},
    )
    assert failed.status_code == 500
    assert CANARY not in failed.text
    assert "Traceback" not in failed.text
    assert ".py" not in failed.text


def test_store_false(world: World) -> None:
    """Nothing of such an exchange is kept, on any route, streamed or not."""
    words = "unkept5521words"
    told = [{"role": "user", "content": words}]
    for stream in (False, True):
        for path, body in (
            ("/v1/chat/completions", {"messages": told}),
            ("/v1/completions", {"prompt": words, "preferences": {"user": words}}),
            ("/v1/responses", {"input": words, "max_tokens": None, "max_output_tokens": 1}),
            ("/v1/messages", {"messages": told}),
        ):
            answer = world.ask("acme", path, store=False, stream=stream, user=None, **body)
            assert answer.status_code == 200, answer.text
    aligned = world.ask("acme", "/v1/align", query=words, store=False)
    assert aligned.status_code == 200
    kept = world.ask("acme", messages=[{"role": "user", "content": "kept5521words"}])
    world.flushed()
    files = world.store_bytes()
    assert words.encode() not in files
    assert b"kept5521words" in files  # reading the files does find what is there
    told_of = world.client("acme").post("/v1/feedback", json={"id": aligned.json()["id"], "rating": "up"})
    assert told_of.status_code == 404
    assert (
        world.client("acme").post("/v1/feedback", json={"id": kept.json()["id"], "rating": "up"}).status_code
        == 200
    )


def test_learned_examples_are_not_shown(world: World) -> None:
    """A key that any browser may hold could otherwise read what another user has said and liked."""
    acme = world.client("acme")
    profile = {"name": "diary", "preferences": {"user": "a"}, "learn": {"examples": 2, "scope": "user"}}
    assert acme.post("/v1/profiles", json=profile).status_code == 201
    chosen: dict[str, Any] = {"preferences": {"profile": "diary"}, "user": "diarist"}
    answer = world.ask("acme/inference", **chosen).json()
    opinion = {"id": answer["id"], "chosen": "diary5512words"}
    assert acme.post("/v1/feedback", json=opinion).status_code == 200
    world.flushed()
    rendering = {"max_tokens": None, "temperature": None}
    assert "diary5512words" in world.ask("acme", "/v1/preferences/render", **chosen, **rendering).text
    refused = world.ask("acme/inference", "/v1/preferences/render", **chosen, **rendering)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
    assert "diary5512words" not in refused.text
    for changes in ({"return_token_ids": True}, {"prompt_logprobs": 1}, {"return_prompt_text": True}):
        assert world.ask("acme/inference", **chosen, **changes).status_code == 403
    answered = world.ask("acme/inference", **chosen)
    assert answered.json()["metaalign"]["learned_examples"] == 1


@pytest.mark.parametrize("flushed", [True, False])
def test_erasure_leaves_no_bytes(world: World, flushed: bool) -> None:
    """A user's exchanges, answers and feedback are overwritten in the file, not only removed from its tables."""
    words = f"erase{flushed}8842words"
    acme = world.client("acme")
    profile = {"name": f"learner-{flushed}".lower(), "preferences": {"user": "a"}, "learn": {"examples": 2}}
    assert acme.post("/v1/profiles", json=profile).status_code == 201
    chosen: dict[str, Any] = {"preferences": {"profile": profile["name"]}, "user": f"leaving-{flushed}"}
    for number in range(5):
        told = [{"role": "user", "content": f"{words} {number} " + "otter " * 200}]
        answer = world.ask("acme", messages=told, **chosen).json()
        opinion = {"id": answer["id"], "chosen": words + " chosen", "rejected": words + " rejected"}
        if flushed:
            assert acme.post("/v1/feedback", json=opinion).status_code == 200
    if flushed:
        world.flushed()
        assert words.encode() in world.store_bytes()
        assert world.ask("acme", **chosen).json()["metaalign"]["learned_examples"] == 2
    erased = acme.post("/v1/feedback/erase", json={"user": f"leaving-{flushed}"}).json()
    assert erased["exchanges"] >= 5
    assert erased["feedback"] == (5 if flushed else 0)
    world.flushed()
    assert words.encode() not in world.store_bytes()
    assert world.ask("acme", **chosen).json()["metaalign"]["learned_examples"] == 0
    assert words not in world.ask("acme", return_prompt_text=True, **chosen).text


def test_a_deleted_profile_leaves_no_bytes(world: World) -> None:
    """Unless it was written with an idempotency key, whose answer is kept for a day."""
    words = "profile9917words"
    acme = world.client("acme")
    assert acme.post("/v1/profiles", json={"name": "leaving", "preferences": words}).status_code == 201
    for number in range(20):
        body = {"preferences": f"{words} {number} " + "filler " * 300}
        assert acme.post("/v1/profiles/leaving/versions", json=body).status_code == 201
    assert words.encode() in world.store_bytes()
    assert acme.delete("/v1/profiles/leaving").status_code == 204
    assert words.encode() not in world.store_bytes()


def test_exchanges_are_kept_only_as_said(world: World) -> None:
    """A stored exchange identifies its user by a keyed hash, which differs between tenants."""
    # Exchanges of earlier tests are still being written behind their answers, so these two are
    # looked up by a question that nobody else asks.
    asked = [{"role": "user", "content": "Which exchange is this one?"}]
    for who in ("acme", "other"):
        assert world.ask(who, user="one-and-the-same", messages=asked).status_code == 200
    deadline = time.monotonic() + 5
    while True:
        with closing(sqlite3.connect(world.store, timeout=10)) as connection:
            rows = connection.execute("select tenant_id, user_ref, messages from exchanges").fetchall()
        rows = [row for row in rows if json.loads(row[2]) == asked]
        if len(rows) == 2 or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert len({row[0] for row in rows}) == 2
    assert len({row[1] for row in rows}) == 2
    assert all(len(row[1]) == 64 for row in rows)


def test_an_erasure_is_not_answered_before_it_is_complete(world: World) -> None:
    """While another program reads the files, an erasure is refused as incomplete, and completes when that one ends."""
    words = b"reader6623words"
    acme = world.client("acme")
    body = {"user": "read-by-another"}
    told = [{"role": "user", "content": words.decode() * 50}]
    assert world.ask("acme", messages=told, **body).status_code == 200
    world.flushed()
    with closing(sqlite3.connect(world.store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM exchanges").fetchall()
        refused = acme.post("/v1/feedback/erase", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "erasure_incomplete")
        assert world.ask("acme").status_code == 200
        assert words in world.store_bytes()
    deadline = time.monotonic() + 60
    while words in world.store_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert acme.post("/v1/feedback/erase", json=body).json() == {
        "exchanges": 0,
        "feedback": 0,
        "responses": 0,
    }


@pytest.mark.parametrize("by", ["command", "operator"])
def test_erasure_by_the_operator_leaves_no_bytes(world: World, by: str) -> None:
    words, user = f"operator-{by}-3318words", f"leaving-by-{by}"
    told = [{"role": "user", "content": words * 50}]
    assert world.ask("other", messages=told, user=user).status_code == 200
    world.flushed()
    assert words.encode() in world.store_bytes()
    if by == "command":
        code, printed, said = command(f"sqlite:///{world.store}", "erase", user, "--tenant", "other")
        assert (code, json.loads(printed)["exchanges"]) == (0, 1), said
    else:
        body = {"tenant": "other", "user": user}
        erased = world.client("operator").post("/v1/admin/users/erase", json=body)
        assert erased.json()["exchanges"] == 1
    assert words.encode() not in world.store_bytes()


def test_profiles_are_listed_as_models_to_their_tenant_only(world: World) -> None:
    for tenant in ("acme", "other"):
        made = {"name": f"listed-{tenant}", "preferences": {"user": "Be brief."}}
        assert world.client(tenant).post("/v1/profiles", json=made).status_code == 201

    def listed(key: str) -> set[str]:
        models = {model["id"] for model in world.client(key).get("/v1/models").json()["data"]}
        return {name.partition("@")[2] for name in models if name.partition("@")[2].startswith("listed-")}

    assert listed("acme") == listed("acme/inference") == {"listed-acme"}
    assert listed("other") == {"listed-other"}
    assert listed("operator") == set()
    path = "/v1/models/metaalign-demo@listed-acme"
    assert world.client("acme/inference").get(path).json()["id"] == "metaalign-demo@listed-acme"
    assert world.client("other").get(path).status_code == 404
    for tenant in ("acme", "other"):
        assert world.client(tenant).delete(f"/v1/profiles/listed-{tenant}").status_code == 204
