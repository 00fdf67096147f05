"""`metaalign`, the command: a Meta-Prompt without a server, and one question to a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaalign.cli import main
from tests.server.conftest import Twin
from tests.server.twin import KEY


def test_render_needs_no_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["render", "--system", "Be kind.", "--user", "I am Ada."]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# System Info\n")
    assert printed.index("Be kind.") < printed.index("# User Info") < printed.index("I am Ada.")
    file = tmp_path / "preferences.json"
    file.write_text(
        '{"system": {"attributes": {"tone": "formal"}}, "user": {"attributes": {"tone": "pirate"}}}'
    )
    assert main(["render", "--preferences", str(file)]) == 0
    assert "user tone = 'pirate' lost to 'formal' (system:request)" in capsys.readouterr().out
    file.write_text("{")
    assert main(["render", "--preferences", str(file)]) == 1
    assert "not a readable JSON file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["render", "--preferences", "nothing.json"], "nothing.json"),
        (["render", "--preferences", "nothing.json", "--user", "x"], "leave out --system and --user"),
        (["ask", "Hi", "--url", "http://127.0.0.1:9"], "no MetaAlign server answers there"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("metaalign: ")
    assert part in said
    assert said.count("\n") == 1


def test_ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, twin: Twin) -> None:
    monkeypatch.setenv("METAALIGN_API_KEY", KEY)
    words = ["ask", "Tell me three things about the otter.", "--url", f"{twin.url}/v1"]
    assert main([*words, "--user", "bullets please", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["metaalign"]["applied"] is True
    assert main(words) == 0
    assert "otter" in capsys.readouterr().out.lower()
    monkeypatch.setenv("METAALIGN_API_KEY", "wrong")
    assert main(words) == 1
    assert "a valid key is needed" in capsys.readouterr().err
