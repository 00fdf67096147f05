"""`metaalign`, the command, at the real server and without one."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from metaalign import MetaAlign
from metaalign.cli import main
from metaalign.intervals import wilson
from tests.processes import environment, free_port
from tests.server.conftest import Twin
from tests.server.twin import KEY, USER_KEY

OTTER = "Tell me three things about the otter."
PIRATE = "Ahoy! The otter lives in rivers. The otter eats fish. The otter uses stones as tools. Arr, matey!"
BULLETS = "- The otter lives in rivers.\n- The otter eats fish.\n- The otter uses stones as tools."


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch, twin: Twin) -> None:
    monkeypatch.setenv("METAALIGN_BASE_URL", twin.url)
    monkeypatch.setenv("METAALIGN_API_KEY", KEY)


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints, if it ends with this code."""
    capsys.readouterr()
    assert main(words) == code, capsys.readouterr().err
    return capsys.readouterr().out


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line in which a command says what is wrong."""
    capsys.readouterr()
    assert main(words) == 1
    line = capsys.readouterr().err
    assert line.startswith("metaalign: ")
    assert line.count("\n") == 1
    return line


def test_render_needs_no_server(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAALIGN_BASE_URL", f"http://127.0.0.1:{free_port()}")
    text = printed(capsys, "render", "--system", "Be kind.", "--user", "I am Ada.")
    assert text.startswith("# System Info\n")
    assert text.index("Be kind.") < text.index("# User Info") < text.index("I am Ada.")
    file = tmp_path / "preferences.json"
    file.write_text(
        '{"system": {"attributes": {"tone": "formal"}}, "user": {"attributes": {"tone": "pirate"}}}'
    )
    text = printed(capsys, "render", "--preferences", str(file))
    assert "user tone = 'pirate' lost to 'formal' (system:request)" in text
    assert json.loads(printed(capsys, "render", "--prefer", "format=bullets", "--json"))["user_info"]


def test_render_by_a_server_names_profiles_too(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    printed(capsys, "profiles", "create", name, "--system", "Answer like a pirate.")
    assert "Answer like a pirate." in printed(capsys, "render", "--profile", name)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["render", "--preferences", "nothing.json"], "nothing.json: not a readable JSON file"),
        (["render", "--preferences", "nothing.json", "--user", "x"], "leave out the other options"),
        (["render", "--prefer", "bullets"], "bullets: write NAME=VALUE"),
        (["ask", "Hi", "--url", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9: start one"),
        (["ask", "Hi", "--key", "wrong"], "Send `Authorization: Bearer KEY`"),
        (["ask", "Hi", "--prefer", "format=sheets"], "takes one of: plain, bullets"),
        (["compare", "Hi", "nothing.yaml"], "nothing.yaml: no such file"),
        (["profiles", "show", "nobody-knows-it"], "nobody-knows-it"),
        (["profiles", "create", "empty"], "give preferences"),
        (["profiles", "label", "x", "stable", "one"], "write a version, such as 3"),
        (["feedback", "nothing", "up"], "no exchange `nothing`. Give feedback within"),
        (["test", "nothing.json"], "nothing.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    assert part.lower() in said(capsys, *words).lower()


def test_ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.loads(printed(capsys, "ask", OTTER, "--prefer", "format=bullets", "--json"))
    assert answer["metaalign"]["applied"] is True
    assert answer["text"] == BULLETS
    assert printed(capsys, "ask", OTTER, "--system", "Answer like a pirate.") == f"{PIRATE}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(OTTER))
    assert main(["ask", "-", "--prefer", "system.tone=pirate", "--prefer", "tone=formal", "--receipt"]) == 0
    both = capsys.readouterr()
    assert both.out == f"{PIRATE}\n"
    assert "user tone = formal lost to pirate (system:request)" in both.err


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(capsys, "compare", OTTER, "-", "Answer like a pirate.", "format=bullets").splitlines()
    assert rows[0].split("\t") == ["preferences", "answer", "receipt"]
    assert [row.split("\t")[0] for row in rows[1:]] == ["-", "Answer like a pirate.", "format=bullets"]
    assert rows[2].split("\t")[1] == PIRATE
    assert len(json.loads(printed(capsys, "compare", OTTER, "-", "tone=pirate", "--json"))) == 2


def test_render_shows_how_it_would_be_steered(capsys: pytest.CaptureFixture[str]) -> None:
    """The same without a server as by one, which counts tokens, too."""
    tiers = ["--system", "Be kind.", "--prefer", "format=bullets"]
    words = ["render", *tiers, "--strength", "system=1.2,user=2"]
    told = printed(capsys, *words, "--candidates", "4")
    assert told.endswith(
        "\nsteering: strength system=1.2,user=2; branches 3; candidates 4\n\n"
        "branch\tcoefficient\nboth tiers\t2\nSystem only\t-0.8\nno tier\t-0.2\n"
    )
    by_server = ["--url", os.environ["METAALIGN_BASE_URL"]]
    counted = printed(capsys, *words, "--candidates", "4", *by_server)
    assert counted.startswith(told[: told.index("\nboth tiers")] + "\ttokens\n")
    shown = json.loads(printed(capsys, *words, "--json"))
    shown_by_server = json.loads(printed(capsys, *words, "--json", *by_server))
    assert [branch["coefficient"] for branch in shown["branches"]] == [2, -0.8, -0.2]
    tokens = [len(branch.pop("prompt_token_ids")) for branch in shown_by_server["branches"]]
    assert shown["branches"] == shown_by_server["branches"]
    lines = [line.split("\t") for line in counted.splitlines()[-3:]]
    assert ["\t".join(line[:2]) for line in lines] == told.splitlines()[-3:]
    assert [int(line[2]) for line in lines] == tokens
    assert tokens[0] > tokens[1] > 0


@pytest.mark.parametrize("by_server", [False, True])
def test_render_shows_what_a_strength_leaves(capsys: pytest.CaptureFixture[str], by_server: bool) -> None:
    words = ["render", "--prefer", "format=bullets"]
    words += ["--url", os.environ["METAALIGN_BASE_URL"]] if by_server else []
    none = printed(capsys, *words, "--system", "Be kind.", "--strength", "0")
    assert "Be kind." not in none  # no prompt with tiers takes part
    assert "steering: strength system=0,user=0; branches 1\n" in none
    assert none.splitlines()[-1].startswith("no tier\t1")
    assert json.loads(printed(capsys, *words, "--strength", "0", "--json"))["branches"] == []
    weak = printed(capsys, *words, "--strength", "0.4").splitlines()
    assert weak[-2].startswith("User only\t0.4")
    assert weak[-1].startswith("no tier\t0.6")
    assert "steering" not in printed(capsys, *words, "--strength", "1")


def test_render_shows_the_parts_of_a_blend(capsys: pytest.CaptureFixture[str]) -> None:
    """By weight, with the numbers that they were given in; a part of a profile takes a server."""
    parts = ["--blend", "tone=pirate=0.3", "--blend", "format=bullets=0.7"]
    told = printed(capsys, "render", "--system", "Be kind.", "--strength", "system=1.5", *parts)
    first, second = (told.index(f"# User Info, blend part {number}\n") for number in (2, 1))
    assert told.index("# System Info\nBe kind.\n") < first < second
    assert "bulleted" in told[first:second]
    assert "blend part 2\t0.7\nblend part 1\t0.3\nSystem only\t0.5\nno tier\t-0.5\n" in told
    # Both come to one prompt, and to the prompt without a User tier.
    same = printed(capsys, "render", "--blend", "tone=pirate=0.3", "--blend", "tone=pirate=0.7")
    assert same.endswith("\npart of the blend\t1\n")
    lost = printed(capsys, "render", "--prefer", "system.tone=casual", "--blend", "tone=pirate=1")
    assert "\nSystem only\t1\n" in lost
    name = f"cli-{uuid.uuid4().hex[:8]}"
    printed(capsys, "profiles", "create", name, "--prefer", "tone=formal")
    told = printed(capsys, "render", "--blend", f"{name}=0.7", "--blend", "tone=pirate=0.3")
    assert "branches 2; blend 0.7+0.3" in told
    assert re.search(r"^blend part 1\t0\.7\t\d+\nblend part 2\t0\.3\t\d+$", told, re.MULTILINE)


def test_an_answer_is_steered(capsys: pytest.CaptureFixture[str]) -> None:
    plain = printed(capsys, "ask", OTTER)
    assert plain != f"{BULLETS}\n"
    bullets = ["--prefer", "format=bullets"]
    # 0 is as if the tier were not there, and 1 as trained.
    assert printed(capsys, "ask", OTTER, *bullets, "--strength", "user=0") == plain
    assert printed(capsys, "ask", OTTER, *bullets, "--strength", "1") == f"{BULLETS}\n"
    # A blend of one part is that part.
    assert printed(capsys, "ask", OTTER, "--blend", "format=bullets=1") == f"{BULLETS}\n"
    answer = json.loads(printed(capsys, "ask", OTTER, *bullets, "--strength", "2", "--json"))
    assert answer["metaalign"]["steering"] == {"strength": {"system": 2, "user": 2}, "branches": 2}
    assert main(["ask", OTTER, *bullets, "--candidates", "3", "--temperature", "0.8", "--receipt"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"steering: strength system=1,user=1; branches 1; candidates 3; score -?\d+\.\d{3}", lines[1]
    )


def test_a_profile_holds_a_strength(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By options and by a file."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    printed(capsys, "profiles", "create", name, "--prefer", "format=bullets", "--strength", "user=0")
    file = tmp_path / "preferences.json"
    file.write_text('{"user": {"attributes": {"format": "bullets"}}, "strength": {"user": 1.5}}')
    printed(capsys, "profiles", "add", name, "--preferences", str(file))
    assert json.loads(printed(capsys, "profiles", "show", f"{name}:1"))["strength"] == {"user": 0}
    assert json.loads(printed(capsys, "profiles", "show", f"{name}:2"))["strength"] == {"user": 1.5}
    assert printed(capsys, "ask", OTTER, "--profile", f"{name}:1") == printed(capsys, "ask", OTTER)
    # A request's own replaces it.
    assert printed(capsys, "ask", OTTER, "--profile", name, "--strength", "1") == f"{BULLETS}\n"


def chat(twin: Twin, lines: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metaalign.cli", "chat", "--url", twin.url, *words],
        input="\n".join(lines) + "\n",
        env=environment({"METAALIGN_API_KEY": KEY}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_talk_in_which_preferences_change(twin: Twin) -> None:
    lines = [
        "What does an otter eat?", "/prefer format=bullets", "And where does it live?", "/prefer format=",
        "/system Answer like a pirate.", "What does a fox eat?", "/show", "/again", "/up", "/new", "/system", "/what",
        "What does a fox eat?", "/quit", "never asked",
    ]  # fmt: skip
    done = chat(twin, lines, "--as-user", "cli")
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert answers[0].startswith("The otter eats fish.")
    assert answers[1] == "- The otter lives in rivers."
    assert sum(answer.startswith("Ahoy!") for answer in answers) == 2
    assert answers[-1].startswith("The fox eats mice.")
    assert "tokens of System Info" in done.stderr
    assert "noted" in done.stderr
    assert "/profile NAME" in done.stderr  # what an unknown command gets


def test_a_talk_that_is_steered_in_the_middle(twin: Twin) -> None:
    lines = [
        "/prefer format=bullets", "/strength user=0", "What does an otter eat?", "/show", "/strength",
        "/again", "/show", "/blend tone=pirate=1", "/strength system=1.5", "/candidates 2", "/again", "/show",
        "/blend", "/candidates", "/strength", "/show", "/help",
    ]  # fmt: skip
    # So near to 0 that the likeliest tokens are drawn; at 0 candidates are refused.
    done = chat(twin, lines, "--temperature", "0.001")
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert answers[0].startswith("The otter eats fish.")
    assert answers[1] == "- The otter eats fish."
    assert answers.count("Ahoy!") == 1
    assert answers[-1] == "Arr, matey!"
    assert "steering: strength system=1,user=0; branches 1" in done.stderr
    steered = r"steering: strength system=1\.5,user=1; branches \d; blend 1; candidates 2; score -?\d+\.\d{3}"
    assert re.search(steered, done.stderr)
    shown = [line for line in done.stderr.splitlines() if line.startswith("preferences: ")]
    assert (
        shown[0] == "preferences: {'user': {'attributes': {'format': 'bullets'}}, 'strength': {'user': 0.0}}"
    )
    assert shown[1] == shown[3] == "preferences: {'user': {'attributes': {'format': 'bullets'}}}"
    for command in ("/strength NUMBER", "/blend PART=WEIGHT", "/candidates COUNT"):
        assert command in done.stderr


def test_a_talk_goes_on_after_an_error_and_a_script_learns_of_it(twin: Twin) -> None:
    done = chat(
        twin, ["/prefer format=sheets", "What does a fox eat?", "/prefer format=", "What does a fox eat?"]
    )
    assert done.returncode == 1
    assert "takes one of: plain, bullets" in done.stderr
    assert done.stdout.startswith("The fox eats mice.")
    assert "Traceback" not in done.stderr


def test_checks_are_the_gate_before_a_label_moves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    suite, report = tmp_path / "suite.yaml", tmp_path / "junit.xml"
    cases = [
        {
            "name": "pirates greet",
            "query": "What does a fox eat?",
            "preferences": "Answer like a pirate.",
            "contains": ["ahoy", "mice"],
        },
        {
            "query": OTTER,
            "preferences": {"user": {"attributes": {"format": "bullets"}}},
            "checks": True,
            "lacks": ["fox"],
        },
        {"query": OTTER, "checks": [{"name": "format", "arguments": {"value": "json"}}]},
    ]
    suite.write_text(yaml.safe_dump({"cases": cases}))
    rows = printed(capsys, "test", str(suite), "--junit", str(report), code=1).splitlines()
    assert [row.split("\t")[1] for row in rows[1:4]] == ["1 of 1", "1 of 1", "0 of 1"]
    assert "format: " in rows[3]
    assert rows[4].startswith("2 of 3 passed: 0.667 [")
    root = ElementTree.fromstring(report.read_bytes())  # noqa: S314 - our own
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    assert printed(capsys, "test", str(suite), "--least", "0.6")
    assert json.loads(printed(capsys, "test", str(suite), "--json", code=1))["cases"][2]["faults"]


def test_a_suite_may_be_steered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """For all cases and for one."""
    suite = tmp_path / "suite.yaml"
    bullets = {"user": {"attributes": {"format": "bullets"}}}
    cases = [
        {"query": OTTER, "checks": [{"name": "format", "arguments": {"value": "bullets"}}]},
        {"query": OTTER, "preferences": bullets | {"strength": {"user": 0}}, "lacks": ["- The"]},
    ]
    suite.write_text(yaml.safe_dump({"preferences": bullets | {"strength": 1.5}, "cases": cases}))
    rows = printed(capsys, "test", str(suite)).splitlines()
    assert [row.split("\t")[1] for row in rows[1:3]] == ["1 of 1", "1 of 1"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("cases: [{query: q}]", "a case that checks nothing cannot fail"),
        ("cases: [{contains: [a]}]", "give `query` or `messages`"),
        ("cases: [{query: q, contians: [a]}]", "suite.cases.0.contians"),
        ("cases: []", "suite.cases"),
        ("[", "neither JSON nor YAML"),
    ],
)
def test_a_suite_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, part: str
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(text)
    assert part in said(capsys, "test", str(suite)).replace("[", ".").replace("]", "")


def test_an_interval_is_wilsons() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_profiles(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert (
        printed(capsys, "profiles", "create", name, "--prefer", "format=bullets", "--note", "n")
        == f"{name}:1\n"
    )
    assert printed(capsys, "profiles", "add", name, "--system", "Answer like a pirate.") == f"{name}:2\n"
    assert printed(capsys, "profiles", "label", name, "stable", "1") == f"{name}@stable -> 1\n"
    assert printed(capsys, "ask", OTTER, "--profile", name) == f"{BULLETS}\n"
    assert (
        printed(capsys, "profiles", "label", name, "stable", "1=10", "2=90")
        == f"{name}@stable -> 1 (10), 2 (90)\n"
    )
    assert printed(capsys, "profiles", "rollback", name, "stable") == f"{name}@stable -> 1\n"
    assert "Answer like a pirate." in printed(capsys, "profiles", "diff", name, "1", "2")
    assert json.loads(printed(capsys, "profiles", "show", f"{name}@stable")) == {
        "user": {"attributes": {"format": "bullets"}}
    }
    assert "pirate" in printed(capsys, "profiles", "show", f"{name}:2")
    assert f"{name}\t2\tstable -> 1" in printed(capsys, "profiles", "list")
    file = tmp_path / "profiles.json"
    file.write_text(printed(capsys, "profiles", "export"))
    assert "unchanged" in printed(capsys, "profiles", "import", str(file))
    printed(capsys, "profiles", "delete", name)
    assert name not in printed(capsys, "profiles", "list")
    assert f"no profile `{name}`" in said(capsys, "profiles", "show", name)


def test_keys(capsys: pytest.CaptureFixture[str]) -> None:
    key = printed(capsys, "keys", "create", "--scopes", "inference", "--name", "cli").strip()
    public = key.split("_")[2]
    assert f"{public}\tdefault\tcli\tinference\tlive" in printed(capsys, "keys", "list")
    assert printed(capsys, "ask", "What does a fox eat?", "--key", key).startswith("The fox eats mice.")
    renewed = printed(capsys, "keys", "rotate", public, "--grace-seconds", "0").strip()
    assert "a valid key is needed" in said(capsys, "ask", "Hi", "--key", key)
    printed(capsys, "keys", "revoke", renewed.split("_")[2])
    assert "revoked" in printed(capsys, "keys", "list", "--tenant", "default")


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row.split("\t") for row in printed(capsys, "doctor").splitlines()[1:]]
    assert [(what, state) for what, state, _ in rows] == [
        ("this machine", "ok"), ("server", "ok"), ("version", "ok"), ("key and models", "ok"), ("preferences", "ok"),
    ]  # fmt: skip
    assert "FAILED\tno server answers" in printed(capsys, "doctor", "--url", "http://127.0.0.1:9", code=1)
    found = json.loads(printed(capsys, "doctor", "--key", "wrong", "--json", code=1))
    assert {one["what"] for one in found if not one["ok"]} >= {"key and models", "preferences"}
    printed(capsys, "doctor", "--key", USER_KEY)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["compare", OTTER, "-", "format=bullets"], "- The otter eats fish."),
        (["render", "--prefer", "format=bullets", "--strength", "2"], "│ User only │ 2           │"),
    ],
)
def test_a_table_is_drawn_on_a_terminal(twin: Twin, words: list[str], part: str) -> None:
    parent, child = pty.openpty()
    words = [*words, "--url", twin.url]
    command: Any = [sys.executable, "-m", "metaalign.cli", *words]
    env = environment({"METAALIGN_API_KEY": KEY, "COLUMNS": "100"})
    done = subprocess.run(command, stdout=child, stderr=subprocess.PIPE, env=env, timeout=60, check=False)
    os.close(child)
    shown = b""
    try:
        while read := os.read(parent, 65_536):
            shown += read
    except OSError:  # the terminal's end, as Linux tells it
        pass
    os.close(parent)
    assert done.returncode == 0, done.stderr
    assert "┃" in shown.decode()
    assert part in shown.decode()


def test_completion_and_other_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "compare" in printed(capsys, "completion", shell)
    script = (
        printed(capsys, "completion", "bash")
        + '\nCOMP_CWORD=1; _metaalign metaalign comp; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["compare", "completion"]
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, words: started.append(words))
    main(["serve", "--port", "1"])
    main(["train", "recipes"])
    assert started == [["metaalign-server", "serve", "--port", "1"], ["metaalign-train", "recipes"]]
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert "pip install 'metaalign[training]'" in said(capsys, "train", "recipes")


def saved(capsys: pytest.CaptureFixture[str], file: Path, *words: str) -> None:
    printed(capsys, "ask", OTTER, "--save", str(file), *words)


def test_a_saved_exchange_is_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Streamed, whole, and as another program writes it: the same ids and the same answer."""
    file = tmp_path / "kept.jsonl"
    saved(capsys, file, "--system", "Answer like a pirate.", "--prefer", "tone=formal")
    saved(capsys, file, "--json", "--prefer", "format=bullets")
    saved(capsys, file)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line["answer"]["text"] for line in lines[:2]] == [PIRATE, BULLETS]
    assert all(line["prompt"]["tokens"] > 0 for line in lines)
    body = {"messages": [{"role": "user", "content": OTTER}], "temperature": 0, "stream": True}
    own = {"request": body, "answer": {"choices": [{"message": {"content": lines[2]["answer"]["text"]}}]}}
    with file.open("a", encoding="utf-8") as more:
        more.write("\n" + json.dumps(own) + "\n")
    assert printed(capsys, "replay", str(file)) == "4 of 4 are as they were\n"
    assert json.loads(printed(capsys, "replay", str(file), "--json")) == [[], [], [], []]


