"""The Python client at a server that fails on purpose: what is sent again and when, and what it says in the end."""

from __future__ import annotations

import importlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import httpx
import pytest

import blocking_client
import client_errors
import metaalign
from metaalign import (
    APIError,
    BlendPart,
    ConnectionFailed,
    MetaAlign,
    Preferences,
    SteeringApplied,
    StreamBroken,
    Strength,
    TimedOut,
)
from metaalign.cli import main
from metaalign.client import exchange, models
from metaalign.client.errors import (
    BY_CODE,
    BadRequestError,
    EngineFailed,
    InvalidRequest,
    RateLimitExceeded,
    ServerError,
    Unavailable,
)
from metaalign.errors import ERRORS
from metaalign.openai import extra, receipt
from tests.processes import ROOT

CLIENT = ROOT / "clients/python/metaalign/client"
ANSWER: dict[str, Any] = {
    "id": "1",
    "model": "m",
    "text": "t",
    "finish_reason": "stop",
    "metaalign": None,
    "usage": {},
}
PROFILE = {
    "name": "p", "latest": 1, "labels": {}, "archived": False, "learn": {"examples": 0, "scope": "user"}, "etag": "e",
    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
RECEIPT = {
    "applied": True, "spec_hash": "ab" * 32, "template": {"name": "metaalign", "version": "1", "sha256": "cd" * 32},
    "tokens": {"system_info": 1, "user_info": 0},
}  # fmt: skip


@dataclass
class Answers:
    """What a server answers, one after the other, and what it was sent."""

    told: list[tuple[int, dict[str, str], Any]]
    sent: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    url: str = ""
    clients: list[MetaAlign] = field(default_factory=list)

    def client(self, **options: Any) -> MetaAlign:
        """A client that is closed with the server."""
        self.clients.append(MetaAlign(self.url, **options))
        return self.clients[-1]


@contextmanager
def failing(*told: tuple[int, dict[str, str], Any]) -> Iterator[Answers]:
    """A server that gives each of these answers once. Status 0 ends the connection; bytes are sent as they are."""
    answers = Answers(list(told))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            self.rfile.read(length)
            answers.sent.append((self.path, dict(self.headers), time.monotonic()))
            status, headers, body = answers.told.pop(0)
            body, then = body if isinstance(body, tuple) else (body, None)
            if callable(body):
                body()
            if status == 0:
                self.close_connection = True
                return
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "transfer" not in headers:
                self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            if then is not None:
                then()
            self.close_connection = "transfer" in headers

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        for client in answers.clients:
            client.close()
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, names, {"error": {"message": "no", "type": "t", "param": None, "code": code}}


def test_a_full_server_is_asked_again_when_it_says() -> None:
    with failing(refusal(429, "rate_limit_exceeded", retry_after="1"), (200, {}, ANSWER)) as server:
        assert server.client().align("q").text == "t"
        first, second = server.sent
        assert 0.9 < second[2] - first[2] < 3


def test_a_wait_of_more_than_a_minute_is_the_callers() -> None:
    with failing(refusal(429, "rate_limit_exceeded", retry_after="61", x_request_id="r7")) as server:
        with pytest.raises(RateLimitExceeded) as full:
            server.client().align("q")
        assert (full.value.retry_after, full.value.request_id) == (61, "r7")
        assert "r7" in str(full.value)
        assert len(server.sent) == 1


def test_an_exhausted_budget_is_not_asked_again() -> None:
    with failing(refusal(429, "budget_exhausted", retry_after="1")) as server:
        with pytest.raises(APIError, match="no"):
            server.client().align("q")
        assert len(server.sent) == 1


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.01)
    with failing(*[refusal(503, "unavailable")] * 3) as server:
        with pytest.raises(Unavailable):
            server.client(max_retries=2).models()
        assert len(server.sent) == 3


