"""Monitoring against the real programs: Prometheus scrapes a real server, and alerts fire and clear.

python -m tests.observability

Needs Debian's `prometheus` and `prometheus-alertmanager`. The configuration is the committed one, with other addresses
and with seconds instead of minutes: every `for` is a second, and every window of a rule 20 seconds.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from dashboards import DASHBOARDS
from tests.databases import Daemon, Postgres, RedisServer, running_postgres, running_redis
from tests.processes import ROOT, Server, command, free_port, running
from tests.reliability.serving import ADMIN, LONG, MODEL, QUESTION, make_key, process_named, until
from tests.reliability.test_optional_services import Collector
from tests.reliability.test_store_faults import BIG

PROMETHEUS = ROOT / "docker/prometheus"
ALERTMANAGER = ROOT / "docker/alertmanager/alertmanager.yml"
PROGRAMS = ("promtool", "amtool", "prometheus", "prometheus-alertmanager")
WINDOW_SECONDS, STALL_SECONDS, MAX_WAITING = 20, 10, 6
FIRE_SECONDS, CLEAR_SECONDS = 40.0, 90.0
METRICS_KEY = "prometheus-key"
CHAT, ALIGN = "/v1/chat/completions", "/v1/align"
SHORT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}

say = print


def check_files(folder: Path) -> None:
    """Have Prometheus's and Alertmanager's own tools check what is committed."""
    rules = [str(file) for file in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    tests = [str(file) for file in sorted((PROMETHEUS / "tests").glob("*.yml"))]
    tool(folder, "promtool", "check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml"))
    tool(folder, "promtool", "check", "rules", "--lint=all", "--lint-fatal", *rules)
    tool(folder, "promtool", "test", "rules", *tests)
    tool(folder, "amtool", "check-config", str(ALERTMANAGER))


def tool(folder: Path, *words: str, given: str | None = None) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(
        words,
        cwd=folder,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}:\n{done.stdout}")
    say(f"ok: {' '.join(Path(word).name for word in words)}")


class Chat:
    """Receives what Alertmanager sends, as a chat's webhook does."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.titles += [attachment["title"] for attachment in body["attachments"]]
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def got(self, title: str) -> bool:
        """Whether a message with this title has come."""
        return title in self.titles

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Monitoring:
    """Prometheus and Alertmanager, started from copies of the committed files."""

    def __init__(self, folder: Path, server_port: int, chat: Chat) -> None:
        self.cleared: set[str] = set()
        self._targets = folder / "targets.json"
        self._server = f"127.0.0.1:{server_port}"
        self.discover()
        port, alerts_port = free_port(), free_port()
        self._url = f"http://127.0.0.1:{port}"
        (folder / "key").write_text(METRICS_KEY)
        (folder / "webhook").write_text(chat.url)
        self._write_prometheus(folder, alerts_port)
        alertmanager = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
        for route in (alertmanager["route"], *alertmanager["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s"}
        alertmanager["receivers"][0]["slack_configs"][0]["api_url_file"] = str(folder / "webhook")
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(alertmanager))
        log = folder / "monitoring.log"
        words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        words.append(f"--web.listen-address=127.0.0.1:{port}")
        self._prometheus = Daemon(words, log, lambda: _answers(f"{self._url}/-/ready"))
        words = ["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml"]
        words += [f"--storage.path={folder}/alerts", "--cluster.listen-address="]
        words.append(f"--web.listen-address=127.0.0.1:{alerts_port}")
        self._alertmanager = Daemon(words, log, lambda: _answers(f"http://127.0.0.1:{alerts_port}/-/ready"))

    def _write_prometheus(self, folder: Path, alerts_port: int) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{alerts_port}"]}]
        ours = config["scrape_configs"][0]
        del ours["dns_sd_configs"], config["scrape_configs"][1]
        ours["file_sd_configs"] = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        ours["authorization"]["credentials_file"] = str(folder / "key")
        (folder / "rules").mkdir()
        for file in (PROMETHEUS / "rules").glob("*.yml"):
            text = re.sub(r"\[\d+[mhd]\]", f"[{WINDOW_SECONDS}s]", file.read_text(encoding="utf-8"))
            text = re.sub(r"^( +for): \w+$", r"\1: 1s", text, flags=re.MULTILINE)
            (folder / "rules" / file.name).write_text(text, encoding="utf-8")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        tool(folder, "promtool", "check", "config", "prometheus.yml")

    @contextmanager
    def running(self) -> Iterator[Monitoring]:
        """Run both until the block ends."""
        daemons = (self._alertmanager, self._prometheus)
        try:
            for daemon in daemons:
                daemon.start()
            yield self
        finally:
            for daemon in daemons:
                daemon.stop()

    def discover(self, found: bool = True) -> None:
        """Let discovery find the server, or nothing."""
        targets = [{"targets": [self._server]}] if found else []
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(targets))
        new.replace(self._targets)

    async def ask(self, expr: str) -> list[float]:
        """The values that Prometheus answers."""
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.get(f"{self._url}/api/v1/query", params={"query": expr})
        data = answer.raise_for_status().json()["data"]
        return [float(sample["value"][1]) for sample in data["result"]]

    async def fires(self, alert: str) -> bool:
        """Whether an alert fires now."""
        return bool(await self.ask(f'ALERTS{{alertname="{alert}", alertstate="firing"}}'))

    async def firing(self, *alerts: str) -> None:
        """Wait until these alerts fire."""
        for alert in alerts:
            seconds = await until(partial(self.fires, alert), FIRE_SECONDS, f"{alert} fires")
            say(f"ok: {alert} fires ({seconds:.0f} s)", flush=True)

    async def clear(self, *alerts: str) -> None:
        """Wait until these alerts do not fire any more."""
        for alert in alerts:

            async def silent(alert: str = alert) -> bool:
                return not await self.fires(alert)

            seconds = await until(silent, CLEAR_SECONDS, f"{alert} clears")
            self.cleared.add(alert)
            say(f"ok: {alert} clears ({seconds:.0f} s)", flush=True)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


