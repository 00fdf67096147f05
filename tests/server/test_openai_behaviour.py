"""What clients of OpenAI-compatible servers rely on, with `preferences` in place."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import openai
import pytest

from tests.server.conftest import MODEL

MESSAGES: list[Any] = [{"role": "user", "content": "What does a fox eat?"}]
EXTRA = {"preferences": {"user": {"attributes": {"tone": "cheerful"}}}}


def chat(client: openai.OpenAI, **options: Any) -> Any:
    extra = EXTRA | options.pop("extra_body", {})
    defaults: dict[str, Any] = {
        "model": MODEL,
        "messages": MESSAGES,
        "max_completion_tokens": 10,
        "temperature": 0,
    }
    return client.chat.completions.create(**(defaults | options), extra_body=extra)


def test_no_logprobs_unless_asked(client: openai.OpenAI) -> None:
    assert chat(client).choices[0].logprobs is None


@pytest.mark.parametrize("top", [0, 5])
def test_top_logprobs(client: openai.OpenAI, top: int) -> None:
    choice = chat(client, logprobs=True, top_logprobs=top).choices[0]
    assert len(choice.logprobs.content) == 10
    assert {len(entry.top_logprobs) for entry in choice.logprobs.content} == {top}
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0
        if top:
            assert max(t.logprob for t in entry.top_logprobs) == pytest.approx(
                entry.logprob
            )  # greedy took the best


def test_too_many_logprobs(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="logprobs"):
            chat(client, logprobs=True, top_logprobs=21, stream=stream)
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        client.completions.create(model=MODEL, prompt="hi", logprobs=21, extra_body=EXTRA)
    assert chat(client).choices[0].finish_reason == "length"


def test_top_logprobs_without_logprobs_is_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        chat(client, top_logprobs=5)


@pytest.mark.parametrize("count", [0, 1, None])
def test_completion_logprobs(client: openai.OpenAI, count: int | None) -> None:
    answer = client.completions.create(
        model=MODEL,
        prompt="What does a fox eat?",
        max_tokens=5,
        temperature=0,
        logprobs=count,
        extra_body=EXTRA,
    )
    logprobs: Any = answer.choices[0].logprobs
    if count is None:
        assert logprobs is None
    else:
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 5
        assert all(len(top) <= max(count, 1) for top in logprobs.top_logprobs)


def test_prompt_logprobs(client: openai.OpenAI) -> None:
    answer = chat(client, extra_body={"prompt_logprobs": 1})
    entries = answer.model_extra["prompt_logprobs"]
    assert len(entries) == answer.usage.prompt_tokens
    assert entries[0] is None
    assert all(1 <= len(entry) <= 2 for entry in entries[1:])
    with pytest.raises(openai.BadRequestError, match="prompt_logprobs"):
        chat(client, extra_body={"prompt_logprobs": -5})
    with pytest.raises(openai.BadRequestError, match="prompt_logprobs"):
        chat(client, stream=True, extra_body={"prompt_logprobs": 1})


def test_stream_options(client: openai.OpenAI) -> None:
    silent = list(chat(client, stream=True))
    assert all(chunk.usage is None for chunk in silent)
    last = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in last[:-1])
    assert last[-1].choices == []
    assert last[-1].usage.completion_tokens == 10
    every = list(
        chat(client, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    )
    assert all(chunk.usage.prompt_tokens == last[-1].usage.prompt_tokens for chunk in every)
    with pytest.raises(openai.BadRequestError, match="stream"):
        chat(client, stream=False, stream_options={"include_usage": True})


@pytest.mark.parametrize("stream", [False, True])
def test_structured_choice(client: openai.OpenAI, stream: bool) -> None:
    answer = chat(client, stream=stream, extra_body={"structured_outputs": {"choice": ["otter", "heron"]}})
    assert text_of(answer, stream) in {"otter", "heron"}


def test_structured_regex(client: openai.OpenAI) -> None:
    answer = chat(
        client, max_completion_tokens=20, extra_body={"structured_outputs": {"regex": r"[a-c]{3}-\d{2}"}}
    )
    assert re.fullmatch(r"[a-c]{3}-\d{2}", answer.choices[0].message.content)


SCHEMA = {
    "type": "object",
    "properties": {
        "animal": {"type": "string", "enum": ["fox", "otter"]},
        "legs": {"type": "integer", "enum": [4]},
    },
    "required": ["animal", "legs"],
    "additionalProperties": False,
}


def test_structured_json_and_response_format(client: openai.OpenAI) -> None:
    by_field = chat(client, max_completion_tokens=400, extra_body={"structured_outputs": {"json": SCHEMA}})
    assert json.loads(by_field.choices[0].message.content)["legs"] == 4
    response_format = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    by_format = chat(client, max_completion_tokens=400, response_format=response_format)
    assert json.loads(by_format.choices[0].message.content)["animal"] in {"fox", "otter"}
    with pytest.raises(openai.BadRequestError):
        chat(client, response_format={"type": "yaml"})


def test_bad_regex_is_the_clients_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(client, extra_body={"structured_outputs": {"regex": "[a-"}})
    assert chat(client).choices[0].message.content


TOOL = {"type": "function", "function": {"name": "look_up", "description": "Find.", "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "look_up"}}


@pytest.mark.parametrize("choice", [NAMED, "required"])
def test_a_forced_call_follows_its_schema(client: openai.OpenAI, choice: Any) -> None:
    """vLLM holds it to the schema only if the tool is `strict`; a string in place of an object breaks clients."""
    answer = chat(client, tools=[TOOL], tool_choice=choice, max_completion_tokens=400)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "look_up"
    arguments = json.loads(call.function.arguments)
    assert arguments["animal"] in {"fox", "otter"}
    assert arguments["legs"] == 4
    follow_up = [
        *MESSAGES,
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "A fox eats mice."},
    ]
    again = chat(client, messages=follow_up, tools=[TOOL])
    assert again.choices[0].finish_reason in {"stop", "length"}


def test_a_forced_call_streams_its_arguments(client: openai.OpenAI) -> None:
    parts = list(chat(client, tools=[TOOL], tool_choice=NAMED, max_completion_tokens=400, stream=True))
    calls = [call for part in parts for choice in part.choices for call in choice.delta.tool_calls or ()]
    assert json.loads("".join(call.function.arguments or "" for call in calls))["legs"] == 4


def test_no_tools_are_no_tools(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tool"):
        chat(client, tools=[], tool_choice="required")
    chat(client, tools=[], tool_choice="auto")
    assert chat(client, tools=[]).choices[0].message.content == chat(client).choices[0].message.content


@pytest.mark.parametrize("kind", [{"type": "any"}, {"type": "tool", "name": "look_up"}])
def test_a_forced_call_of_anthropics(http: httpx.Client, kind: dict[str, str]) -> None:
    answer = http.post("/v1/messages", json=forced(kind))
    assert answer.status_code == 200, answer.text
    calls = calls_of(answer)
    # `any` asks for one call or several, and the answer is sampled.
    assert calls if kind["type"] == "any" else len(calls) == 1
    assert {call["input"]["legs"] for call in calls} == {4}
    cut = http.post("/v1/messages", json=forced(kind) | {"max_tokens": 2}).json()
    assert (cut["stop_reason"], [part["type"] for part in cut["content"]]) == ("max_tokens", ["text"])


def test_several_calls_can_be_forbidden(client: openai.OpenAI, http: httpx.Client) -> None:
    """At this temperature about a quarter of the answers has several calls where that is allowed."""

    def calls(seed: int, **choice: bool) -> int:
        options = {"temperature": 2, "seed": seed}
        return len(calls_of(http.post("/v1/messages", json=forced({"type": "any", **choice}) | options)))

    seed = next(seed for seed in range(40) if calls(seed) > 1)
    assert calls(seed, disable_parallel_tool_use=True) == 1

    def most(**choice: bool) -> int:
        options = {"tools": [TOOL], "tool_choice": "required", "max_completion_tokens": 400}
        answer = chat(client, **options, temperature=2, seed=0, n=16, **choice)
        return max(len(choice.message.tool_calls) for choice in answer.choices)

    assert most() > 1
    assert most(parallel_tool_calls=False) == 1


def forced(kind: dict[str, Any]) -> dict[str, Any]:
    tool = {"name": "look_up", "description": "Find.", "input_schema": SCHEMA}
    return {
        "model": MODEL,
        "max_tokens": 400,
        "messages": MESSAGES,
        "tools": [tool],
        "tool_choice": kind,
    }


def calls_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [part for part in answer.json()["content"] if part["type"] == "tool_use"]


def test_one_model(client: openai.OpenAI, http: httpx.Client) -> None:
    assert client.models.retrieve("metaalign-demo").id == "metaalign-demo"
    with pytest.raises(openai.NotFoundError, match="no model 'other'; served: metaalign-demo"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("metaalign-demo@nobody")
    assert (
        http.post("/v1/profiles", json={"name": "one-model", "preferences": "Be brief."}).status_code == 201
    )
    name = "metaalign-demo@one-model"
    assert client.models.retrieve(name).id == name
    answer: Any = chat(client, model=name)
    assert answer.model == name
    assert answer.model_extra["metaalign"]["profiles"] == ["one-model:1"]
    assert {part.model for part in chat(client, model=name, stream=True)} == {name}
    assert http.delete("/v1/profiles/one-model").status_code == 204


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("extra_body", "an argument of OpenAI's Python client"),
        ("Preferences", "unknown field; preferences are given in `preferences`"),
        ("prefs", "unknown field"),
        ("user_preferences", "unknown field"),
        ("preferenecs", "unknown field"),
        ("metaalign_profile", "a profile is named in `preferences.profile`"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"])
def test_likely_mistakes_are_refused(http: httpx.Client, path: str, name: str, told: str) -> None:
    given = {"/v1/responses": {"input": "Hi"}, "/v1/completions": {"prompt": "Hi"}}.get(
        path, {"messages": MESSAGES}
    )
    body = {"model": "metaalign-demo", "max_tokens": 2, **given, name: {"user": "Be brief."}}
    refused = http.post(path, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, name)
    assert told in error["message"]


@pytest.mark.parametrize("name", ["provider", "reference", "presence", "references_used", "litellm_metadata"])
def test_other_unknown_fields_stay_as_vllm_has_them(http: httpx.Client, name: str) -> None:
    body = {"model": "metaalign-demo", "max_tokens": 2, "messages": MESSAGES, name: "x"}
    assert http.post("/v1/chat/completions", json=body).status_code == 200


def test_responses_say_that_nothing_is_stored(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="this server stores no responses"):
        client.responses.create(model="metaalign-demo", input="Hi", previous_response_id="resp_1")


@pytest.mark.parametrize("role", ["user", "developer", "user_info"])
def test_text_and_parts_agree(client: openai.OpenAI, role: str) -> None:
    plain = chat(client, messages=[{"role": role, "content": "What does a fox eat?"}, *MESSAGES])
    part = {"type": "text", "text": "What does a fox eat?"}
    parts = chat(client, messages=[{"role": role, "content": [part]}, *MESSAGES])
    assert plain.choices[0].message.content == parts.choices[0].message.content
    assert plain.usage.prompt_tokens == parts.usage.prompt_tokens


def test_seed(client: openai.OpenAI) -> None:
    first, again = (chat(client, temperature=1, seed=3).choices[0].message.content for _ in range(2))
    assert first == again
    for seed in (2**63, -(2**63) - 1):
        with pytest.raises(openai.BadRequestError, match="seed"):
            chat(client, seed=seed)


def test_several_choices(client: openai.OpenAI) -> None:
    answer = chat(client, n=3, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens > 10
    with pytest.raises(openai.BadRequestError, match="n"):
        chat(client, n=1000, temperature=1)


def test_echo_and_stop(client: openai.OpenAI) -> None:
    echoed = client.completions.create(model=MODEL, prompt="The fox", max_tokens=3, temperature=0, echo=True)
    assert echoed.choices[0].text.startswith("The fox")
    with pytest.raises(openai.BadRequestError, match="echo"):
        client.completions.create(model=MODEL, prompt="The fox", echo=True, extra_body=EXTRA)
    whole = chat(client, max_completion_tokens=40).choices[0].message.content
    word = whole.split()[3]
    stopped = chat(client, max_completion_tokens=40, stop=[word]).choices[0]
    assert stopped.finish_reason == "stop"
    assert word not in stopped.message.content
    assert whole.startswith(stopped.message.content)
    kept = chat(
        client, max_completion_tokens=40, stop=[word], extra_body={"include_stop_str_in_output": True}
    )
    assert kept.choices[0].message.content.endswith(word)


def test_continue_final_message(client: openai.OpenAI) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "A fox"}]
    answer = chat(
        client,
        messages=messages,
        extra_body={"add_generation_prompt": False, "continue_final_message": True, "return_token_ids": True},
    )
    tail = answer.model_extra["prompt_token_ids"][-1]
    assert (
        tail
        != chat(client, messages=messages, extra_body={"return_token_ids": True}).model_extra[
            "prompt_token_ids"
        ][-1]
    )


def text_of(answer: Any, stream: bool) -> str:
    if not stream:
        return str(answer.choices[0].message.content)
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