def test_a_question_is_asked_again_if_the_connection_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection ends the work on the server."""
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.01)
    with failing((0, {}, None), (200, {}, ANSWER)) as server:
        assert server.client().align("q").text == "t"
        assert len(server.sent) == 2
    with (
        failing(*[(0, {}, None)] * 3) as server,
        pytest.raises(ConnectionFailed, match=r"the connection .* broke"),
    ):
        server.client().align("q")


@pytest.mark.parametrize(
    ("failure", "sent"),
    [
        ((0, {}, None), 1),
        (refusal(503, "store_unavailable"), 1),
        ((504, {}, b"<html>"), 1),
        (refusal(503, "overloaded"), 2),
        (refusal(429, "rate_limit_exceeded"), 2),
    ],
)
def test_a_key_is_made_once(
    monkeypatch: pytest.MonkeyPatch, failure: tuple[int, dict[str, str], Any], sent: int
) -> None:
    """Only what the server cannot have done is sent again: a second key would be one that nobody has."""
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.01)
    with failing(failure, failure) as server:
        with pytest.raises(metaalign.MetaAlignError):
            server.client(max_retries=1).admin.keys.create(["inference"])
        assert len(server.sent) == sent


@pytest.mark.parametrize("name", ["a/b", "../admin/keys", "a?b=c", "a b", "ä"])
def test_a_name_is_one_part_of_the_path(name: str) -> None:
    with failing((200, {}, PROFILE)) as server:
        server.client().profiles.get(name)
        assert server.sent[0][0] == f"/v1/profiles/{quote(name, safe='')}"


def test_what_makes_something_is_sent_again_under_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.01)
    with failing((0, {}, None), (201, {}, PROFILE)) as server:
        assert server.client().profiles.create("p", "Be brief.").name == "p"
        keys = {headers["idempotency-key"] for _, headers, _ in server.sent}
        assert len(server.sent) == 2
        assert len(keys) == 1


def slowly() -> None:
    time.sleep(0.6)


def test_a_slow_answer() -> None:
    with failing((0, {}, slowly)) as server:
        with pytest.raises(TimedOut) as slow:
            server.client(timeout=0.2).align("q")
        assert str(slow.value) == (
            f"{server.url} did not answer within 0.2 s: raise `timeout` (on the command line `--timeout`),"
            " or ask for less"
        )
        assert len(server.sent) == 1  # it may be at work on it still


def test_a_slow_answer_names_the_time_that_has_passed() -> None:
    """An HTTP client of one's own brings its own, and `timeout` says nothing then."""
    own = httpx.Client(timeout=httpx.Timeout(30, read=0.2))
    with (
        failing((0, {}, slowly)) as server,
        own,
        pytest.raises(TimedOut, match=r"did not answer within 0\.2 s: "),
    ):
        MetaAlign(server.url, timeout=600, http_client=own).align("q")


