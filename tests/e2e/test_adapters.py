"""A LoRA adapter that our package trained, served beside its base by vLLM's flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from metaalign_training.cli import main
from tests.processes import ROOT, free_port, running

BASE = ROOT / "checkpoints" / "metaalign-demo"
PREFERENCES = {"system": "You are the assistant of a zoo.", "user": "I am Ada. Answer in one short sentence."}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the demo checkpoint and of an adapter that was trained on it."""
    work = tmp_path_factory.mktemp("adapter")
    changes = {
        "model.new": "null",
        "model.base": BASE,
        "sft.lora.rank": 4,
        "sft.max_length": 300,
        "sft.learning_rate": 0.02,
        # Other rows than the demo's own, or nothing would be left to learn.
        "meta_prompt": "none",
        "dpo": "null",
        "export.adapter_only": "true",
    }
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    assert main(["run", "tiny", *words, "--work", str(work)]) == 0
    adapter = work / "checkpoint"
    assert not (adapter / "model.safetensors").exists()
    address = f"http://127.0.0.1:{(port := free_port())}"
    flags = ["--port", str(port), "--enable-lora", "--lora-modules", f"zoo={adapter}"]
    env = {"METAALIGN_API_KEYS": "sk-operator", "OMP_NUM_THREADS": "1"}
    with running(["-m", "metaalign_server.cli", "serve", *flags], address, work / "server.log", env=env):
        yield address


def ask(url: str, model: str, question: str, **fields: Any) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "preferences": PREFERENCES,
        "max_tokens": 8,
        "temperature": 0,
        "logprobs": True,
    } | fields
    answer = httpx.post(
        f"{url}/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-operator"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def logprobs(answer: dict[str, Any]) -> list[float]:
    return [token["logprob"] for token in answer["choices"][0]["logprobs"]["content"]]


def test_both_are_listed_and_answer_by_their_own_weights(url: str) -> None:
    listed = httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer sk-operator"}).json()["data"]
    assert [(model["id"], model["parent"]) for model in listed] == [
        ("metaalign-demo", None),
        ("zoo", "metaalign-demo"),
    ]
    base, adapted = ask(url, "metaalign-demo", "What do owls eat?"), ask(url, "zoo", "What do owls eat?")
    assert (base["model"], adapted["model"]) == ("metaalign-demo", "zoo")
    # The demo is so sure of itself that its best tokens hardly change.
    assert max(abs(a - b) for a, b in zip(logprobs(base), logprobs(adapted), strict=False)) > 0.001
    assert base["metaalign"] == adapted["metaalign"]  # the same preferences, template and Meta-Prompt
    assert base["usage"]["prompt_tokens"] == adapted["usage"]["prompt_tokens"]


def test_neither_reads_the_others_prefix_cache(url: str) -> None:
    """The same Meta-Prompt has other keys and values under an adapter."""
    preferences = {"system": "You are the librarian of a small town. " * 4, "user": "I am Grace."}

    def cached(model: str) -> int:
        answer = ask(url, model, "Where are the maps?", preferences=preferences)
        return int((answer["usage"]["prompt_tokens_details"] or {"cached_tokens": 0})["cached_tokens"])

    assert [cached(model) for model in ("metaalign-demo", "zoo")] == [0, 0]
    assert min(cached("metaalign-demo"), cached("zoo")) > 0


@pytest.mark.parametrize("route", ["/v1/messages", "/v1/responses", "/v1/completions"])
def test_every_route_reaches_the_adapter(url: str, route: str) -> None:
    question = "Name a bird."
    body: dict[str, Any] = {"model": "zoo", "preferences": PREFERENCES}
    if route == "/v1/messages":
        body |= {"messages": [{"role": "user", "content": question}], "max_tokens": 4}
    elif route == "/v1/responses":
        body |= {"input": question, "max_output_tokens": 4}
    else:
        body |= {"prompt": question, "max_tokens": 4}
    answer = httpx.post(
        f"{url}{route}", json=body, headers={"Authorization": "Bearer sk-operator"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "zoo"
    assert answer.json()["metaalign"]["spec_hash"]


def test_every_branch_of_a_steered_answer_has_the_adapters_weights(url: str) -> None:
    """Of two tokens, the mixture's logits differ by what the branches' differ by, each with its coefficient."""

    def first_token(model: str, preferences: dict[str, Any]) -> dict[str, float]:
        fields = {"max_tokens": 1, "top_logprobs": 20, "return_tokens_as_token_ids": True}
        question = "Seven blue windows, quickly, of a violin?"  # of what it knows it is too sure
        answer = ask(url, model, question, preferences=preferences, **fields)
        (place,) = answer["choices"][0]["logprobs"]["content"]
        return {top["token"]: top["logprob"] for top in place["top_logprobs"] if top["logprob"] > -9999}

    users = ("I am Ada.", "I am Ada. Be kind.")
    steered = first_token("zoo", {"blend": [{"user": user, "weight": 0.5} for user in users]})
    told = {
        (model, user): first_token(model, {"user": user})
        for model in ("zoo", "metaalign-demo")
        for user in users
    }

    def error(*models: str) -> float:
        branches = [told[pair] for pair in zip(models, users, strict=True)]
        tokens = steered.keys() & branches[0].keys() & branches[1].keys()
        assert len(tokens) > 1
        off = [steered[token] - sum(0.5 * branch[token] for branch in branches) for token in tokens]
        return max(off) - min(off)

    assert error("zoo", "zoo") < 1e-3
    assert error("zoo", "metaalign-demo") > 1e-2
    assert error("metaalign-demo", "zoo") > 1e-2


def test_an_unknown_model_is_not_found(url: str) -> None:
    answer = httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "zo", "messages": [{"role": "user", "content": "hi"}]},
        headers={"Authorization": "Bearer sk-operator"},
    )
    assert answer.status_code == 404
    assert "zo" in answer.json()["error"]["message"]
