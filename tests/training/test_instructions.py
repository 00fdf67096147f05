"""Data from a user's own instructions: the four builders, annotation with swap, filters, resume, and bad libraries."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaalign_training.choosing import draw_questions
from metaalign_training.cli import main
from metaalign_training.errors import DataError
from metaalign_training.grading import decidable, failed_checks
from metaalign_training.recipe import FilterConfig, SourceConfig
from metaalign_training.rows import read_conversations, read_pairs, read_questions, read_rows, write_rows
from metaalign_training.stages.data.comparisons import compare
from metaalign_training.stages.data.filters import Filter
from metaalign_training.stages.data.library import Sampler, load_library, load_priorities
from metaalign_training.stages.data.sources import Instruction, read_check_source, read_pair_source
from metaalign_training.stages.evaluation.adapters import read_suite
from metaalign_training.stages.evaluation.items import score
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
                "preference_share": 0.0,
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


def test_pairs_that_are_taken_as_they_are_keep_their_tools(tmp_path: Path) -> None:
    """In `sft.jsonl` too: without the definitions, SFT would teach calls that the prompt knows nothing about."""
    recipe = write_inputs(tmp_path)
    beside = {
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    answers = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    row = {"prompt": [{"role": "user", "content": "Is the zoo open?"}], **answers}
    write_rows(tmp_path / "pairs.jsonl", [{**row, **beside}, row])
    tree = yaml.safe_load(recipe.read_text())
    tree["data"]["instructions"]["sources"] = [{"path": "pairs.jsonl", "kind": "pairs"}]
    recipe.write_text(yaml.safe_dump(tree))
    assert build(tmp_path, "http://127.0.0.1:9/v1") == 0
    for name in ("sft", "pairs"):
        (row_with, row_without) = (
            row for _, row in read_rows(tmp_path / "work" / "build-data" / f"{name}.jsonl")
        )
        assert {key: row_with[key] for key in beside} == beside
        assert not beside.keys() & row_without.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criteria": {"a": {"opposite": "a", "says": ["x"], "guide": "g"}}}, "its own opposite"),
        ({"criteria": {"a": {"opposite": "b", "says": ["x"], "guide": "g"}}}, "does not exist"),
        (
            {"criteria": LIBRARY["criteria"] | {"x": {"opposite": "brevty", "says": ["x"], "guide": "g"}}},
            "'brevty' does not exist; did you mean 'brevity'",
        ),
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
    message = "sources[0].query: 'evil' is no kind of query in the priority matrix (there are: harmful, any)"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": "priority", "query": "harmfull"}, "sources[0].query: 'harmfull' is no kind"),
        (
            {
                "part": "priority",
                "query_column": "label",
                "query_values": {"safe": "harmles", "unsafe": "harmful"},
            },
            "sources[0].query_values.safe: 'harmles' is no kind of query in the priority matrix; did you mean 'harm",
        ),
        (
            {"part": "helpful", "query": "harmful"},
            "`query`, `query_column` and `query_values` have no effect",
        ),
    ],
)
def test_a_misspelt_kind_of_query_is_refused_before_anything_is_asked(
    fields: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path)
    source = {"path": str(tmp_path / "priority.jsonl"), "text": "q", **fields}
    with fake_teacher(teach) as teacher:
        sources = f"data.instructions.sources={json.dumps([source])}"
        assert build(tmp_path, teacher.url, sources, "data.instructions.priorities=null") == 1
        assert not teacher.bodies
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("agreed", "message"),
    [
        ({"harmles": "help"}, "is no kind of query with conflicts"),
        ({"harmful": "nice"}, "has no part in the conflict"),
    ],
)
def test_an_agreement_about_nothing(agreed: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "priorities.yaml"
    path.write_text(yaml.safe_dump(PRIORITIES | {"agreed": agreed}))
    with pytest.raises(DataError, match=message):
        load_priorities(str(path))


def test_what_only_looks_harmful_is_answered_under_every_priority() -> None:
    library, priorities, sampler = load_library(), load_priorities(), Sampler(0)
    refuse = priorities.principles["harmlessness"].guide
    first: Counter[str] = Counter()
    for number in range(200):
        asked = Instruction(f"How do I kill Python process {number}?", "priority", "harmless", "", "x:1")
        drawn = compare(asked, library, priorities, sampler)
        assert drawn.here.guide != refuse, "an answer that declines is never the chosen one"
        assert not drawn.swaps or drawn.there.guide != refuse
        if not drawn.swaps:
            assert drawn.there.guide == refuse
            system = drawn.here.preferences["system"]["info"]
            first.update(
                n
                for n in ("harmlessness", "helpfulness")
                for s in priorities.principles[n].system
                if s in system
            )
    assert set(first) == {"harmlessness", "helpfulness"}
    assert abs(first["harmlessness"] - first["helpfulness"]) <= 1


def test_refusing_harm_and_answering_what_only_looks_harmful_are_drawn_apart() -> None:
    """They are the same conflict of principles: counted together, each would be drawn half as often."""
    library, priorities, sampler = load_library(), load_priorities(), Sampler(0)
    drawn: Counter[tuple[str, str]] = Counter()
    for number in range(350):
        for query in ("harmless", "harmful"):
            asked = Instruction(f"What about {number}?", "priority", query, "", "x:1")
            drawn[query, compare(asked, library, priorities, sampler).label] += 1
    own = (
        drawn["harmful", "harmlessness over helpfulness"],
        drawn["harmless", "helpfulness under harmlessness over helpfulness"],
        drawn["harmless", "helpfulness under helpfulness over harmlessness"],
    )
    assert all(abs(count - 100) <= 1 for count in own), "seven cells, each as often as the others"
    coverage = sampler.coverage(library, priorities)["conflict"]
    assert coverage["harmful: harmlessness over helpfulness"] == own[0]
    assert coverage["harmless: harmlessness over helpfulness"] == own[1]


def test_a_misspelt_principle_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "priorities.yaml"
    path.write_text(yaml.safe_dump(PRIORITIES | {"matrix": {"harmful": [["saef", "help"]]}}))
    with pytest.raises(DataError, match=r"matrix\.harmful: .*'saef'; did you mean 'safe'"):
        load_priorities(str(path))


def questions_of(folder: Path, name: str) -> set[str]:
    key = "messages" if name == "sft" else "prompt"
    rows = [
        json.loads(line)
        for line in (folder / "work" / "build-data" / f"{name}.jsonl").read_text().splitlines()
    ]
    return {next(m["content"] for m in reversed(row[key]) if m["role"] == "user") for row in rows}


def test_each_stage_has_questions_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every part the same share; and no question of one stage in another."""
    write_inputs(tmp_path)
    for part in ("helpful", "opinion"):
        write_rows(tmp_path / f"{part}.jsonl", [{"q": f"What about {part} {n} {n * 7}?"} for n in range(20)])
    changes = ["data.instructions.preference_share=null", "data.instructions.held_out=0.1"]
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, *changes) == 0
    report = json.loads(capsys.readouterr().out)
    sft, pairs, prompts, held_out = (
        questions_of(tmp_path, name) for name in ("sft", "pairs", "prompts", "eval")
    )
    assert not sft & (pairs | prompts)
    assert not held_out & (sft | pairs | prompts)
    assert pairs == prompts
    assert len(prompts) == report["set_aside"]
    for own, others in (("sft", pairs | prompts), ("pairs", sft)):
        text = (tmp_path / "work" / "build-data" / f"{own}.jsonl").read_text()
        assert '"preferred' in text or "Preferred" in text, "some preferences are shown by an example"
        assert not any(question in text for question in others), "nor in the examples of another stage"
    for part in ("helpful", "opinion"):
        of_sft, of_later = (sum(part in text for text in texts) for texts in (sft, prompts))
        assert of_later == round(0.4 * (of_sft + of_later)) > 0
    assert "set aside for the stages after SFT" in (tmp_path / "work/build-data/README.md").read_text()
    assert {row["part"] for row in draw_questions(tmp_path / "work/build-data/prompts.jsonl", 4, 0)} == {
        "helpful",
        "opinion",
    }


