"""The OpenAPI document is true: schemathesis sends a real server requests that it allows, and some that it forbids.

No 5xx, no undocumented status, header or body; valid data are accepted, invalid data refused. `make fuzz` runs longer:

    python -m tests.server.test_openapi [options of `schemathesis run`]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import ROOT, Server, free_port, running

KEY = "openapi-test-key"


@contextmanager
def server_to_fuzz(folder: Path) -> Iterator[Server]:
    """A separate server, because the requests leave tenants, keys and limits behind that would disturb other tests.

    No schema bounds how many tokens are asked for, so the model's context is short and its answers are shorter.
    """
    port = free_port()
    flags = ["--max-model-len", "256", "--override-generation-config", '{"max_new_tokens": 16}']
    command = ["-m", "metaalign_server.cli", "serve", "--port", str(port), *flags]
    settings = {"METAALIGN_API_KEYS": KEY, "METAALIGN_FEEDBACK": "true"}
    with running(command, f"http://127.0.0.1:{port}", folder / "server.log", env=settings) as server:
        yield server


def document_of(server: Server) -> dict[str, Any]:
    """The document as it is served."""
    response = httpx.get(f"{server.url}/openapi.json", headers={"x-api-key": KEY}, timeout=60)
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def fuzz(server: Server, folder: Path, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run schemathesis, configured by schemathesis.toml, on the document as it is served."""
    location = folder / "openapi.json"
    location.write_text(json.dumps(document_of(server)), encoding="utf-8")
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", str(location), "--url", server.url, *options]
    # schemathesis is not ours to measure.
    env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")} | {"SCHEMATHESIS_KEY": KEY}
    return subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_to_fuzz(tmp_path_factory.mktemp("openapi")) as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_document_is_true(fuzzed: Server, tmp_path: Path) -> None:
    seed = os.environ.get("FUZZ_SEED", "1")
    result = fuzz(fuzzed, tmp_path, ["--seed", seed, "--max-examples", "10", "--no-color"])
    assert result.returncode == 0, result.stdout.partition(" FAILURES ")[2] or result.stdout
    assert "metaalign" in document_of(fuzzed)["info"]["title"].lower()  # it still answers
    assert '"level": "error"' not in fuzzed.log_text()


def main(options: Sequence[str]) -> int:
    """Fuzz with the user's options; the report goes to the terminal."""
    with tempfile.TemporaryDirectory() as name, server_to_fuzz(Path(name)) as server:
        result = fuzz(server, Path(name), options)
        sys.stdout.write(result.stdout)
        return result.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
