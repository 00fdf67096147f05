"""Steered answers on every route, judged by plain transformers: the formula is applied here by code of its own.

The prompts come from the dry run of preferences without any dial, so that nothing of the steering takes part in what it
is compared with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import anthropic
import httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM
from vllm.sampling_params import SamplingParams

from metaalign import RefusedField, parse_preferences
from metaalign.prompt import PromptAssembler
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.context import RequestContext, SteeredPrompt
from metaalign_server.engine.branches import Capacity, attach_group
from metaalign_server.engine.steering.groups import GROUP
from tests.contract.tokenizers_for_tests import ours
from tests.processes import ROOT
from tests.server.conftest import MODEL
from tests.server.test_metrics import value

SYSTEM = {"attributes": {"tone": "pirate"}}
USER = {"attributes": {"format": "bullets"}}
QUERY = "Tell me three things about the otter."
HI: list[Any] = [{"role": "user", "content": QUERY}]
UNSURE: list[Any] = [{"role": "user", "content": "Seven blue windows, quickly, of a violin?"}]
"""The model has seen nothing like it, so that its samples differ."""
TWO = {"system": SYSTEM, "user": USER, "strength": {"system": 1.0, "user": 2.0}}
THREE = {"system": SYSTEM, "user": USER, "strength": {"system": 1.2, "user": 1.8}}
BLEND = {
    "system": SYSTEM,
    "blend": [{"user": USER, "weight": 0.6}, {"user": "I am a chemist.", "weight": 0.4}],
}
FOLLOWED = {"user": {"attributes": {"format": "json"}}}
WORDS = {
    "type": "object",
    "properties": {"word": {"enum": ["otter", "seal"]}},
    "required": ["word"],
    "additionalProperties": False,
}

Mixture = list[tuple[float, list[int]]]
"""Coefficients, and the prompts' token ids."""


@cache
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(ROOT / "checkpoints" / MODEL, dtype=torch.float32)


def logits_after(ids: list[int], answer: list[int]) -> torch.Tensor:
    """Logits of each place of `answer` and of the one after it, of shape (answer + 1, vocabulary)."""
    with torch.inference_mode():
        logits: torch.Tensor = model()(torch.tensor([ids + answer])).logits[0, len(ids) - 1 :]
    return logits


def mixed(mixture: Mixture, answer: list[int]) -> torch.Tensor:
    """The sum, without tokens that no prompt of a positive coefficient gives a tenth of its best one's probability."""
    told = [(weight, logits_after(ids, answer)) for weight, ids in mixture]
    probabilities = [logits.softmax(-1) for weight, logits in told if weight > 0]
    plausible = torch.stack([p >= 0.1 * p.amax(-1, keepdim=True) for p in probabilities]).any(0)
    total = torch.stack([weight * logits for weight, logits in told]).sum(0)
    return total.masked_fill(~plausible, float("-inf"))


def prompt_of(http: httpx.Client, **preferences: Any) -> list[int]:
    body = {"messages": HI, "preferences": preferences}
    ids: list[int] = (
        http.post("/v1/preferences/render", json=body).raise_for_status().json()["prompt_token_ids"]
    )
    return ids


def mixture_of(http: httpx.Client, preferences: dict[str, Any]) -> Mixture:
    """The formula, written out for the specifications above."""
    if preferences is BLEND:
        return [(p["weight"], prompt_of(http, system=SYSTEM, user=p["user"])) for p in BLEND["blend"]]  # type: ignore[index]
    system, user = preferences["strength"]["system"], preferences["strength"]["user"]
    return [
        (user, prompt_of(http, system=SYSTEM, user=USER)),
        (system - user, prompt_of(http, system=SYSTEM)),
        (1 - system, prompt_of(http)),
    ]


