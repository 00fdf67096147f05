"""What runs the blocks of pages notices what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.snippets import Block, Session, agrees, open_session, shown_json
from tests.security.world import World


@pytest.fixture
def session(world: World, tmp_path: Path) -> Iterator[Session]:
    with open_session(tmp_path, world.server.url, "sqlite:///unused.db", world.keys["operator"]) as opened:
        yield opened


def shows(language: str, text: str, output: str, output_language: str = "") -> Block:
    return Block("page.md", 1, language, text, output, output_language)


def test_shell_and_interpreter_remember(session: Session) -> None:
    session.run("bash", "export NAME=Ada; A=1; cd /")
    session.check(shows("bash", 'echo "$NAME $A $PWD"', "Ada 1 /\n"))
    session.check(shows("python", "import os\nname = os.environ['NAME']\nprint(name)", "Ada\n"))
    session.check(shows("python", "print(name, end='')", "Ada"))


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("bash", "echo before; false; echo after", "it printed: before"),
        ("bash", "echo $NOT_SET", "NOT_SET"),
        ("python", "1 / 0", "ZeroDivisionError"),
        ("bash", "curl http://127.0.0.1:8000/v1/profiles/none", "profile_not_found"),
    ],
)
def test_what_fails_is_a_failure(session: Session, language: str, text: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        session.run(language, text)


def test_another_output_is_a_failure(session: Session) -> None:
    session.check(shows("bash", "echo one; echo two", "one\ntwo\n"))
    with pytest.raises(AssertionError):
        session.check(shows("bash", "echo one; echo two", "one\n"))
    session.check(shows("bash", """echo '{"a": [1], "b": 2}'""", '{"a": [1], …}', "json"))
    with pytest.raises(AssertionError):
        session.check(shows("bash", """echo '{"a": [1], "b": 2}'""", '{"a": [2], …}', "json"))


def test_json_that_is_shown_in_part() -> None:
    shown = shown_json('{"id": "2ebc…", "list": [{"a": 1, …}], …}')
    assert agrees(shown, {"id": "2ebcdc", "list": [{"a": 1, "b": 2}], "more": None})
    others: list[object] = [{"id": "1", "list": [{"a": 1}]}, {"id": "2ebc"}, {"id": "2ebc", "list": []}, []]
    for real in others:
        assert not agrees(shown, real)