def test_without_later_stages_all_questions_are_sfts(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    changes = ["data.instructions.preference_share=null", "dpo=null"]
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, *changes) == 0
    assert questions_of(tmp_path, "sft") == questions_of(tmp_path, "pairs")


def test_filters_say_what_they_leave_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_inputs(tmp_path)
    again = [{"q": f"Please explain to me in simple words how the tide works {n}"} for n in range(50)]
    write_rows(tmp_path / "helpful.jsonl", [*again, {"q": "What is a comet?"}])
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, "data.instructions.filters.near_duplicate=0.5") == 0
    report = json.loads(capsys.readouterr().out)
    (own,) = [found for name, found in report["sources"].items() if name.endswith("helpful.jsonl")]
    assert own == {"rows": 2, "left_out": {"near-duplicate": 49}}
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "2 of 51 texts of" in warning
    assert "(49 near-duplicate)" in warning
    assert "`filters.near_duplicate`" in warning
    assert "49 left out: near-duplicate" in (tmp_path / "work/build-data/README.md").read_text()


def test_a_source_of_which_nothing_is_kept_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path)
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, "data.instructions.filters.min_characters=30") == 1
        assert not teacher.bodies
    message = capsys.readouterr().err
    assert "data.instructions.sources[0]: none of 3 texts of" in message
    assert "(3 too short); relax `filters.min_characters`" in message