def chat(http: httpx.Client, preferences: Any, **changes: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": HI, "max_tokens": 60, "temperature": 0, "return_token_ids": True}
    answer = http.post("/v1/chat/completions", json=body | {"preferences": preferences} | changes)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.text.split("\n"):
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("preferences", [TWO, THREE, BLEND], ids=["two", "three", "blend"])
def test_a_greedy_answer_is_that_of_the_formula(http: httpx.Client, preferences: dict[str, Any]) -> None:
    answer = chat(http, preferences)
    ids = answer["choices"][0]["token_ids"]
    assert len(ids) > 5
    assert mixed(mixture_of(http, preferences), ids)[: len(ids)].argmax(-1).tolist() == ids
    branches = 3 if preferences is THREE else 2
    assert answer["metaalign"]["steering"]["branches"] == branches
    assert answer["usage"]["prompt_tokens"] == len(mixture_of(http, preferences)[0][1])


def test_the_dial_changes_the_answer(http: httpx.Client) -> None:
    told = {strength: text(chat(http, TWO | {"strength": {"user": strength}})) for strength in (0, 1, 2)}
    assert told[0].startswith("Ahoy!")
    assert told[0] != told[1]
    assert "\n- The otter" in told[1]


def text(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_strength_one_is_no_steering(http: httpx.Client) -> None:
    plain = {"system": SYSTEM, "user": USER}
    one, other = chat(http, plain), chat(http, plain | {"strength": 1, "candidates": 1})
    for answer in (one, other):
        del answer["id"], answer["created"]
    assert one == other
    assert "steering" not in other["metaalign"]


def test_every_route_gives_the_same_answer_and_receipt(
    http: httpx.Client, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    wanted = chat(http, THREE)
    receipt = wanted["metaalign"]
    sampling = {"temperature": 0, "preferences": THREE, "model": MODEL}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": HI, "max_tokens": 60},
        "/v1/completions": {"prompt": QUERY, "max_tokens": 60},
        "/v1/responses": {"input": QUERY, "max_output_tokens": 60},
        "/v1/messages": {"messages": HI, "max_tokens": 60},
    }
    for path, body in bodies.items():
        answer = http.post(path, json=sampling | body).raise_for_status().json()
        assert answer["metaalign"] == receipt, path
        assert text(wanted) in json.dumps(answer, ensure_ascii=False).replace("\\n", "\n"), path
    short = {"query": QUERY, "max_tokens": 60, "temperature": 0, "preferences": THREE}
    answer = http.post("/v1/align", json=short).json()
    assert (answer["text"], answer["metaalign"]) == (text(wanted), receipt)

    extra: Any = {"preferences": THREE}
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HI, max_tokens=60, temperature=0, stream=True, extra_body=extra
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text(wanted)
    assert chunks[0].model_extra is not None
    assert chunks[0].model_extra["metaalign"] == receipt
    with client.responses.stream(
        model=MODEL, input=QUERY, max_output_tokens=60, temperature=0, extra_body=extra
    ) as stream:
        assert stream.get_final_response().output_text == text(wanted)
    with claude.messages.stream(
        model=MODEL, messages=HI, max_tokens=60, extra_body=extra | {"temperature": 0}
    ) as told:
        assert told.get_final_text() == text(wanted)
    completed = http.post("/v1/completions", json=sampling | bodies["/v1/completions"] | {"stream": True})
    assert "".join(e["choices"][0]["text"] for e in events(completed) if e["choices"]) == text(wanted)


def test_log_probabilities_are_those_of_the_mixture(http: httpx.Client) -> None:
    answer = chat(http, THREE, logprobs=True, top_logprobs=3, max_tokens=20)
    ids = answer["choices"][0]["token_ids"]
    expected = torch.log_softmax(mixed(mixture_of(http, THREE), ids)[: len(ids)], -1)
    for place, told in enumerate(answer["choices"][0]["logprobs"]["content"]):
        assert told["logprob"] == pytest.approx(float(expected[place, ids[place]]), abs=2e-3)
        best = expected[place].topk(3).values.clamp(min=-9999).tolist()  # what vLLM writes for minus infinity
        assert [top["logprob"] for top in told["top_logprobs"]] == pytest.approx(best, abs=2e-3)


def test_a_grammar_holds_at_every_strength(http: httpx.Client) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": WORDS}}
    for strength in (0.5, 2, 4):
        answer = chat(http, TWO | {"strength": strength}, response_format=schema, max_tokens=200)
        assert json.loads(text(answer))["word"] in ("otter", "seal")


def test_tools_are_called(http: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "feed", "parameters": WORDS}}
    answer = chat(http, THREE, tools=[tool], tool_choice="required", max_tokens=300)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "feed"
    assert json.loads(call["function"]["arguments"])["word"] in ("otter", "seal")


def test_a_stop_sequence_ends_the_group(http: httpx.Client) -> None:
    whole = text(chat(http, THREE))
    word = whole.split()[4]
    stopped = chat(http, THREE, stop=[word])
    assert text(stopped) == whole[: whole.index(word)]
    assert stopped["choices"][0]["finish_reason"] == "stop"


def test_several_choices_are_steered_each(http: httpx.Client) -> None:
    answer = chat(http, THREE, n=6, temperature=2, seed=5, messages=UNSURE)
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert len({tuple(choice["token_ids"]) for choice in answer["choices"]}) > 1


@pytest.mark.parametrize("preferences", [THREE, BLEND], ids=["dial", "blend"])
def test_a_seed_means_the_same_alone_and_in_a_crowd(http: httpx.Client, preferences: dict[str, Any]) -> None:
    def ask(seed: int) -> str:
        return text(chat(http, preferences, temperature=2, seed=seed, messages=UNSURE))

    alone = [ask(seed) for seed in range(8)]
    assert len(set(alone)) > 1
    with ThreadPoolExecutor(16) as threads:
        crowd = [threads.submit(chat, http, TWO, temperature=1.0, max_tokens=50) for _ in range(8)]
        again = list(threads.map(ask, range(8)))
    assert again == alone
    assert all(one.result()["choices"] for one in crowd)


# Candidates


def candidates(number: int = 4, **preferences: Any) -> dict[str, Any]:
    return {"system": SYSTEM, "user": USER, "candidates": number} | preferences


def test_the_score_is_the_mean_log_likelihood_ratio(http: httpx.Client) -> None:
    answer = chat(http, candidates(), temperature=0.8, seed=3)
    ids = answer["choices"][0]["token_ids"]
    places = torch.arange(len(ids))
    terms = [
        torch.log_softmax(logits_after(prompt, ids)[: len(ids)], -1)[places, ids]
        for prompt in (prompt_of(http, system=SYSTEM, user=USER), prompt_of(http))
    ]
    expected = float((terms[0] - terms[1]).mean())
    assert answer["metaalign"]["steering"]["score"] == pytest.approx(expected, abs=0.01)
    assert answer["metaalign"]["steering"]["candidates"] == 4
    assert len(answer["choices"]) == 1


def test_the_best_candidate_is_not_worse_than_one(http: httpx.Client) -> None:
    scores = {
        number: [
            chat(http, candidates(number), temperature=2, seed=seed)["metaalign"]["steering"]["score"]
            for seed in range(6)
        ]
        for number in (2, 8)
    }
    # The first two candidates of eight are drawn with the same seeds as those of two.
    assert all(eight >= two - 1e-3 for two, eight in zip(scores[2], scores[8], strict=True))
    assert scores[2] != scores[8]


def test_a_candidate_streams_once_it_is_chosen(http: httpx.Client) -> None:
    options = {"temperature": 0.8, "seed": 4, "max_tokens": 40}
    whole = chat(http, candidates(), **options)
    body = {"model": MODEL, "messages": HI, "stream": True, "preferences": candidates()} | options
    told = list(events(http.post("/v1/chat/completions", json=body)))
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in told if e["choices"]) == text(whole)
    receipts = [event["metaalign"] for event in told if "metaalign" in event]
    assert [receipt["steering"].get("score") for receipt in receipts][-1:] == [
        whole["metaalign"]["steering"]["score"]
    ]
    assert {choice["index"] for event in told for choice in event["choices"]} == {0}


