"""Hierarchy data: checks that tell right from wrong, held-out wordings, and the way through the stages."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from metaalign_training.cli import main
from metaalign_training.errors import StageError
from metaalign_training.recipe import HierarchyConfig
from metaalign_training.rows import read_conversations, read_pairs, read_questions
from metaalign_training.stages.data.attacks import (
    ATTACKS,
    CLAIMS,
    CODES,
    FOLLOW_UPS,
    LINES,
    PLANTED,
    PLEAS,
    SECRET_ATTACKS,
    WISHES,
    portion,
)
from metaalign_training.stages.data.hierarchy import KINDS, build_hierarchy
from metaalign_training.stages.evaluation.adapters import read_suite
from metaalign_training.stages.evaluation.items import score


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hierarchy")
    report = build_hierarchy(HierarchyConfig(rows=800, evaluation_per_kind=20), 1, folder)
    assert report["kinds"] == dict.fromkeys(KINDS, 100)
    return folder


@pytest.mark.parametrize("name", ["prompts.jsonl", "eval.jsonl"])
def test_checks_tell_right_from_wrong(name: str, built: Path) -> None:
    items = read_suite("rows", built / name)
    rows = read_questions(built / name)
    for item, row in zip(items, rows, strict=True):
        assert score(row["answer"], item.expected).value == 1.0, row
        assert score(row["rejected"], item.expected).value == 0.0, row
        assert score("", item.expected).value == 0.0
    assert set(Counter(item.split for item in items).values()) == {100 if name == "prompts.jsonl" else 20}


def test_held_out_wordings_are_not_trained_on(built: Path) -> None:
    trained, asked = (built / "sft.jsonl").read_text(), (built / "eval.jsonl").read_text()
    for entries in (LINES, CODES, SECRET_ATTACKS, CLAIMS, FOLLOW_UPS):
        assert not any(
            json.dumps(entry, ensure_ascii=False)[1:-1] in trained
            for entry in portion(entries, training=False)
        )
        assert any(
            json.dumps(entry, ensure_ascii=False)[1:-1] in asked for entry in portion(entries, training=False)
        )
    for frames in (ATTACKS, PLANTED, PLEAS):
        starts = [frame.split("{")[0] for frame in portion(frames, training=False)]
        assert not any(start and start in trained for start in starts)
        assert any(start and start in asked for start in starts)


@pytest.mark.parametrize("frame", [frame for frames in WISHES.values() for frame in frames])
def test_each_frame_of_a_wish_is_for_training_or_for_evaluation(frame: str, built: Path) -> None:
    before, after = map(re.escape, frame.split("{line}"))
    wished = re.compile(f"{before}({'|'.join(LINES)}){after}", re.IGNORECASE)  # some frames begin a sentence
    held_out = any(frame in portion(frames, training=False) for frames in WISHES.values())
    for name in ("sft", "pairs", "prompts"):
        assert bool(wished.search((built / f"{name}.jsonl").read_text())) is not held_out
    assert bool(wished.search((built / "eval.jsonl").read_text())) is held_out


def test_later_stages_have_questions_of_their_own(built: Path) -> None:
    learnt = {str(row["messages"][:-1]) for row in read_conversations(built / "sft.jsonl")}
    asked = {str(row["prompt"]) for row in read_questions(built / "prompts.jsonl")}
    assert {str(row["prompt"]) for row in read_pairs(built / "pairs.jsonl")} == asked
    assert len(learnt) == len(asked) == 800
    assert not learnt & asked


def test_more_rows_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaalign_training.stages.data.hierarchy.CODES", ("maple-42", "echo-5"))
    with pytest.raises(StageError, match=r"data\.hierarchy\.rows: .* of the kind 'secret'; lower it"):
        build_hierarchy(HierarchyConfig(rows=4000, evaluation_per_kind=1), 1, tmp_path)


def test_authority_decides(built: Path) -> None:
    """System Info, then the question, then User Info; a document never."""
    seen = set()
    for row in read_questions(built / "prompts.jsonl"):
        if row["split"] != "hierarchy authorities":
            continue
        needed, forbidden = row["expect"]["words"]
        lines = [line for line in LINES if line in needed]
        places = {m["role"]: str(m["content"]) for m in row["prompt"]}
        question, document = places["user"].split("<document>")
        order = [places.get("system", ""), question, places.get("user_info", ""), document]
        said = [*lines, *forbidden]
        speaking = [next((i for i, text in enumerate(order) if line in text), None) for line in said]
        assert speaking == sorted(speaking, key=lambda place: (place is None, place))
        assert speaking[-1] == 3  # the document spoke, and lost
        seen.add(tuple(speaking))
    assert {(3,), (0, 1, 2, 3), (0, 3), (1, 3), (2, 3)} <= seen


def test_tools_and_documents_have_no_say(built: Path) -> None:
    rows = [r for r in read_questions(built / "prompts.jsonl") if r["split"] == "hierarchy tool"]
    assert all([m["role"] for m in r["prompt"]] == ["system", "user", "assistant", "tool"] for r in rows)
    assert all(r["tools"][0]["function"]["name"] == "read_prices" for r in rows)  # type: ignore[index]
    silent = [r for r in rows if not any(line in r["prompt"][0]["content"] for line in LINES)]
    assert 20 < len(silent) < 80
    assert all(not any(line in r["answer"] for line in LINES) for r in silent)


def test_from_a_recipe_to_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--work", str(tmp_path)]
    for change in ("world=null", "hierarchy={rows: 64, evaluation_per_kind: 1}"):
        command += ["--set", f"data.{change}"]
    command += ["--set", "model.new.vocabulary_size=800"]
    assert main(["build-data", "tiny", *command]) == 0
    assert len(read_conversations(tmp_path / "build-data" / "sft.jsonl")) == 64
    assert len(read_pairs(tmp_path / "build-data" / "pairs.jsonl")) == 64
    assert main(["sft", "tiny", *command]) == 0
    assert main(["evaluate", "tiny", *command, "--model", str(tmp_path / "sft"), "--set", "dpo=null"]) == 0
    results = json.loads((tmp_path / "evaluate" / "results.json").read_text())
    assert set(results["suites"]["rows"]) == {f"hierarchy {kind}" for kind in KINDS}
    capsys.readouterr()
    assert main(["build-data", "tiny", "--set", "data.hierarchy={}", "--work", str(tmp_path / "x")]) == 1
    assert "either `world`, `instructions` or `hierarchy`" in capsys.readouterr().err
