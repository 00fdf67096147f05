"""Every refusal is written in one style, whoever refuses: our own code, the protocol's models, or vLLM.

Stock vLLM is asked the same beside: its status stays, because clients choose their exceptions by it.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from metaalign.errors import ERRORS
from tests.server.conftest import MODEL, Twin

HI = [{"role": "user", "content": "hi"}]
LONG = "word " * 9000
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
ANTHROPIC_TOOL = {"name": "find", "input_schema": {"type": "object"}}
GRAMMARS: dict[str, Any] = {"regex": "a", "choice": ["b"]}

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": 1},
    "/v1/completions": {"prompt": "hi", "max_tokens": 1},
    "/v1/responses": {"input": "hi", "max_output_tokens": 1},
    "/v1/messages": {"messages": HI, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": HI},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
    "/v1/align": {"query": "hi", "max_tokens": 1},
    "/v1/preferences/render": {"query": "hi"},
}
STREAMING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
SAMPLING: list[dict[str, Any]] = [
    {"temperature": -1},
    {"temperature": "hot"},
    {"top_p": 7},
    {"top_k": -5},
    {"model": "nothing"},
    {"model": 5},
]
"""Refused in all four protocols."""
OPENAI: list[dict[str, Any]] = [
    {"seed": 2**70},
    {"max_tokens": -1},
    {"max_tokens": 10**6},
    {"n": 0},
    {"presence_penalty": 9},
    {"min_tokens": 9, "max_tokens": 1},
    {"stop": [""]},
    {"logit_bias": {"999999": 1}},
    {"logit_bias": {"word": 1}},
    {"prompt_logprobs": -5},
    {"stream_options": {"include_usage": "perhaps"}},
    {"structured_outputs": GRAMMARS},
    {"structured_outputs": {"regex": "("}},
    {"structured_outputs": {"json": {"type": "nothing"}}},
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "poem"}},
]
BAD: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        *SAMPLING,
        *OPENAI,
        {"messages": None},
        {"messages": "hi"},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": LONG}]},
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 10**5},
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tools": "find"},
    ],
    "/v1/completions": [
        *SAMPLING,
        *OPENAI,
        {"prompt": None},
        {"prompt": [10**6]},
        {"prompt": LONG},
        {"logprobs": -5},
        {"suffix": "b"},
    ],
    "/v1/responses": [
        *SAMPLING,
        {"input": None},
        {"input": LONG},
        {"input": [{"role": "user"}]},
        {"background": True, "store": True},
        {"max_output_tokens": 0},
        {"tools": [{"type": "nothing"}]},
        {"text": {"format": {"type": "json_schema"}}},
    ],
    "/v1/messages": [
        *SAMPLING,
        {"messages": None},
        {"messages": [{"role": "user", "content": LONG}]},
        {"messages": [{"role": "judge", "content": "hi"}]},
        {"max_tokens": 0},
        {"max_tokens": None},
        {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool"}},
        {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": "other"}},
        {"system": 5},
    ],
    "/v1/messages/count_tokens": [{"messages": None}, {"model": "nothing"}, {"system": 5}],
    "/tokenize": [{"prompt": 5}, {"prompt": "a", "messages": HI}, {"model": "nothing"}],
    "/detokenize": [{"tokens": [-1]}, {"tokens": "a"}, {"model": "nothing"}],
    "/v1/align": [{"query": 5}, {"temperature": -1}, {"model": "nothing"}, {"preferences": {"sytem": "x"}}],
    "/v1/preferences/render": [{"query": 5}, {"preferences": {"sytem": "x"}}],
}
CASES = [
    pytest.param(path, changes, stream, id=f"{path}-{n}{'-stream' * stream}")
    for path, bad in BAD.items()
    for n, changes in enumerate(bad)
    for stream in ((False, True) if path in STREAMING else (False,))
]

OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
ANTHROPIC_TYPES = OPENAI_TYPES
"""https://docs.anthropic.com/en/api/errors"""


def hold_to_the_style(response: httpx.Response, path: str) -> None:
    """One document, one style."""
    document = response.json()
    if path.startswith("/v1/messages"):
        assert set(document) == {"type", "error"}
        assert document["type"] == "error"
        types = ANTHROPIC_TYPES
    else:
        assert set(document) == {"error"}
        types = OPENAI_TYPES
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == types[response.status_code], error
    assert error["code"] in ERRORS, error
    assert ERRORS[error["code"]].status == response.status_code, error
    assert error["message"]
    assert error["param"] is None or error["param"]


@pytest.mark.parametrize(("path", "changes", "stream"), CASES)
def test_what_is_refused(
    http: httpx.Client, twin: Twin, path: str, changes: dict[str, Any], stream: bool
) -> None:
    body = {"model": MODEL} | BODIES[path] | changes | ({"stream": True} if stream else {})
    response = http.post(path, json=body)
    assert response.status_code in (400, 404), response.text
    hold_to_the_style(response, path)
    if path in STREAMING and response.json()["error"]["code"] in ("invalid_request", "model_not_found"):
        stock = httpx.post(twin.stock_url + path, json=body, timeout=60)
        if stock.status_code != 200:  # it takes some of what we refuse
            assert response.status_code == (400 if stock.status_code == 422 else stock.status_code), (
                stock.text
            )


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("content", "media"),
    [
        (b'{"model":', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"{}", "text/plain"),
    ],
)
def test_what_is_no_request(http: httpx.Client, path: str, content: bytes, media: str) -> None:
    response = http.post(path, content=content, headers={"content-type": media})
    assert response.status_code == 400, response.text
    hold_to_the_style(response, path)


def test_what_is_refused_after_the_first_events(http: httpx.Client) -> None:
    """vLLM's Responses announce a stream before the engine has seen its parameters."""
    body: dict[str, Any] = {"model": MODEL} | BODIES["/v1/responses"]
    body |= {"include": ["message.output_text.logprobs"], "top_logprobs": 25}  # vLLM takes up to 20
    whole = http.post("/v1/responses", json=body)
    assert whole.status_code == 400
    hold_to_the_style(whole, "/v1/responses")
    streamed = http.post("/v1/responses", json=body | {"stream": True})
    assert streamed.status_code == 200
    name, data = streamed.text.strip().split("\n\n")[-1].splitlines()
    assert name == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert set(told) == {"type", "sequence_number", "message", "param", "code"}
    error = whole.json()["error"]
    assert (told["type"], told["code"]) == ("error", "invalid_request")
    assert (told["message"], told["param"]) == (error["message"], error["param"])


def test_most_of_it_is_refused_by_the_protocol_or_the_engine(http: httpx.Client) -> None:
    """Otherwise the cases above would show nothing about vLLM."""
    codes = [
        http.post(path, json={"model": MODEL} | BODIES[path] | changes).json()["error"]["code"]
        for path in STREAMING
        for changes in BAD[path]
    ]
    assert sum(code in ("invalid_request", "model_not_found") for code in codes) > len(codes) * 0.6