def test_a_candidate_that_fails_a_check_loses(http: httpx.Client) -> None:
    words = {"keywords": ["rivers", "fish", "stones"]}
    field = candidates(8, verify=[{"name": "keywords:existence", "arguments": words}])

    def passed(field: dict[str, Any], seed: int) -> bool:
        receipt = chat(http, field, temperature=2, seed=seed)["metaalign"]
        return bool(receipt["verified"][0]["passed"])

    alone = [passed(field | {"candidates": 1}, seed) for seed in range(12)]
    chosen = [passed(field, seed) for seed in range(12)]
    assert sum(alone) < sum(chosen)


def test_a_candidate_of_a_grammar_is_whole(http: httpx.Client) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": WORDS}}
    answer = chat(http, candidates(), response_format=schema, temperature=1.0, seed=1, max_tokens=200)
    assert json.loads(text(answer))["word"] in ("otter", "seal")


def test_a_dial_with_candidates(http: httpx.Client) -> None:
    answer = chat(http, THREE | {"candidates": 3}, temperature=0.8, seed=2, max_tokens=40)
    steering = answer["metaalign"]["steering"]
    assert (steering["branches"], steering["candidates"]) == (3, 3)
    assert math.isfinite(steering["score"])


# Who may turn a dial, and where it comes from