class Load:
    """What users do, right and wrong, once a second or so until it is told to stop."""

    def __init__(self, http: httpx.AsyncClient, limited: str) -> None:
        self._http = http
        self._limited = {"authorization": f"Bearer {limited}"}

    async def once(self) -> None:
        """Send one request of each kind."""
        both = {
            "system": {"info": "You help astronomers.", "attributes": {"tone": "formal"}},
            "user": {"attributes": {"tone": "casual"}},
        }
        requests: list[tuple[str, Any, dict[str, str]]] = [
            (CHAT, SHORT, {}),
            (CHAT, SHORT | {"stream": True}, {}),
            (CHAT, SHORT | {"preferences": both}, {}),
            (CHAT, SHORT | {"preferences": both | {"user": {"info": f"I live in {time.time()}."}}}, {}),
            ("/v1/messages", SHORT, {}),
            (ALIGN, {"query": QUESTION, "max_tokens": 8, "preferences": {"profile": "mixed"}}, {}),
            (CHAT, SHORT | {"preferences": {"nonsense": 1}}, {}),
            (ALIGN, {"query": QUESTION}, {"authorization": "Bearer nobody"}),
            (ALIGN, {"query": QUESTION, "max_tokens": 1}, self._limited),
            ("/nothing", {}, {}),
        ]
        await asyncio.gather(*(self._send(*request) for request in requests))

    async def _send(self, path: str, body: Any, headers: dict[str, str]) -> None:
        with suppress(httpx.TransportError):
            await self._http.post(path, json=body, headers=headers)

    @asynccontextmanager
    async def going_on(self) -> Any:
        """Go on in the background until the block ends."""

        async def forever() -> None:
            while True:
                await self.once()
                await asyncio.sleep(0.5)

        task = asyncio.create_task(forever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def many(count: int, ask: Callable[[], Awaitable[object]]) -> None:
    """Ask many times at once, whatever comes of it."""
    await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True)


async def check_dashboards(monitoring: Monitoring) -> int:
    """Wait until every expression of every dashboard has an answer; return how many there are."""
    waiting = [
        (f"{dashboard.title}: {panel.title}", expr)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for expr in panel.queries.values()
    ]
    number = len(waiting)
    deadline = time.monotonic() + 90
    while waiting:
        answers = [(panel, expr, await monitoring.ask(expr)) for panel, expr in waiting]
        waiting = [(panel, expr) for panel, expr, values in answers if all(map(math.isnan, values))]
        if waiting and time.monotonic() > deadline:
            raise SystemExit("\n".join(["no data:", *(f"{panel}: {expr}" for panel, expr in waiting)]))
        await asyncio.sleep(1)
    return number


