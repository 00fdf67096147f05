"""The TypeScript client: its own tests, run by Node against a real server, and what its lock file names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT, environment
from tests.reliability.serving import ADMIN, serving

CLIENT = ROOT / "clients/typescript"
OFFLINE = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENETUNREACH)\b"
)


def run(*command: str, env: dict[str, str] | None = None, timeout: float = 600) -> tuple[int, str]:
    """Exit code, and both outputs together."""
    done = subprocess.run(
        command,
        cwd=CLIENT,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with everything that the lock file names installed.

    `make test` needs no Node, so that without it these tests are skipped; with TEST_NODE set, as in continuous
    integration, they fail.
    """
    lacking = pytest.fail if "TEST_NODE" in os.environ else pytest.skip
    found = shutil.which("npm")
    if found is None or shutil.which("node") is None:
        lacking("needs Node and npm")
    _, version = run("node", "--version")
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        lacking(f"needs Node 20 or newer, not {version.strip()}")
    code, said = run(found, "ci", "--no-audit", "--no-fund", "--prefer-offline")
    if code and OFFLINE.search(said):
        lacking("npm cannot reach its registry")
    assert code == 0, said
    return found


# It installs, starts a server, compiles several times and runs some fifty tests.
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_client_against_a_real_server(npm: str, tmp_path: Path) -> None:
    with serving(tmp_path, feedback="true", allowed_origins="*") as server:
        code, said = run(npm, "test", env={"METAALIGN_BASE_URL": server.url, "METAALIGN_API_KEY": ADMIN})
    assert code == 0, said
    assert re.search(r"^\W*pass [4-9]\d$", said, re.MULTILINE), said
    # The one in a browser is, where there is none.
    skipped = "0" if "TEST_NODE" in os.environ else "[01]"
    assert re.search(rf"^\W*skipped {skipped}$", said, re.MULTILINE), said


@pytest.mark.parametrize("folder", [CLIENT, ROOT / "tests/clients/node"])
def test_the_lock_file_names_no_registry(folder: Path) -> None:
    """Whoever installs chooses a registry or a mirror of it, not whoever locked; the hashes say what must come."""
    lock = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))
    # What is installed; the rest is the project itself, and ours by a link.
    packages = {name: package for name, package in lock["packages"].items() if name and "link" not in package}
    packages.pop("../../../clients/typescript", None)
    assert len(packages) > 10
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
