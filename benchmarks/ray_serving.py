"""Measures routing under Ray Serve, and kills a replica under load.

python -m benchmarks.ray_serving [--preferences 64] [--requests 640] [--blocks 300] [--report FILE]

`make ray-test` runs it in an environment with Ray. Two replicas on this machine serve the demo checkpoint with a prefix
cache that holds the Meta-Prompts of about half of the preferences. First it compares the share of prompt tokens that
came from the cache when requests go to a random replica and when they go by their preferences. Then it kills a replica
while requests are under way. It fails if routing does not pay (1.5 times), or if a request is lost that had not begun
to stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import ray
from ray import serve
from tests.processes import free_port

from metaalign_server.serving.ray import Options, app

BLOCK = 32  # of tokens; the smallest that the engine for CPUs takes
ANIMALS = "otter fox owl beaver bear wolf heron badger camel zebra seal goat".split()
PAID = 1.5


def body(preference: int, question: int, *, stream: bool = False, max_tokens: int = 4) -> dict[str, Any]:
    """One request; the texts of two preferences differ from their first word on."""
    words = random.Random(preference).choices(ANIMALS, k=250)
    return {
        "model": "metaalign-demo",
        "messages": [{"role": "user", "content": f"Tell me about the {ANIMALS[question % len(ANIMALS)]}."}],
        "preferences": {"system": {"info": f"Number {preference}. " + " ".join(words)}},
        "temperature": 0,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": stream,
    }


async def cached_rate(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The share of prompt tokens that came from the prefix cache, after every preference was sent once."""
    chooser = random.Random(7)
    numbers = list(range(arguments.preferences))
    order = [chooser.choice(numbers) for _ in range(arguments.requests)]
    places = asyncio.Semaphore(arguments.concurrency)
    tokens: Counter[str] = Counter()

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def ask(preference: int, question: int, *, count: bool) -> None:
            async with places:
                answer = await client.post("/v1/chat/completions", json=body(preference, question))
            usage = answer.raise_for_status().json()["usage"]
            if count:
                tokens["prompt"] += usage["prompt_tokens"]
                tokens["cached"] += (usage["prompt_tokens_details"] or {}).get("cached_tokens", 0)

        await asyncio.gather(*(ask(preference, 0, count=False) for preference in numbers))
        started = time.monotonic()
        await asyncio.gather(*(ask(preference, i, count=True) for i, preference in enumerate(order)))
        seconds = time.monotonic() - started
    return {
        "cached": round(tokens["cached"] / tokens["prompt"], 3),
        "prompt_tokens": round(tokens["prompt"] / len(order), 1),
        "requests_per_second": round(len(order) / seconds, 1),
    }


def replica_processes() -> list[psutil.Process]:
    """The processes of this machine's replicas, which are descendants of this one."""
    below = psutil.Process().children(recursive=True)
    return [one for one in below if " ".join(one.cmdline()).startswith("ray::ServeReplica:default:Server")]


async def kill_under_load(url: str, arguments: argparse.Namespace) -> dict[str, int]:
    """What became of requests, half of them streams, while one of two replicas was killed."""
    found: Counter[str] = Counter()
    stop = time.monotonic() + arguments.seconds

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def ask(worker: int) -> None:
            number = worker
            while time.monotonic() < stop:
                number += arguments.concurrency
                stream = number % 2 == 0
                request = body(number % arguments.preferences, number, stream=stream, max_tokens=24)
                begun, status, text = False, 0, ""
                try:
                    async with client.stream("POST", "/v1/chat/completions", json=request) as answer:
                        status = answer.status_code
                        async for part in answer.aiter_text():
                            begun, text = True, text + part
                    whole = "[DONE]" in text if stream else status == 200 and "usage" in text
                except httpx.HTTPError:
                    whole = False
                if whole:
                    found["answered"] += 1
                elif stream and begun and status == 200:
                    found[
                        "streams broken off with an error event" if '"error"' in text else "streams cut"
                    ] += 1
                else:
                    found["lost"] += 1

        async def kill() -> None:
            await asyncio.sleep(arguments.seconds / 4)
            victim = replica_processes()[0]
            victim.send_signal(signal.SIGKILL)
            found["killed"] += 1

        await asyncio.gather(kill(), *(ask(worker) for worker in range(arguments.concurrency)))
    return dict(found)


def deploy(routing: str, arguments: argparse.Namespace) -> None:
    """Start the application with two replicas, and wait for it."""
    flags = f"--num-gpu-blocks-override {arguments.blocks} --block-size {BLOCK} --max-num-seqs 8"
    flags += " --enable-prompt-tokens-details --stall-seconds 60"
    options = Options(min_replicas=2, max_replicas=2, target_ongoing_requests=8, routing=routing, flags=flags)
    serve.run(app(options), route_prefix="/")


def main() -> int:
    """Measure, print, and fail if a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preferences", type=int, default=64)
    parser.add_argument("--requests", type=int, default=640)
    parser.add_argument("--blocks", type=int, default=300, help="of 32 tokens, in each replica's cache")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of load while a replica is killed")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "METAALIGN_DATABASE_URL": f"sqlite:///{folder}/metaalign.db",
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        report: dict[str, Any] = {
            "setting": {name: value for name, value in vars(arguments).items() if name != "report"}
        }
        for routing in ("random", "preferences"):
            deploy(routing, arguments)
            report[routing] = asyncio.run(cached_rate(url, arguments))
            print(routing, json.dumps(report[routing]), flush=True)
        report["times"] = round(report["preferences"]["cached"] / max(report["random"]["cached"], 1e-9), 2)
        print("cached-token rate, times that of random:", report["times"], flush=True)
        report["kill"] = asyncio.run(kill_under_load(url, arguments))
        print("a replica killed under load:", json.dumps(report["kill"]), flush=True)
        serve.shutdown()
        ray.shutdown()
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if report["times"] >= PAID and not report["kill"].get("lost") else 1


if __name__ == "__main__":
    sys.exit(main())
