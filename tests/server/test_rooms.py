"""The rooms of the server: what can be imported without vLLM, and the files that are generated from code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT, environment

WITHOUT_VLLM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("vllm", "torch", "transformers"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
try:
    import vllm
except ImportError:
    pass
else:
    sys.exit("the block does not work")
import MODULE
"""


def imported_without_vllm(modules: str) -> subprocess.CompletedProcess[str]:
    """Import modules in a process that cannot import vLLM."""
    program = WITHOUT_VLLM.replace("MODULE", modules)
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_needs_no_engine_is_imported_without_vllm() -> None:
    modules = (
        "metaalign_server.cli",
        "metaalign_server.alignment.service",
        "metaalign_server.engine.dialects",
        "metaalign_server.routes.admin",
        "metaalign_server.routes.common",
        "metaalign_server.routes.feedback",
        "metaalign_server.routes.operations",
        "metaalign_server.routes.profiles",
        "metaalign_server.serving.gate",
    )
    done = imported_without_vllm(", ".join(modules))
    assert done.returncode == 0, done.stderr


def test_inference_cannot_be_imported_without_vllm() -> None:
    """The block blocks: otherwise the test above proves nothing."""
    done = imported_without_vllm("metaalign_server.routes.inference")
    assert done.returncode != 0
    assert "vllm is blocked" in done.stderr


def test_the_committed_openapi_document_is_that_of_the_code(tmp_path: Path) -> None:
    """Whatever order sets have in a process."""
    written = tmp_path / "openapi.json"
    subprocess.run(
        [sys.executable, "scripts/openapi_document.py", str(written)],
        cwd=ROOT,
        env=environment({"PYTHONHASHSEED": "2"}),
        capture_output=True,
        check=True,
    )
    committed = (ROOT / "clients" / "openapi.json").read_text(encoding="utf-8")
    assert committed == written.read_text(encoding="utf-8"), "run `make generated`"


def test_the_page_of_errors_is_that_of_the_table() -> None:
    from errors_page import errors_page

    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == errors_page(), "run `make generated`"


def test_the_errors_of_the_typescript_client_are_those_of_the_table() -> None:
    from typescript_errors import error_kinds

    committed = (ROOT / "clients/typescript/src/error_kinds.ts").read_text(encoding="utf-8")
    assert committed == error_kinds(), "run `make generated`"
