"""Rewards and rollouts of GRPO: a judge that goes away, the implicit reward, an adapter's weights, vLLM's rollouts."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from metaalign_training.cli import main
from metaalign_training.errors import DataError
from metaalign_training.grading import Ratings, Verifiers, graded, implicit
from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.generation import TransformersGenerator
from metaalign_training.inference.judge import Judge
from metaalign_training.inference.offline import VllmGenerator
from metaalign_training.inference.prompts import Prompts
from metaalign_training.models import load_model, load_tokenizer, lora_config, save_untied
from metaalign_training.recipe import EndpointConfig, LoraConfig
from metaalign_training.recipe_files import load_recipe
from metaalign_training.rows import Question, read_questions
from tests.processes import ROOT
from tests.training.endpoints import fake_teacher

DEMO = ROOT / "checkpoints" / "metaalign-demo"
CHANGES = ["model.new=null", f"model.base={DEMO}", "sft.learning_rate=0.00001", "sft.steps=1", "dpo=null"]
QUESTION: Question = {
    "prompt": [{"role": "user", "content": "What does the otter eat?"}],
    "check": {
        "asked": {},
        "content": ["eats fish"],
        "subject": "the otter",
        "facts": ["eats fish", "lives in rivers"],
    },
}
TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {}}}

pytestmark = pytest.mark.filterwarnings("ignore:TRL currently supports vLLM")  # our own module starts it


def command(stage: str, work: Path, *changes: str) -> int:
    words = [word for change in (*CHANGES, *changes) for word in ("--set", change)]
    return main([stage, "tiny", "--work", str(work), *words])


def record(work: Path, stage: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((work / stage / "record.json").read_text())
    return tree


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a model after SFT; a test may leave its own stage there."""
    folder = tmp_path_factory.mktemp("rewards")
    assert command("build-data", folder) == 0
    assert command("sft", folder) == 0
    return folder


def test_each_failed_check_lowers_the_reward() -> None:
    answers = ["The otter eats fish.", "The otter lives in rivers.", "Ahoy! The otter lives in rivers."]
    assert graded(Verifiers())([QUESTION] * 3, answers) == [1, 1 / 2, 1 / 3]


def test_real_text_is_rewarded_by_the_checks_that_the_server_makes() -> None:
    asked: Question = {
        "prompt": [{"role": "user", "content": "Name two rivers."}],
        "expect": {
            "verify": [
                {"name": "format", "arguments": {"value": "bullets"}},
                {"name": "punctuation:no_comma"},
                {"name": "count", "arguments": {"what": "words", "at_most": 6}},
            ]
        },
    }
    answers = [
        "- the Rhine\n- the Elbe",
        "- the Rhine, long\n- the Elbe",
        "The Rhine, and the Elbe, and many others.",
    ]
    assert graded(Verifiers())([asked] * 3, answers) == [1, 1 / 2, 1 / 4]
    words: Question = {"prompt": asked["prompt"], "expect": {"words": [["Rhine"], ["Seine"]]}}
    assert graded(Verifiers())([words] * 3, ["the rhine", "Seine", "Rhine and Seine"]) == [1, 1 / 3, 1 / 2]


def test_every_stage_learns_from_checks_of_real_text(tmp_path: Path) -> None:
    """Hierarchy data have words that are needed or forbidden; some rows get checks instead."""
    changes = [
        "data.world=null",
        "data.hierarchy={rows: 24, evaluation_per_kind: 1}",
        "rejection={steps: 1, batch_size: 2, learning_rate: 0.0001,"
        " samples: {prompts: 12, candidates: 2, max_new_tokens: 16}}",
        "grpo={steps: 2, batch_size: 8, candidates: 4, learning_rate: 0.0001, prompts: 8, max_new_tokens: 16,"
        " engine: transformers}",
        "dpo={steps: 1, batch_size: 2, learning_rate: 0.0001,"
        " pairs: {prompts: 8, engine: transformers, build_data: false, reference: true, max_new_tokens: 16}}",
    ]
    assert command("build-data", tmp_path, *changes) == 0
    path = tmp_path / "build-data" / "prompts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[::2]:
        row["expect"] = {"verify": [{"name": "count", "arguments": {"what": "words", "at_least": 1}}]}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for stage in ("sft", "rejection", "dpo", "grpo"):
        assert command(stage, tmp_path, *changes) == 0, stage
    assert record(tmp_path, "samples")["metrics"]["rows"] >= 1
    assert 0 < record(tmp_path, "grpo")["metrics"]["last_reward"] <= 1


