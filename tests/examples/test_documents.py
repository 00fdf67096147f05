"""What README, the guides and the page about the demo checkpoint show is what the server does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, environment
from tests.security.world import World

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CURLS = re.findall(
    r"curl -s http://127\.0\.0\.1:8000(/\S+) -H 'content-type: application/json' -d '(.*?)'",
    README,
    re.DOTALL,
)
DEMO = (ROOT / "docs/demo_checkpoint.md").read_text(encoding="utf-8")
REQUESTS = re.findall(r"^\*\*([^\n]+)\*\* · `([^\n]+)`\n\n```\n(.*?)^```", DEMO, re.MULTILINE | re.DOTALL)


def code(language: str) -> str:
    """The one block of README in a language."""
    (found,) = [text for name, text in BLOCKS if name == language]
    return str(found)


def agrees(shown: Any, real: Any) -> bool:
    """Whether everything that is shown is real; a text that ends in an ellipsis is a beginning."""
    if isinstance(shown, dict):
        return all(name in real and agrees(value, real[name]) for name, value in shown.items())
    if isinstance(shown, str) and shown.endswith("…"):
        return bool(real.startswith(shown[:-1]))
    return bool(shown == real)


def test_the_first_answer_of_the_readme(world: World) -> None:
    path, body = CURLS[0]
    shown = json.loads(code("json").replace(", …", ""))
    answer = world.client("operator").post(path, json=json.loads(body)).json()
    assert agrees(shown, answer), answer


def test_the_python_of_the_readme(world: World) -> None:
    program = (
        code("python")
        .replace("http://127.0.0.1:8000", world.server.url)
        .replace("unused", world.keys["operator"])
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = BLOCKS[[language for language, _ in BLOCKS].index("python") + 1][1]
    assert done.stdout.split() == shown.split()


def test_the_profile_of_the_readme(world: World) -> None:
    client = world.client("operator")
    made, answer = [client.post(path, json=json.loads(body)) for path, body in CURLS[1:]]
    assert made.status_code == 201
    assert answer.json()["metaalign"]["profiles"] == ["museum:1"]
    assert '"profiles": ["museum:1"]' in README
    assert client.delete("/v1/profiles/museum").status_code == 204


def test_twelve_requests_are_shown() -> None:
    assert len(REQUESTS) == 12


@pytest.mark.parametrize(("query", "preferences", "answer"), REQUESTS)
def test_the_demo_checkpoint_answers_as_documented(
    world: World, query: str, preferences: str, answer: str
) -> None:
    body = {"query": query, "preferences": json.loads(preferences), "temperature": 0}
    response = world.client("operator").post("/v1/align", json=body)
    assert response.json()["text"] == answer.removesuffix("\n")


def test_the_commands_of_the_platform_guide_work_in_order(world: World) -> None:
    guide = (ROOT / "docs/platform.md").read_text(encoding="utf-8")
    lines = re.findall(r"^curl (.*\$U.*)$", guide, re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        found = re.fullmatch(r"""(?:-H "\$\w" )*(?:-X (\w+) )?"?\$U([^" ]*)"?(?: -d '(.*)')?""", line)
        assert found, line
        method, path, body = found.groups()
        method = method or ("POST" if body else "GET")
        content = None if body is None else json.loads(body)
        response = world.client("operator").request(method, f"/v1/profiles{path}", json=content)
        assert response.is_success, (line, response.text)
    support = world.client("operator").get("/v1/profiles/support").json()
    assert support["labels"]["stable"]["versions"] == [{"version": 1, "weight": 100}]
    assert world.client("operator").delete("/v1/profiles/support").status_code == 204


def test_the_python_of_the_clients_guide(world: World) -> None:
    """All of it in order, as one program, and everything that it shows."""
    guide = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    program = "".join(text for language, text in blocks if language == "python")
    shown = "".join(text for language, text in blocks if not language)
    variables = {"METAALIGN_BASE_URL": world.server.url, "METAALIGN_API_KEY": world.keys["operator"]}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


def test_the_suite_of_the_clients_guide_passes(world: World, tmp_path: Path) -> None:
    guide = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    (suite,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "suite.yaml").write_text(suite)
    command = [
        sys.executable,
        "-m",
        "metaalign.cli",
        "test",
        str(tmp_path / "suite.yaml"),
        "--url",
        world.server.url,
    ]
    variables = environment({"METAALIGN_API_KEY": world.keys["operator"]})
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("4 of 4 passed: 1.000 [")
