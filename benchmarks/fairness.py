"""`make fairness` or `python -m benchmarks.fairness [--seconds 15] [--only NAME]`: what a hostile tenant can do.

A real server has two tenants. The quiet one asks for two tokens again and again, first alone, then beside each attack
of the hostile one, which runs in a process of its own. The quiet tenant's p99 must stay within three times its p99
alone plus the time of the largest unit that the server admits, one sequence beside as many as the engine holds.
`/livez`, and a request without a key, must be answered within 250 ms, which takes free cores for the clients besides
those of the server and the engine.

The exit code is 1 if one of this is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.security.world import MODEL, World, open_world

HI = [{"role": "user", "content": "hi"}]
LIVE_SECONDS = 0.25
UNIT_TOKENS = 64
"""Tokens of each sequence that the attacks ask for."""
LARGE: dict[str, Any] = {"n": 64, "max_tokens": UNIT_TOKENS, "temperature": 1, "ignore_eos": True}


@dataclass(frozen=True)
class Target:
    """The server, and the hostile tenant's key."""

    host: str
    port: int
    key: str

    def head(self, length: int, path: str = "/v1/chat/completions") -> bytes:
        """The header of a request with a body of `length` bytes."""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: a",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            f"Content-Length: {length}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def request(self, path: str = "/v1/chat/completions", **body: Any) -> bytes:
        """A whole request."""
        told = {"model": MODEL} | body
        if path == "/v1/chat/completions":
            told = {"messages": HI} | told
        content = json.dumps(told).encode()
        return self.head(len(content), path) + content

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with a small buffer for what is not read."""
        return await asyncio.open_connection(self.host, self.port, limit=1024)


async def unread_streams(target: Target) -> None:
    """Ask for large streams and read nothing."""
    request = target.request(**LARGE, stream=True, logprobs=True, top_logprobs=10)
    while True:
        held = [await target.open() for _ in range(8)]
        for reader, writer in held:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request)
        await asyncio.sleep(5)
        for _, writer in held:
            writer.transport.abort()


async def many_choices(target: Target) -> None:
    """16 prompts with 64 choices each."""
    await _again(target, 2, lambda: target.request("/v1/completions", prompt=["once"] * 16, **LARGE))


async def long_prompts(target: Target) -> None:
    """Prompts that fill the context, none of which is in the cache."""

    def request() -> bytes:
        words = " ".join(random.choice(("red", "tea", "sun", "sea")) for _ in range(1_200))
        return target.request(messages=[{"role": "user", "content": words}], max_tokens=8)

    await _again(target, 64, request)


async def bombs(target: Target) -> None:
    """Schemas that take minutes to compile, each a new one."""

    def request() -> bytes:
        salt = random.random()
        properties = {
            f"k{salt}{n}": {"type": "string", "pattern": "^([a-z]{1,50}[0-9]?){1,50}$"} for n in range(70)
        }
        schema = {"type": "object", "properties": properties}
        return target.request(
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        )

    await _again(target, 16, request)


async def cancelled(target: Target) -> None:
    """Requests whose client leaves at once."""

    async def one() -> None:
        while True:
            _, writer = await target.open()
            writer.write(target.request(**LARGE))
            await asyncio.sleep(random.uniform(0.01, 0.1))
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(16)))


async def idle_sockets(target: Target) -> None:
    """5,000 connections that say nothing."""
    await _hold(target, 5_000, lambda: b"")


async def slow_headers(target: Target) -> None:
    """1,000 connections whose headers never end."""
    await _hold(target, 1_000, lambda: b"POST / HTTP/1.1\r\nX-Slow: ", more=b"x")


async def slow_bodies(target: Target) -> None:
    """1,000 connections whose bodies never end."""
    await _hold(target, 1_000, lambda: target.head(1_000_000) + b"{", more=b" ")


async def _again(target: Target, at_one_time: int, request: Callable[[], bytes]) -> None:
    async def one() -> None:
        while True:
            reader, writer = await target.open()
            writer.write(request())
            with suppress(OSError):
                await reader.read(1)  # the answer has begun, or the connection is closed
            writer.close()

    await asyncio.gather(*(one() for _ in range(at_one_time)))


async def _hold(target: Target, connections: int, start: Callable[[], bytes], more: bytes = b"") -> None:
    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await target.open()
                writer.write(start())
                while not reader.at_eof():
                    if more:
                        writer.write(more)
                        await writer.drain()
                        await asyncio.sleep(1)
                    elif not await reader.read(1):
                        break
                writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    attack.__name__.replace("_", " "): attack
    for attack in (
        unread_streams,
        many_choices,
        long_prompts,
        bombs,
        cancelled,
        idle_sockets,
        slow_headers,
        slow_bodies,
    )
}


def _attack(name: str, target: Target) -> None:
    os.nice(5)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(ATTACKS[name](target))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Times:
    """Seconds that the quiet tenant's requests took, and probes of liveness and of a missing key."""

    asked: list[float]
    live: list[float]

    @property
    def p99(self) -> float:
        """The 99th percentile of the requests."""
        return statistics.quantiles(self.asked, n=100, method="inclusive")[98]


