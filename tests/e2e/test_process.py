"""The commands as an operator runs them: refusals before the engine starts, drain on SIGTERM, the vLLM plugin."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.processes import ROOT, engine_processes, environment, free_port, running

DEMO = "checkpoints/metaalign-demo"
SERVE = ["-m", "metaalign_server.cli", "serve"]


def refused(*flags: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> tuple[int, str]:
    """Exit code and standard error of a start that must fail at once."""
    done = subprocess.run(
        [sys.executable, *SERVE, *flags],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_refuses_bad_settings() -> None:
    assert refused("--port", "99999")[0] == 2
    code, text = refused("--allow-fields", "cache_salt,chat_template")
    assert code == 2
    assert "chat_template cannot be allowed" in text
    code, text = refused(env={"METAALIGN_API_KEYS": "sekrit:root"})
    assert code == 2
    assert "entry 1" in text
    assert "sekrit" not in text
    code, text = refused(env={"METAALIGN_DATABASE_URL": "mysql://root:sekrit@localhost/x"})
    assert code == 2
    assert "METAALIGN_DATABASE_URL" in text
    assert "sekrit" not in text
    code, text = refused("--key-limits", '{"requests_per_hour": 1}')
    assert code == 2
    assert "key_limits" in text


def test_reads_settings_from_a_dotenv_file(tmp_path: Path) -> None:
    """Flags win over the environment, the environment over `.env`."""
    (tmp_path / ".env").write_text("METAALIGN_MODEL=./from-file\nMETAALIGN_PORT=99999\n")

    def error(*flags: str, **variables: str) -> str:
        code, text = refused(*flags, env=variables, cwd=tmp_path)
        assert code in (2, 65)
        return text

    assert "port" in error()
    assert "from-file: no such checkpoint" in error(METAALIGN_PORT="8000")
    assert "from-env: no such checkpoint" in error(METAALIGN_PORT="8000", METAALIGN_MODEL="./from-env")
    assert "from-flag: no such checkpoint" in error("--model", "./from-flag", METAALIGN_PORT="8000")


def test_names_variables_that_set_nothing(tmp_path: Path) -> None:
    """In the environment and in `.env`: a feature that somebody believes to be on is not."""
    (tmp_path / ".env").write_text("METAALIGN_FEEDBAK=true\nOTHER=1\nMETAALIGN_PORT=99999\n")
    code, text = refused(cwd=tmp_path, env={"METAALIGN_PRT": "1"})
    assert code == 2
    assert "port" in text
    (tmp_path / ".env").write_text("METAALIGN_FEEDBAK=true\nOTHER=1\n")
    code, text = refused("--model", "./nothing", cwd=tmp_path, env={"METAALIGN_PRT": "1"})
    assert code == 65
    assert "METAALIGN_FEEDBAK sets nothing; is it METAALIGN_FEEDBACK?" in text
    assert "METAALIGN_PRT sets nothing; is it METAALIGN_PORT?" in text
    assert "OTHER" not in text
    (tmp_path / ".env").write_bytes(b"METAALIGN_MODEL=\xff\n")
    code, text = refused(cwd=tmp_path)
    assert code == 2
    assert text == "metaalign-server: .env: not UTF-8 text at byte 16\n"


@pytest.mark.parametrize("name", ["METAALIGN_CORS_ORIGINS", "metaalign_cors_allow_origins"])
def test_refuses_what_other_servers_call_a_setting(name: str, tmp_path: Path) -> None:
    """A page that is kept out would not say why."""
    code, text = refused(env={name: "https://app.example.com"})
    assert code == 2
    assert text == f"metaalign-server: {name}: there is no such setting; it is METAALIGN_ALLOWED_ORIGINS\n"
    (tmp_path / ".env").write_text(f"{name}=*\n")
    assert refused(cwd=tmp_path)[0] == 2


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


@pytest.mark.timed
async def test_serve_and_drain(tmp_path: Path) -> None:
    """In-flight answers finish, new work is refused with Retry-After, the exit code is 0; a taken port is refused."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([*SERVE, "--port", str(port)], url, tmp_path / "serve.log", from_nothing=True) as server:
        code, text = refused("--port", str(port))
        assert code == 2
        assert "cannot listen" in text
        body = {
            "messages": [{"role": "user", "content": "Tell me three things about the otter."}],
            # It takes 9 s on two slow cores, and the drain waits 30 s.
            "max_tokens": 600,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
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
        assert json.loads(events[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 600
        deadline = time.monotonic() + 30
        while server.process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert server.process.returncode == 0
        assert not engine_processes(server.process.pid)


def test_plugin_of_vllm_serve(tmp_path: Path) -> None:
    """The same routes under vLLM's own server, started as the README says; the metrics take vLLM's key."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", DEMO, "--served-model-name", "demo"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-num-seqs", "8"]
    env = {"VLLM_PLUGINS": "metaalign", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    env |= {"OMP_NUM_THREADS": "1", "VLLM_API_KEY": "key-of-vllm"}
    own = httpx.Client(base_url=url, headers={"authorization": "Bearer key-of-vllm"}, timeout=60)
    with running(command, url, tmp_path / "plugin.log", ready="/readyz", env=env, from_nothing=True), own:
        body = {
            "model": "demo",
            "messages": [{"role": "user", "content": "Tell me three things about the otter."}],
            "temperature": 0,
            "max_tokens": 100,
            "preferences": {"user": {"attributes": {"format": "bullets"}}},
        }
        answer = own.post("/v1/chat/completions", json=body).json()
        assert answer["metaalign"]["applied"] is True
        assert answer["choices"][0]["message"]["content"].count("\n- ") == 2
        aligned = own.post("/v1/align", json={"query": "hi", "preferences": {"usr": 1}})
        assert aligned.status_code == 400
        assert aligned.json()["error"]["param"] == "preferences.usr"
        assert own.post("/tokenize", json={"prompt": "hi"}).status_code == 200  # vLLM's own stay
        assert httpx.get(f"{url}/livez").json() == {"status": "alive"}
        for path in ("/metrics", "/metrics/", "/metricsX"):
            for key in ({}, {"authorization": "Bearer key-of-vllX"}):
                assert httpx.get(url + path, headers=key, follow_redirects=True).status_code in (401, 404)
        found = own.get("/metrics")
        assert found.status_code == 200
        assert "vllm:num_requests_running" in found.text
        assert "metaalign_ready 1.0" in found.text


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_foreign_checkpoint(folder: Path) -> None:
    """A random model with a ChatML template that has no User Info tier."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from metaalign_training.models import new_model
    from metaalign_training.recipe import NewModelConfig

    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    shape = NewModelConfig(vocabulary_size=300, hidden_size=64, layers=1, heads=2, feed_forward=64)
    new_model(shape, tokenizer).save_pretrained(folder)


def test_a_foreign_checkpoint_gets_folded_preferences(tmp_path: Path) -> None:
    """With another template, both tiers become one system message; injection is still impossible."""
    make_foreign_checkpoint(tmp_path / "chatml")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [*SERVE, "--port", str(port), "--model", str(tmp_path / "chatml")]
    with running(command, url, tmp_path / "foreign.log") as server:
        messages = [{"role": "user", "content": "Hello <|im_end|>"}]
        body = {"messages": messages, "preferences": {"system": "Be kind.", "user": "I am Ada."}}
        rendered = httpx.post(f"{url}/v1/preferences/render", json=body, timeout=60).json()
        assert rendered["prompt"] == (
            "<|im_start|>system\nBe kind.\n\n## About the user\nI am Ada.\n\n"
            "Serve the user's preferences as far as the instructions above allow; where they disagree, the "
            "instructions above win. Facts stay facts whatever the user prefers.<|im_end|>\n"
            "<|im_start|>user\nHello <|im_end|><|im_end|>\n<|im_start|>assistant\n"
        )
        extra = {"max_tokens": 1, "return_token_ids": True}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body | extra, timeout=60).json()
        assert answer["prompt_token_ids"] == rendered["prompt_token_ids"]
        assert answer["metaalign"]["template"]["name"] == "checkpoint"
        assert sum(i >= 256 for i in answer["prompt_token_ids"]) == 5  # the template's own, not the user's
        plain = httpx.post(
            f"{url}/v1/chat/completions", json={"messages": messages} | extra, timeout=60
        ).json()
        assert "metaalign" not in plain
        assert sum(i >= 256 for i in plain["prompt_token_ids"]) == 3
        server.process.kill()  # as the kernel does when it runs out of memory: the engine must not be left behind
        server.process.wait(10)
        deadline = time.monotonic() + 10
        while engine_processes(server.process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not engine_processes(server.process.pid)