async def break_everything(
    monitoring: Monitoring,
    http: httpx.AsyncClient,
    load: Load,
    server: Server,
    postgres: Postgres,
    redis: RedisServer,
) -> None:
    """Cause the faults that leave the server running, one after the other."""
    assert postgres.daemon is not None

    await asyncio.to_thread(redis.daemon.kill)
    async with load.going_on():
        await monitoring.firing("MetaAlignRedisDown", "MetaAlignLimitsNotShared")
    await asyncio.to_thread(redis.daemon.start)
    await monitoring.clear("MetaAlignRedisDown", "MetaAlignLimitsNotShared")

    await asyncio.to_thread(postgres.daemon.kill)
    await monitoring.firing("MetaAlignStoreDown")
    await asyncio.to_thread(postgres.daemon.start)
    await monitoring.clear("MetaAlignStoreDown")

    async def flood() -> None:
        while True:
            await many(30, lambda: http.post(CHAT, json=LONG | {"max_tokens": 200}))

    flooding = asyncio.create_task(flood())
    await monitoring.firing("MetaAlignQueueSaturated", "MetaAlignOverloaded")
    flooding.cancel()
    await monitoring.clear("MetaAlignQueueSaturated", "MetaAlignOverloaded")

    async def storm() -> None:
        while True:
            await many(
                5, lambda: http.post(ALIGN, json={"query": "hi"}, headers={"authorization": "Bearer x"})
            )
            await many(5, lambda: load._send(ALIGN, {"query": "hi", "max_tokens": 1}, load._limited))
            await asyncio.sleep(1)

    storming = asyncio.create_task(storm())
    await monitoring.firing("MetaAlignRateLimitStorm", "MetaAlignRefusedKeys")
    storming.cancel()
    await monitoring.clear("MetaAlignRateLimitStorm", "MetaAlignRefusedKeys")

    engine = process_named(server, "EngineCore")
    engine.suspend()
    try:
        late = asyncio.create_task(many(3, lambda: http.post(CHAT, json=SHORT | {"stream": True})))
        await monitoring.firing("MetaAlignEngineSilent", "MetaAlignNotReady")
        await many(20, lambda: http.post(CHAT, json=SHORT))  # 503, because it is not ready
    finally:
        engine.resume()
    await late
    budgets = ["MetaAlignErrorsBurnFast", "MetaAlignErrorsBurnSlowly"]
    budgets += ["MetaAlignLatencyBurnsFast", "MetaAlignLatencyBurnsSlowly"]
    await monitoring.firing(*budgets)
    async with load.going_on():
        await monitoring.clear("MetaAlignEngineSilent", "MetaAlignNotReady", *budgets)

    monitoring.discover(found=False)
    await monitoring.firing("MetaAlignAbsent")
    monitoring.discover()
    await monitoring.clear("MetaAlignAbsent")


async def break_the_file(monitoring: Monitoring, http: httpx.AsyncClient, file: Path) -> None:
    """Cause what only a store in an SQLite file has: a reader that holds up an erasure, and a file that is full."""
    (await http.post("/v1/profiles", json=BIG | {"name": "held"})).raise_for_status()
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM profiles").fetchone()
        deleting = asyncio.create_task(many(1, lambda: http.delete("/v1/profiles/held")))
        await monitoring.firing("MetaAlignErasurePending")
    await deleting
    await monitoring.clear("MetaAlignErasurePending")
    (await http.post("/v1/profiles", json=BIG | {"name": "big"})).raise_for_status()
    while (await http.post("/v1/profiles/big/versions", json=BIG)).status_code != 507:
        pass
    await monitoring.firing("MetaAlignStoreFull")
    await monitoring.clear("MetaAlignStoreFull")