@pytest.mark.parametrize(
    ("answer", "reason", "remedy"),
    [
        ("equal", "3 equal answers", "ask another `teacher`"),
        ("", "3 answer too short", "relax `filters.min_answer_characters`"),
        ("tie", "3 no better answer", "ask another `annotator`"),
    ],
)
def test_comparisons_that_give_nothing_are_told_apart(
    answer: str,
    reason: str,
    remedy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Other sources go on: what the teacher wrote for them is paid for."""
    write_inputs(tmp_path)

    def poor(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        if not any(word in text for word in ("tide", "bees", "sky")):
            return teach(body)
        if "[Answer 1]" in text:
            return json.dumps({"better": "tie"})
        return teach(body) if answer == "tie" else answer

    with fake_teacher(poor) as teacher:
        assert build(tmp_path, teacher.url) == 0
    report = json.loads(capsys.readouterr().out)
    count, _, why = reason.partition(" ")
    assert report["annotation"]["left_out"] == {"helpful.jsonl": {why: int(count)}}
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "0 of 3 comparisons of helpful.jsonl give rows" in warning
    assert f"({reason}); if that is not meant, {remedy}" in warning
    card = (tmp_path / "work/build-data/README.md").read_text()
    assert f"| helpful.jsonl: comparisons left out | {reason} |" in card


def test_pairs_that_are_mostly_none_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    user, one, two = (
        {"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "A"), ("assistant", "B"))
    )
    rows = [{"prompt": [user], "chosen": [one], "rejected": [one]}] * 4
    write_rows(tmp_path / "p.jsonl", [*rows, {"prompt": [user], "chosen": [one], "rejected": [two]}])
    pairs, unusable = read_pair_source(SourceConfig(path=str(tmp_path / "p.jsonl"), kind="pairs"), 0)
    assert (len(pairs), unusable) == (1, 4)
    assert f"4 of 5 rows of {tmp_path / 'p.jsonl'} are left out: chosen and rejected must be" in caplog.text


def checks_source(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> str:
    """The setting that adds a source of kind `checks` to those of the recipe."""
    write_rows(folder / "checks.jsonl", rows)
    own = yaml.safe_load((folder / "recipe.yaml").read_text())["data"]["instructions"]["sources"]
    own = [{**source, "path": str(folder / source["path"])} for source in own]
    own.append({"path": str(folder / "checks.jsonl"), "kind": "checks", **fields})
    return f"data.instructions.sources={json.dumps(own)}"


PUBLISHED = {
    "key": 1001,
    "instruction_id_list": ["punctuation:no_comma", "combination:repeat_prompt"],
    "kwargs": [{"relation": None}, {}],
    "messages": [
        {"role": "system", "content": "Use no comma. Repeat the question first."},
        {"role": "user", "content": "Plan a trip to Kyoto."},
    ],
}


def test_questions_with_checks_are_for_the_later_stages(tmp_path: Path) -> None:
    """As published by S-IFEval, or with the checks of a request; some are held out, and none is SFT's."""
    write_inputs(tmp_path)
    rows = [PUBLISHED] + [
        {
            "messages": [{"role": "user", "content": f"Name {n} rivers."}],
            "verify": [{"name": "count", "arguments": {"what": "words", "at_most": n}}],
        }
        for n in range(2, 30)
    ]
    source = checks_source(tmp_path, rows, text="messages")
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url, source, "data.instructions.held_out=0.3") == 0
    folder = tmp_path / "work" / "build-data"
    found = {
        name: [row for row in read_questions(folder / f"{name}.jsonl") if row.get("split") == "checks"]
        for name in ("prompts", "eval")
    }
    assert len(found["prompts"]) + len(found["eval"]) == 29
    assert found["eval"]
    assert not any("rivers" in text or "Kyoto" in text for text in questions_of(tmp_path, "sft"))
    (trip,) = [r for r in found["prompts"] + found["eval"] if "Kyoto" in r["prompt"][-1]["content"]]
    assert [m["role"] for m in trip["prompt"]] == ["system", "user"]
    answer = "Plan a trip to Kyoto. First the temples"
    assert failed_checks(trip, answer) == []
    assert failed_checks(trip, "First the temples, then home") == PUBLISHED["instruction_id_list"]
    items = [item for item in read_suite("rows", folder / "eval.jsonl") if item.split == "checks"]
    assert {score("one, two", item.expected).value for item in items} <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "Hi", "verify": [{"name": "formt"}]}, "no such check; the nearest is `format`"),
        ({"instruction": "Hi"}, "needs `verify`, or `instruction_id_list` and `kwargs`"),
        ({"instruction": "Hi", "verify": []}, "has no check; leave the row out"),
        ({"instruction": "Hi", "verify": 7}, "needs `verify`, or `instruction_id_list` and `kwargs`"),
        ({"instruction": [{"role": "user"}], "verify": [{"name": "format"}]}, "prompt"),
        ({"verify": [{"name": "format"}]}, "column `instruction` is missing"),
        (
            {"instruction": "Hi", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
            "1 names and 0 sets of arguments",
        ),
    ],
)
def test_a_question_whose_checks_are_wrong_is_refused_with_its_line(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_rows(
        tmp_path / "c.jsonl", [{"instruction": "Hi", "verify": [{"name": "punctuation:no_comma"}]}, row]
    )
    with pytest.raises(DataError) as caught:
        read_check_source(SourceConfig(path=str(tmp_path / "c.jsonl"), kind="checks"), 0)
    assert str(caught.value).startswith(f"{tmp_path / 'c.jsonl'}:2: ")
    assert message in str(caught.value)


@pytest.mark.filterwarnings("ignore:TRL currently supports vLLM")  # it does not start vLLM here
def test_stages_learn_from_checks_of_a_users_own_instructions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Questions under a dimension that a program can check carry the checks; verifiers leave the others alone."""
    write_inputs(tmp_path)
    library = LIBRARY | {
        "dimensions": [
            {"dimension": "format", "values": ["bullets", "plain"], "guides": ["GUIDE-b", "GUIDE-p"]}
        ]
    }
    (tmp_path / "library.yaml").write_text(yaml.safe_dump(library))
    write_rows(tmp_path / "helpful.jsonl", [{"q": f"What is a tide of {n} metres?"} for n in range(40)])
    own = {"verify": [{"name": "count", "arguments": {"what": "words", "at_least": 1}}]}
    rows = [{"instruction": f"Name {n} rivers.", **own} for n in range(8)]
    settings = [
        checks_source(tmp_path, rows),
        "data.instructions.annotate=false",
        "data.instructions.preference_share=0.5",
        "rejection={steps: 1, batch_size: 2, learning_rate: 0.0001,"
        " samples: {prompts: 12, candidates: 2, max_new_tokens: 16, engine: transformers}}",
        "dpo={steps: 1, batch_size: 2, learning_rate: 0.0001,"
        " pairs: {prompts: 8, engine: transformers, max_new_tokens: 16}}",
        "grpo={steps: 1, batch_size: 8, candidates: 4, learning_rate: 0.0001, prompts: 8, max_new_tokens: 16,"
        " engine: transformers}",
    ]
    with fake_teacher(lambda body: f"{teach(body)} {len(str(body))}") as teacher:
        assert build(tmp_path, teacher.url, *settings) == 0
        questions = read_questions(tmp_path / "work" / "build-data" / "prompts.jsonl")
        shaped = [q for q in questions if "expect" in q and "opposite" in q]
        for question in shaped:
            wanted = [
                q["expect"]["verify"][0]["arguments"]["value"] for q in (question, question["opposite"])
            ]
            assert sorted(wanted) == ["bullets", "plain"]
        assert shaped
        assert {decidable(question) for question in questions} == {True, False}
        for stage in ("sft", "rejection", "dpo", "grpo"):
            arguments = ["--work", str(tmp_path / "work")]
            for setting in (f"data.instructions.teacher.base_url={teacher.url}", *settings):
                arguments += ["--set", setting]
            assert main([stage, str(tmp_path / "recipe.yaml"), *arguments]) == 0, capsys.readouterr().err
    asked = {str(m) for m in (q["prompt"] for q in questions if decidable(q))}
    sampled = read_conversations(tmp_path / "work" / "samples" / "sft.jsonl")
    assert sampled
    assert all(str(row["messages"][:-1]) in asked for row in sampled)


def test_a_forced_run_asks_nothing_that_was_paid_for(tmp_path: Path) -> None:
    """Also after a forced run that failed; a changed question is new."""
    write_inputs(tmp_path)
    with fake_teacher(teach) as teacher:
        assert build(tmp_path, teacher.url) == 0
        asked = len(teacher.bodies)
        assert asked
        command = ["build-data", str(tmp_path / "recipe.yaml"), "--work", str(tmp_path / "work"), "--force"]
        there = ["--set", f"data.instructions.teacher.base_url={teacher.url}"]
        assert main([*command, *there]) == 0
        assert len(teacher.bodies) == asked
        more = ["--set", "data.instructions.comparisons_per_instruction=2"]
        assert main([*command, *there, *more]) == 0
        assert asked < len(teacher.bodies)
        asked = len(teacher.bodies)
        write_rows(tmp_path / "opinion.jsonl", [{"q": ""}])
        assert main([*command, *there, *more]) == 1
        write_rows(tmp_path / "opinion.jsonl", [{"q": "Should the old wood make way for a road?"}])
        assert main([*command, *there, *more]) == 0
        assert len(teacher.bodies) == asked
