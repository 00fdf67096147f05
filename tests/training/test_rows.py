"""Files of rows: errors name file and line, and no file is left half-written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from metaalign_training.choosing import mix
from metaalign_training.errors import DataError
from metaalign_training.messages import Message, view
from metaalign_training.recipe import SourceConfig
from metaalign_training.rows import Conversation, read_conversations, read_pairs, write_rows
from metaalign_training.stages.data.sources import parse_dialogue, read_instructions, read_pair_source

USER: Message = {"role": "user", "content": "Hello"}
ANSWER: Message = {"role": "assistant", "content": "Hi."}
OTHER: Message = {"role": "assistant", "content": "Go away."}
GOOD: Conversation = {"messages": [USER, ANSWER]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def call(**changes: object) -> dict[str, object]:
    function = {"name": "look", "arguments": {}} | changes
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "`messages` must be"),
        (json.dumps({"messages": []}), "non-empty"),
        (json.dumps({"messages": [{"role": "robot", "content": "x"}]}), r"messages\[0\].role"),
        (json.dumps({"messages": [USER, {"role": "assistant", "content": 3}]}), r"messages\[1\].content"),
        (json.dumps({"messages": [USER]}), "role assistant"),
        (json.dumps({"messages": [USER, {"role": "assistant", "content": " "}]}), "nothing to learn"),
        (json.dumps(GOOD | {"chat_template_kwargs": {"chat_template": "x"}}), "chat_template"),
        (json.dumps(GOOD | {"chat_template_kwargs": 3}), "chat_template_kwargs"),
        (json.dumps(GOOD | {"chat_template_kwargs": None}), "chat_template_kwargs.* must be an object"),
        (json.dumps(GOOD | {"chat_template_kwargs": {"tools": []}}), "chat_template_kwargs.tools"),
        (json.dumps(GOOD | {"tools": "[]"}), "tools.* must be a list"),
        (json.dumps(GOOD | {"tools": [{"name": "f"}]}), r"tools\[0\].* must be"),
        (json.dumps(GOOD | {"tools": [TOOL, {"function": {}}]}), r"tools\[1\].function.name"),
        (
            json.dumps(GOOD | {"tools": [{"function": {"name": "f", "parameters": "{}"}}]}),
            "function.parameters",
        ),
        (
            json.dumps(GOOD | {"tools": [{"function": {"name": "f", "description": 3}}]}),
            "function.description",
        ),
        (json.dumps({"messages": [USER, call(name="")]}), r"messages\[1\].tool_calls\[0\].function.name"),
        (json.dumps({"messages": [USER, call(arguments="{")]}), r"tool_calls\[0\].function.arguments"),
        (json.dumps({"messages": [USER, call(arguments=[1])]}), r"tool_calls\[0\].function.arguments"),
        (json.dumps({"messages": [USER, {"role": "assistant", "tool_calls": ["f"]}]}), r"tool_calls\[0\]"),
        (
            json.dumps({"messages": [USER, {"role": "assistant", "tool_calls": {}}]}),
            "tool_calls.* must be a list",
        ),
        (json.dumps({"messages": [USER | {"tool_calls": [1]}, ANSWER]}), "only the assistant calls tools"),
    ],
)
def test_a_bad_conversation_names_file_and_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl:3: .*{message}"):
        read_conversations(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "text", "chosen": [ANSWER], "rejected": [OTHER]}, "prompt"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [OTHER]}, "chosen"),
        ({"prompt": [USER], "chosen": [ANSWER]}, "rejected"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [ANSWER]}, "the same"),
        ({"prompt": [USER], "chosen": [call(), ANSWER], "rejected": [OTHER]}, "chosen.* one message"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER], "tools": {}}, "tools"),
    ],
)
def test_a_bad_pair_names_file_and_line(row: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf"pairs\.jsonl:1: .*{message}"):
        read_pairs(path)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="no conversation row"):
        read_conversations(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="no such file"):
        read_conversations(tmp_path / "missing.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"messages": []}\n' * 1000)[:40])
    with pytest.raises(DataError, match="cannot be read"):
        read_conversations(tmp_path / "cut.jsonl.gz")


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [GOOD])

    def broken() -> object:
        yield GOOD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(path, broken())  # type: ignore[arg-type]
    assert read_conversations(path) == [GOOD]


def test_tools_of_published_pairs_are_kept_and_checked(tmp_path: Path) -> None:
    pair = {"prompt": [USER], "chosen": [call()], "rejected": [OTHER], "tools": [TOOL]}
    write_rows(tmp_path / "pairs.jsonl", [pair])
    (kept,), unusable = read_pair_source(source(tmp_path / "pairs.jsonl", kind="pairs"), 0)
    assert (kept["tools"], unusable) == ([TOOL], 0)
    write_rows(tmp_path / "pairs.jsonl", [pair, pair | {"tools": "look"}])
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: `tools`"):
        read_pair_source(source(tmp_path / "pairs.jsonl", kind="pairs"), 0)


def test_a_mixture_draws_its_share(tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    write_rows(path, [GOOD | {"n": n} for n in range(10)])
    from metaalign_training.recipe import FileShare

    shares = [FileShare(path=str(path), share=0.3)]
    mixed = mix([GOOD], shares, read_conversations, seed=1)
    assert len(mixed) == 4
    assert mixed == mix([GOOD], shares, read_conversations, seed=1)


def test_views() -> None:
    messages: list[Message] = [{"role": r, "content": r} for r in ("system", "user_info", "user")]
    assert [m["role"] for m in view(messages, "full")] == ["system", "user_info", "user"]
    assert [m["role"] for m in view(messages, "system")] == ["system", "user"]
    assert [m["role"] for m in view(messages, "none")] == ["user"]


def source(path: Path, **fields: object) -> SourceConfig:
    return SourceConfig.model_validate({"path": str(path), **fields})


def test_instructions_of_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"q": "One?", "kind": "a"}, {"q": "Two, three?", "kind": "b"}]
    write_rows(tmp_path / "x.jsonl", rows)
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "x.csv").write_text('q,kind\nOne?,a\n"Two, three?",b\n')
    (tmp_path / "y.jsonl.gz").write_bytes(gzip.compress((tmp_path / "x.jsonl").read_bytes()))
    from datasets import Dataset

    Dataset.from_list(rows).to_parquet(str(tmp_path / "x.parquet"))
    for name in ("x.jsonl", "x.json", "x.csv", "y.jsonl.gz", "x.parquet"):
        read = read_instructions(
            source(
                tmp_path / name,
                text="q",
                part="priority",
                query_column="kind",
                query_values={"a": "harmful", "b": "any"},
            ),
            0,
        )
        assert [(i.text, i.query) for i in read] == [("One?", "harmful"), ("Two, three?", "any")], name
    both = read_instructions(source(tmp_path / "x.*", text="q", limit=3), 0)
    assert len(both) == 3


def test_a_hugging_face_data_set_from_disk(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_rows(folder / "train.jsonl", [{"q": "One?"}])
    config = SourceConfig(dataset=str(folder), text="q")
    assert [i.text for i in read_instructions(config, 0)] == ["One?"]
    with pytest.raises(DataError, match="cannot be loaded"):
        read_instructions(SourceConfig(dataset=str(folder), split="nope"), 0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"a": 1}\n', r"x\.jsonl:1: column `q` is missing .* a$"),
        ("x.csv", "q,r\nx,y\nx,y,z\n", r"x\.csv:3: .*more or fewer cells"),
        ("x.csv", "r\ny\n", r"x\.csv:2: column `q`"),
        ("x.json", "{}", "array of objects"),
        ("x.jsonl", "", "is empty"),
        ("x.txt", "hello", "unknown kind of file"),
    ],
)
def test_a_bad_source_names_file_line_and_remedy(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_instructions(source(tmp_path / name, text="q"), 0)


def test_a_path_that_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="relative to the recipe"):
        read_instructions(source(tmp_path / "*.jsonl"), 0)


def test_dialogues() -> None:
    assert parse_dialogue("\n\nHuman: Hi\n\nAssistant: Hello") == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    for text in ("Hi", "\n\nHuman: Hi", "x\n\nHuman: Hi\n\nAssistant: Hello", "\n\nAssistant: a\n\nHuman: b"):
        with pytest.raises(ValueError, match="turn"):
            parse_dialogue(text)


def test_pairs_of_dialogues(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: "
    rows: list[dict[str, Any]] = [
        {"chosen": start + "Hello", "rejected": start + "Go"},
        {"chosen": start + "Same", "rejected": start + "Same"},
        {"chosen": start + "Hello", "rejected": "\n\nHuman: Ho\n\nAssistant: Go"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
    ]
    write_rows(tmp_path / "p.jsonl", rows)
    read, unusable = read_pair_source(source(tmp_path / "p.jsonl", kind="pairs", system="Be kind."), 0)
    assert unusable == 2
    assert [r["chosen"][0]["content"] for r in read] == ["Hello", "Hi."]
    assert read[0]["prompt"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    write_rows(tmp_path / "q.jsonl", [{"chosen": "x"}])
    with pytest.raises(DataError, match=r"q\.jsonl:1: needs `chosen` and `rejected`"):
        read_pair_source(source(tmp_path / "q.jsonl", kind="pairs"), 0)
