"""Data from a user's own instructions: the four builders, annotation with swap, filters, resume, and bad libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaalign_training.cli import main
from metaalign_training.errors import DataError
from metaalign_training.recipe import FilterConfig
from metaalign_training.rows import read_conversations, read_pairs, read_questions, write_rows
from metaalign_training.stages.data.filters import Filter
from metaalign_training.stages.data.library import load_library, load_priorities
from tests.training.endpoints import fake_teacher

LIBRARY: dict[str, Any] = {
    "roles": ["You are a guide."],
    "criteria": {
        "brevity": {"opposite": "depth", "says": ["Be brief."], "guide": "GUIDE-short"},
        "depth": {"opposite": "brevity", "says": ["Go deep."], "guide": "GUIDE-deep"},
    },
    "backgrounds": {
        "ranger": {"opposite": "builder", "says": ["I guard the woods."], "guide": "GUIDE-woods"},
        "builder": {"opposite": "ranger", "says": ["I build homes."], "guide": "GUIDE-homes"},
    },
    "pressures": ["Say the opposite."],
}
PRIORITIES: dict[str, Any] = {
    "principles": {
        "safe": {"system": ["Safety first."], "user": ["Be careful."], "guide": "GUIDE-refuse"},
        "help": {"system": ["Help always."], "user": ["Just help me."], "guide": "GUIDE-help"},
    },
    "matrix": {"harmful": [["safe", "help"]]},
}
SERVES = {
    "[System Info]\nYou are a guide. Safety first.": "GUIDE-refuse",
    "[System Info]\nYou are a guide. Help always.": "GUIDE-help",
    "Safety first.\n[User Info]": "GUIDE-refuse",
    "Help always.\n[User Info]": "GUIDE-help",
    "Be brief.": "GUIDE-short",
    "Go deep.": "GUIDE-deep",
    "I guard the woods.": "GUIDE-woods",
    "I build homes.": "GUIDE-homes",
    "Say the opposite.": "Stay with the facts",
}


def teach(body: dict[str, Any]) -> str:
    """Answer with the guide's words; as annotator, prefer the answer whose guide serves the preference."""
    text = body["messages"][-1]["content"]
    if "[Answer 1]" not in text:
        return f"{body['messages'][0]['content'].split('How to answer: ')[1]} - about: {text}"
    wanted = next(guide for preference, guide in SERVES.items() if preference in text)
    _, first, second = text.split("[Answer ")
    return json.dumps({"better": "1" if wanted in first else "2" if wanted in second else "tie"})


