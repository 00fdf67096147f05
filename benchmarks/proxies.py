"""What teams put in front of an engine: LiteLLM's proxy and nginx, each run beside the servers that are measured."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from tests.processes import free_port

from benchmarks.load import NAME, Behind, ServerProcesses

__all__ = ["LITELLM_KEY", "litellm_proxy", "nginx_proxy"]

LITELLM_KEY = "bench-litellm"
_START_SECONDS = 120.0


@contextmanager
def litellm_proxy(command: str, engine: ServerProcesses, folder: Path) -> Iterator[Behind]:
    """LiteLLM's proxy with one worker and one key, as its documentation starts it, in front of stock vLLM.

    Args:
        command: What starts `litellm` in an environment with `litellm[proxy]`, in words as a shell reads them.
        engine: The server that it calls.
        folder: Where its configuration and log go.
    """
    model = {
        "model_name": NAME,
        "litellm_params": {
            "model": f"hosted_vllm/{NAME}",
            "api_base": f"{engine.url}/v1",
            "api_key": "none",
        },
    }
    config = folder / "litellm.yaml"  # JSON is YAML
    config.write_text(
        json.dumps({"model_list": [model], "general_settings": {"master_key": LITELLM_KEY}}), encoding="utf-8"
    )
    port = free_port()
    words = [
        *shlex.split(command),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    with _running(words, folder / "litellm.log", f"http://127.0.0.1:{port}", "/health/liveliness") as process:
        yield Behind(engine, f"http://127.0.0.1:{port}", process)


@contextmanager
def nginx_proxy(command: str, server: ServerProcesses, folder: Path) -> Iterator[Behind]:
    """nginx with two workers, kept-alive connections to the server, and unbuffered answers.

    Args:
        command: The `nginx` to run.
        server: The server that it calls.
        folder: Where its configuration and log go.
    """
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 4m;
    upstream server {{ server {server.url.removeprefix("http://")}; keepalive 128; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
""",
        encoding="utf-8",
    )
    words = [command, "-c", str(config), "-e", f"{folder}/nginx.log"]
    with _running(words, folder / "nginx.out", f"http://127.0.0.1:{port}", "/livez") as process:
        yield Behind(server, f"http://127.0.0.1:{port}", process)


@contextmanager
def _running(words: list[str], log: Path, url: str, ready: str) -> Iterator[psutil.Process]:
    with log.open("wb") as output:
        process = psutil.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
            time.sleep(0.2)
        yield process
    finally:
        family = [process, *process.children(recursive=True)]
        process.terminate()
        process.wait(30)
        for left in family[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
