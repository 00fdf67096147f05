"""A tenant's locked policy holds, and a key without `profiles:read` sees no stored System text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.world import HI, World

FRENCH, BULLETS = "French", "bullets"
SECRET = "amaranth"
AGAINST = {"attributes": {"language": "English", "format": "plain"}}
INPUT: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi", "max_tokens": None, "max_output_tokens": 1},
    "/v1/messages": {},
    "/v1/align": {"query": "hi"},
}


@pytest.mark.parametrize("path", sorted(INPUT))
@pytest.mark.parametrize(
    "preferences", [{"system": AGAINST}, {"user": AGAINST}, {"system": AGAINST, "user": AGAINST}]
)
def test_a_locked_policy_wins(world: World, path: str, preferences: dict[str, Any]) -> None:
    """Against the request, the user and both, on each route; the receipt names what lost, and to what."""
    response = world.ask("guarded", path, preferences=preferences, **INPUT[path])
    assert response.status_code == 200, response.text
    lost = {
        (entry["dimension"], entry["tier"]): entry for entry in response.json()["metaalign"]["overridden"]
    }
    assert len(lost) == 2 * len(preferences)
    for (dimension, _), entry in lost.items():
        assert (entry["kept"], entry["by"]) == (POLICY_SAYS[dimension], "system:tenant")


POLICY_SAYS = {"language": FRENCH, "format": BULLETS}


@pytest.mark.parametrize("door", ["body", "header", "model"])
def test_a_profile_cannot_unlock(world: World, door: str) -> None:
    client = world.client("guarded")
    made = client.post(
        "/v1/profiles", json={"name": "rebel", "preferences": {"system": AGAINST, "user": AGAINST}}
    )
    assert made.status_code in (201, 409)
    changes: dict[str, Any] = {"return_prompt_text": True}
    if door == "body":
        changes["preferences"] = {"profile": "rebel"}
    if door == "model":
        changes["model"] = "metaalign-demo@rebel"
    headers = {"x-metaalign-profile": "rebel"} if door == "header" else {}
    answer = client.post(
        "/v1/chat/completions",
        json={"model": "metaalign-demo", "messages": HI, "max_tokens": 1} | changes,
        headers=headers,
    ).json()
    assert answer["metaalign"]["profiles"] == ["rebel:1"]
    assert len(answer["metaalign"]["overridden"]) == 4
    assert FRENCH in answer["prompt_text"]
    assert "English" not in answer["prompt_text"]


def test_system_messages_come_behind_the_policy(world: World) -> None:
    """They are the last layer of the tier: text after the policy's, which changes none of its settings."""
    told = [{"role": "system", "content": "Answer in English prose."}, *HI]
    text = world.ask("guarded", messages=told, return_prompt_text=True).json()["prompt_text"]
    assert text.index(SECRET) < text.index("Answer in English prose.") < text.index("<|user|>")
    assert text.count("<|system_info|>") == 1
    chat = world.ask("guarded", messages=told).json()["usage"]["prompt_tokens"]
    body: dict[str, Any] = {"input": "hi", "max_tokens": None, "max_output_tokens": 1}
    responses = world.ask("guarded", "/v1/responses", instructions="Answer in English prose.", **body).json()
    assert responses["usage"]["input_tokens"] == chat
    claude = world.ask("guarded", "/v1/messages", system="Answer in English prose.").json()["usage"]
    assert claude["input_tokens"] + claude["cache_read_input_tokens"] == chat


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/v1/chat/completions", {"truncate_prompt_tokens": 4}),
        ("/v1/chat/completions", {"truncate_prompt_tokens": 4, "truncation_side": "left"}),
        ("/v1/chat/completions", {"truncate_prompt_tokens": 20, "truncation_side": "right"}),
        ("/v1/chat/completions", {"truncate_prompt_tokens": -1}),
        ("/v1/completions", {"truncate_prompt_tokens": 4}),
        ("/v1/responses", {"truncation": "auto"}),
        ("/v1/completions", {"prompt": [60, 70]}),
        ("/v1/completions", {"prompt": [[60, 70]]}),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}),
        ("/v1/completions", {"prompt": None, "prompt_embeds": "AAAA"}),
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/responses", {"background": True}),
    ],
)
def test_nothing_cuts_the_policy_off(world: World, path: str, changes: dict[str, Any]) -> None:
    """A truncated prompt would lose its System tier first; cut inside it, the model could complete it."""
    for who in ("guarded", "guarded/inference"):
        for stream in (False, True):
            refused = world.ask(who, path, stream=stream, **INPUT[path] | changes)
            assert 400 <= refused.status_code < 500, refused.text