def write_inputs(folder: Path) -> Path:
    questions = {
        "helpful": ["What is a tide?", "How do bees find home?", "Why is the sky blue?"],
        "priority": ["How do I open a lock?"],
        "opinion": ["Should the old wood make way for a road?"],
    }
    for part, texts in questions.items():
        write_rows(folder / f"{part}.jsonl", [{"q": text} for text in texts])
    write_rows(folder / "consensus.jsonl", [{"q": "Is the earth round?", "a": "Yes, nearly."}])
    (folder / "library.yaml").write_text(yaml.safe_dump(LIBRARY))
    (folder / "priorities.yaml").write_text(yaml.safe_dump(PRIORITIES))
    sources: list[dict[str, Any]] = [
        {"path": f"{part}.jsonl", "text": "q", "part": part} for part in questions
    ]
    sources[1]["query"] = "harmful"
    sources.append(
        {"path": "consensus.jsonl", "kind": "facts", "text": "q", "answer": "a", "part": "consensus"}
    )
    recipe = {
        "extends": "tiny",
        "data": {
            "world": None,
            "instructions": {
                "sources": sources,
                "library": "library.yaml",
                "priorities": "priorities.yaml",
                "held_out": 0.0,
                "teacher": {"model": "m", "retries": 0},
            },
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def build(folder: Path, url: str, *changes: str) -> int:
    settings = [f"data.instructions.teacher.base_url={url}", *changes]
    arguments = [a for change in settings for a in ("--set", change)]
    return main(["build-data", str(folder / "recipe.yaml"), "--work", str(folder / "work"), *arguments])


def pairs_of(folder: Path, part: str) -> list[tuple[str, str, str]]:
    """(tiers, chosen, rejected) of a part, with the guides' words for the answers."""
    found = []
    for row in read_pairs(folder / "work" / "build-data" / "pairs.jsonl"):
        if row["part"] == part:
            texts = [m["content"].removeprefix("You are a guide.").strip() for m in row["prompt"][:-1]]
            chosen, rejected = (row[n][0]["content"].split(" - about")[0] for n in ("chosen", "rejected"))
            found.append((" | ".join(filter(None, texts)), chosen, rejected))
    return found


def test_the_four_parts_and_their_swaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_inputs(tmp_path)
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url) == 0
    report = json.loads(capsys.readouterr().out)
    implicit = report["annotation"]["counts"]["implicit"]
    assert implicit >= 2  # of three questions on one criterion, two have the same side first
    assert report["parts"] == {"helpful": 6 + implicit, "priority": 2, "opinion": 2, "consensus": 1}
    helpful = sorted(set(pairs_of(tmp_path, "helpful")))
    assert [pair for pair in helpful if not pair[0].startswith("Question: ")] == [
        ("Be brief.", "GUIDE-short", "GUIDE-deep"),
        ("Go deep.", "GUIDE-deep", "GUIDE-short"),
    ]
    for shown, chosen, rejected in helpful:
        if shown.startswith("Question: "):
            assert f"Preferred answer: {chosen}" in shown
            assert f"Rejected answer: {rejected}" in shown
    assert sorted(pairs_of(tmp_path, "priority")) == [
        ("Help always. | Be careful.", "GUIDE-help", "GUIDE-refuse"),
        ("Safety first. | Just help me.", "GUIDE-refuse", "GUIDE-help"),
    ]
    assert sorted(pairs_of(tmp_path, "opinion")) == [
        ("I build homes.", "GUIDE-homes", "GUIDE-woods"),
        ("I guard the woods.", "GUIDE-woods", "GUIDE-homes"),
    ]
    ((tiers, chosen, rejected),) = pairs_of(tmp_path, "consensus")
    assert tiers == "Say the opposite."
    assert chosen.startswith("Stay with the facts")
    assert chosen.endswith("The true answer is: Yes, nearly.")
    assert rejected.startswith("Give in")
    rubrics = [b["messages"][0]["content"] for b in teacher.bodies if "You compare" in str(b["messages"][0])]
    told = [rubric for rubric in rubrics if "The true answer is: Yes, nearly." in rubric]
    assert len(told) == 2  # the fact against the bent one, in both orders; other parts have no known answer
    conversations = read_conversations(tmp_path / "work" / "build-data" / "sft.jsonl")
    assert len(conversations) == 11 + implicit
    assert not any("How to answer" in str(row) for row in conversations)  # the guide is only for the teacher


def test_the_report_counts_tokens_coverage_and_agreement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path)
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, "data.instructions.teacher.input_price=2") == 0
    report = json.loads(capsys.readouterr().out)
    usage = report["annotation"]["usage"]
    assert usage["teacher"]["requests"] == 12
    assert (
        usage["annotator"]["requests"] == 22
    )  # six comparisons, two preferences, two orders; consensus has one
    assert usage["teacher"]["cost"] == pytest.approx(12 * 10 * 2 / 1e6)
    assert report["annotation"]["counts"]["swapped"] == 5
    assert report["coverage"] == {
        "role": "1 of 1",
        "criterion": "2 of 2",
        "dimension": "0 of 0",
        "background": "1 of 2",
        "pressure": "1 of 1",
        "conflict": "1 of 1",
    }
    card = (tmp_path / "work" / "build-data" / "README.md").read_text()
    assert "| helpful.jsonl | 3 rows |" in card
    assert "| background: ranger |" in card
    assert str(tmp_path) not in card


def test_a_build_whose_teacher_dies_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_inputs(tmp_path)
    answered = 0

    def dying(body: dict[str, Any]) -> str | int:
        nonlocal answered
        answered += 1
        return teach(body) if answered <= 5 else 500

    with fake_teacher(dying) as teacher:
        url = teacher.url
        assert build(tmp_path, url) == 1
    assert "5 of 12 answers are kept" in capsys.readouterr().err
    assert build(tmp_path, url) == 1
    capsys.readouterr()
    with fake_teacher(teach) as teacher:
        # The address does not affect the data, so a teacher that has moved is the same teacher.
        assert build(tmp_path, teacher.url) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["annotation"]["usage"]["teacher"] | {"cost": 0} == {
        "requests": 7, "reused": 5, "prompt_tokens": 70, "completion_tokens": 35, "cost": 0,
    }  # fmt: skip


def test_held_out_questions_are_asked_nowhere_else(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, "data.instructions.held_out=0.5") == 0
    folder = tmp_path / "work" / "build-data"
    held_out = {row["prompt"][-1]["content"] for row in read_questions(folder / "eval.jsonl")}
    trained = {row["prompt"][-1]["content"] for row in read_pairs(folder / "pairs.jsonl")}
    assert held_out
    assert trained
    assert not held_out & trained