async def watch(
    folder: Path, monitoring: Monitoring, chat: Chat, port: int, tracing: int, stores: Stores
) -> None:
    """Start the server, look at the dashboards, and break what can be broken."""
    postgres, redis = stores
    database = postgres.create_database()
    assert (await asyncio.to_thread(command, database, "migrate"))[0] == 0
    url = f"http://127.0.0.1:{port}"
    words = ["-m", "metaalign_server.cli", "serve", "--port", str(port), "--max-num-seqs", "2"]
    settings = {
        "METAALIGN_API_KEYS": f"{ADMIN},{METRICS_KEY}:metrics",
        "METAALIGN_DATABASE_URL": database,
        "METAALIGN_REDIS_URL": redis.url,
        "METAALIGN_STALL_SECONDS": str(STALL_SECONDS),
        "METAALIGN_MAX_WAITING": str(MAX_WAITING),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{tracing}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OMP_NUM_THREADS": "1",
    }
    limits = httpx.Limits(max_connections=200)
    operator = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=url, headers=operator, timeout=120, limits=limits) as http:
        with running(words, url, folder / "first.log", env=settings) as server:
            limited = await make_key(http, limits={"requests_per_minute": 2})
            profile = {"name": "mixed", "preferences": {"user": "I like short answers."}}
            (await http.post("/v1/profiles", json=profile)).raise_for_status()
            load = Load(http, limited)
            async with load.going_on():
                await monitoring.firing("MetaAlignTracesLost")
                collector = Collector(tracing)
                await monitoring.clear("MetaAlignTracesLost")
                number = await check_dashboards(monitoring)
                say(f"ok: all {number} expressions of the dashboards have data", flush=True)
            text = await http.get("/metrics", headers={"authorization": f"Bearer {METRICS_KEY}"})
            check_metrics(folder, text.raise_for_status().text)
            await break_everything(monitoring, http, load, server, postgres, redis)
            long = asyncio.create_task(many(1, lambda: http.post(CHAT, json=LONG | {"n": 8})))
            await asyncio.sleep(1)
            server.process.send_signal(signal.SIGTERM)
            await monitoring.firing("MetaAlignDrainingTooLong")
            server.process.send_signal(signal.SIGTERM)
            await long
            await monitoring.firing("MetaAlignDown")
        with running(words, url, folder / "second.log", env=settings):
            await monitoring.clear("MetaAlignDown", "MetaAlignDrainingTooLong")
        file = folder / "store.db"
        settings |= {"METAALIGN_DATABASE_URL": f"sqlite:///{file}", "METAALIGN_DATABASE_MAX_BYTES": "500000"}
        with running(words, url, folder / "third.log", env=settings):
            await break_the_file(monitoring, http, file)
    collector.close()
    for alert in ("MetaAlignStoreDown", "MetaAlignDown"):
        for state in ("FIRING", "RESOLVED"):
            title = f"{state} {alert} (critical)"
            await until(partial(chat.got, title), 30, f"the chat gets {title!r}")
    say(f"ok: Alertmanager has sent {len(chat.titles)} messages", flush=True)
    alerts = re.findall(r"alert: (\w+)", (PROMETHEUS / "rules/alerts.yml").read_text(encoding="utf-8"))
    say(f"ok: {len(monitoring.cleared)} alerts fired and cleared; only in promtool's tests:")
    say(f"    {', '.join(name for name in alerts if name not in monitoring.cleared)}", flush=True)


Stores = tuple[Postgres, RedisServer]


def check_metrics(folder: Path, text: str) -> None:
    """Have promtool look at our own metrics; names of vLLM's contain a colon, which it does not like."""
    ours = [line for line in text.splitlines() if re.match(r"(?:# (?:HELP|TYPE) )?metaalign_", line)]
    kept = [line for line in ours if "_created" not in line]
    tool(folder, "promtool", "check", "metrics", given="\n".join(kept) + "\n")


def main() -> None:
    """Check everything; exits with 1 and a reason at the first thing that is wrong."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise SystemExit(
            f"{', '.join(missing)} not found: install Debian's `prometheus` and `prometheus-alertmanager`"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="metaalign-monitoring-")))
        check_files(folder)
        stores = stack.enter_context(running_postgres()), stack.enter_context(running_redis())
        port, chat = free_port(), Chat()
        stack.callback(chat.close)
        monitoring = stack.enter_context(Monitoring(folder, port, chat).running())
        try:
            asyncio.run(watch(folder, monitoring, chat, port, free_port(), stores))
        except AssertionError as error:
            raise SystemExit(f"failed: {error}") from error


if __name__ == "__main__":
    main()
