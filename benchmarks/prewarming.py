"""`python -m benchmarks.prewarming`: what prefilling ahead gives a label's first request, and takes from others.

Two servers that differ in nothing but `METAALIGN_PREWARM`: N has 0, and W 16. On both, labels move to versions whose
long Meta-Prompts nobody has used.

First requests: once W has prefilled them all, each profile is asked for twice on both servers; the second request finds
its Meta-Prompt cached on either.

Others: while a label moves every `--every` seconds, requests with other preferences go to both servers in turn, pairs
of the same request, one after the other on one connection. Each server is idle while the other one answers, so there
is always time to prefill, and some requests come in the middle of it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from tests.processes import free_port

from benchmarks.load import (
    MODEL,
    NAME,
    Load,
    Objective,
    ServerProcesses,
    Variant,
    measure_in_turn,
    running_server,
    terminated,
)
from benchmarks.report import format_in_turn, interval
from benchmarks.serving import OPERATOR, machine
from benchmarks.workloads import SHORT_FEW, Workload
from metaalign_server.cli import prepare_environment

OTHERS = "W prewarming over N none"
_HEADERS = {"authorization": f"Bearer {OPERATOR}"}


class Labelled:
    """Profiles on one server, each with a Meta-Prompt that no other begins with."""

    def __init__(self, server: ServerProcesses, client: httpx.AsyncClient, sentences: int) -> None:
        self.server = server
        self._client = client
        self._workload = Workload("labelled", sentences, None)

    async def label(self, number: int) -> None:
        """Create a profile and let a label point to it."""
        body = {"name": f"labelled-{number}", "preferences": self._workload.preferences(f"{number:06d}")}
        made = await self._client.post(f"{self.server.url}/v1/profiles", json=body)
        made.raise_for_status()
        path = f"/v1/profiles/labelled-{number}/labels/stable"
        (await self._client.put(f"{self.server.url}{path}", json={"version": 1})).raise_for_status()

    async def prewarmed(self) -> int:
        """How many Meta-Prompts were prefilled for labels."""
        page = (await self._client.get(f"{self.server.url}/metrics")).raise_for_status().text
        found = re.search(r'^metaalign_prewarmed_total\{reason="label"\} (\S+)$', page, re.MULTILINE)
        return int(float(found[1])) if found else 0

    async def first_token(self, number: int) -> tuple[float, int]:
        """Milliseconds to the first token under the label, and the tokens of the prompt."""
        body = {
            "model": f"{NAME}@labelled-{number}",
            "messages": [{"role": "user", "content": "What does an otter eat?"}],
            "max_tokens": 4,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        first, tokens = 0.0, 0
        started = time.perf_counter()
        url = f"{self.server.url}/v1/chat/completions"
        async with self._client.stream("POST", url, json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
                    first = (time.perf_counter() - started) * 1000
                if chunk.get("usage"):
                    tokens = chunk["usage"]["prompt_tokens"]
        return first, tokens


@asynccontextmanager
async def labels_moving(
    places: Sequence[Labelled], numbers: itertools.count[int], every: float
) -> AsyncIterator[None]:
    """Move a label on each server every so many seconds until the block ends."""

    async def move() -> None:
        while True:
            number = next(numbers)
            for place in places:
                await place.label(number)
            await asyncio.sleep(every)

    moving = asyncio.create_task(move())
    try:
        yield
        if moving.done():
            moving.result()
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)


async def measure_first(places: dict[str, Labelled], numbers: Sequence[int]) -> dict[str, Any]:
    """Milliseconds to the first tokens of each profile's first and second request, by server."""
    for number in numbers:
        for place in places.values():
            await place.label(number)
    deadline = time.monotonic() + 120
    while await places["W"].prewarmed() < len(numbers):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"only {await places['W'].prewarmed()} of {len(numbers)} were prefilled in two minutes"
            )
        await asyncio.sleep(0.5)
    times: dict[str, list[float]] = {
        f"{name} {which}": [] for name in places for which in ("first", "second")
    }
    tokens = 0
    for number in numbers:
        for name in sorted(places, reverse=number % 2 == 0):
            for which in ("first", "second"):
                first, tokens = await places[name].first_token(number)
                times[f"{name} {which}"].append(first)
    return {"tokens": tokens, "ms": times}


