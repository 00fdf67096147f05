"""Where the server listens: TLS, a Unix socket, a path behind a proxy, other origins, keys as vLLM takes them."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests import preloaded
from tests.processes import ROOT, engine_processes, environment, free_port, running
from tests.stack.nginx import make_secrets

SERVE = ["-m", "metaalign_server.cli", "serve"]
APP = "https://app.example.com"


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key, as a deployment makes them."""
    make_secrets(folder)
    return folder / "tls/tls.crt", folder / "tls/tls.key"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refused(*flags: str, **variables: str) -> str:
    """What a start says that must end with exit code 2."""
    done = preloaded.finish(
        ["metaalign_server.cli", "serve", *flags], ROOT, environment(variables), timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_tls_a_path_other_origins_and_keys(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    port = free_port()
    flags = ["--port", str(port), "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    flags += [
        "--root-path",
        "/llm",
        "--allowed-origins",
        f'["{APP}"]',
        "--api-key",
        "first",
        "second:metrics",
    ]
    plain, secure = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}"
    trusted = ssl.create_default_context(cafile=str(certificate))
    env = {"OMP_NUM_THREADS": "1", "VLLM_API_KEY": "third"}

    def over_tls() -> httpx.HTTPTransport:
        return httpx.HTTPTransport(verify=trusted)

    with (
        running([*SERVE, *flags], secure, tmp_path / "log", env=env, transport=over_tls) as server,
        httpx.Client(base_url=secure, verify=trusted, timeout=60) as client,
    ):
        wait_until(lambda: f'"url": "{secure}"' in server.log_text())
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{plain}/livez", timeout=60)
        assert client.get("/v1/models").status_code == 401
        for word in ("first", "second", "third"):
            answer = client.get("/v1/models", headers={"authorization": f"Bearer {word}", "origin": APP})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == APP
        asks = {
            "origin": APP,
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key",
        }
        assert client.options("/v1/align", headers=asks).status_code == 200
        asks["origin"] = "https://elsewhere.example.com"
        assert client.options("/v1/align", headers=asks).status_code == 400
        body = {"query": "What does a fox eat?", "preferences": {"user": "Short, please."}, "max_tokens": 8}
        # A proxy may pass the path on with its prefix or without it.
        for prefix in ("", "/llm"):
            answer = client.post(f"{prefix}/v1/align", json=body, headers={"x-api-key": "first"})
            assert answer.status_code == 200, prefix
            assert answer.json()["metaalign"]["applied"] is True
        for prefix in ("", "/llm", "/llm/llm"):
            refusal = client.post(f"{prefix}/v1/align", json=body, headers={"x-api-key": "second"})
            assert refusal.json()["error"]["code"] == "missing_scope", prefix
            assert client.get(f"{prefix}/metrics", headers={"x-api-key": "second"}).status_code == 200
            assert client.get(f"{prefix}/v1/profiles").status_code == 401
        document = client.get("/openapi.json", headers={"x-api-key": "first"}).json()
        assert document["servers"] == [{"url": "/llm"}]


# httpcore forgets to close a Unix socket that is refused, as it is until the server listens.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"

    def through_it() -> httpx.HTTPTransport:
        return httpx.HTTPTransport(uds=str(path))

    url = "http://localhost"
    command = [*SERVE, "--uds", str(path), "--disable-fastapi-docs"]
    with running(
        command, url, tmp_path / "log", env={"OMP_NUM_THREADS": "1"}, transport=through_it
    ) as server:
        with httpx.Client(transport=through_it(), base_url=url, timeout=60) as client:
            body = {"messages": [{"role": "user", "content": "What does a fox eat?"}], "max_tokens": 4}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert client.get("/docs").status_code == 404
            assert client.get("/openapi.json").status_code == 404
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert "Address already in use" in refused("--uds", str(path))
        server.process.kill()
        server.process.wait(10)
        wait_until(lambda: not engine_processes(server.process.pid))  # they have the socket, too
    assert path.exists()  # what a killed server leaves behind
    with running(command, url, tmp_path / "log2", env={"OMP_NUM_THREADS": "1"}, transport=through_it):
        pass
    assert not path.exists()


def test_what_cannot_be_listened_on(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    file = tmp_path / "file"
    file.write_text("mine")
    assert "File exists" in refused("--uds", str(file))
    assert file.read_text() == "mine"
    assert "--ssl-certfile too" in refused("--ssl-keyfile", str(key))
    assert "No such file" in refused("--ssl-certfile", str(tmp_path / "nothing.pem"))
    assert "--ssl-ca-certs" in refused(
        "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--ssl-cert-reqs", "2"
    )
    refusal = refused("--enable-lora", "--lora-modules", "mine=/nowhere", "--port", str(free_port()))
    assert refusal == "metaalign-server: --lora-modules mine=/nowhere: no such folder or adapter\n"
    assert "does nothing here" in refused("--middleware", "mine.Middleware", "--port", str(free_port()))


def test_a_port_that_a_starting_server_has(tmp_path: Path) -> None:
    """Two servers may bind the same port until one of them listens."""
    port = str(free_port())
    env = environment({"METAALIGN_DATABASE_URL": f"sqlite:///{tmp_path}/first.db"})
    first = preloaded.start(
        ["metaalign_server.cli", "serve", "--port", port],
        ROOT,
        env,
        tmp_path / "first.log",
        tmp_path / "first.log",
    )
    try:
        log = tmp_path / "first.log"
        wait_until(lambda: log.exists() and "Resolved architecture" in log.read_text())
        assert "cannot listen" in refused("--port", port)
    finally:
        first.kill()
