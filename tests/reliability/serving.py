"""A real server to break: starting it, asking it, waiting for it, and reading its log and metrics.

Durations are read from the server's log, because on a busy machine the test itself may pause for seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.processes import Server, engine_processes, free_port, running

__all__ = [
    "ADMIN",
    "LONG",
    "MODEL",
    "QUESTION",
    "Answer",
    "client",
    "exit_code",
    "log",
    "make_key",
    "metric",
    "outages",
    "process_named",
    "read_stream",
    "said_at",
    "serving",
    "serving_two",
    "time_of",
    "took",
    "until",
]

MODEL = "metaalign-demo"
ADMIN = "operator-key"
QUESTION = "Tell me three things about the otter."
LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 1,
    "max_tokens": 1900,
    "ignore_eos": True,
}
"""A chat request that takes seconds."""


@contextmanager
def serving(
    folder: Path, *flags: str, name: str = "serve", from_nothing: bool = False, **settings: Any
) -> Iterator[Server]:
    """`metaalign-server serve FLAGS` with METAALIGN_* `settings`; other variables are written in capitals.

    The key ADMIN may do everything. See `running` for `from_nothing`.
    """
    port = free_port()
    env = {"OMP_NUM_THREADS": "1", "METAALIGN_API_KEYS": ADMIN}
    for key, value in settings.items():
        env[key if key.isupper() else f"METAALIGN_{key.upper()}"] = str(value)
    command = ["-m", "metaalign_server.cli", "serve", "--port", str(port), *flags]
    url, file = f"http://127.0.0.1:{port}", folder / f"{name}.log"
    with running(command, url, file, env=env, from_nothing=from_nothing) as server:
        yield server


@contextmanager
def serving_two(folder: Path, **settings: Any) -> Iterator[tuple[Server, Server]]:
    """Two such servers, started at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        starts = [serving(folder, name=name, **settings) for name in ("first", "second")]
        first, second = pool.map(stack.enter_context, starts)
        yield first, second


def client(server: Server, key: str = ADMIN, timeout: float = 60) -> httpx.AsyncClient:
    """HTTP with a key."""
    return httpx.AsyncClient(
        base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=timeout, limits=_MANY
    )


_MANY = httpx.Limits(max_connections=200, max_keepalive_connections=50)


async def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until `condition()`, or what it returns when awaited, is true; returns the seconds that it took."""
    started = time.monotonic()
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        passed = time.monotonic() - started
        if value:
            return passed
        if passed > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)


async def exit_code(server: Server, seconds: float = 30) -> int:
    """The server's exit code, after checking that none of its processes is left."""
    await until(lambda: server.process.poll() is not None, seconds, "the server exits")
    await until(lambda: not engine_processes(server.process.pid), 5, "nothing is left behind")
    return int(server.process.returncode)


def process_named(server: Server, name: str) -> psutil.Process:
    """The engine's process whose name ends with `name`: `EngineCore` or `Worker`."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    (found,) = [child for child in children if child.name().endswith(name)]
    return found


async def metric(http: httpx.AsyncClient, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = (await http.get("/metrics")).raise_for_status().text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def make_key(http: httpx.AsyncClient, tenant: str = "default", **options: Any) -> str:
    """A new key of the store with the scope `inference`; the tenant is made if it does not exist."""
    if tenant != "default":
        made = await http.post("/v1/admin/tenants", json={"name": tenant})
        assert made.status_code in (201, 409), made.text
    body = {"tenant": tenant, "scopes": ["inference"]} | options
    answer = await http.post("/v1/admin/keys", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def log(server: Server) -> list[dict[str, Any]]:
    """What the server has logged."""
    lines = server.log_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"time"') and line.endswith("}")]


def outages(server: Server, dependency: str) -> list[dict[str, Any]]:
    """What the server has logged about outages of one of its services."""
    return [entry for entry in log(server) if entry.get("dependency") == dependency]


def time_of(entry: dict[str, Any]) -> float:
    """When something was logged, in seconds since 1970."""
    return datetime.fromisoformat(entry["time"]).timestamp()


def said_at(server: Server, words: str) -> float:
    """When the server last logged `words`."""
    return max(time_of(entry) for entry in log(server) if words in entry["message"])


async def took(server: Server, answer: httpx.Response) -> float:
    """Seconds from the arrival of a request to the end of its answer."""
    mine = answer.headers["x-request-id"]

    def found() -> list[float]:
        return [
            entry["ms"] / 1000 for entry in log(server) if entry.get("request_id") == mine and "ms" in entry
        ]

    await until(found, 10, "the request is logged")
    return found()[0]


@dataclass
class Answer:
    """A stream as it arrives.

    Attributes:
        lines: What came, without blank lines.
        complete: Whether the HTTP answer ended as HTTP says.
    """

    status: int = 0
    lines: list[str] = field(default_factory=list)
    complete: bool = False

    def data(self) -> list[Any]:
        """The content of the `data:` lines."""
        lines = [line.removeprefix("data: ") for line in self.lines if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]


async def read_stream(http: httpx.AsyncClient, path: str, body: dict[str, Any], answer: Answer) -> Answer:
    """Read an answer as a stream until it ends, properly or not."""
    try:
        async with http.stream("POST", path, json=body | {"stream": True}) as response:
            answer.status = response.status_code
            async for line in response.aiter_lines():
                if line:
                    answer.lines.append(line)
                    await asyncio.sleep(0)  # reading buffered data would let nobody else run
        answer.complete = True
    except httpx.TransportError:
        pass
    return answer