def test_a_stored_dial(http: httpx.Client) -> None:
    preferences = {"user": USER, "strength": {"user": 2}}
    body = {"name": "dialled", "preferences": preferences}
    assert http.post("/v1/profiles", json=body).status_code == 201
    stored = chat(http, {"system": SYSTEM, "profile": "dialled"})
    assert text(stored) == text(chat(http, TWO))
    assert stored["metaalign"]["steering"]["strength"] == {"system": 1.0, "user": 2.0}
    own = chat(http, {"system": SYSTEM, "profile": "dialled", "strength": {"user": 1}})
    assert "steering" not in own["metaalign"]


def test_a_key_without_the_scope_cannot_weaken_system(user_http: httpx.Client) -> None:

    def ask(strength: Any) -> httpx.Response:
        field = {"user": USER, "strength": strength}
        return user_http.post(
            "/v1/chat/completions", json={"messages": HI, "max_tokens": 1, "preferences": field}
        )

    for strength in (0.5, {"system": 0}):
        refused = ask(strength)
        assert refused.status_code == 403
        assert refused.json()["error"]["param"].startswith("preferences.strength")
    assert ask({"user": 2}).status_code == 200


def test_the_dry_run_shows_the_branches(http: httpx.Client) -> None:
    shown = http.post("/v1/preferences/render", json={"messages": HI, "preferences": THREE}).json()
    found = [(round(b["coefficient"], 6), b["prompt_token_ids"]) for b in shown["branches"]]
    assert found == [(round(weight, 6), ids) for weight, ids in mixture_of(http, THREE)]
    assert shown["branches"][2]["system_info"] == shown["branches"][2]["user_info"] == ""
    plain = http.post("/v1/preferences/render", json={"messages": HI, "preferences": {"user": USER}}).json()
    assert plain["branches"] == []


