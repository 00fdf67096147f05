"""Server processes for tests: started on free ports, waited for, always stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests import preloaded
from tests.preloaded import Forked

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 240.0


def free_port() -> int:
    """A port that nobody is listening on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A running server process and where its log goes."""

    process: subprocess.Popen[bytes] | Forked
    url: str
    log: Path

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without the developer's own METAALIGN_* settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith("METAALIGN_")} | (extra or {})


def command(url: str, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `metaalign-server WORDS` on the store at `url`."""
    env = environment({"METAALIGN_DATABASE_URL": url})
    done = preloaded.finish(["metaalign_server.cli", *words], ROOT, env, timeout=120)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def running(
    command: Sequence[str],
    url: str,
    log: Path,
    *,
    ready: str = "/readyz",
    env: dict[str, str] | None = None,
    checkout: Path = ROOT,
    cwd: Path | None = None,
    from_nothing: bool = False,
    transport: Callable[[], httpx.HTTPTransport] = httpx.HTTPTransport,
) -> Iterator[Server]:
    """Run `python COMMAND` until the block ends; waits until `url + ready` answers 200.

    The process is forked from one that has imported vLLM already, unless it is to start `from_nothing`, as it does for
    users. `transport` is the way to a server with TLS or a Unix socket. Unless `env` names one,
    it gets an empty store of its own beside its log. `checkout` is another working tree
    whose own environment runs the command, `cwd` where it starts if not there.
    """
    python = sys.executable if checkout == ROOT else str(checkout / ".venv/bin/python")
    env = environment({"METAALIGN_DATABASE_URL": f"sqlite:///{log}.db"} | (env or {}))
    with log.open("wb") as output:
        # Its own group, so that it can be signalled as one; no session of its own, because Linux shares out the
        # processor by session first: a busy server's could keep the tests' own waiting for seconds.
        process: subprocess.Popen[bytes] | Forked
        if from_nothing or checkout != ROOT:
            process = subprocess.Popen(
                [python, *command],
                cwd=cwd or checkout,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                process_group=0,
            )
        else:
            option, *module = command
            assert option == "-m"
            process = preloaded.start(module, cwd or ROOT, env, log, log)
        server = Server(process, url, log)
        try:
            _wait_until_ready(server, url + ready, transport)
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(10)


def _wait_until_ready(server: Server, url: str, transport: Callable[[], httpx.HTTPTransport]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(
                f"server exited with {server.process.returncode}:\n{server.log_text()[-4000:]}"
            )
        try:
            with httpx.Client(transport=transport(), timeout=5) as client:
                if client.get(url).status_code == 200:
                    return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"server not ready after {START_TIMEOUT} s:\n{server.log_text()[-4000:]}")


def engine_processes(group: int) -> list[str]:
    """Names of the processes still running in the process group `group`, which a server was started to lead."""
    found = []
    for process in psutil.process_iter(["name", "status"]):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.info["name"])
    return found
