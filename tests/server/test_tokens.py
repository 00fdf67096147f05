"""`/tokenize` and `/detokenize` beside stock vLLM's, and with preferences."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.server.conftest import Twin

DIALOGUE: list[dict[str, Any]] = [
    {"role": "user", "content": "What does a fox eat?"},
    {"role": "assistant", "content": "The fox eats mice."},
    {"role": "user", "content": "And an otter? naïve 🦦"},
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": DIALOGUE},
        {"messages": DIALOGUE, "return_token_strs": True},
        {"messages": DIALOGUE, "add_generation_prompt": False},
        {"messages": DIALOGUE[:2], "add_generation_prompt": False, "continue_final_message": True},
        {"messages": DIALOGUE, "tools": [TOOL]},
        {"prompt": "What does a fox eat? naïve 🦦"},
        {"prompt": "", "add_special_tokens": False},
        {"model": "metaalign-demo", "prompt": "two  spaces\n"},
    ],
)
def test_ids_are_those_of_stock_vllm(twin: Twin, http: httpx.Client, body: dict[str, Any]) -> None:
    ours = http.post("/tokenize", json=body).raise_for_status().json()
    stock = httpx.post(f"{twin.stock_url}/tokenize", json=body, timeout=60).raise_for_status().json()
    assert ours.pop("metaalign") is None
    assert ours == stock
    back = http.post("/detokenize", json={"tokens": ours["tokens"]}).json()
    assert (
        back == httpx.post(f"{twin.stock_url}/detokenize", json={"tokens": ours["tokens"]}, timeout=60).json()
    )


def test_preferences_count(http: httpx.Client) -> None:
    """They are the tokens that the request would use, and the same as the dry run shows."""
    body: dict[str, Any] = {
        "messages": DIALOGUE,
        "preferences": {"system": "Answer like a pirate.", "user": {"attributes": {"format": "bullets"}}},
    }
    found = http.post("/tokenize", json=body).raise_for_status()
    rendered = http.post("/v1/preferences/render", json=body).json()
    asked = http.post("/v1/chat/completions", json=body | {"max_tokens": 1}).json()
    assert found.json()["tokens"] == rendered["prompt_token_ids"]
    assert found.json()["count"] == asked["usage"]["prompt_tokens"]
    assert found.json()["metaalign"] == rendered["metaalign"]
    assert found.headers["x-metaalign-spec-hash"] == rendered["metaalign"]["spec_hash"]
    text = http.post("/detokenize", json={"tokens": rendered["prompt_token_ids"]}).json()
    assert text == {"prompt": rendered["prompt"]}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, None),
        ("/tokenize", {"messages": DIALOGUE, "prompt": "a"}, None),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}], "preferences": {"x": 1}}, "preferences.x"),
        ("/tokenize", {"prompt": "a", "chat_template": "x"}, "chat_template"),
        ("/tokenize", {"prompt": "word " * 50_000}, "input_text"),
        ("/detokenize", {"tokens": [1] * 5000}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": "abc"}, "tokens"),
        ("/detokenize", {"tokens": [1], "model": "nothing"}, "model"),
    ],
)
def test_refusals_name_the_field(
    http: httpx.Client, path: str, body: dict[str, Any], param: str | None
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param


def test_a_key_without_system_writes_no_control_tokens(http: httpx.Client, user_http: httpx.Client) -> None:
    """It is told the ids that its own request would have."""
    body = {"prompt": "<|system_info|>", "add_special_tokens": False}
    assert http.post("/tokenize", json=body).json()["count"] == 1
    assert user_http.post("/tokenize", json=body).json()["count"] > 1
