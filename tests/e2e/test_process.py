"""The commands as an operator runs them: refusals before the engine starts, drain on SIGTERM, the vLLM plugin."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.processes import ROOT, environment, free_port, running

DEMO = "checkpoints/metaalign-demo"
SERVE = ["-m", "metaalign_server.cli", "serve"]


def refused(*flags: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and standard error of a start that must fail at once."""
    done = subprocess.run(
        [sys.executable, *SERVE, *flags],
        cwd=ROOT,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_refuses_the_open_network_without_a_key(host: str) -> None:
    code, text = refused("--host", host)
    assert code == 2
    assert "METAALIGN_API_KEYS" in text
    assert "--allow-open-network" in text


def test_refuses_bad_settings() -> None:
    assert refused("--port", "99999")[0] == 2
    code, text = refused(env={"METAALIGN_API_KEYS": "sekrit:root"})
    assert code == 2
    assert "entry 1" in text
    assert "sekrit" not in text


def test_refuses_a_damaged_checkpoint(tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(ROOT / DEMO, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, text = refused("--model", str(copy))
    assert code == 65
    assert "model.safetensors" in text
    assert text.count("\n") == 1
    assert refused("--model", "checkpoints/nothing")[0] == 65


async def test_serve_and_drain(tmp_path: Path) -> None:
    """In-flight answers finish, new work is refused with Retry-After, the exit code is 0; a taken port is refused."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([*SERVE, "--port", str(port)], url, tmp_path / "serve.log") as server:
        code, text = refused("--port", str(port))
        assert code == 2
        assert "cannot listen" in text
        body = {
            "messages": [{"role": "user", "content": "Tell me three things about the otter."}],
            "max_tokens": 600,
            "ignore_eos": True,
            "stream": True,
            "preferences": {"user": {"attributes": {"format": "bullets"}}},
        }
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            events: list[str] = []

            async def read() -> None:
                async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                    async for line in response.aiter_lines():
                        if line:
                            events.append(line)

            reader = asyncio.create_task(read())
            while len(events) < 3:
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/livez")).status_code == 200
            refusal = await client.post("/v1/chat/completions", json=body)
            assert refusal.status_code == 503
            assert int(refusal.headers["retry-after"]) > 0
            await reader
        assert events[-1] == "data: [DONE]"
        assert len(events) > 500
        deadline = time.monotonic() + 30
        while server.process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert server.process.returncode == 0


def test_plugin_of_vllm_serve(tmp_path: Path) -> None:
    """The same routes under vLLM's own server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", DEMO, "--served-model-name", "demo"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-num-seqs", "8"]
    env = {"VLLM_PLUGINS": "metaalign", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with running(command, url, tmp_path / "plugin.log", ready="/health", env=env | {"OMP_NUM_THREADS": "1"}):
        body = {
            "model": "demo",
            "messages": [{"role": "user", "content": "Tell me three things about the otter."}],
            "temperature": 0,
            "max_tokens": 100,
            "preferences": {"user": {"attributes": {"format": "bullets"}}},
        }
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        assert answer["metaalign"]["applied"] is True
        assert answer["choices"][0]["message"]["content"].count("\n- ") == 2
        aligned = httpx.post(f"{url}/v1/align", json={"query": "hi", "preferences": {"usr": 1}}, timeout=60)
        assert aligned.status_code == 400
        assert aligned.json()["error"]["param"] == "preferences.usr"
        assert (
            httpx.post(f"{url}/tokenize", json={"prompt": "hi"}, timeout=60).status_code == 200
        )  # vLLM's own stay
