"""`preferences.verify`: verdicts on an answer in its receipt, in every protocol, without holding anybody up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import pytest

from metaalign_server.alignment.verification import _beside
from tests.server.conftest import MODEL

QUERY = "Tell me three things about the otter."
MESSAGES: list[Any] = [{"role": "user", "content": QUERY}]
CHECKS = [
    {"name": "format", "arguments": {"value": "bullets"}},
    {"name": "length_constraints:number_words", "arguments": {"relation": "at least", "num_words": 1000}},
]
PREFERENCES: dict[str, Any] = {"user": {"attributes": {"format": "bullets"}}, "verify": CHECKS}


def check_verdicts(receipt: Any) -> None:
    (answer,) = receipt["verified"]
    assert answer["index"] == 0
    assert answer["passed"] is False
    first, second = answer["checks"]
    assert (first["name"], first["passed"]) == ("format", True)
    assert first["why"].startswith("3 bullets")
    assert (second["name"], second["passed"]) == ("length_constraints:number_words", False)
    assert second["why"].endswith("words; at least 1000 asked for")


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_align(http: httpx.Client) -> None:
    body = {"query": QUERY, "preferences": PREFERENCES, "temperature": 0, "max_tokens": 120}
    check_verdicts(http.post("/v1/align", json=body).json()["metaalign"])


def test_chat_and_its_stream(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "model": MODEL,
        "messages": MESSAGES,
        "temperature": 0,
        "max_completion_tokens": 120,
    }
    answer = client.chat.completions.create(**options, extra_body={"preferences": PREFERENCES})
    check_verdicts(answer.model_extra["metaalign"])
    chunks = list(
        client.chat.completions.create(**options, stream=True, extra_body={"preferences": PREFERENCES})
    )
    first, last = chunks[0].model_extra["metaalign"], chunks[-1].model_extra["metaalign"]
    assert "verified" not in first
    assert {**first, "verified": last["verified"]} == last
    assert (chunks[-1].choices, chunks[-1].id, chunks[-1].model) == ([], chunks[0].id, MODEL)
    check_verdicts(last)


def test_every_choice_has_verdicts(http: httpx.Client) -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "n": 3, "max_tokens": 60}
    body["preferences"] = {
        "verify": [{"name": "count", "arguments": {"what": "characters", "at_most": 10_000}}]
    }
    answer = http.post("/v1/chat/completions", json=body).json()
    assert [one["index"] for one in answer["metaalign"]["verified"]] == [0, 1, 2]
    streamed = events(http.post("/v1/chat/completions", json=body | {"stream": True}))
    verified = streamed[-1]["metaalign"]["verified"]
    assert [(one["index"], one["passed"]) for one in verified] == [(0, True), (1, True), (2, True)]


def test_completions_and_their_stream(http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": QUERY, "temperature": 0, "max_tokens": 120, "preferences": PREFERENCES}
    check_verdicts(http.post("/v1/completions", json=body).json()["metaalign"])
    check_verdicts(events(http.post("/v1/completions", json=body | {"stream": True}))[-1]["metaalign"])


def test_responses_and_their_stream(http: httpx.Client) -> None:
    body = {
        "model": MODEL,
        "input": QUERY,
        "temperature": 0,
        "max_output_tokens": 120,
        "preferences": PREFERENCES,
    }
    check_verdicts(http.post("/v1/responses", json=body).json()["metaalign"])
    streamed = events(http.post("/v1/responses", json=body | {"stream": True}))
    receipts = {one["type"]: one["response"]["metaalign"] for one in streamed if "response" in one}
    assert "verified" not in receipts["response.created"]
    check_verdicts(receipts["response.completed"])


def test_messages_and_their_stream(claude: anthropic.Anthropic, http: httpx.Client) -> None:
    options: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 120}
    extra = {"preferences": PREFERENCES, "temperature": 0}
    answer = claude.messages.create(**options, extra_body=extra)
    check_verdicts(answer.model_extra["metaalign"])
    streamed = events(http.post("/v1/messages", json=options | {"stream": True} | extra))
    assert "verified" not in streamed[0]["message"]["metaalign"]
    assert streamed[-1]["type"] == "message_stop"
    check_verdicts(streamed[-1]["metaalign"])
    with claude.messages.stream(**options, extra_body=extra) as stream:
        assert "otter" in stream.get_final_text().lower()


def test_dimensions_imply_checks(http: httpx.Client) -> None:
    preferences = {
        "system": {"attributes": {"format": "bullets", "tone": "pirate"}},
        "user": {"attributes": {"format": "json", "length": "long"}},
        "verify": True,
    }
    body = {"query": QUERY, "preferences": preferences, "temperature": 0, "max_tokens": 120}
    receipt = http.post("/v1/align", json=body).json()["metaalign"]
    assert [one["name"] for one in receipt["verified"][0]["checks"]] == ["format", "length"]
    assert receipt["verified"][0]["checks"][0]["passed"] is True, "the value that won is checked"


def test_nothing_to_check_is_no_pass(http: httpx.Client) -> None:
    body = {"query": QUERY, "preferences": {"user": "Keep it short.", "verify": True}, "max_tokens": 8}
    receipt = http.post("/v1/align", json=body).json()["metaalign"]
    assert receipt["verified"] == [{"index": 0, "passed": None, "checks": []}]


def test_what_is_asked_of_the_answer_is_not_in_the_prompt(http: httpx.Client) -> None:
    plain = {"user": {"attributes": {"format": "bullets"}}}
    rendered = [
        http.post("/v1/preferences/render", json={"messages": MESSAGES, "preferences": p}).json()
        for p in (plain, PREFERENCES)
    ]
    assert rendered[0] == rendered[1]
    count = {"model": MODEL, "messages": MESSAGES, "preferences": PREFERENCES}
    assert "verified" not in http.post("/v1/messages/count_tokens", json=count).json()["metaalign"]


@pytest.mark.parametrize(
    ("verify", "param", "message"),
    [
        (
            [{"name": "keywords:existance"}],
            "preferences.verify[0].name",
            "the nearest is `keywords:existence`",
        ),
        (
            [CHECKS[0], {"name": "count", "arguments": {"what": "words", "at_leats": 3}}],
            "preferences.verify[1].arguments.at_leats",
            "the nearest is `at_least`",
        ),
        ([{"name": "format", "argument": {}}], "preferences.verify[0].argument", "unknown key"),
        ([], "preferences.verify", "at least 1"),
        ("yes", "preferences.verify", "valid"),
        ([CHECKS[0]] * 17, "preferences.verify", "at most 16"),
        (
            [{"name": "json_schema", "arguments": {"schema": {"$ref": "http://127.0.0.1:1/x"}}}],
            "preferences.verify[0].arguments.schema",
            "without references to other documents",
        ),
        (
            [{"name": "json_schema", "arguments": {"schema": {"enum": ["x" * 40_000]}}}],
            "preferences.verify",
            "at most 32768 bytes",
        ),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, verify: Any, param: str, message: str) -> None:
    response = http.post("/v1/align", json={"query": "x", "preferences": {"verify": verify}})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_preferences", param)
    assert message in error["message"]


def test_a_profile_checks_no_answers(http: httpx.Client) -> None:
    response = http.post("/v1/profiles", json={"name": "verifying", "preferences": {"verify": True}})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "preferences.verify")


def test_stored_preferences_are_not_told_by_their_checks(http: httpx.Client, user_http: httpx.Client) -> None:
    stored = {"name": "verified", "preferences": {"system": {"attributes": {"format": "bullets"}}}}
    assert http.post("/v1/profiles", json=stored).status_code == 201
    body: dict[str, Any] = {
        "query": QUERY,
        "preferences": {"profile": "verified", "verify": True},
        "temperature": 0,
    }
    refused = user_http.post("/v1/align", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "preferences.verify")
    assert http.post("/v1/align", json=body).json()["metaalign"]["verified"][0]["passed"] is True
    body["preferences"]["verify"] = CHECKS
    assert user_http.post("/v1/align", json=body).status_code == 200


@pytest.mark.timed
def test_slow_checks_hold_nobody_up(http: httpx.Client) -> None:
    """Checks that go on until they are stopped, on every choice, while others ask whether the server lives."""
    definitions: dict[str, Any] = {"0": {"type": "string"}}
    for level in range(1, 15):
        definitions[str(level)] = {"anyOf": [{"$ref": f"#/$defs/{level - 1}"}] * 4}
    schema = {"$ref": "#/$defs/14", "$defs": definitions}
    body: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, "n": 4}
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "integer"}},
    }
    body["preferences"] = {"verify": [{"name": "json_schema", "arguments": {"schema": schema}}] * 16}
    http.post("/v1/chat/completions", json=body)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(http.post, "/v1/chat/completions", json=body)
        waits = []
        while not slow.done():
            start = time.monotonic()
            assert http.get("/livez").status_code == 200
            waits.append(time.monotonic() - start)
    checks = [c for one in slow.result().json()["metaalign"]["verified"] for c in one["checks"]]
    assert len(checks) == 64
    assert {c["why"] for c in checks} >= {"not decided: no time was left"}
    assert max(waits) < 0.5


def test_a_tenants_checks_hold_up_no_other_tenants() -> None:
    """One tenant has more requests to check than there are threads, and all of them take long."""
    release = threading.Event()

    async def run() -> tuple[str, int]:
        heavy = [asyncio.create_task(_beside("heavy", release.wait)) for _ in range(8)]
        await asyncio.sleep(0)
        light = await asyncio.wait_for(_beside("light", lambda: "checked"), 5)
        waiting = sum(not task.done() for task in heavy)
        release.set()
        await asyncio.gather(*heavy)
        return light, waiting

    assert asyncio.run(run()) == ("checked", 8)
