"""Teachers and judges: batches, retries, cost, journal, and every way in which an endpoint fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaalign_training.errors import DataError, EndpointError
from metaalign_training.inference.chat import ChatRequest
from metaalign_training.inference.endpoint import open_endpoint
from metaalign_training.inference.judge import DEFAULT_RUBRIC, Judge
from metaalign_training.inference.remote import problem_of
from metaalign_training.messages import Message
from metaalign_training.recipe import EndpointConfig
from tests.training.endpoints import Page, fake_teacher


def ask(text: str, **options: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], **options)


def config(url: str, **changes: Any) -> EndpointConfig:
    return EndpointConfig(base_url=url, model="m", retries=0, timeout=5, **changes)


def echo(body: dict[str, Any]) -> str:
    return f"You said {body['messages'][-1]['content']}"


def test_answers_come_in_order_with_their_cost(tmp_path: Path) -> None:
    with fake_teacher(echo) as teacher:
        endpoint = open_endpoint(config(teacher.url, input_price=1.0, output_price=4.0), tmp_path / "j.jsonl")
        texts = [str(n) for n in range(40)]
        assert endpoint.complete([ask(t) for t in texts], "test") == [f"You said {t}" for t in texts]
        assert (endpoint.usage.requests, endpoint.usage.prompt_tokens) == (40, 400)
        assert endpoint.usage.completion_tokens == 200
        assert endpoint.usage.cost == pytest.approx((400 * 1 + 200 * 4) / 1e6)


def test_the_journal_answers_what_was_answered(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    with fake_teacher(echo) as teacher:
        open_endpoint(config(teacher.url), journal).complete([ask("a"), ask("b")], "test")
        again = open_endpoint(config(teacher.url), journal)
        assert again.complete([ask("b"), ask("c"), ask("b", seed=1)], "test")[0] == "You said b"
        assert (again.usage.requests, again.usage.reused) == (2, 1)
        assert len(teacher.bodies) == 4


def test_a_half_written_journal_loses_one_answer_at_most(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    with fake_teacher(echo) as teacher:
        open_endpoint(config(teacher.url), journal).complete([ask("a"), ask("b")], "test")
        raw = journal.read_bytes()
        journal.write_bytes(raw[:-5])
        again = open_endpoint(config(teacher.url), journal)
        again.complete([ask("a"), ask("b")], "test")
        assert (again.usage.requests, again.usage.reused) == (1, 1)
    assert len(journal.read_text().splitlines()) == 2
    journal.write_text("nonsense\n" + journal.read_text())
    with pytest.raises(DataError, match=r"j\.jsonl:1"):
        open_endpoint(config(teacher.url), journal)


def test_an_answer_may_hold_any_character(tmp_path: Path) -> None:
    """Unicode line separators do not end a line in JSONL."""
    journal, text = tmp_path / "j.jsonl", "one\u2028two\x85three\x1e"
    with fake_teacher(lambda _: text) as teacher:
        assert open_endpoint(config(teacher.url), journal).complete([ask("a")], "test") == [text]
        assert open_endpoint(config(teacher.url), journal).complete([ask("a")], "test") == [text]
    assert len(teacher.bodies) == 1


def test_a_full_disk_is_not_blamed_on_the_endpoint(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    with fake_teacher(echo) as teacher:
        endpoint = open_endpoint(config(teacher.url), journal)
        journal.symlink_to("/dev/full")  # not before: reading it would never end
        with pytest.raises(OSError, match="No space left"):
            endpoint.complete([ask("a")], "test")


def test_an_endpoint_that_dies_midway_keeps_what_it_answered(tmp_path: Path) -> None:
    journal, count = tmp_path / "j.jsonl", 0

    def dying(body: dict[str, Any]) -> str | int:
        nonlocal count
        count += 1
        return echo(body) if count <= 12 else 500

    requests = [ask(str(n)) for n in range(30)]
    with fake_teacher(dying) as teacher:
        endpoint = open_endpoint(config(teacher.url, concurrency=2), journal)
        with pytest.raises(EndpointError, match="12 of 30 answers are kept; run the same command again"):
            endpoint.complete(requests, "test")
    with pytest.raises(EndpointError, match="check that it is up"):  # now nothing listens there
        open_endpoint(config(teacher.url), journal).complete(requests, "test")
    with fake_teacher(echo) as teacher:
        again = open_endpoint(config(teacher.url), journal)
        assert again.complete(requests, "test") == [f"You said {n}" for n in range(30)]
        assert (again.usage.requests, again.usage.reused) == (18, 12)


def test_overload_is_tried_again() -> None:
    count = 0

    def busy(body: dict[str, Any]) -> str | int:
        nonlocal count
        count += 1
        return 503 if count == 1 else echo(body)

    with fake_teacher(busy) as teacher:
        settings = EndpointConfig(base_url=teacher.url, model="m", retries=3)
        assert open_endpoint(settings).complete([ask("a")], "test") == ["You said a"]
    assert count == 2


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "METAALIGN_API_KEY"), (404, "base_url"), (400, "structured: false")],
)
def test_errors_name_the_remedy(status: int, remedy: str) -> None:
    with (
        fake_teacher(lambda _: status) as teacher,
        pytest.raises(EndpointError, match=rf"(?s)status {status}.*{remedy}"),
    ):
        open_endpoint(config(teacher.url)).complete([ask("a")], "test")


def test_a_schema_is_sent_unless_switched_off() -> None:
    schema = {"type": "object"}
    with fake_teacher(echo) as teacher:
        open_endpoint(config(teacher.url)).complete([ask("a", schema=schema)], "test")
        open_endpoint(config(teacher.url, structured=False)).complete([ask("b", schema=schema)], "test")
    assert teacher.bodies[0]["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in teacher.bodies[1]


HI: list[Message] = [{"role": "user", "content": "Hi"}]
CASE = (HI, "good answer", "bad answer", "kindness")


def verdict(text: str) -> Any:
    """A judge that prefers the answer containing `text`, in either position."""

    def judge(body: dict[str, Any]) -> str:
        _, first, second = body["messages"][-1]["content"].split("[Answer ")
        return json.dumps({"better": "1" if text in first else "2" if text in second else "tie"})

    return judge


@pytest.mark.parametrize(("preferred", "expected"), [("good", "first"), ("bad", "second"), ("none", "tie")])
def test_a_judge_finds_the_better_answer(preferred: str, expected: str) -> None:
    with fake_teacher(verdict(preferred)) as teacher:
        assert Judge(open_endpoint(config(teacher.url))).compare_all([CASE]) == [expected]


def test_a_judge_who_always_takes_the_first_says_nothing() -> None:
    with fake_teacher(lambda _: '{"better": "1"}') as teacher:
        judge = Judge(open_endpoint(config(teacher.url)))
        assert judge.compare_all([CASE]) == ["tie"]
        assert judge.unreadable == 0


def test_a_judge_who_babbles_is_counted() -> None:
    with fake_teacher(lambda _: "Well, 1 or 2, who knows") as teacher:
        judge = Judge(open_endpoint(config(teacher.url)))
        assert judge.compare_all([CASE]) == ["tie"]
        assert judge.rate_all([(HI, "good answer", DEFAULT_RUBRIC)]) == [3]
        assert judge.unreadable == 3


@pytest.mark.parametrize("reply", ['{"rating": 4}', 'Rating: {"rating": 4}', "4"])
def test_ratings_are_read(reply: str) -> None:
    with fake_teacher(lambda _: reply) as teacher:
        assert Judge(open_endpoint(config(teacher.url))).rate_all([(HI, "x", DEFAULT_RUBRIC)]) == [4]


def test_a_judge_may_reason_before_its_verdict() -> None:
    """Reasoning has room, and objects in it are not the verdict."""
    thoughts = 'First I thought {"rating": 2} or 1. </think>Now: {"rating": 5}'
    with fake_teacher(lambda _: f"<think>{thoughts}") as teacher:
        judge = Judge(open_endpoint(config(teacher.url, max_tokens=2000)))
        assert judge.rate_all([(HI, "x", DEFAULT_RUBRIC)]) == [5]
        assert teacher.bodies[0]["max_tokens"] == 2000
    with fake_teacher(lambda _: 'It breaks {rules}, so 1 seems low. {"rating": 2}') as teacher:
        assert Judge(open_endpoint(config(teacher.url))).rate_all([(HI, "x", DEFAULT_RUBRIC)]) == [2]


@pytest.mark.parametrize(
    ("reply", "holds", "unreadable"),
    [
        ('{"holds": true}', True, 0),
        ('{"holds": false}', False, 0),
        ("<think>true?</think> false", False, 0),
        ("True.", True, 0),
        ("Who knows?", False, 1),
    ],
)
def test_a_judge_says_whether_a_statement_holds(reply: str, holds: bool, unreadable: int) -> None:
    with fake_teacher(lambda _: reply) as teacher:
        judge = Judge(open_endpoint(config(teacher.url)))
        assert judge.check_all([(HI, "x", "It is kind.")]) == [holds]
        assert judge.unreadable == unreadable
        assert "The statement: It is kind." in teacher.bodies[0]["messages"][0]["content"]


LOGIN = Page("<!doctype html><title>Sign in</title>")


@pytest.mark.parametrize(
    "page",
    [
        LOGIN,
        Page("", "text/plain"),
        Page("<!doctype html>", "application/json"),
        Page("", "application/json"),
        Page("[]", "application/json"),
        Page("null", "application/json"),
        Page("{}", "application/json"),
        Page('{"choices": []}', "application/json"),
        Page('{"choices": [{"message": null}]}', "application/json"),
        Page('{"choices": [{"index": 0}]}', "application/json"),
        Page('{"object": "error", "message": "no such model"}', "application/json"),
    ],
)
def test_a_page_with_status_200_is_one_line_with_the_remedy(page: Page, tmp_path: Path) -> None:
    """What answers is a proxy's login page, a health check, or another API; nothing is kept of it."""
    journal = tmp_path / "j.jsonl"
    with fake_teacher(lambda body: page if body["messages"][-1]["content"] == "b" else "fine") as teacher:
        endpoint = open_endpoint(config(teacher.url, concurrency=1), journal)
        with pytest.raises(EndpointError) as caught:
            endpoint.complete([ask("a"), ask("b"), ask("c")], "test")
    message = str(caught.value)
    assert "\n" not in message
    assert "check `base_url` (it ends in /v1) and `model`" in message
    assert "1 of 3 answers are kept" in message
    assert len(journal.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        (("m",), None),
        ((), None),
        (404, None),
        (405, None),
        (("openai/*",), None),
        (("mm", "n"), "has no model 'm'; did you mean 'mm'? (there are: mm, n)"),
        (401, "put a valid key into $METAALIGN_API_KEY"),
        (403, "put a valid key into $METAALIGN_API_KEY"),
        (503, "check that it is up"),
        (LOGIN, "lists no models but something else; check `base_url`"),
        (Page("<html>", "application/json"), "check `base_url`"),
        (Page("[]", "application/json"), "check `base_url`"),
        (Page('{"status": "ok"}', "application/json"), "check `base_url`"),
    ],
)
def test_an_endpoint_is_looked_at_before_it_is_needed(models: Any, problem: str | None) -> None:
    with fake_teacher(echo, models) as teacher:
        found = problem_of(config(teacher.url))
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert problem in found


def test_an_endpoint_that_is_not_there_is_known_in_seconds() -> None:
    found = problem_of(config("http://127.0.0.1:9/v1"))
    assert found is not None
    assert "check that it is up" in found
