"""`run` refuses in seconds what it could not finish in hours, and names all of it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaalign_training.cli import main
from metaalign_training.rows import write_rows
from tests.processes import ROOT
from tests.training.endpoints import fake_teacher

DEAD = "http://127.0.0.1:9/v1"
JUDGE = {"base_url": DEAD, "model": "m", "retries": 0}


def run(work: Path, **settings: Any) -> int:
    changes = [a for name, value in settings.items() for a in ("--set", f"{name}={json.dumps(value)}")]
    return main(["run", "tiny", "--work", str(work), *changes])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluate.judge": JUDGE}, f"evaluate.judge: {DEAD}: "),
        ({"dpo.pairs.label": "judge", "dpo.pairs.judge": JUDGE}, f"dpo.pairs.judge: {DEAD}: "),
        ({"evaluate.suites": [{"kind": "xstest", "path": "/nowhere.csv"}]}, "evaluate.suites[0]: /nowhere.csv"),
        ({"evaluate.baseline": "/nowhere"}, "evaluate.baseline: /nowhere has no answers.jsonl"),
        ({"evaluate.engine": "endpoint", "evaluate.endpoint": JUDGE}, f"evaluate.endpoint: {DEAD}: "),
        ({"sft.mixture": [{"path": "/nowhere.jsonl"}]}, "sft.mixture: /nowhere.jsonl is missing"),
        ({"dpo.pairs.files": [{"path": "/nowhere.jsonl"}]}, "dpo.pairs.files: /nowhere.jsonl is missing"),
        ({"dpo.tracker": "wandb"}, "dpo.tracker: wandb is not installed"),
        ({"model": {"base": "/nowhere"}}, "model.base: no tokenizer in /nowhere"),
        ({"export.push_to_hub": "me/mine"}, "export.push_to_hub: nobody is logged in"),
        (
            {
                "rejection": {
                    "steps": 1, "batch_size": 4, "learning_rate": 0.1,
                    "samples": {"prompts": 4, "label": "judge", "judge": JUDGE},
                }
            },
            "rejection.samples.judge: ",
        ),
        (
            {
                "grpo": {
                    "steps": 1, "batch_size": 8, "learning_rate": 0.1, "prompts": 4,
                    "rewards": {"judge": 1}, "judge": JUDGE,
                }
            },
            "grpo.judge: ",
        ),
    ],
)  # fmt: skip
def test_what_a_later_stage_needs_is_missed_before_the_first(
    settings: dict[str, Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert run(tmp_path / "work", **settings) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "work").exists(), "no stage has begun"


def test_a_suite_that_only_a_judge_can_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(
        tmp_path / "bench.jsonl",
        [{"system": "Be kind.", "prompt": "Hi", "rubrics": ["Is it kind?"], "source": "x", "uid": "1"}],
    )
    suites = [{"kind": "multifaceted", "path": str(tmp_path / "bench.jsonl")}]
    assert run(tmp_path / "work", **{"evaluate.suites": suites}) == 1
    assert "evaluate.judge: only a judge can score multifaceted" in capsys.readouterr().err


def test_all_problems_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [
        {"path": "/nowhere.jsonl", "text": "q"},
        {"path": str(ROOT / "README.md"), "text": "q", "part": "priority", "query": "evil"},
    ]
    instructions = {
        "sources": sources,
        "teacher": {"base_url": DEAD, "model": "m"},
        "decontaminate": ["/none.csv"],
    }
    status = run(
        tmp_path / "work",
        **{
            "data.world": None,
            "data.instructions": instructions,
            "evaluate.judge": JUDGE,
            "sft.mixture": [{"path": "/x"}],
        },
    )
    assert status == 1
    message = capsys.readouterr().err
    assert "6 things are missing" in message
    for part in (
        "data.instructions.sources[0]: /nowhere.jsonl",
        "data.instructions.sources[1].query: 'evil'",
        "data.instructions.decontaminate: /none.csv is missing",
        "data.instructions.teacher: ",
        "sft.mixture: /x is missing",
        "evaluate.judge: ",
    ):
        assert part in message


def test_a_finished_stage_needs_nothing_any_more(tmp_path: Path) -> None:
    """The judge is gone after it has done its work, and the run is only repeated."""
    write_rows(
        tmp_path / "own.jsonl",
        [{"prompt": [{"role": "user", "content": "Hi"}], "expect": {"rubric": "Kind?"}}],
    )
    settings: dict[str, Any] = {
        "dpo": None,
        "evaluate.suites": [{"path": str(tmp_path / "own.jsonl")}],
        "evaluate.swap": False,
    }
    with fake_teacher(lambda _: '{"rating": 4}') as judge:
        own = settings | {"evaluate.judge": {"base_url": judge.url, "model": "m", "retries": 0}}
        assert run(tmp_path / "work", **own) == 0
    assert run(tmp_path / "work", **own) == 0
