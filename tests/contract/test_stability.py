"""The same spec gives the same bytes and the same hash in every process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from metaalign import parse_preferences
from metaalign.prompt import render, request_layers, resolve
from tests.processes import ROOT, environment

SPEC: dict[str, Any] = {
    "system": {
        "info": "Sé breve 🦦",
        "priorities": ["a", "b"],
        "attributes": {"tone": "pirate", "zeal": "low", "length": "short"},
    },
    "user": {
        "info": "x",
        "attributes": {"name": "Ada", "tone": "formal"},
        "examples": [{"query": "q", "preferred": "p"}],
    },
}
PROGRAM = """
import json, sys
from metaalign import parse_preferences
from metaalign.prompt import render, request_layers, resolve
m = render(resolve(request_layers(parse_preferences(json.load(sys.stdin)))))
print(json.dumps([m.system_info, m.user_info, m.spec_hash]))
"""


def in_process(seed: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(SPEC),
        cwd=ROOT,
        env=environment({"PYTHONHASHSEED": seed}),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_three_processes_agree() -> None:
    here = render(resolve(request_layers(parse_preferences(SPEC))))
    expected = [here.system_info, here.user_info, here.spec_hash]
    assert [in_process(seed) for seed in ("0", "1", "4242")] == [expected] * 3


def test_different_specs_differ() -> None:
    specs: list[Any] = ["a", "b", {"user": "a"}, {"system": "a", "user": "a"}, {"system": "a\n\na"}]
    hashes = {render(resolve(request_layers(parse_preferences(s)))).spec_hash for s in specs}
    assert len(hashes) == len(specs)