def test_a_replay_says_what_differs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    saved(capsys, file, "--prefer", "format=bullets")
    kept = json.loads(file.read_text(encoding="utf-8"))
    changed = [
        kept | {"answer": kept["answer"] | {"text": BULLETS.replace("fish", "mice")}},
        kept | {"request": kept["request"] | {"query": OTTER + "!"}},
        kept | {"request": kept["request"] | {"preferences": "Answer like a pirate."}},
        kept | {"request": kept["request"] | {"preferences": None}},
    ]
    file.write_text("\n".join(map(json.dumps, changed)), encoding="utf-8")
    rows = [line.split("\t") for line in printed(capsys, "replay", str(file), code=1).splitlines()]
    assert rows[-1] == ["0 of 4 are as they were"]
    by_exchange: dict[str, dict[str, list[str]]] = {}
    for number, what, *values in rows[1:-1]:
        by_exchange.setdefault(number, {})[what] = values
    assert by_exchange["1"] == {
        "answer": ["…s. - The otter eats mice. - The otter us…", "…s. - The otter eats fish. - The otter us…"]
    }
    assert "prompt" in by_exchange["2"]
    assert {"tiers", "prompt", "answer"} <= by_exchange["3"].keys()
    assert by_exchange["4"]["preferences"] == ["applied", "none"]