def observe(world: World, seconds: float) -> Times:
    """Ask as the quiet tenant, and probe liveness beside it, for so long."""
    asked: list[float] = []
    live: list[float] = []
    end = time.monotonic() + seconds

    def probe() -> None:
        with httpx.Client(base_url=world.server.url, timeout=120) as client:
            while time.monotonic() < end:
                for path, status in (("/livez", 200), ("/v1/models", 401)):
                    started = time.monotonic()
                    answer = client.get(path)
                    live.append(time.monotonic() - started)
                    assert answer.status_code == status, answer.text
                time.sleep(0.05)

    prober = threading.Thread(target=probe)
    prober.start()
    while time.monotonic() < end or len(asked) < 5:
        started = time.monotonic()
        answer = world.ask("quiet", max_tokens=2)
        asked.append(time.monotonic() - started)
        answer.raise_for_status()
        time.sleep(0.02)
    prober.join()
    return Times(asked, live)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each attack")
    parser.add_argument("--only", choices=sorted(ATTACKS), help="one attack")
    options = parser.parse_args(argv)
    tenants = [{"name": "quiet"}, {"name": "hostile"}]
    failed = False
    with (
        TemporaryDirectory(prefix="metaalign-fairness-") as folder,
        open_world(Path(folder), tenants) as world,
    ):
        address = urlsplit(world.server.url)
        target = Target(str(address.hostname), address.port or 0, world.keys["hostile"])
        observe(world, 2)
        unit = max(world.ask("hostile", **LARGE).elapsed.total_seconds() for _ in range(2))
        print(f"One sequence of {UNIT_TOKENS} tokens beside 63 others: {unit:.2f} s\n")
        print("| attack | p50, ms | p99, ms | p99 alone, ms | allowed, ms | /livez at most, ms | held |")
        print("|---|---|---|---|---|---|---|")
        for name in [options.only] if options.only else ATTACKS:
            alone = observe(world, options.seconds / 2)
            attacker = multiprocessing.get_context("spawn").Process(
                target=_attack, args=(name, target), daemon=True
            )
            attacker.start()
            time.sleep(4)  # it imports, and comes up to speed
            beside = observe(world, options.seconds)
            attacker.kill()
            attacker.join()
            allowed = 3 * alone.p99 + unit
            held = beside.p99 <= allowed and max(beside.live) <= LIVE_SECONDS
            failed |= not held
            figures = (statistics.median(beside.asked), beside.p99, alone.p99, allowed, max(beside.live))
            cells = " | ".join(f"{1000 * figure:,.0f}" for figure in figures)
            print(f"| {name} | {cells} | {'yes' if held else 'no'} |", flush=True)
            time.sleep(3)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