def test_a_server_that_cannot_be_reached_in_time() -> None:
    """A full queue of connections: nobody refuses, and nobody answers."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        with (
            MetaAlign(url, timeout=0.2, max_retries=0) as client,
            pytest.raises(ConnectionFailed, match=r"no server answers at .* within 0\.2 s: start one"),
        ):
            client.align("q")
        for each in waiting:
            each.close()


def test_a_stream_that_falls_silent() -> None:
    with (
        failing(streamed(event("a"), then=slowly)) as server,
        server.client(timeout=0.2).align_stream("q") as stream,
    ):
        with pytest.raises(StreamBroken) as silent:
            list(stream)
        assert str(silent.value) == (
            f"{server.url} sent nothing for 0.2 s in the middle of the answer: raise `timeout`"
            " (on the command line `--timeout`), or ask again"
        )
        assert silent.value.text == "a"


@pytest.mark.parametrize("words", [["--json"], []])
def test_a_slow_answer_on_the_command_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with failing((0, {}, slowly)) as server:
        assert main(["ask", "q", "--url", server.url, "--timeout", "0.2", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"metaalign: {server.url} did not answer within 0.2 s: raise `timeout` (on the command line `--timeout`),"
        " or ask for less.\n"
    )


def test_a_stream_that_falls_silent_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What had come stays, and what is wrong begins on a line of its own."""
    with failing(streamed(event("a"), then=slowly)) as server:
        assert main(["ask", "q", "--url", server.url, "--timeout", "0.2"]) == 1
    out, err = capsys.readouterr()
    assert out == "a\n"
    assert err.startswith(
        f"metaalign: {server.url} sent nothing for 0.2 s in the middle of the answer: raise "
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e300", "soon"])
def test_a_time_that_nobody_can_wait(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["ask", "q", f"--timeout={seconds}"])
    assert wrong.value.code == 2
    assert f"argument --timeout: {seconds}: write seconds, such as 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strength", "5"], "--strength 5: write a number from 0 to 4, such as 1.5, or one for each tier"),
        (["--strength=-1"], "--strength -1: write a number from 0 to 4"),
        (["--strength", "nan"], "--strength nan: write a number from 0 to 4"),
        (["--strength", "much"], "--strength much: write a number from 0 to 4"),
        (["--strength", "system=1,reader=2"], "--strength system=1,reader=2: write a number from 0 to 4"),
        (["--strength", "user=1,user=2"], "--strength user=1,user=2: write a number from 0 to 4"),
        (["--strength", "user="], "--strength user=: write a number from 0 to 4"),
        (["--blend", "formal"], "--blend formal: write a profile and its weight, such as formal=0.7, or"),
        (["--blend", "tone==1"], "--blend tone==1: write a profile and its weight"),
        (["--blend", "system.tone=formal=1"], "--blend system.tone=formal=1: write a profile and its weight"),
        (["--blend", "a=0", "--blend", "b=1"], "--blend a=0: write a profile and its weight"),
        (["--blend", "a=0.5", "--blend", "b=0.4"], "--blend: the weights must sum to 1, not 0.9"),
        (["--blend=a=0.2"] * 5, "--blend: mixes at most 4 parts, not 5; leave some out"),
        (["--blend", "format=sheets=1"], "--blend: `format` takes one of: plain, bullets"),
        (
            ["--blend", "a=1", "--strength", "2"],
            "--blend: a blend takes the place of the User tier's strength",
        ),
        (["--candidates", "17"], "--candidates 17: write a whole number from 1 to 16, such as 4"),
        (["--candidates", "two"], "--candidates two: write a whole number from 1 to 16"),
        (["--candidates", "4"], "--temperature 0 makes all 4 candidates the same: give one above it"),
        (["--strength", "2", "--preferences", "a.json"], "leave out the other options"),
    ],
)
def test_what_cannot_be_steered_is_said_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with failing() as server:
        assert main(["ask", "q", "--url", server.url, *words]) == 1
        assert server.sent == []
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("metaalign: ")
    assert said in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/strength 5", "/strength 5: write a number from 0 to 4"),
        ("/blend formal", "/blend formal: write a profile and its weight"),
        ("/blend 'a=1", "/blend 'a=1: a quotation mark has no other one; add it"),
        ("/candidates 0", "/candidates 0: write a whole number from 1 to 16"),
        ("/candidates 4", "--temperature 0 makes all 4 candidates the same"),
        ("/strength 2\n/blend a=1", "/blend: a blend takes the place of the User tier's strength"),
        ("/blend a=1\n/strength 2", "/strength: a blend takes the place of the User tier's strength"),
    ],
)
def test_what_a_talk_cannot_be_steered_by(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n/show\n"))
    with failing() as server:
        assert main(["chat", "--url", server.url]) == 1
        assert server.sent == []
    refused, shown = capsys.readouterr().err.splitlines()
    assert refused.startswith(f"metaalign: {said}")
    # What was refused changed nothing.
    kept = line.splitlines()[:-1]
    assert (
        shown
        == {
            (): "preferences: none",
            ("/strength 2",): "preferences: {'strength': 2.0}",
            ("/blend a=1",): "preferences: {'blend': [{'profile': 'a', 'weight': 1.0}]}",
        }[tuple(kept)]
    )


STEERED = RECEIPT | {
    "steering": {"strength": {"system": 1.2, "user": 2.0}, "branches": 3, "candidates": 4, "score": 0.21349}
}


def test_a_receipt_on_the_command_line_says_how_an_answer_was_steered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(receipt: dict[str, Any]) -> list[str]:
        whole = streamed(event("a", metaalign=receipt), event(None, "stop"), b"data: [DONE]\n\n")
        with failing(whole) as server:
            assert main(["ask", "q", "--url", server.url, "--receipt"]) == 0
        return capsys.readouterr().err.splitlines()

    assert told(STEERED) == [
        "applied abababababab: 1 tokens of System Info, 0 of User Info",
        "steering: strength system=1.2,user=2; branches 3; candidates 4; score 0.213",
    ]
    assert told(RECEIPT) == ["applied abababababab: 1 tokens of System Info, 0 of User Info"]
    blended = {"strength": {"system": 1.0, "user": 1.0}, "branches": 2, "blend": [0.7, 0.3]}
    assert told(RECEIPT | {"applied": False, "steering": blended}) == [
        "no preference was applied",
        "steering: strength system=1,user=1; branches 2; blend 0.7+0.3",
    ]


def test_a_proxy_that_answers_with_a_page() -> None:
    with failing((502, {"content-type": "text/html"}, b"<html>bad gateway</html>")) as server:
        with pytest.raises(ServerError, match="answered 502, and not as a MetaAlign server does") as page:
            server.client(max_retries=0).models()
        assert page.value.status == 502


def event(content: str | None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    chunk = {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def streamed(*events: bytes, then: Callable[[], None] | None = None) -> tuple[int, dict[str, str], Any]:
    """A stream of these events; before its connection ends, `then` runs."""
    headers = {"content-type": "text/event-stream", "transfer": "close"}
    return 200, headers, b"".join(events) if then is None else (b"".join(events), then)


def test_a_stream() -> None:
    whole = streamed(
        event("a", metaalign=RECEIPT), b": ping\n\n", event("b"), event(None, "stop"), b"data: [DONE]\n\n"
    )
    with failing(whole) as server, server.client().align_stream("q") as stream:
        assert list(stream) == ["a", "b"]
        assert (stream.text, stream.finish_reason, stream.id) == ("ab", "stop", "c1")
        assert stream.receipt is not None


@pytest.mark.parametrize("end", [b"", event(None, "stop"), b"data: {\n\n"])
def test_a_stream_that_breaks_keeps_what_had_come(end: bytes) -> None:
    with (
        failing(streamed(event("a"), event("b"), end)) as server,
        server.client().align_stream("q") as stream,
    ):
        with pytest.raises(StreamBroken, match="before the answer") as broken:
            list(stream)
        assert broken.value.text == "ab"


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("engine_failed", EngineFailed, 500),
        ("invalid_request", InvalidRequest, 400),
        ("something_new", ServerError, 500),
        (500, ServerError, 500),
        (400, BadRequestError, 400),
        (None, ServerError, 500),
    ],
)
def test_an_error_in_a_stream(code: str | int | None, kind: type[APIError], status: int) -> None:
    told = {"error": {"message": "the engine died", "type": "any", "param": "seed", "code": code}}
    with (
        failing(streamed(event("a"), f"data: {json.dumps(told)}\n\n".encode())) as server,
        server.client().align_stream("q") as stream,
        pytest.raises(kind, match="the engine died") as raised,
    ):
        list(stream)
    assert (raised.value.status, raised.value.param) == (status, "seed")
    assert type(raised.value) is kind


def test_an_error_before_a_stream_is_read_whole() -> None:
    with (
        failing(refusal(400, "invalid_preferences")) as server,
        pytest.raises(metaalign.InvalidPreferences),
        server.client().align_stream("q"),
    ):
        pass


def test_every_code_has_its_class_and_is_raised_as_it() -> None:
    served = [kind for kind in ERRORS.values() if kind.status is not None]
    assert set(BY_CODE) == {kind.code for kind in served}
    for kind in served:
        error = BY_CODE[kind.code]("m", status=kind.status or 0)
        assert (error.code, error.remedy) == (kind.code, kind.remedy)
        offline = getattr(metaalign, type(error).__name__, None)
        assert offline is None or isinstance(error, offline)


def test_a_code_that_a_newer_server_has() -> None:
    with failing(refusal(409, "something_new")) as server, pytest.raises(APIError) as new:
        server.client().models()
    assert (new.value.code, new.value.status, new.value.remedy) == ("something_new", 409, "")


def test_generated_modules_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in (CLIENT / "blocking").glob("*.py")}
    assert written == blocking_client.modules(), "run `make generated`"
    assert (CLIENT / "errors.py").read_text() == blocking_client.formatted(client_errors.text()), (
        "run `make generated`"
    )