def test_a_steered_exchange_is_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    saved(capsys, file, "--prefer", "format=bullets", "--strength", "1.5")
    assert printed(capsys, "replay", str(file)) == "1 of 1 are as they were\n"
    kept = json.loads(file.read_text(encoding="utf-8"))
    kept["request"]["preferences"]["strength"] = {"user": 2}
    file.write_text(json.dumps(kept), encoding="utf-8")
    told = printed(capsys, "replay", str(file), code=1)
    assert (
        "1\tsteering\tstrength system=1.5,user=1.5; branches 2\tstrength system=1,user=2; branches 2\n"
        in told
    )


def test_a_replay_takes_profiles_as_they_were(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name, file = f"cli-{uuid.uuid4().hex[:8]}", tmp_path / "kept.jsonl"
    printed(capsys, "profiles", "create", name, "--system", "Answer like a pirate.")
    saved(capsys, file, "--profile", name)
    saved(capsys, file, "--model", f"metaalign-demo@{name}")
    printed(capsys, "profiles", "add", name, "--prefer", "format=bullets")
    assert printed(capsys, "replay", str(file)) == "2 of 2 are as they were\n"
    told = printed(capsys, "replay", str(file), "--labels", code=1)
    assert f"1\tprofiles\t{name}:1\t{name}:2" in told
    assert f"2\tprofiles\t{name}:1\t{name}:2" in told


def test_a_key_that_may_not_know_the_ids_compares_the_rest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, file = f"cli-{uuid.uuid4().hex[:8]}", tmp_path / "kept.jsonl"
    printed(capsys, "profiles", "create", name, "--system", "Answer like a pirate.")
    monkeypatch.setenv("METAALIGN_API_KEY", USER_KEY)
    saved(capsys, file, "--profile", name)
    assert json.loads(file.read_text(encoding="utf-8"))["prompt"] is None
    assert printed(capsys, "replay", str(file)) == "1 of 1 are as they were\n"


def test_a_replay_goes_on_after_a_refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name, file = f"cli-{uuid.uuid4().hex[:8]}", tmp_path / "kept.jsonl"
    printed(capsys, "profiles", "create", name, "--system", "Answer like a pirate.")
    saved(capsys, file, "--profile", name)
    saved(capsys, file)
    printed(capsys, "profiles", "delete", name)
    told = printed(capsys, "replay", str(file), code=1)
    assert "1\trefused" in told
    assert told.endswith("1 of 2 are as they were\n")


def test_odd_separators_in_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    saved(capsys, file, "--user", "Some\u2028lines\u0085 of\u2029mine.")
    assert printed(capsys, "replay", str(file)) == "1 of 1 are as they were\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_calls_are_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Another program's line, whose answer is a call of a tool."""
    file = tmp_path / "kept.jsonl"
    food = {"type": "string", "enum": ["mice", "fish"]}
    schema = {"type": "object", "properties": {"food": food}, "required": ["food"]}
    request: dict[str, Any] = {
        "messages": [{"role": "user", "content": OTTER}],
        "tools": [{"type": "function", "function": {"name": "feed", "parameters": schema}}],
        "tool_choice": "required",
        "temperature": 0,
        "max_tokens": 300,
    }
    with MetaAlign() as server:
        answer = server.chat.create(**request).model_dump(mode="json")
    changed = json.loads(json.dumps(answer))
    changed["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = "{}"
    lines = [json.dumps({"request": request, "answer": one}) for one in (answer, changed)]
    file.write_text("\n".join(lines), encoding="utf-8")
    told = printed(capsys, "replay", str(file), code=1)
    assert "2\tcalls\t" in told
    assert told.endswith("1 of 2 are as they were\n")


def test_an_answer_is_not_paid_for_if_it_cannot_be_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAALIGN_BASE_URL", f"http://127.0.0.1:{free_port()}")
    assert "cannot be written" in said(capsys, "ask", OTTER, "--save", str(tmp_path / "no" / "folder"))


def test_sampled_answers_are_not_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    saved(capsys, file, "--temperature", "2")
    capsys.readouterr()
    assert main(["replay", str(file)]) == 0
    assert "sampled without a seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "cannot be read"),
        ("", "holds no exchange"),
        ("{", "kept.jsonl:1: the line: Invalid JSON"),
        ('{"request": {"query": "a"}}', "kept.jsonl:1: answer: Field required"),
        ('\n{"request": {}, "answer": {}}', "kept.jsonl:2: the line: `request` needs either `query` or"),
        ('{"request": {"query": "a", "temperature": 0}, "answer": {"metaalign": 5}}', "is no receipt"),
    ],
)
def test_what_cannot_be_replayed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None, part: str
) -> None:
    file = tmp_path / "kept.jsonl"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert part in said(capsys, "replay", str(file))
