"""The hooks never fail open: another vLLM, a renamed method, a handler that goes around them, and nothing is served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vllm.renderers.hf import HfRenderer
from vllm.v1.engine.async_llm import AsyncLLM

from metaalign_server.engine import installation
from metaalign_server.engine.installation import IncompatibleEngine, check_vllm
from tests import preloaded
from tests.processes import ROOT, environment, free_port

DEMO = "checkpoints/metaalign-demo"


def test_this_vllm_is_supported() -> None:
    check_vllm()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "VLLM_VERSION", "0.33.0")
    with pytest.raises(IncompatibleEngine, match=r"vLLM 0\.33\.0 is installed.*install vLLM 0\.32\.x"):
        check_vllm()


def test_a_renamed_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(HfRenderer, "render_messages_async")
    with pytest.raises(IncompatibleEngine, match=r"HfRenderer\.render_messages_async has changed"):
        check_vllm()


def test_another_signature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def generate(self: Any, request: Any) -> None: ...

    monkeypatch.setattr(AsyncLLM, "generate", generate)
    with pytest.raises(IncompatibleEngine, match=r"AsyncLLM\.generate has changed"):
        check_vllm()


RENAMED = """
import sys
from vllm.renderers.hf import HfRenderer
HfRenderer.render_conversation_async = HfRenderer.render_messages_async
del HfRenderer.render_messages_async
from metaalign_server.cli import main
sys.exit(main(sys.argv[1:]))
"""
# vLLM's renderer calls the method of its class, so that one put onto the object is never called.
GOES_AROUND = """
import runpy
from vllm.renderers.base import BaseRenderer
stock = BaseRenderer.render_chat_async
async def render_chat_async(self, *args, **options):
    here = vars(self).pop("render_messages_async", None)
    try:
        return await stock(self, *args, **options)
    finally:
        if here is not None:
            self.render_messages_async = here
BaseRenderer.render_chat_async = render_chat_async
if __name__ == "__main__":  # the engine's process is started from this file too
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
"""


def test_our_server_refuses_a_renamed_method_before_it_loads_weights(tmp_path: Path) -> None:
    file = tmp_path / "start.py"
    file.write_text(RENAMED)
    env = environment({"METAALIGN_DATABASE_URL": f"sqlite:///{tmp_path / 'store.db'}"})
    done = preloaded.finish([str(file), "serve", "--port", str(free_port())], ROOT, env, timeout=120)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("metaalign-server:")]
    assert len(said) == 1
    assert "HfRenderer.render_messages_async has changed" in said[0]
    assert "pip install" in said[0]


@pytest.mark.slow
def test_vllm_serve_refuses_a_handler_that_goes_around_the_hooks(tmp_path: Path) -> None:
    """The canary finds what no signature shows."""
    file = tmp_path / "start.py"
    file.write_text(GOES_AROUND)
    command = [sys.executable, str(file), "--model", DEMO, "--served-model-name", "demo", "--enforce-eager"]
    command += ["--host", "127.0.0.1", "--port", str(free_port()), "--max-num-seqs", "8"]
    env = {"VLLM_PLUGINS": "metaalign", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    env |= {"METAALIGN_DATABASE_URL": f"sqlite:///{tmp_path / 'store.db'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment(env), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode not in (0, None)
    assert "metaalign: vLLM's chat handler does not render preferences" in done.stdout + done.stderr
    assert "Application startup complete" not in done.stdout + done.stderr
