"""`python -m benchmarks.serving [--rounds N] [--seconds S]`: stock vLLM against this server, alternating.

Three variants send the same prompt to the same model with the same engine flags:
A stock vLLM, the tiers written as messages; B this server, the same messages; C this server, `preferences`.
Both servers run the whole time; an idle one costs nothing. Rounds go ABC, BCA, CAB, …; ratios are of one round, and the
median over rounds is reported, because absolute times on a shared machine are noise.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
from tests.processes import Server, free_port, running

from benchmarks.spec_cost import measure_spec_cost
from metaalign_server.cli import prepare_environment

MODEL = "checkpoints/metaalign-demo"
NAME = "metaalign-demo"
PREFERENCES: dict[str, Any] = {
    "system": {
        "info": "You are the guide of a museum. You answer questions of visitors. " * 8,
        "attributes": {"tone": "pirate"},
    },
    "user": {"info": "My name is Ada. I live in Oslo. " * 4, "attributes": {"format": "bullets"}},
}
ANIMALS = (
    "otter",
    "fox",
    "owl",
    "beaver",
    "bear",
    "wolf",
    "heron",
    "badger",
    "camel",
    "zebra",
    "seal",
    "goat",
)


@dataclass(frozen=True)
class Result:
    """One variant in one round; times in milliseconds, CPU of the API process in milliseconds per request."""

    requests_per_second: float
    ttft_p50: float
    ttft_p99: float
    total_p50: float
    total_p99: float
    api_cpu: float


@dataclass(frozen=True)
class Variant:
    """Where to send what."""

    name: str
    server: Server
    tiers: list[dict[str, str]]
    preferences: dict[str, Any] | None

    def body(self, number: int, max_tokens: int) -> dict[str, Any]:
        question = f"Tell me three things about the {ANIMALS[number % len(ANIMALS)]}. ({number})"
        body: dict[str, Any] = {
            "model": NAME,
            "messages": [*self.tiers, {"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "stream": True,
        }
        return body | ({"preferences": self.preferences} if self.preferences else {})


async def _ask(
    session: aiohttp.ClientSession, variant: Variant, number: int, max_tokens: int
) -> tuple[float, float]:
    started = time.perf_counter()
    first = 0.0
    async with session.post(
        f"{variant.server.url}/v1/chat/completions", json=variant.body(number, max_tokens)
    ) as response:
        if response.status != 200:
            raise RuntimeError(f"{variant.name}: {response.status} {await response.text()}")
        async for chunk in response.content.iter_any():
            if (
                not first
                and b'"content":"' in chunk
                and chunk.count(b'"content":""') < chunk.count(b'"content":"')
            ):
                first = time.perf_counter() - started
    return first * 1000, (time.perf_counter() - started) * 1000


async def _measure(
    variant: Variant, concurrency: int, seconds: float, max_tokens: int, numbers: Iterator[int]
) -> Result:
    process = psutil.Process(variant.server.process.pid)  # the API process; the engine is its child
    samples: list[tuple[float, float]] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
        before = process.cpu_times()
        started = time.perf_counter()
        end = started + seconds

        async def worker() -> None:
            while time.perf_counter() < end:
                samples.append(await _ask(session, variant, next(numbers), max_tokens))

        await asyncio.gather(*(worker() for _ in range(concurrency)))
        elapsed = time.perf_counter() - started
        after = process.cpu_times()
    cpu = (after.user + after.system - before.user - before.system) * 1000 / len(samples)
    ttft, total = (sorted(values) for values in zip(*samples, strict=True))
    return Result(len(samples) / elapsed, _p(ttft, 50), _p(ttft, 99), _p(total, 50), _p(total, 99), cpu)


def _p(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)]


def start_servers(stack: ExitStack) -> tuple[Server, Server]:
    """Stock vLLM and ours, with equal engine flags and environment."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    flags = [
        "--enforce-eager",
        "--block-size",
        "32",
        "--max-num-seqs",
        "64",
        "--enable-prompt-tokens-details",
    ]
    flags += ["--tool-call-parser", "hermes", "--enable-auto-tool-choice", "--dtype", "float32"]
    port, stock_port = free_port(), free_port()
    stock_command = [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        MODEL,
        "--served-model-name",
        NAME,
        *flags,
    ]
    stock_command += ["--host", "127.0.0.1", "--port", str(stock_port), "--disable-uvicorn-access-log"]
    stock = stack.enter_context(
        running(stock_command, f"http://127.0.0.1:{stock_port}", folder / "stock.log", ready="/health")
    )
    command = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
    ours = stack.enter_context(running(command, f"http://127.0.0.1:{port}", folder / "ours.log"))
    return stock, ours


