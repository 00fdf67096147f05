"""`make stack-test`: the deployment without containers, from the same configuration files. Needs Debian's packages.

PostgreSQL, Redis, nginx, Prometheus and Alertmanager run as plain processes, two servers behind nginx. Then:

1. a smoke test through nginx: TLS, keys, limits of the edge, a stream that arrives as it is made;
2. a rolling restart of both servers under load: no request fails, and every stream is finished;
3. one server is killed under load: no request fails whose answer had not begun;
4. an accident and a restore of the backup that was made before it.

The exit code is 1 if something is not as promised. Figures are printed; `docs/reliability.md` has those of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from metaalign_server.cli import STORE_UNUSABLE
from metaalign_server.settings import Settings
from tests import preloaded
from tests.databases import Daemon, postgres_program, running_postgres
from tests.preloaded import Forked
from tests.processes import ROOT, environment, free_port
from tests.stack.nginx import configure, make_secrets

START_SECONDS = 600.0
"""Of a server, on a machine that is busy with other things."""
QUESTION = {"query": "Tell me three things about the otter.", "temperature": 0}
CHAT = {
    "model": "metaalign-demo",
    "messages": [{"role": "user", "content": "Tell me three things about the otter."}],
    "preferences": {"user": {"attributes": {"format": "bullets"}}},
    "temperature": 0,
}


def wait_until(what: str, true: Callable[[], bool], limit: float = START_SECONDS) -> None:
    """Wait for something that takes a while.

    Raises:
        TimeoutError: it did not happen.
    """
    deadline = time.monotonic() + limit
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        time.sleep(0.1)


def answers(url: str, verify: ssl.SSLContext | bool = True) -> bool:
    """Whether a URL answers with 200."""
    try:
        return httpx.get(url, verify=verify, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def program(command: list[str], log: Path, stop: int = signal.SIGTERM) -> Iterator[subprocess.Popen[bytes]]:
    """A program until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@dataclass
class MetaAlign:
    """One of the servers; its process is forked from one that has imported vLLM, as in the other tests."""

    port: int
    secrets: Path
    log: Path
    _process: Forked | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        variables = {
            "METAALIGN_SECRETS_DIR": str(self.secrets),
            "METAALIGN_HOST": "127.0.0.1",
            "METAALIGN_PORT": str(self.port),
            "OMP_NUM_THREADS": "1",
        }
        module = ["metaalign_server.cli", "serve"]
        self._process = preloaded.start(module, self.log.parent, environment(variables), self.log, self.log)

    def ready(self) -> bool:
        """Whether it serves.

        Raises:
            RuntimeError: it has ended.
        """
        if self._process is not None and self._process.poll() == STORE_UNUSABLE:
            self.start()  # as a supervisor does: the database is slow to answer on a busy machine
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(
                f"the server exited with {self._process.returncode}:\n{self.log.read_text()[-3000:]}"
            )
        return answers(f"{self.url}/readyz")

    def stop(self) -> int:
        """Stop it as Docker does, and return its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(Settings.model_fields["drain_seconds"].default + 15)

    def kill(self) -> None:
        """Kill it without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)


def manage(secrets: Path, *words: str) -> None:
    """Run a command of `metaalign-server` with the deployment's secrets."""
    env = environment({"METAALIGN_SECRETS_DIR": str(secrets)})
    done = preloaded.finish(["metaalign_server.cli", *words], secrets, env, timeout=START_SECONDS)
    if done.returncode:
        raise RuntimeError(f"metaalign-server {' '.join(words)}: {done.stderr}")


class Load:
    """Clients that ask without a pause, half of them for streams if there are any, and count what they get."""

    def __init__(self, ask: Callable[[bool], None], clients: int, *, streams: bool = True) -> None:
        self.done = 0
        self.failed: list[str] = []
        self.slowest = 0.0
        self._ask = ask
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(streams and i % 2 == 0,)) for i in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, streamed: bool) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            failure = ""
            try:
                self._ask(streamed)
            except (httpx.HTTPError, AssertionError) as error:
                failure = f"{type(error).__name__}: {error}"
            with self._lock:
                self.done += 1
                self.slowest = max(self.slowest, time.monotonic() - started)
                if failure:
                    self.failed.append(failure)