@pytest.mark.parametrize(
    ("verify", "message"),
    [
        (
            [{"name": "keywords:existance"}],
            "`expect.verify`[0].name: no such check; the nearest is `keywords:existence`",
        ),
        ([{"name": "format", "arguments": {"value": "bulets"}}], "`expect.verify`[0].arguments"),
        ([], "must be a list of checks"),
        ("format", "must be a list of checks"),
        ([7], 'must be a list of {"name", "arguments"}'),
    ],
)
def test_a_check_that_is_none_is_refused_with_its_line(verify: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": QUESTION["prompt"], "expect": {"verify": verify}}) + "\n")
    with pytest.raises(DataError) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert message in str(caught.value)


def test_a_judge_rewards_by_its_rating_and_rates_equal_answers_once() -> None:
    def rate(body: dict[str, Any]) -> str:
        return json.dumps({"rating": 5 if "fish" in body["messages"][-1]["content"] else 2})

    with fake_teacher(rate) as teacher:
        judge = Judge(open_endpoint(EndpointConfig(base_url=teacher.url, model="m", retries=0)))
        rewards = graded(Ratings(judge))([QUESTION] * 3, ["fish", "sea", "fish"])
    assert rewards == [1, 1 / 4, 1]
    assert len(teacher.bodies) == 2


@pytest.mark.parametrize("tools", [(), (TOOL,)], ids=["without tools", "with a tool"])
def test_the_implicit_reward_is_the_log_ratio_to_the_reference(tools: Any, tmp_path: Path) -> None:
    row: Question = {**QUESTION, "tools": list(tools)} if tools else QUESTION
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight.mul_(0.9)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(DEMO).save_pretrained(tmp_path)
    answers = ["The otter eats fish.", "Ahoy!"]
    (first, second) = implicit(TransformersGenerator(tmp_path), TransformersGenerator(DEMO), 0.5)(
        [row] * 2, answers
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(DEMO)
    for answer, reward in zip(answers, (first, second), strict=True):
        whole, start = Prompts(DEMO, "full").answer_ids(QUESTION["prompt"], answer, tools)
        said = [*QUESTION["prompt"], {"role": "assistant", "content": answer}]
        assert tokenizer.decode(whole) == tokenizer.apply_chat_template(
            said, tools=tools or None, tokenize=False
        )
        assert tokenizer.decode(whole[start:]).startswith(answer)
        ids = torch.tensor([whole])
        sums = []
        for folder in (tmp_path, DEMO):
            other: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            with torch.no_grad():
                logs = other(ids).logits[0, :-1].log_softmax(-1)
            sums.append(sum(float(logs[place - 1, whole[place]]) for place in range(start, len(whole))))
        assert reward == pytest.approx(0.5 * (sums[0] - sums[1]), abs=1e-3)
    assert first != second


def test_a_judge_that_goes_away_costs_no_step_and_no_rating(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails in the fourth step; when it is back, the same command goes on after the last checkpoint."""
    state: dict[str, Any] = {"alive": True, "asked": []}

    def rate(body: dict[str, Any]) -> str | int:
        if not state["alive"] or (state["asked"] and len(state["asked"]) >= state["limit"]):
            return 400
        state["asked"].append(body["messages"][-1]["content"])
        return json.dumps({"rating": 1 + len(body["messages"][-1]["content"]) % 5})

    with fake_teacher(rate) as teacher:
        judge = f"judge: {{base_url: '{teacher.url}', model: m, retries: 0, concurrency: 1}}"
        grpo = (
            "grpo={steps: 6, batch_size: 4, candidates: 4, learning_rate: 0.0001, prompts: 16, temperature: 2,"
            f" max_new_tokens: 12, engine: transformers, save_every: 1, rewards: {{judge: 1}}, {judge}}}"
        )
        state["limit"] = 14
        assert command("grpo", work, grpo) == 1
        assert record(work, "grpo")["status"] == "running"
        (checkpoint,) = (work / "grpo").glob("checkpoint-*")
        state["limit"] = 10**6
        assert command("grpo", work, grpo) == 0
    assert f"grpo: continues from {checkpoint}" in caplog.text
    assert record(work, "grpo")["status"] == "done"
    assert len(state["asked"]) == len(set(state["asked"]))
    assert 0 <= record(work, "grpo")["metrics"]["last_reward"] <= 1


def test_rejection_sampling_asks_only_for_what_is_missing(work: Path) -> None:
    section = (
        "rejection={steps: 1, batch_size: 4, learning_rate: 0.0001, samples: {prompts: 16, candidates: 2,"
    )
    section += " engine: transformers, max_new_tokens: 48}}"
    assert command("rejection", work, section) == 0
    journal = work / "samples" / "answers.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    kept = [json.dumps(json.loads(line) | {"answer": '["kept"]'}) + "\n" for line in lines[:10]]
    journal.write_text("".join(kept) + lines[10][:20])
    tree = record(work, "samples") | {"status": "running"}
    (work / "samples" / "record.json").write_text(json.dumps(tree))
    assert command("rejection", work, section) == 1  # its rows have changed, so the model is another
    again = journal.read_text().splitlines(keepends=True)
    assert again[:10] == kept
    assert [json.loads(line)["key"] for line in again] == [json.loads(line)["key"] for line in lines]
    assert len(again) == 16
    assert record(work, "samples")["metrics"]["rows"] <= 6  # "kept" is no good answer


def test_a_model_with_an_adapter_is_written_as_one_and_left_as_it_was(tmp_path: Path) -> None:
    """Base and adapter together answer as the written checkpoint does, before and after."""
    from peft import get_peft_model

    recipe = load_recipe("tiny", CHANGES)
    tokenizer = load_tokenizer(recipe.model, DEMO)
    base = load_model(recipe.model, tokenizer, DEMO)
    adapted: Any = get_peft_model(base, lora_config(LoraConfig(rank=4), base, []))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    ids = torch.tensor([Prompts(DEMO, "full").ids(QUESTION["prompt"])])
    with torch.no_grad():
        before = adapted(ids).logits
        save_untied(adapted, tmp_path)
        after = adapted(ids).logits
        whole: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        written = whole(ids).logits
        plain: Any = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
        assert (before - plain(ids).logits).abs().max() > 0.1
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(written, before, atol=1e-4, rtol=1e-4)


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_answers_with_the_weights_as_they_are(tmp_path: Path) -> None:
    """After `reload`, its greedy answers are the changed model's, also to a cached prompt; GRPO runs with it."""
    tokenizer = load_tokenizer(load_recipe("tiny", CHANGES).model, DEMO)
    model: Any = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    weights, work = tmp_path / "weights", tmp_path / "work"
    save_untied(model, weights)
    tokenizer.save_pretrained(weights)
    ids = Prompts(DEMO, "full").ids(QUESTION["prompt"])

    def greedy() -> list[int]:
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)
        return list(map(int, out[0, len(ids) :]))

    with contextlib.closing(VllmGenerator(weights)) as engine:
        first = engine.sample([ids, ids], max_new_tokens=24, temperature=0.0, seed=1)
        assert first == [greedy(), greedy()]
        torch.manual_seed(3)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        save_untied(model, weights)
        engine.reload()
        assert engine.sample([ids], max_new_tokens=24, temperature=0.0, seed=1) == [greedy()]
        assert greedy() != first[0]

    assert command("build-data", work) == 0
    assert command("sft", work) == 0
    grpo = (
        "grpo={steps: 2, batch_size: 8, candidates: 4, learning_rate: 0.0001, prompts: 8, max_new_tokens: 24,"
    )
    assert (
        command(
            "grpo",
            work,
            f"{grpo} engine: vllm, lora: {{rank: 4}}}}",
        )
        == 0
    )
    assert not (work / "grpo" / "weights").exists()


def test_rounds_on_several_devices_are_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["--set", "dpo.rounds=2", "--accelerate", "ddp", "--work", str(tmp_path)]
    assert main(["dpo", "tiny", *changes]) == 1
    assert "dpo.rounds" in capsys.readouterr().err
