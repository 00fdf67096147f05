"""Metrics: the running server exposes what the documentation lists, and counts what happens to requests."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import metaalign
from metaalign.errors import ERRORS
from metaalign_server.settings import Settings
from tests.processes import ROOT, Server
from tests.server.conftest import MODEL, Twin

ROW = re.compile(r"^\| `(metaalign_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in the documentation."""
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(page)}


def exposed(http: httpx.Client) -> dict[str, Metric]:
    """Our metrics by the names under which Prometheus stores them."""
    families = text_string_to_metric_families(http.get("/metrics").raise_for_status().text)
    ours = [f for f in families if f.name.startswith("metaalign_") and not f.name.endswith("_created")]
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in ours}


def value(http: httpx.Client, sample: str, **labels: str) -> float:
    """The sum of a sample over the labels that are not given."""
    return sum(
        found.value
        for family in exposed(http).values()
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    )


def labels_of(family: Metric) -> Iterator[set[str]]:
    for sample in family.samples:
        yield set(sample.labels) - {"le"}


def test_the_documentation_lists_what_is_exposed(http: httpx.Client) -> None:
    steered = {"system": "Be kind.", "strength": 2}
    assert http.post("/v1/align", json={"query": "hi", "max_tokens": 1, "preferences": steered}).is_success
    assert http.post("/v1/chat/completions", json=CHAT | {"stream": True}).is_success
    assert http.get("/nothing").status_code == 404
    listed, found = documented(), exposed(http)
    assert {name: kind for name, (kind, _) in listed.items()} == {
        name: family.type for name, family in found.items()
    }
    for name, family in found.items():
        for labels in labels_of(family):
            assert labels == listed[name][1], name
    silent = {name for name, family in found.items() if not list(labels_of(family))}
    assert silent <= {
        "metaalign_limits_refusals_total",
        "metaalign_preferences_overridden_total",
        "metaalign_verdicts_total",
    }


def test_the_state_of_the_server(http: httpx.Client) -> None:
    assert value(http, "metaalign_ready") == 1
    assert value(http, "metaalign_draining") == 0
    assert value(http, "metaalign_dependency_up", dependency="store") == 1
    assert value(http, "metaalign_build_info", version=metaalign.__version__, vllm="0.32.0") == 1
    assert math.isnan(value(http, "metaalign_engine_silence_seconds"))  # nobody watches this engine
    assert (
        value(http, "metaalign_engine_silence_limit_seconds")
        == Settings.model_fields["stall_seconds"].default
    )
    assert value(http, "metaalign_queue_waiting_limit") == Settings.model_fields["max_waiting"].default
    assert value(http, "metaalign_queue_places") > 0
    assert value(http, "metaalign_queue_places_used") == value(http, "metaalign_queue_waiting") == 0


def test_answers_and_refusals_are_counted_apart(http: httpx.Client, user_http: httpx.Client) -> None:
    route = "/v1/chat/completions"

    def counted() -> list[float]:
        seconds = "metaalign_request_duration_seconds_count"
        return [
            value(http, seconds, route=route, status_class="2xx"),
            value(http, seconds, route=route, status_class="4xx"),
            value(http, "metaalign_stream_first_byte_seconds_count", route=route),
            value(http, "metaalign_refusals_total", code="system_tier_forbidden"),
            value(http, "metaalign_refusals_total", code="invalid_request"),
        ]

    before = counted()
    assert http.post(route, json=CHAT).status_code == 200
    assert http.post(route, json=CHAT | {"stream": True}).status_code == 200
    assert user_http.post(route, json=CHAT | {"preferences": "Be kind."}).status_code == 403
    assert http.post(route, json=CHAT | {"max_tokens": -1}).status_code == 400
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [2, 2, 1, 1, 1]


def test_preferences_are_counted(http: httpx.Client) -> None:
    """What lost to what; what was rendered before; and the tokens, of which the engine had some."""

    def counted() -> dict[str, float]:
        lost, made = "metaalign_preferences_overridden_total", "metaalign_meta_prompts_total"
        return {
            "user": value(http, lost, tier="user", by="system:request"),
            "other": value(http, lost) - value(http, lost, tier="user", by="system:request"),
            "miss": value(http, made, result="miss"),
            "hit": value(http, made, result="hit"),
            "resolved": value(http, "metaalign_meta_prompt_seconds_count", stage="resolve"),
            "rendered": value(http, "metaalign_meta_prompt_seconds_count", stage="render"),
            "prompt": value(http, "metaalign_prompt_tokens_total", preferences="applied"),
            "cached": value(http, "metaalign_prompt_cached_tokens_total", preferences="applied"),
            "output": value(http, "metaalign_output_tokens_total", preferences="applied"),
            "plain": value(http, "metaalign_prompt_tokens_total", preferences="none"),
        }

    preferences = {
        "system": {"info": "You help astronomers. " * 20, "attributes": {"tone": "formal"}},
        "user": {"attributes": {"tone": "casual"}},
    }
    before = counted()
    answers = [http.post("/v1/chat/completions", json=CHAT | {"preferences": preferences}) for _ in range(2)]
    usages = [answer.raise_for_status().json()["usage"] for answer in answers]
    plain = http.post("/v1/chat/completions", json=CHAT).json()["usage"]
    change = {name: after - before[name] for name, after in counted().items()}
    cached = change.pop("cached")
    assert change == {
        "user": 2,
        "other": 0,
        "miss": 1,
        "hit": 1,
        "resolved": 1,
        "rendered": 1,
        "prompt": sum(usage["prompt_tokens"] for usage in usages),
        "output": sum(usage["completion_tokens"] for usage in usages),
        "plain": plain["prompt_tokens"],
    }
    assert 0 < cached < usages[1]["prompt_tokens"]  # the second time