class Stack:
    """All services, in a folder of their own."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder = folder
        self._running = running
        self._secrets = folder / "secrets"
        make_secrets(folder)
        self.trust = ssl.create_default_context(cafile=folder / "tls/tls.crt")
        self._postgres()
        self._redis()
        manage(self._secrets, "migrate")
        every = "inference,system,profiles:read,profiles:write,metrics,admin"
        manage(self._secrets, "keys", "create", "--scopes", every, "--output", str(folder / "administrator"))
        manage(
            self._secrets, "keys", "create", "--scopes", "metrics", "--output", str(folder / "metrics_key")
        )
        self.key = (folder / "administrator").read_text().strip()
        self.servers = [MetaAlign(free_port(), self._secrets, folder / f"server-{i}.log") for i in (1, 2)]
        for server in self.servers:  # one after the other: starts are what the machine is slow at
            server.start()
            running.callback(server.stop)
            wait_until("a server", server.ready)
        self._nginx()
        self._monitoring()

    def _postgres(self) -> None:
        postgres = self._running.enter_context(running_postgres())
        file = self._secrets / "metaalign_database_url"
        url = file.read_text().strip()
        match = re.fullmatch(r"postgresql://metaalign:([^@]+)@postgres:5432/metaalign", url)
        assert match, "the URL that the deployment makes"
        where = postgres.url.rsplit("@", 1)[1].rsplit("/", 1)[0]
        psql = [str(postgres_program("psql")), "-q", "-d", postgres.url, "-c"]
        for statement in (
            f"CREATE ROLE metaalign LOGIN PASSWORD '{match[1]}'",
            "CREATE DATABASE metaalign OWNER metaalign",
        ):
            subprocess.run([*psql, statement], check=True)
        self.database = f"postgresql://metaalign:{match[1]}@{where}/metaalign"
        self._rewrite(file, self.database)

    def _redis(self) -> None:
        port = free_port()
        self._password = (self.folder / "redis-secrets/password").read_text().strip()
        file = self._secrets / "metaalign_redis_url"
        self._rewrite(file, file.read_text().strip().replace("@redis:6379", f"@127.0.0.1:{port}"))
        include = str(self.folder / "redis-secrets/requirepass.conf")
        command = [
            "redis-server", str(ROOT / "docker/redis/redis.conf"), "--include", include,
            "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder),
        ]  # fmt: skip
        self.redis_port = port
        daemon = Daemon(command, self.folder / "redis.log", lambda: self.redis("PING") == "PONG")
        daemon.start()
        self._running.callback(daemon.stop)

    def redis(self, *words: str) -> str:
        """What Redis answers to a command."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.redis_port), *words],
            env={**os.environ, "REDISCLI_AUTH": self._password}, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def _nginx(self) -> None:
        port = free_port()
        command = configure(self.folder, port, [f"127.0.0.1:{server.port}" for server in self.servers])
        self.port = port
        self.edge = f"https://localhost:{port}"
        log = self.folder / "nginx.log"
        self._running.enter_context(program([*command, "-g", "daemon off;"], log, signal.SIGQUIT))
        wait_until("nginx", lambda: answers(f"{self.edge}/edge/livez", self.trust), 20)

    def _monitoring(self) -> None:
        """Prometheus and Alertmanager with the deployment's files: only addresses and places are different."""
        folder = self.folder / "prometheus"
        shutil.copytree(ROOT / "docker/prometheus", folder)
        ports = [free_port() for _ in range(3)]
        text = (folder / "prometheus.yml").read_text()
        targets = json.dumps([f"127.0.0.1:{server.port}" for server in self.servers])
        text, number = re.subn(
            r"    dns_sd_configs:\n(?:      .*\n)+", f"    static_configs: [{{targets: {targets}}}]\n", text
        )
        assert number == 1
        text = text.replace("/run/secrets/metrics_key", str(self.folder / "metrics_key"))
        text = text.replace("alertmanager:9093", f"127.0.0.1:{ports[1]}").replace(
            "localhost:9090", f"127.0.0.1:{ports[0]}"
        )
        (folder / "prometheus.yml").write_text(text)
        subprocess.run(
            ["promtool", "check", "config", folder / "prometheus.yml"], check=True, stdout=subprocess.DEVNULL
        )
        self.prometheus, self.alertmanager = (f"http://127.0.0.1:{port}" for port in ports[:2])
        self._running.enter_context(
            program(
                [
                    "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{ports[0]}",
                ],
                self.folder / "prometheus.log",
            )
        )  # fmt: skip
        webhook = self.folder / "alert_webhook_url"
        shutil.copy(ROOT / "docker/alertmanager/webhook_url.example", webhook)
        text = (ROOT / "docker/alertmanager/alertmanager.yml").read_text()
        (self.folder / "alertmanager.yml").write_text(
            text.replace("/run/secrets/alert_webhook_url", str(webhook))
        )
        self._running.enter_context(
            program(
                [
                    "prometheus-alertmanager", f"--config.file={self.folder}/alertmanager.yml",
                    f"--storage.path={self.folder}/alertmanager", f"--web.listen-address=127.0.0.1:{ports[1]}",
                    "--cluster.listen-address=",
                ],
                self.folder / "alertmanager.log",
            )
        )  # fmt: skip
        wait_until("Prometheus", lambda: answers(f"{self.prometheus}/-/ready"), 30)
        wait_until("Alertmanager", lambda: answers(f"{self.alertmanager}/-/ready"), 30)

    @staticmethod
    def _rewrite(file: Path, text: str) -> None:
        file.chmod(0o600)
        file.write_text(text)

    def client(self, key: str | None = None) -> httpx.Client:
        """A client of the edge; `key` is the administrator's unless another is given."""
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(base_url=self.edge, verify=self.trust, headers=headers, timeout=60)

    def repeated(self) -> int:
        """How many requests nginx has taken to a second server, by its log."""
        return len(re.findall(r'"upstream":"[^",]+, ', (self.folder / "nginx.log").read_text()))

    def query(self, expression: str) -> list[Any]:
        """What Prometheus answers."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expression}).json()
        return list(answer["data"]["result"])


def ask(client: httpx.Client, streamed: bool) -> None:
    """One request; a stream must be finished as its protocol says."""
    if not streamed:
        answer = client.post("/v1/align", json=QUESTION)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:200]}"
        assert answer.json()["finish_reason"] == "stop"
        return
    with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as stream:
        text = stream.read().decode()
    assert stream.status_code == 200, f"{stream.status_code} {text[:200]}"
    assert text.endswith("data: [DONE]\n\n"), f"a stream ended with {text[-200:]!r}"


def smoke(stack: Stack) -> Iterator[str]:
    """Each thing that the edge promises, as a line."""
    with stack.client() as client, stack.client("ma_live_nobody") as stranger:
        ask(client, streamed=False)
        yield "a question over TLS is answered"
        assert stranger.post("/v1/align", json=QUESTION).status_code == 401
        yield "a wrong key gets 401"
        with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as stream:
            arrived = [time.monotonic() for _ in stream.iter_raw()]
        assert len(arrived) > 10, f"the stream came in {len(arrived)} pieces"
        yield f"a stream arrives as it is made: {len(arrived)} pieces in {arrived[-1] - arrived[0]:.2f} s"
        large = client.post("/v1/align", json=QUESTION | {"query": "x" * 5_000_000})
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
        yield "a body of 5 MB gets 413"
        assert client.get("/readyz", headers={"x-large": "x" * 40_000}).status_code == 400
        yield "headers of 40 kB get 400"
        assert client.get("/metrics").status_code == 404
        yield "metrics are not published"
        profile = {"name": "kept", "preferences": {"system": {"attributes": {"tone": "pirate"}}}}
        assert client.post("/v1/profiles", json=profile).status_code == 201
        for server in stack.servers:
            headers = {"authorization": f"Bearer {stack.key}"}
            used = QUESTION | {"preferences": {"profile": "kept"}}
            answer = httpx.post(f"{server.url}/v1/align", json=used, headers=headers, timeout=60).json()
            assert answer["metaalign"]["profiles"] == ["kept:1"]
        yield "a profile that one server stored is used by both"
        limits = {"name": "limited", "scopes": ["inference"], "limits": {"requests_per_minute": 4}}
        key = client.post("/v1/admin/keys", json=limits).json()["key"]
        with stack.client(key) as limited:
            statuses = [limited.post("/v1/align", json=QUESTION).status_code for _ in range(8)]
        assert statuses.count(200) == 4, statuses
        assert int(stack.redis("DBSIZE")) > 0
        yield "a limit of 4 requests a minute lets 4 through, counted by two servers in Redis"
    with socket.create_connection(("127.0.0.1", stack.port)) as plain:
        slow = stack.trust.wrap_socket(plain, server_hostname="localhost")
        slow.sendall(b"GET /readyz HTTP/1.1\r\nhost:")
        started = time.monotonic()
        slow.settimeout(15)
        slow.recv(1000)
        assert 4 < time.monotonic() - started < 10
        yield f"a header that does not end is cut off after {time.monotonic() - started:.1f} s"
    wait_until("a scrape of both servers", lambda: len(stack.query('up{job="metaalign"} == 1')) == 2, 60)
    assert stack.query("metaalign_ready")
    found = httpx.get(f"{stack.prometheus}/api/v1/alertmanagers").json()["data"]["activeAlertmanagers"]
    assert len(found) == 1
    yield "Prometheus scrapes both servers with its key and knows Alertmanager"


def rolling_restart(stack: Stack, clients: int) -> Iterator[str]:
    """Restart one server after the other as `docker stop` and `docker start` do, while clients ask."""
    with stack.client() as client:
        load = Load(lambda streamed: ask(client, streamed), clients)
        with load:
            time.sleep(5)
            for number, server in enumerate(stack.servers, 1):
                started = time.monotonic()
                code = server.stop()
                stopped = time.monotonic() - started
                assert code == 0, f"exit code {code}"
                server.start()
                wait_until("a server", server.ready)
                away = time.monotonic() - started
                yield f"server {number}: stopped in {stopped:.1f} s, ready again after {away:.1f} s"
                time.sleep(3)
    yield f"{load.done} requests of {clients} clients, {len(load.failed)} failed, slowest {load.slowest:.1f} s"
    yield f"nginx took {stack.repeated()} of them to the other server"
    assert not load.failed, load.failed[:5]


def killed(stack: Stack, clients: int) -> Iterator[str]:
    """Kill a server while it answers, and start it again."""
    server = stack.servers[0]
    repeated = stack.repeated()
    with stack.client() as client:
        load = Load(lambda streamed: ask(client, streamed), clients, streams=False)
        with load:
            time.sleep(5)
            before = load.done
            server.kill()
            time.sleep(5)
            after = load.done
            server.start()
            wait_until("a server", server.ready)
            time.sleep(3)
    yield f"a server killed: {load.done} whole answers to {clients} clients, {len(load.failed)} failed"
    yield f"answers in the 5 s after it: {after - before}; slowest {load.slowest:.1f} s"
    yield f"nginx took {stack.repeated() - repeated} of them to the other server"
    assert not load.failed, load.failed[:5]


def restore(stack: Stack) -> Iterator[str]:
    """Lose a profile, and bring it back from the backup by the commands of docs/reliability.md."""
    backup = stack.folder / "metaalign.dump"
    subprocess.run([postgres_program("pg_dump"), "-Fc", "-f", backup, stack.database], check=True)
    yield f"backup: {backup.stat().st_size} bytes"
    with stack.client() as client:
        assert client.delete("/v1/profiles/kept").status_code in (200, 204)
        assert client.get("/v1/profiles/kept").status_code == 404
    for server in stack.servers:
        assert server.stop() == 0
    started = time.monotonic()
    command = [
        str(postgres_program("pg_restore")),
        "--clean",
        "--if-exists",
        "-d",
        stack.database,
        str(backup),
    ]
    subprocess.run(command, check=True)
    yield f"restored in {time.monotonic() - started:.1f} s"
    stack.servers[0].start()
    wait_until("a server", stack.servers[0].ready)
    with stack.client() as client:
        # On a busy machine a database that has just been filled may be slower than a request waits.
        wait_until("the store", lambda: client.get("/v1/profiles/kept").status_code != 503, 30)
        found = client.get("/v1/profiles/kept")
        assert found.status_code == 200, found.text
        answer = client.post("/v1/align", json=QUESTION | {"preferences": {"profile": "kept"}}).json()
        assert answer["metaalign"]["profiles"] == ["kept:1"]
    yield "the profile is back, and keys still work; the second server was away, and nobody noticed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=8, help="clients during the rolling restart")
    options = parser.parse_args()
    with (
        TemporaryDirectory(prefix="metaalign-stack-") as name,
        ExitStack() as running,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        print(f"services in {folder}", flush=True)
        stack = Stack(folder, running)
        print("all services are up", flush=True)
        try:
            for line in smoke(stack):
                print(f"  {line}", flush=True)
            for line in rolling_restart(stack, options.clients):
                print(f"  {line}", flush=True)
            for line in killed(stack, options.clients):
                print(f"  {line}", flush=True)
            for line in restore(stack):
                print(f"  {line}", flush=True)
        except (AssertionError, TimeoutError) as error:
            print(f"FAILED: {error!r}", flush=True)
            return 1
    print("everything is as promised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
