"""One protocol, several engines: offline vLLM gives the same answers as transformers, and teaches without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaalign_training.errors import StageError
from metaalign_training.inference.chat import ChatRequest
from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.generation import TransformersGenerator, open_generator
from metaalign_training.messages import Message
from metaalign_training.recipe import EndpointConfig
from metaalign_training.stages.data.synthetic import evaluation_rows
from metaalign_training.world.drafts import SCENES
from tests.processes import ROOT

CHECKPOINT = ROOT / "checkpoints" / "metaalign-demo"


@pytest.mark.slow
def test_offline_vllm(tmp_path: Path) -> None:
    """Greedy answers, samples, a journalled teacher, and an answer held to a schema."""
    prompts = [row["prompt"] for row in evaluation_rows(0, 3)]
    here = TransformersGenerator(CHECKPOINT).generate(prompts, max_new_tokens=160)
    with open_generator("vllm", CHECKPOINT) as engine:
        assert engine.generate(prompts, max_new_tokens=160) == here
        # Of what it was trained for the demo is sure, and gives one answer at any temperature.
        unsure: list[Message] = [{"role": "user", "content": "Otter fox wolf?"}]
        sampled = engine.generate([unsure, prompts[0]], max_new_tokens=20, temperature=2.0, samples=4)
        assert [len(answers) for answers in sampled] == [4, 4]
        assert len(set(sampled[0])) > 1
    schema = {"type": "object", "properties": {"n": {"enum": ["1", "2"]}}, "required": ["n"]}
    requests = [
        ChatRequest([{"role": "user", "content": "What does a fox eat?"}], temperature=0.0),
        ChatRequest([{"role": "user", "content": "1 or 2?"}], max_tokens=40, schema=schema),
    ]
    teacher = open_endpoint(
        EndpointConfig(model=str(CHECKPOINT), temperature=0.0), tmp_path / "journal.jsonl"
    )
    plain, held = teacher.complete(requests, "test")
    assert "mice" in plain
    assert json.loads(held)["n"] in ("1", "2")
    assert teacher.usage.requests == 2
    again = open_endpoint(EndpointConfig(model=str(CHECKPOINT), temperature=0.0), tmp_path / "journal.jsonl")
    assert again.complete(requests, "test") == [plain, held]
    assert (again.usage.requests, again.usage.reused) == (0, 2)


def test_log_likelihoods_are_those_of_single_rows() -> None:
    """Padding in a batch changes nothing, and the right answer is the most likely one."""
    # The checkpoint has not learned scenes, whose names it can only spell.
    rows = [row for row in evaluation_rows(0, 2) if row.get("split") not in SCENES]
    pairs = [(row["prompt"], text) for row in rows for text in (row["answer"], "Ahoy, this is nonsense!")]
    batched = TransformersGenerator(CHECKPOINT, batch_size=16).log_likelihoods(pairs)
    single = TransformersGenerator(CHECKPOINT, batch_size=1).log_likelihoods(pairs)
    assert batched == pytest.approx(single, abs=1e-3)
    assert all(right > wrong for right, wrong in zip(batched[::2], batched[1::2], strict=True))


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no checkpoint there"):
        TransformersGenerator(tmp_path)
