"""Every inference route with the real clients, streaming and not: the answer, and the receipt."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.server.conftest import MODEL

QUERY = "Tell me three things about the otter."
PREFERENCES: dict[str, Any] = {
    "system": {"attributes": {"tone": "pirate"}},
    "user": {"attributes": {"tone": "formal", "format": "bullets"}},
}
MESSAGES: list[Any] = [{"role": "user", "content": QUERY}]
OVERRIDDEN = [
    {"dimension": "tone", "tier": "user", "value": "formal", "kept": "pirate", "by": "system:request"}
]


def check_receipt(receipt: Any) -> None:
    assert receipt["applied"] is True
    assert receipt["overridden"] == OVERRIDDEN
    assert receipt["profiles"] == []
    assert receipt["template"]["name"] == "metaalign"
    assert receipt["tokens"]["system_info"] > 0
    assert receipt["tokens"]["user_info"] > 0
    assert len(receipt["spec_hash"]) == 64


@pytest.fixture(scope="module")
def expected(http: httpx.Client) -> dict[str, Any]:
    """The dry run, and the answer of `/v1/align`: every other route must agree with them."""
    rendered = http.post(
        "/v1/preferences/render", json={"messages": MESSAGES, "preferences": PREFERENCES}
    ).json()
    answer = http.post(
        "/v1/align", json={"query": QUERY, "preferences": PREFERENCES, "temperature": 0, "max_tokens": 120}
    ).json()
    assert answer["metaalign"] == rendered["metaalign"]
    return {"text": answer["text"], "tokens": rendered["tokens"], "receipt": rendered["metaalign"]}


def test_align(http: httpx.Client, expected: dict[str, Any]) -> None:
    response = http.post(
        "/v1/align", json={"query": QUERY, "preferences": PREFERENCES, "temperature": 0, "max_tokens": 120}
    )
    body = response.json()
    check_receipt(body["metaalign"])
    assert body["usage"]["prompt_tokens"] == expected["tokens"]
    assert body["finish_reason"] == "stop"
    assert response.headers["x-metaalign-spec-hash"] == body["metaalign"]["spec_hash"]


def test_chat(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=MESSAGES,
        temperature=0,
        max_completion_tokens=120,
        extra_body={"preferences": PREFERENCES},
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == expected["text"]
    assert answer.model_extra is not None
    assert answer.model_extra["metaalign"] == expected["receipt"]
    check_receipt(answer.model_extra["metaalign"])
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == expected["tokens"]
    spec = expected["receipt"]["spec_hash"]
    assert raw.headers["x-metaalign-applied"] == "true"
    assert raw.headers["x-metaalign-spec-hash"] == spec
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.endswith(f"-ma{spec[:12]}")


def test_chat_stream(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            temperature=0,
            max_completion_tokens=120,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"preferences": PREFERENCES},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected["text"]
    receipts = [c.model_extra["metaalign"] for c in chunks if c.model_extra and "metaalign" in c.model_extra]
    assert receipts == [expected["receipt"]]
    assert chunks[0].model_extra
    assert "metaalign" in chunks[0].model_extra
    prints = {c.system_fingerprint for c in chunks if c.system_fingerprint}
    assert len(prints) == 1
    assert prints.pop().endswith(expected["receipt"]["spec_hash"][:12])
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == expected["tokens"]


def test_completions(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=QUERY, temperature=0, max_tokens=120, extra_body={"preferences": PREFERENCES}
    )
    assert answer.choices[0].text == expected["text"]
    assert answer.model_extra is not None
    assert answer.model_extra["metaalign"] == expected["receipt"]


def test_completions_stream(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    chunks = list(
        client.completions.create(
            model=MODEL,
            prompt=QUERY,
            temperature=0,
            max_tokens=120,
            stream=True,
            extra_body={"preferences": PREFERENCES},
        )
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == expected["text"]
    assert chunks[0].model_extra is not None
    assert chunks[0].model_extra["metaalign"] == expected["receipt"]


def test_responses(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    answer = client.responses.create(
        model=MODEL,
        input=QUERY,
        temperature=0,
        max_output_tokens=120,
        extra_body={"preferences": PREFERENCES},
    )
    assert answer.output_text == expected["text"]
    assert answer.model_extra is not None
    assert answer.model_extra["metaalign"] == expected["receipt"]
    assert answer.instructions is None  # what was injected is not visible


def test_responses_stream(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    events: list[Any] = list(
        client.responses.create(
            model=MODEL,
            input=QUERY,
            temperature=0,
            max_output_tokens=120,
            stream=True,
            extra_body={"preferences": PREFERENCES},
        )
    )
    assert events[0].type == "response.created"
    assert events[0].response.model_extra["metaalign"] == expected["receipt"]
    assert events[-1].type == "response.completed"
    assert events[-1].response.model_extra["metaalign"] == expected["receipt"]
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == expected["text"]


def test_messages(claude: anthropic.Anthropic, expected: dict[str, Any]) -> None:
    answer: Any = claude.messages.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=120,
        extra_body={"preferences": PREFERENCES, "temperature": 0},
    )
    assert answer.content[0].text == expected["text"]
    assert answer.model_extra["metaalign"] == expected["receipt"]
    assert answer.stop_reason == "end_turn"
    usage = answer.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == expected["tokens"]


def test_messages_stream(claude: anthropic.Anthropic, expected: dict[str, Any]) -> None:
    with claude.messages.stream(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=120,
        extra_body={"preferences": PREFERENCES, "temperature": 0},
    ) as stream:
        events: list[Any] = list(stream)
        assert stream.get_final_text() == expected["text"]
    starts = [e for e in events if e.type == "message_start"]
    assert starts[0].message.model_extra["metaalign"] == expected["receipt"]


def test_count_tokens(claude: anthropic.Anthropic, expected: dict[str, Any]) -> None:
    plain = claude.messages.count_tokens(model=MODEL, messages=MESSAGES)
    counted = claude.messages.count_tokens(
        model=MODEL, messages=MESSAGES, extra_body={"preferences": PREFERENCES}
    )
    assert counted.input_tokens == expected["tokens"]
    assert counted.input_tokens > plain.input_tokens


def test_render_is_a_dry_run(http: httpx.Client) -> None:
    before = generated_tokens(http)
    body = http.post(
        "/v1/preferences/render",
        json={
            "preferences": {
                "system": {"info": "You sell tea.", "priorities": ["honesty", "brevity"]},
                "user": "I am Ada.",
            },
            "messages": [{"role": "system", "content": "Shop: Leaf."}, {"role": "user", "content": "Hello"}],
        },
    ).json()
    assert (
        body["system_info"]
        == "You sell tea.\n\nShop: Leaf.\n\nPriorities, most important first: honesty, brevity."
    )
    assert body["user_info"] == "I am Ada."
    assert body["prompt"] == (
        "<|system_info|>You sell tea.\n\nShop: Leaf.\n\n"
        "Priorities, most important first: honesty, brevity.<|end|>"
        "<|user_info|>I am Ada.<|end|><|user|>Hello<|end|><|assistant|>"
    )
    assert body["tokens"] == len(body["prompt_token_ids"])
    assert generated_tokens(http) == before


def test_models_and_version(client: openai.OpenAI, http: httpx.Client) -> None:
    assert [m.id for m in client.models.list()] == [MODEL]
    version = http.get("/version").json()
    assert version["vllm"] == "0.32.0"
    assert version["template"]["version"] == "1"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_probes_need_no_key(twin: Any, path: str) -> None:
    assert httpx.get(twin.url + path).status_code == 200


def test_metrics_hold_both_families(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert "vllm:generation_tokens_total" in text
    assert 'metaalign_requests_total{route="/v1/align",status="200"}' in text
    assert "metaalign_preferences_applied_total" in text


def test_openapi_documents_preferences(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/align",
        "/v1/preferences/render",
        "/v1/models",
    } <= set(document["paths"])
    for name in (
        "ChatRequest",
        "CompletionsRequest",
        "ResponsesApiRequest",
        "MessagesRequest",
        "AlignRequest",
    ):
        schema = json.dumps(document["components"]["schemas"][name]["properties"]["preferences"])
        assert "attributes" in schema
        assert "$ref" not in schema


@pytest.mark.parametrize(
    "path", ["/tokenizer_info", "/invocations", "/v1/load_lora_adapter", "/inference/v1/generate"]
)
def test_other_vllm_routes_are_off(http: httpx.Client, path: str) -> None:
    response = http.post(path, json={})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "route_not_found"


def generated_tokens(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:generation_tokens_total{"))
