"""Fast starts for tests: a process that has imported vLLM forks one for each command, as a server forks its engine.

Most of a start is importing. What is forked here runs the same command with its own environment, output and process
group; only its imports are older than it is. `tests/e2e/test_process.py` starts commands from nothing.

python -m tests.preloaded SOCKET
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import coverage

__all__ = ["Forked", "finish", "start"]

_POLL_SECONDS = 0.02
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Forked:
    """A server's process, used like a `subprocess.Popen`.

    Attributes:
        returncode: The exit code as `poll()` found it, negative for a signal.
    """

    def __init__(self, preloaded: _Preloaded, pid: int) -> None:
        self.pid = pid
        self.returncode: int | Any = None
        self._preloaded = preloaded

    def poll(self) -> int | None:
        """Look whether it has ended."""
        self._preloaded.listen()
        code: int | None = self.returncode
        return code

    def wait(self, timeout: float) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Preloaded:
    """Our end of the process that forks: one JSON line for each start, and one back for each start and each end."""

    def __init__(self) -> None:
        self._running: dict[int, Forked] = {}
        self._received = b""
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.preloaded", str(theirs.fileno())],
                cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
                # Read while vLLM is imported; servers of tests want one thread each.
                env={k: v for k, v in os.environ.items() if not k.startswith(("METAALIGN_", "COVERAGE_"))}
                | {"OMP_NUM_THREADS": "1"},
            )

    def start(self, command: Sequence[str], cwd: Path, env: dict[str, str], out: Path, err: Path) -> Forked:
        """Run a module or a file in a process of a group of its own; its output goes to the ends of `out` and `err`."""
        request = {"command": list(command), "cwd": str(cwd), "env": env, "out": str(out), "err": str(err)}
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while (started := self._read()) is None:
                pass
        return started

    def listen(self) -> None:
        """Take note of processes that have ended."""
        with self._lock:
            while select.select([self._socket], [], [], 0)[0]:
                self._read()

    def _read(self) -> Forked | None:
        """Read what has been said, at least a part of it; the process that was started, if that was said."""
        received = self._socket.recv(65536)
        if not received:
            raise RuntimeError("the process that starts the tests' servers has ended")
        *lines, self._received = (self._received + received).split(b"\n")
        started = None
        for said in map(json.loads, lines):
            pid = said["pid"]
            if "exit_code" in said:
                self._running.pop(pid).returncode = said["exit_code"]
            else:
                started = self._running[pid] = Forked(self, pid)
        return started

    def close(self) -> None:
        """End it; what it has forked goes on."""
        self._socket.close()
        self._process.wait(10)


_preloaded: _Preloaded | None = None
_making = threading.Lock()


def start(command: Sequence[str], cwd: Path, env: dict[str, str], out: Path, err: Path) -> Forked:
    """Run a module, or a file FILE.py, with exactly this environment, forked from a process that has imported vLLM."""
    global _preloaded
    with _making:
        if _preloaded is None:
            _preloaded = _Preloaded()
            atexit.register(_preloaded.close)
    return _preloaded.start(command, cwd, env, out, err)


def finish(
    command: Sequence[str], cwd: Path, env: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run such a command to its end, as `subprocess.run` does.

    Raises:
        subprocess.TimeoutExpired: it took too long, and was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(command, cwd, env, out, err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(command), code, out.read_text(), err.read_text())


# The other end


def _preload() -> None:
    from metaalign_server.cli import prepare_environment

    prepare_environment()
    for module in ("metaalign_server.serving.launch", "tests.server.twin"):
        importlib.import_module(module)

    assert threading.active_count() == 1  # threads do not survive a fork
    gc.collect()
    gc.freeze()  # else the first collection in each server would copy all that it shares


def _become(request: dict[str, Any]) -> None:
    """In the forked process: be `python -m MODULE …` or `python FILE.py …`."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)  # tests that are killed leave no servers behind
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(request["cwd"])
    wanted: dict[str, str] = request["env"]
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    # No more than must be: how a process renames itself, as the engine's do, depends on where its environment lies.
    os.environ.update(wanted.items() - os.environ.items())
    measuring = coverage.process_startup()
    if measuring is not None:  # the server, not the engine that it forks: there is little of ours in it
        os.register_at_fork(after_in_child=measuring.stop)
    program, *arguments = request["command"]
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        sys.modules.pop(program, None)  # it is run as the main module, not the one that was imported
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _exit_code(error: BaseException | None) -> int:
    """What Python would exit with; prints what Python would print."""
    if error is None:
        return 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return error.code or 0
    if isinstance(error, SystemExit):
        print(error.code, file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1


def _serve(sock: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, until nobody asks any more; in a forked process, what it was forked for."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: set[int] = set()
    with sock, sock.makefile("rb") as requests:
        while True:
            awaited: list[Any] = [sock, woken]
            ready, _, _ = select.select(awaited, [], [])
            if woken in ready:
                os.read(woken, 4096)
                for pid in list(running):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        running.remove(pid)
                        _say(sock, pid=pid, exit_code=os.waitstatus_to_exitcode(status))
            if sock in ready:
                line = requests.readline()
                if not line:
                    return None
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(woken)
                    os.close(wake)
                    request: dict[str, Any] = json.loads(line)
                    return request
                running.add(pid)
                _say(sock, pid=pid)


def _say(sock: socket.socket, **said: int) -> None:
    with suppress(BrokenPipeError):
        sock.sendall(json.dumps(said).encode() + b"\n")


def main(descriptor: int) -> None:
    """Serve the tests at the other end of the socket."""
    _preload()
    request = _serve(socket.socket(fileno=descriptor))
    if request is None:
        return
    error: BaseException | None = None
    try:
        _become(request)
    except BaseException as raised:  # noqa: BLE001 - printed, as Python does
        error = raised
    code = _exit_code(error)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking a frozen heap apart takes long, and vLLM's libraries would complain about what is left of it.
    os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
