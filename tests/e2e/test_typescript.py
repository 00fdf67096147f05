"""The TypeScript client: its own tests, run by Node against a real server, and what its lock file names."""

from __future__ import annotations

import json
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
    """npm, with everything that the lock file names installed. It is no part of what `make test` needs."""
    found = shutil.which("npm")
    if found is None or shutil.which("node") is None:
        pytest.skip("needs Node and npm")
    _, version = run("node", "--version")
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"needs Node 20 or newer, not {version.strip()}")
    code, said = run(found, "ci", "--no-audit", "--no-fund", "--prefer-offline")
    if code and OFFLINE.search(said):
        pytest.skip("npm cannot reach its registry")
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
    assert re.search(r"^\W*skipped [01]$", said, re.MULTILINE), said


def test_the_lock_file_names_no_other_registry() -> None:
    """npm leaves addresses out, or names the public registry: whoever installs chooses a mirror, not whoever locked."""
    lock = json.loads((CLIENT / "package-lock.json").read_text(encoding="utf-8"))
    public = "https://registry.npmjs.org/"
    for name, package in lock["packages"].items():
        if name:
            assert package["integrity"].startswith("sha512-"), name
            assert package.get("resolved", public).startswith(public), name