def make_variants(stock: Server, ours: Server) -> list[Variant]:
    """A, B, C; checked to be the same prompt."""
    rendered = httpx.post(
        f"{ours.url}/v1/preferences/render", json={"preferences": PREFERENCES}, timeout=60
    ).json()
    tiers = [
        {"role": "system", "content": rendered["system_info"]},
        {"role": "user_info", "content": rendered["user_info"]},
    ]
    variants = [
        Variant("A stock", stock, tiers, None),
        Variant("B ours, messages", ours, tiers, None),
        Variant("C ours, preferences", ours, [], PREFERENCES),
    ]
    prompts = set()
    for variant in variants:
        body = variant.body(0, 1) | {"stream": False, "return_token_ids": True}
        answer = httpx.post(f"{variant.server.url}/v1/chat/completions", json=body, timeout=60).json()
        prompts.add(tuple(answer["prompt_token_ids"]))
    if len(prompts) != 1:
        raise RuntimeError("the variants do not send the same prompt")
    print(f"prompt: {len(prompts.pop())} tokens, of which {rendered['tokens']} are tiers\n")
    return variants


def report(concurrency: int, rounds: list[dict[str, Result]]) -> None:
    """One Markdown table: medians over rounds, then ratios and differences to A within each round."""
    names = list(rounds[0])
    fields = list(asdict(rounds[0][names[0]]))
    print(f"\n**Concurrency {concurrency}**, {len(rounds)} rounds\n")
    print("| | req/s | TTFT p50 ms | TTFT p99 ms | total p50 ms | total p99 ms | API CPU ms/req |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        medians = [statistics.median(getattr(r[name], f) for r in rounds) for f in fields]
        print(f"| {name} | " + " | ".join(f"{m:.1f}" for m in medians) + " |")
    for name in names[1:]:
        ratios = [
            statistics.median(getattr(r[name], f) / getattr(r[names[0]], f) for r in rounds) for f in fields
        ]
        print(f"| {name[0]}/A | " + " | ".join(f"{ratio:.3f}x" for ratio in ratios) + " |")


async def measure_all(
    variants: list[Variant], options: argparse.Namespace
) -> dict[int, list[dict[str, Result]]]:
    """All rounds at all concurrencies."""
    numbers = itertools.count(1)
    results: dict[int, list[dict[str, Result]]] = {}
    for variant in variants:  # warm up
        await _measure(variant, 4, 2.0, options.max_tokens, numbers)
    for concurrency in options.concurrency:
        rounds: list[dict[str, Result]] = []
        for number in range(options.rounds):
            shift = number % len(variants)
            measured = {
                variant.name: await _measure(
                    variant, concurrency, options.seconds, options.max_tokens, numbers
                )
                for variant in variants[shift:] + variants[:shift]
            }
            rounds.append({variant.name: measured[variant.name] for variant in variants})
            print(".", end="", file=sys.stderr, flush=True)
        results[concurrency] = rounds
        report(concurrency, rounds)
    return results


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6, help="rounds at each concurrency")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("build/bench/serving.json"))
    options = parser.parse_args()
    prepare_environment()  # both servers get the same VLLM_* and OMP_* settings
    costs = measure_spec_cost(Path(MODEL), PREFERENCES)
    with ExitStack() as stack:
        results = asyncio.run(measure_all(make_variants(*start_servers(stack)), options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "spec_cost_us": costs,
        "serving": {
            str(c): [{n: asdict(r) for n, r in one.items()} for one in rounds]
            for c, rounds in results.items()
        },
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