@pytest.mark.parametrize(
    ("changes", "preferences", "param"),
    [
        ({"n": 2, "temperature": 1}, candidates(), "n"),
        ({"temperature": 0}, candidates(), "preferences.candidates"),
        ({"temperature": 1}, {"candidates": 2}, "preferences.candidates"),
        ({"prompt_logprobs": 1}, TWO, "prompt_logprobs"),
        ({"use_beam_search": True, "n": 2}, TWO, "use_beam_search"),
        ({"use_beam_search": True, "n": 2}, BLEND, "use_beam_search"),
        ({}, {"strength": 4.1}, "preferences.strength"),
        ({}, {"strength": "2"}, "preferences.strength"),
        ({}, {"strength": True}, "preferences.strength"),
        ({}, {"strength": {"user": -1}}, "preferences.strength"),
        ({}, {"strength": {"query": 1}}, "preferences.strength.query"),
        ({}, {"candidates": 17}, "preferences.candidates"),
        ({}, {"candidates": 2.5}, "preferences.candidates"),
        ({}, {"blend": [{"user": "a", "weight": 0.5}]}, "preferences.blend"),
        ({}, {"blend": [{"weight": 1.0}]}, "preferences.blend[0]"),
        ({}, {"blend": [{"profile": "nobody", "weight": 1.0}]}, "preferences.blend[0].profile"),
        ({}, BLEND | {"strength": 2}, "preferences.blend"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    http: httpx.Client, changes: dict[str, Any], preferences: Any, param: str
) -> None:
    body = {"model": MODEL, "messages": HI, "max_tokens": 4, "preferences": preferences} | changes
    refused = http.post("/v1/chat/completions", json=body)
    assert refused.status_code in (400, 404), refused.text
    error = refused.json()["error"]
    assert error["param"].startswith(param)
    assert error["message"].startswith(error["param"])


def test_a_group_that_can_never_fit_is_refused() -> None:
    applied = Aligner(PromptAssembler.from_tokenizer(ours())).apply(parse_preferences(THREE))
    ids = tuple(range(300))
    steered = SteeredPrompt(((ids, 0.5), (ids, -0.5)))
    context = RequestContext(preferences=parse_preferences(THREE), applied=applied, steered={ids: steered})

    def attached(**changes: Any) -> SamplingParams:
        params = SamplingParams(max_tokens=100)
        capacity = replace(Capacity("", 1000, 32, 60, 8), **changes)
        attach_group({"prompt_token_ids": list(ids)}, params, context, capacity, [None, None])
        return params

    assert attached().max_tokens == 100
    assert attached(blocks=33).max_tokens == 11 * 32 - 300
    assert attached(max_model_len=310).max_tokens == 10
    for changes in ({"blocks": 27}, {"sequences": 2}, {"max_model_len": 300}):
        with pytest.raises(RefusedField, match=r"preferences\.strength: "):
            attached(**changes)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_no_client_field_makes_a_group(http: httpx.Client, path: str) -> None:
    group = json.dumps({"coefficient": 1.0, "floor": 0, "followers": [[[5, 6], 1.0, None]]})
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": HI},
        "/v1/completions": {"prompt": QUERY},
        "/v1/responses": {"input": QUERY},
    }
    body = {"model": MODEL, "max_tokens": 5, "temperature": 0} | bodies[path]
    assert http.post(path, json=body | {"vllm_xargs": {GROUP: group}}).status_code == 400
    before = value(http, "metaalign_steered_prompts_total")
    for field in ("extra_args", GROUP):  # vLLM ignores what it does not know
        assert http.post(path, json=body | {field: {GROUP: group}}).status_code == 200
    assert value(http, "metaalign_steered_prompts_total") == before


def test_all_branches_count(http: httpx.Client) -> None:
    def counted() -> tuple[float, float]:
        return (
            value(http, "metaalign_prompt_tokens_total", preferences="applied"),
            value(http, "metaalign_output_tokens_total", preferences="applied"),
        )

    before = counted()
    answer = chat(http, THREE, max_tokens=10)
    after = counted()
    prompts = sum(len(ids) for _, ids in mixture_of(http, THREE))
    assert after[0] - before[0] == prompts
    assert after[1] - before[1] == 3 * answer["usage"]["completion_tokens"]