def _over(one: str, other: str, times: dict[str, list[float]]) -> str:
    pairs = np.array(list(zip(times[one], times[other], strict=True)))
    return interval(pairs, lambda values: float(np.median(values[:, 0] / values[:, 1])), ".2f")


def format_first(measured: dict[str, Any]) -> str:
    """A table of first requests."""
    times = measured["ms"]
    rows = [
        ("first request, not prefilled (N)", "N first", "N second"),
        ("first request, prefilled (W)", "W first", "W second"),
    ]
    lines = [
        f"{len(times['W first'])} profiles, {measured['tokens']} tokens of prompt.\n",
        "| | TTFT p50 ms | over the second request |",
        "|---" * 3 + "|",
    ]
    for name, first, second in rows:
        lines.append(f"| {name} | {np.median(times[first]):.1f} | {_over(first, second, times)}x |")
    lines.append(f"| second request (W) | {np.median(times['W second']):.1f} | |")
    return "\n".join([*lines, ""])


async def measure_all(
    servers: dict[str, ServerProcesses],
    options: argparse.Namespace,
    document: dict[str, Any],
    save: Callable[[], None],
) -> None:
    """Add both parts to the document."""
    async with httpx.AsyncClient(headers=_HEADERS, timeout=120) as client:
        places = {name: Labelled(server, client, options.sentences) for name, server in servers.items()}
        numbers = itertools.count(1)
        document["first"] = await measure_first(places, list(itertools.islice(numbers, options.profiles)))
        save()
        print(format_first(document["first"]), flush=True)
        none, warm = (
            Variant(
                name,
                servers[name],
                lambda number: {"preferences": SHORT_FEW.preferences(SHORT_FEW.key(number))},
                _HEADERS,
            )
            for name in ("N", "W")
        )
        before = await places["W"].prewarmed()
        by_concurrency: dict[str, Any] = {}
        for concurrency in options.concurrency:
            load = Load(concurrency, 2 * options.pairs, 32, True, Objective(200.0, 20.0))
            async with labels_moving(list(places.values()), numbers, options.every):
                pairs = await measure_in_turn(none, warm, load, itertools.count(10))
            by_concurrency[str(concurrency)] = [[asdict(one), asdict(other)] for one, other in pairs]
            document["others"] = {OTHERS: by_concurrency}
            document["prefilled_meanwhile"] = await places["W"].prewarmed() - before
            save()
        print(f"{document['prefilled_meanwhile']} Meta-Prompts were prefilled meanwhile.\n")
        print(format_in_turn(document["others"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prewarming",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--profiles", type=int, default=12, help="whose first requests are measured, at most 16"
    )
    parser.add_argument("--sentences", type=int, default=70, help="of a Meta-Prompt, with 17 tokens each")
    parser.add_argument("--pairs", type=int, default=150, help="of other requests, at each concurrency")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--every", type=float, default=2.0, help="seconds between moves of a label")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of prewarming.json")
    options = parser.parse_args(arguments)
    if not 1 <= options.profiles <= 16 or options.pairs < 1 or options.every <= 0:
        parser.error("--profiles is 1 to 16, --pairs and --every are positive")
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()
    document = machine("benchmarks.prewarming")
    options.out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        (options.out / "prewarming.json").write_text(json.dumps(document) + "\n", encoding="utf-8")

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="metaalign-bench-")))
        command = ["-m", "metaalign_server.cli", "serve", "--model", MODEL, "--served-model-name", NAME]
        servers = {}
        for name, most in (("N", "0"), ("W", "16")):
            env = {
                "METAALIGN_API_KEYS": OPERATOR,
                "METAALIGN_PREWARM": most,
                "METAALIGN_DATABASE_URL": f"sqlite:///{folder}/{name}.db",
            }
            servers[name] = stack.enter_context(
                running_server(
                    [*command, "--log-level", "warning"],
                    free_port(),
                    folder / f"{name}.log",
                    ready="/readyz",
                    env=env,
                )
            )
        asyncio.run(measure_all(servers, options, document, save))
    return 0


if __name__ == "__main__":
    sys.exit(main())
