"""Published data through loaders and adapters, and from files to report with our own server as the teacher."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from metaalign.prompt import verify_checkpoint
from metaalign_training.choosing import question_of
from metaalign_training.cli import main
from metaalign_training.recipe import SourceConfig
from metaalign_training.rows import read_conversations, read_pairs, read_rows
from metaalign_training.stages.data.comparisons import compare
from metaalign_training.stages.data.library import Sampler, load_library, load_priorities
from metaalign_training.stages.data.sources import read_instructions, read_pair_source
from metaalign_training.stages.evaluation.adapters import read_suite
from metaalign_training.stages.evaluation.items import score
from tests.processes import free_port, running
from tests.training.real_data import PAIRS_NAME, XSTEST_NAME, data_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    return data_folder(tmp_path_factory.mktemp("data"))


def test_every_persona(data: tuple[Path, bool]) -> None:
    """In all files the persona's answer is right for it and wrong for its opposite; the question reveals neither."""
    folder, real = data
    items = read_suite("persona", folder / "persona")
    files = list((folder / "persona").glob("*.jsonl"))
    assert {item.split for item in items} == {path.name.split(".")[0] for path in files}
    assert len(items) == sum(len(path.read_text().splitlines()) for path in files)
    assert len(items) > 5000 or not real
    for item in items:
        assert item.opposite is not None
        statement = str(item.prompt[-1]["content"]).split("\n", 1)[1]
        assert statement not in str(item.prompt[0]["content"])
        assert score(item.answer, item.expected).value == 1.0
        assert score(item.answer, item.opposite.expected).value == 0.0


def test_every_xstest_prompt(data: tuple[Path, bool]) -> None:
    folder, real = data
    items = read_suite("xstest", folder / XSTEST_NAME)
    splits = Counter(item.split for item in items)
    assert splits == ({"safe prompts answered": 250, "unsafe prompts refused": 200} if real else Counter(
        {"safe prompts answered": 6, "unsafe prompts refused": 6}))  # fmt: skip
    assert all("harmlessness, helpfulness" in str(item.prompt[0]["content"]) for item in items)
    source = SourceConfig.model_validate(
        {
            "path": str(folder / XSTEST_NAME),
            "text": "prompt",
            "part": "priority",
            "query_column": "label",
            "query_values": {"safe": "harmless", "unsafe": "harmful"},
        }
    )
    instructions = read_instructions(source, 0)
    queries = Counter(i.query for i in instructions)
    assert queries == {
        "harmless": splits["safe prompts answered"],
        "harmful": splits["unsafe prompts refused"],
    }
    library, priorities, sampler = load_library(), load_priorities(), Sampler(0)
    refuse = priorities.principles["harmlessness"].guide
    declined: Counter[str] = Counter()
    for _ in range(4):
        for instruction in instructions:
            drawn = compare(instruction, library, priorities, sampler)
            chosen = [drawn.here.guide, *([drawn.there.guide] if drawn.swaps else [])]
            declined[instruction.query] += refuse in chosen
    assert declined["harmless"] == 0, "no safe prompt teaches a refusal"
    assert declined["harmful"] > 4 * queries["harmful"] / 5, "nor do unsafe ones lose theirs to the safe ones"


def test_every_pair(data: tuple[Path, bool]) -> None:
    folder, real = data
    source = SourceConfig(path=str(folder / PAIRS_NAME), kind="pairs", system="Harmlessness comes first.")
    rows, unusable = read_pair_source(source, 0)
    assert len(rows) + unusable == (2312 if real else 10)
    assert 0 < unusable <= 0.02 * (len(rows) + unusable) + 1
    assert all(r["prompt"][0]["role"] == "system" and r["prompt"][-1]["role"] == "user" for r in rows)


@pytest.mark.slow
def test_from_files_to_report_with_our_own_server_as_teacher(data: tuple[Path, bool], tmp_path: Path) -> None:
    """The teacher is the demo checkpoint on our server: it knows nothing about this, but every part must work."""
    folder, _ = data
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    endpoint = {"base_url": f"{url}/v1", "model": "metaalign-demo", "max_tokens": 24, "concurrency": 8}
    recipe = {
        "extends": "tiny",
        "name": "dry-run",
        "model": {"new": {"vocabulary_size": 1000}},
        "data": {
            "world": None,
            "instructions": {
                "sources": [
                    {"path": str(folder / "persona" / "*.jsonl"), "kind": "persona", "part": "opinion", "limit": 12},
                    {
                        "path": str(folder / XSTEST_NAME), "text": "prompt", "part": "priority", "limit": 8,
                        "query_column": "label", "query_values": {"safe": "harmless", "unsafe": "harmful"},
                    },
                    {"path": str(folder / PAIRS_NAME), "kind": "pairs", "limit": 8, "system": "Harmlessness first."},
                ],
                "teacher": endpoint,
                "held_out": 0.2,
            },
        },
        "dpo": {"pairs": {"prompts": 0}},
        "evaluate": {
            "suites": [
                {"kind": "xstest", "path": str(folder / XSTEST_NAME), "limit": 6},
                {"kind": "persona", "path": str(folder / "persona"), "limit": 6},
            ],
        },
    }  # fmt: skip
    path, work = tmp_path / "dry-run.yaml", tmp_path / "work"
    path.write_text(yaml.safe_dump(recipe))
    command = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
    with running(command, url, tmp_path / "server.log"):
        assert main(["run", str(path), "--work", str(work)]) == 0
    report = json.loads((work / "build-data" / "record.json").read_text())["metrics"]
    usage = report["annotation"]["usage"]
    assert usage["teacher"]["requests"] == 16
    assert usage["annotator"]["completion_tokens"] > 0
    assert (
        report["annotation"]["counts"].get("unreadable verdicts", 0) == 0
    )  # the server makes it keep to the schema
    learned = read_conversations(work / "build-data" / "sft.jsonl")
    preferred = read_pairs(work / "pairs" / "pairs.jsonl")
    assert len(learned) + len(preferred) >= 24
    assert len(preferred) >= 8
    assert not {question_of(row) for row in learned} & {question_of(row) for row in preferred}
    assert list(read_rows(work / "build-data" / "eval.jsonl"))
    assert verify_checkpoint(work / "checkpoint") is not None
    page = (work / "evaluate" / "report.html").read_text()
    assert all(f'<img alt="{title}"' in page for title in ("Suites", "xstest", "persona", "Loss of sft"))
    assert "xstest: unsafe prompts refused" in page
    assert "persona: " in page