def test_lookups_of_profiles_are_counted(http: httpx.Client) -> None:
    created = http.post("/v1/profiles", json={"name": "counted", "preferences": "Be kind."})
    assert created.status_code == 201, created.text

    def counted(result: str) -> float:
        return value(http, "metaalign_lookups_total", cache="profile_versions", result=result)

    before = counted("miss"), counted("hit")
    for _ in range(3):
        assert http.post(
            "/v1/align", json={"query": "hi", "max_tokens": 1, "preferences": {"profile": "counted"}}
        ).is_success
    assert (counted("miss") - before[0], counted("hit") - before[1]) == (1, 2)
    assert http.delete("/v1/profiles/counted").is_success


def test_what_a_limit_refuses_is_counted(http: httpx.Client) -> None:
    tenant = http.post("/v1/admin/tenants", json={"name": "counted"})
    assert tenant.status_code in (201, 409)
    key = {"tenant": "counted", "scopes": ["inference"], "limits": {"requests_per_minute": 1}}
    token = http.post("/v1/admin/keys", json=key).raise_for_status().json()["key"]
    before = value(http, "metaalign_limits_refusals_total", owner="key", limit="requests_per_minute")
    asked = [
        http.post(
            "/v1/align", json={"query": "hi", "max_tokens": 1}, headers={"authorization": f"Bearer {token}"}
        )
        for _ in range(3)
    ]
    assert [answer.status_code for answer in asked] == [200, 429, 429]
    after = value(http, "metaalign_limits_refusals_total", owner="key", limit="requests_per_minute")
    assert after - before == 2
    assert value(http, "metaalign_limits_refusals_total") >= 2


def test_a_body_that_is_too_large_is_one_refusal(http: httpx.Client) -> None:
    """Whatever the application makes of the end of its body."""

    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1024

    before = (
        value(http, "metaalign_refusals_total"),
        value(http, "metaalign_refusals_total", code="invalid_request"),
    )
    answer = http.post("/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert value(http, "metaalign_refusals_total", code="body_too_large") >= 1
    after = (
        value(http, "metaalign_refusals_total"),
        value(http, "metaalign_refusals_total", code="invalid_request"),
    )
    assert (after[0] - before[0], after[1] - before[1]) == (1, 0)


def test_labels_are_bounded(http: httpx.Client) -> None:
    """Whatever a client writes into a path or a field."""
    for word in ("zebra1", "zebra2"):
        http.post(f"/v1/{word}", json={})
        http.get(f"/v1/profiles/{word}")
        http.post("/v1/chat/completions", json=CHAT | {"preferences": {word: 1}})
    text = http.get("/metrics").text
    assert "zebra" not in text
    codes = {sample.labels["code"] for sample in exposed(http)["metaalign_refusals_total"].samples}
    assert codes <= set(ERRORS) | {str(status) for status in range(400, 600)}


def test_the_log_names_the_error(http: httpx.Client, twin: Twin) -> None:
    answer = http.get("/nothing")
    server: Server = twin.server
    lines: list[dict[str, str]] = []
    deadline = time.monotonic() + 10
    while not lines and time.monotonic() < deadline:  # it is written when the client has its answer
        written = server.log_text().splitlines()
        lines = [json.loads(line) for line in written if answer.headers["x-request-id"] in line]
    assert [line["error"] for line in lines] == ["route_not_found"]


def test_verdicts_are_counted(http: httpx.Client) -> None:
    def counted() -> list[float]:
        return [
            value(http, "metaalign_verdicts_total", check="count", passed=passed) for passed in ("yes", "no")
        ]

    checks = [
        {"name": "count", "arguments": {"what": "words", bound: 1000}} for bound in ("at_most", "at_least")
    ]
    before = counted()
    assert http.post("/v1/chat/completions", json=CHAT | {"preferences": {"verify": checks}}).is_success
    assert http.post(
        "/v1/chat/completions", json=CHAT | {"stream": True, "preferences": {"verify": checks}}
    ).is_success
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [2, 2]