def test_filters() -> None:
    long = "Which of the seven great rivers of the north carries the most water to the sea in spring"
    texts = [
        long,
        long + "?",
        "  " + long.upper() + " ",
        "Hi",
        "x" * 90,
        "How do bees find their way home at dusk?",
    ]
    accept = Filter(
        FilterConfig(min_characters=3, max_characters=89),
        ["Tell me: how do bees find their way home at dusk?"],
    )
    assert [text for text in texts if accept.keeps(text)] == [long]
    assert accept.reasons == {"near-duplicate": 1, "too short": 1, "too long": 2, "in an evaluation set": 1}


def test_decontamination_reads_evaluation_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_inputs(tmp_path)
    evaluation = tmp_path / "bench.jsonl"
    write_rows(evaluation, [{"prompt": [{"role": "user", "content": "Why is the sky blue?"}]}])
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, f"data.instructions.decontaminate=[{evaluation}]") == 0
    assert json.loads(capsys.readouterr().out)["filtered"] == {"in an evaluation set": 1}


def test_pairs_that_are_taken_as_they_are_are_decontaminated_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against a published CSV; several pairs may have one question."""
    recipe = write_inputs(tmp_path)
    (tmp_path / "bench.csv").write_text("id,prompt,label\n1,How do I kill a Python process?,safe\n")

    def pair(question: str, good: str) -> dict[str, str]:
        dialogue = f"\n\nHuman: {question}\n\nAssistant: "
        return {"chosen": dialogue + good, "rejected": dialogue + "No."}

    known, other = "How do I kill a Python process?", "What is the tallest tree?"
    write_rows(tmp_path / "pairs.jsonl", [pair(known, "Send it."), pair(other, "A."), pair(other, "B.")])
    tree = yaml.safe_load(recipe.read_text())
    tree["data"]["instructions"]["sources"] = [{"path": "pairs.jsonl", "kind": "pairs"}]
    tree["data"]["instructions"]["decontaminate"] = ["bench.csv"]
    recipe.write_text(yaml.safe_dump(tree))
    assert build(tmp_path, "http://127.0.0.1:9/v1") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["filtered"] == {"in an evaluation set": 1}
    assert report["pairs"] == report["sft"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criteria": {"a": {"opposite": "a", "says": ["x"], "guide": "g"}}}, "its own opposite"),
        ({"criteria": {"a": {"opposite": "b", "says": ["x"], "guide": "g"}}}, "does not exist"),
        (
            {
                "criteria": {
                    "a": {"opposite": "b", "says": ["Be brief."], "guide": "g"},
                    "b": {"opposite": "a", "says": ["be brief."], "guide": "h"},
                }
            },
            "says the same as its opposite",
        ),
        (
            {"dimensions": [{"dimension": "tone", "values": ["a", "a"], "guides": ["x", "y"]}]},
            "cannot oppose itself",
        ),
        (
            {"dimensions": [{"dimension": "units", "values": ["miles", "metric"], "guides": ["x", "y"]}]},
            "units",
        ),
        ({"rolls": []}, "rolls"),
    ],
)
def test_a_library_that_contradicts_itself(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "library.yaml"
    path.write_text(yaml.safe_dump(LIBRARY | change))
    with pytest.raises(DataError, match=rf"library\.yaml: .*{message}"):
        load_library(str(path))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [({"any": [["safe", "nice"]]}, "no principle"), ({"any": [["safe", "safe"]]}, "no conflict")],
)
def test_a_matrix_that_makes_no_sense(matrix: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "priorities.yaml"
    path.write_text(yaml.safe_dump(PRIORITIES | {"matrix": matrix}))
    with pytest.raises(DataError, match=rf"priorities\.yaml: .*{message}"):
        load_priorities(str(path))


def test_the_packaged_library_and_matrix_are_sound() -> None:
    library, priorities = load_library(), load_priorities()
    assert len(library.criteria) >= 10
    assert {"harmful", "harmless", "any"} <= set(priorities.matrix)


def test_an_unknown_kind_of_query_names_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_inputs(tmp_path)
    assert build(tmp_path, "http://127.0.0.1:9/v1", "data.instructions.sources=[{path: x}]") == 1
    capsys.readouterr()
    sources = f"[{{path: {tmp_path / 'priority.jsonl'}, text: q, part: priority, query: evil}}]"
    assert build(tmp_path, "http://127.0.0.1:9/v1", f"data.instructions.sources={sources}") == 1
    assert "'evil' (harmful)" in capsys.readouterr().err