SCHEMAS = {
    "Profile": "ProfileModel", "ProfileVersion": "VersionModel", "Label": "LabelModel", "LabelTarget": "TargetModel",
    "Learning": "LearnModel", "ProfileDiff": "DiffModel", "Change": "ChangeModel", "FeedbackStored": "FeedbackModel",
    "Erasure": "ErasureModel", "Key": "KeyModel", "NewKey": "NewKeyModel", "Tenant": "TenantModel",
    "State": "StateModel", "ServerVersion": "VersionsModel", "Tokens": "TokenizeAnswer",
}  # fmt: skip
"""Class of the client -> schema of the server, where they are called differently."""
PART_OF_IT = {"ChatAnswer", "ChatChoice", "ChatMessage", "ModelList"}
"""vLLM's own, of which the client names what it uses."""


@pytest.mark.parametrize("name", [name for name in models.__all__ if name != "Page"])
def test_the_client_knows_what_the_server_answers(name: str) -> None:
    document = json.loads(Path(ROOT / "clients/openapi.json").read_text())["components"]["schemas"]
    schema = getattr(models, name).model_json_schema(by_alias=True)
    if name in ("ChatChoice", "ChatMessage"):
        name = {"ChatChoice": "ChatCompletionResponseChoice", "ChatMessage": "ChatMessage"}[name]
    theirs = document[SCHEMAS.get(name, name)]
    fields = set(theirs["properties"])
    if getattr(models, name, None) is None or name in PART_OF_IT:
        assert set(schema["properties"]) <= fields
        return
    assert set(schema["properties"]) == fields
    assert set(schema.get("required", ())) <= set(theirs.get("required", fields)) | fields