LEAKS: list[tuple[str, dict[str, Any]]] = [
    *(
        (path, changes)
        for path in ("/v1/chat/completions", "/v1/completions")
        for changes in (
            {"return_token_ids": True},
            {"prompt_logprobs": 1},
            {"prompt_logprobs": 0},
            {"prompt_logprobs": -1},
            {"echo": True},
            {"echo": True, "logprobs": 1},
            {"return_token_offsets": True},
            {"return_tokens_as_token_ids": True, "logprobs": 1},
            {"use_beam_search": True, "n": 2},
            {"skip_special_tokens": False, "max_tokens": 3},
            {"return_mm_kwargs": True},
        )
    ),
    ("/v1/chat/completions", {"return_prompt_text": True}),
    ("/v1/chat/completions", {"add_generation_prompt": False}),
    ("/v1/chat/completions", {"continue_final_message": True, "add_generation_prompt": False}),
    ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 20}),
    ("/v1/responses", {"enable_response_messages": True}),
    ("/v1/responses", {"include": ["message.output_text.logprobs"], "top_logprobs": 5}),
    ("/v1/responses", {"previous_input_messages": [{"role": "user", "content": "a"}]}),
    ("/v1/responses", {"store": True}),
    ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    ("/v1/messages/count_tokens", {"max_tokens": None, "temperature": None}),
    ("/v1/align", {}),
    ("/v1/preferences/render", {"max_tokens": None, "temperature": None}),
]


STREAMS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


@pytest.mark.parametrize(
    ("path", "changes"),
    LEAKS + [(path, changes | {"stream": True}) for path, changes in LEAKS if path in STREAMS],
)
def test_stored_system_text_is_not_shown(world: World, path: str, changes: dict[str, Any]) -> None:
    """Whatever an inference-only key asks for, it gets neither the policy's words nor the prompt's ids back."""
    asked = INPUT.get(path, {}) | changes
    if path == "/v1/messages/count_tokens":
        asked |= {"messages": HI}
    answer = world.ask("guarded/inference", path, **asked)
    assert answer.status_code < 500, answer.text
    assert SECRET not in answer.text
    for name in ("prompt_token_ids", "prompt_text", "prompt_logprobs"):
        assert f'"{name}":' not in answer.text.replace(f'"{name}":null', "")


def test_a_profile_is_as_hidden_as_a_policy(world: World) -> None:
    made = world.client("acme").post(
        "/v1/profiles",
        json={"name": "hidden", "preferences": {"system": "The word is amaranth.", "user": "open"}},
    )
    assert made.status_code == 201
    profile: dict[str, Any] = {"preferences": {"profile": "hidden"}}
    for changes in ({"return_token_ids": True}, {"prompt_logprobs": 1}, {"return_prompt_text": True}):
        refused = world.ask("acme/inference", **profile, **changes)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
    rendering = {"max_tokens": None, "temperature": None}
    assert world.ask("acme/inference", "/v1/preferences/render", **profile, **rendering).status_code == 403
    assert world.ask("acme/inference", **profile).status_code == 200
    assert SECRET in world.ask("acme", "/v1/preferences/render", **profile, **rendering).text