def test_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAALIGN_BASE_URL", "http://there:1/v1/")
    monkeypatch.setenv("METAALIGN_API_KEY", "k")
    with MetaAlign() as there, MetaAlign("http://here") as here:
        assert (there.settings.base_url, there.settings.api_key) == ("http://there:1", "k")
        assert here.settings.base_url == "http://here"


class Kept:
    """Stands for an object of another project's client."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes


HEADERS = metaalign.Receipt.model_validate(RECEIPT).headers()


@pytest.mark.parametrize(
    "answer",
    [
        {"metaalign": RECEIPT},
        Kept(model_extra={"metaalign": RECEIPT}),
        Kept(metaalign=metaalign.Receipt.model_validate(RECEIPT)),
        Kept(system_fingerprint="vllm-1-maabababababab", model_extra={"metaalign": RECEIPT}),
    ],
)
def test_a_receipt_in_the_body(answer: object) -> None:
    assert isinstance(found := receipt(answer), metaalign.Receipt)
    assert found.spec_hash == RECEIPT["spec_hash"]


@pytest.mark.parametrize(
    "answer",
    [
        Kept(headers=HEADERS),
        Kept(response_metadata={"headers": HEADERS, "system_fingerprint": "vllm-1-maabababababab"}),
        Kept(_hidden_params={"additional_headers": {f"llm_provider-{n}": v for n, v in HEADERS.items()}}),
    ],
)
def test_a_receipt_in_headers(answer: object) -> None:
    found = receipt(answer)
    assert found is not None
    assert not isinstance(found, metaalign.Receipt)
    assert (found.spec_hash, found.applied, found.overridden) == (RECEIPT["spec_hash"], True, 0)


def test_a_receipt_in_the_fingerprint_or_nowhere() -> None:
    found = receipt(Kept(response_metadata={"system_fingerprint": "vllm-1-maabababababab"}))
    assert found is not None
    assert found.spec_hash == "abababababab"
    assert receipt(Kept(system_fingerprint="vllm-1")) is None
    assert receipt("text") is None
    assert extra("Be brief.") == {"extra_body": {"preferences": "Be brief."}}


ADAPTERS = ["anthropic", "langchain", "litellm", "openai", "pydantic_ai"]


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    "preferences",
    [
        {"strength": {"user": 2.0}, "blend": [{"weight": 1.0, "profile": "formal"}], "candidates": 4},
        Preferences(strength=Strength(user=2), blend=(BlendPart(weight=1, profile="formal"),), candidates=4),
    ],
    ids=["mapping", "model"],
)
def test_steering_through_other_projects_clients(name: str, preferences: Any) -> None:
    adapter = importlib.import_module(f"metaalign.{name}")
    assert adapter.extra(preferences) == {
        "extra_body": {
            "preferences": {
                "strength": {"user": 2.0},
                "blend": [{"weight": 1.0, "profile": "formal"}],
                "candidates": 4,
            }
        }
    }
    # In the body the receipt is whole; headers and a fingerprint do not tell.
    whole = adapter.receipt(Kept(model_extra={"metaalign": STEERED}))
    assert isinstance(whole.steering, SteeringApplied)
    assert whole.steering.strength.user == 2
    assert (whole.steering.branches, whole.steering.candidates, whole.steering.score) == (3, 4, 0.21349)
    assert adapter.receipt(Kept(headers=HEADERS)).steering is None
    assert adapter.receipt(Kept(system_fingerprint="vllm-1-maabababababab")).steering is None
