"""`python -m benchmarks.serving_loops`: closed and open loop, aged and fresh servers, one specification and many.

Variants A (stock vLLM, the tiers as messages) and C (this server, `preferences`) of `benchmarks.serving`, each on two
servers: one that has just started, and one that has answered `--age` requests before. All four run the whole time.

In the closed loop, each of `--concurrency` connections sends its next request when the last one is answered. In the
open loop, requests arrive as a Poisson process, drawn with a seed, whatever has been answered by then; their times
count from when they were to be sent. Its rate is `--load` of what stock vLLM answered per second in the closed loop
of the first round.

Rounds begin with another variant each time. In a round all variants get the same requests at the same seconds, so
that their requests make pairs: ratios of medians have 95 % intervals by resampling these pairs over all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shlex
import signal
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.load import (
    MODEL,
    Load,
    Objective,
    Variant,
    arrivals,
    engine_flags,
    measure,
    percentile,
    start_servers,
    terminated,
)
from benchmarks.report import interval
from benchmarks.serving import OPERATOR, PREFERENCES, STOCK, Servers, Variants, machine
from benchmarks.workloads import Workload
from metaalign_server.cli import prepare_environment

WORKLOADS = [Workload("one", 8, 1), Workload("many", 8, 1024)]
TITLES = {"one": "one specification", "many": "1,024 specifications"}
COMPARED = [
    ("C/A, fresh", "C fresh", "A fresh"),
    ("C/A, aged", "C aged", "A aged"),
    ("aged/fresh, A", "A aged", "A fresh"),
    ("aged/fresh, C", "C aged", "C fresh"),
]
LOOPS = ("closed", "open")
AGEING_CONNECTIONS = 32
OBJECTIVE = Objective(200.0, 20.0)

Rounds = Sequence[Mapping[str, Any]]
"""By variant: a `benchmarks.load.Measured` as a dictionary."""


async def _used(variants: Sequence[Variant], count: int, first: int) -> None:
    """Send short requests to each variant, which are not measured."""
    load = Load(AGEING_CONNECTIONS, max(1, count - AGEING_CONNECTIONS), 1, False, OBJECTIVE)
    for variant in variants:
        done = await measure(variant, load, itertools.count(first))
        print(
            f"{variant.name}: {count} requests, {done.result.requests_per_second:.0f} per second", flush=True
        )


async def measure_loops(
    variants: Sequence[Variant],
    workload: Workload,
    options: argparse.Namespace,
    results: dict[str, Any],
    save: Callable[[], None],
) -> None:
    """Add all rounds of a workload to `results`, by loop; our servers have rendered each specification before."""
    async with httpx.AsyncClient(timeout=60) as client:
        for variant, number in itertools.product(variants, range(workload.distinct or 0)):
            if variant.name.startswith("C"):
                url = f"{variant.processes.url}/v1/preferences/render"
                body = {"preferences": workload.preferences(workload.key(number))}
                (await client.post(url, json=body, headers=variant.headers)).raise_for_status()
    rounds: dict[str, list[dict[str, Any]]] = results["rounds"]
    rate = options.rate
    for number in range(options.rounds):
        for loop in LOOPS:
            load = Load(
                options.concurrency,
                options.requests,
                options.max_tokens,
                True,
                OBJECTIVE,
                varied=options.varied,
            )
            if loop == "open":
                if rate is None:
                    answered = rounds[LOOPS[0]][0]["A fresh"]["result"]["requests_per_second"]
                    rate = options.load * answered
                results["rate"] = rate
                times = arrivals(rate, options.requests, options.seed + number)
                load = replace(load, arrivals=times)
            start = options.age + (2 * number + LOOPS.index(loop)) * (options.requests + options.concurrency)
            shift = number % len(variants)
            measured = {
                variant.name: asdict(await measure(variant, load, itertools.count(start)))
                for variant in (*variants[shift:], *variants[:shift])
            }
            rounds.setdefault(loop, []).append(measured)
            save()
            print(".", end="", file=sys.stderr, flush=True)


def _pairs(rounds: Rounds, name: str, base: str, field: str) -> Any:
    """Rows of one request's times by both variants."""
    rows = []
    for one in rounds:
        others = {sample["number"]: sample[field] for sample in one[base]["samples"]}
        rows += [(sample[field], others[sample["number"]]) for sample in one[name]["samples"]]
    return np.array(rows)


def _medians(values: Any) -> float:
    return float(np.median(values[:, 0]) / np.median(values[:, 1]))


def _means(values: Any) -> float:
    return float(np.mean(values[:, 0]) / np.mean(values[:, 1]))


def _over_rounds(rounds: Rounds, name: str, base: str, field: str) -> str:
    ratios = [one[name]["result"][field] / one[base]["result"][field] for one in rounds]
    return f"{statistics.median(ratios):.3f}x ({min(ratios):.3f} to {max(ratios):.3f})"


def format_loops(workload: str, document: Mapping[str, Any]) -> str:
    """Two Markdown tables for each loop: what was measured, and the ratios."""
    lines = [f"## {TITLES[workload]}\n", document["prompt"] + "\n"]
    for loop, rounds in document["rounds"].items():
        about = f", {document['rate']:.2f} requests per second" if loop == "open" else ""
        requests = len(rounds[0]["A fresh"]["samples"])
        lines += [f"**{loop} loop{about}**, {len(rounds)} rounds of {requests} requests\n"]
        lines += [
            "| | req/s | TTFT p50 ms | TTFT p99 ms | total p50 ms | API CPU ms/req | cached |",
            "|---" * 7 + "|",
        ]
        for name in ("A fresh", "C fresh", "A aged", "C aged"):
            ttft, total = (
                [sample[field] for one in rounds for sample in one[name]["samples"]]
                for field in ("ttft", "total")
            )
            speed, cpu, cached = (
                statistics.median(one[name]["result"][field] for one in rounds)
                for field in ("requests_per_second", "api_cpu", "cached")
            )
            times = (percentile(ttft, 50), percentile(ttft, 99), percentile(total, 50), cpu)
            cells = " | ".join(f"{value:.1f}" for value in (speed, *times))
            lines.append(f"| {name} | {cells} | {cached:.2f} |")
        lines += [
            "",
            "| | TTFT, medians | TTFT, means | total, medians | API CPU | req/s |",
            "|---" * 6 + "|",
        ]
        for title, name, base in COMPARED:
            first = _pairs(rounds, name, base, "ttft")
            cells = " | ".join(
                [
                    interval(first, _medians, ".3f"),
                    interval(first, _means, ".3f"),
                    interval(_pairs(rounds, name, base, "total"), _medians, ".3f"),
                    _over_rounds(rounds, name, base, "api_cpu"),
                    _over_rounds(rounds, name, base, "requests_per_second"),
                ]
            )
            lines.append(f"| {title} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_loops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    workloads = {workload.name: workload for workload in WORKLOADS}
    parser.add_argument("--model", default=MODEL, help="checkpoint folder")
    parser.add_argument(
        "--workloads", nargs="+", choices=workloads, default=list(workloads), help="default: both"
    )
    parser.add_argument(
        "--age", type=int, default=20_000, help="requests that a server has answered when it is aged"
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=96, help="requests of each measurement")
    parser.add_argument("--concurrency", type=int, default=8, help="connections of the closed loop")
    parser.add_argument("--load", type=float, default=0.6, help="rate of the open loop, as a share")
    parser.add_argument("--rate", type=float, help="the same in requests per second, instead of --load")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals; each round has its own")
    parser.add_argument("--max-tokens", type=int, default=32, help="tokens of each answer")
    parser.add_argument(
        "--varied",
        action="store_true",
        help="answers of 1/8 to 15/8 of these tokens; those of one length end together",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="folder of loops.json and loops.md"
    )
    options = parser.parse_args(arguments)
    if min(options.rounds, options.requests, options.concurrency, options.max_tokens, options.age) < 1:
        parser.error("rounds, requests, connections, tokens and --age must be positive")
    if options.load <= 0 or (options.rate is not None and options.rate <= 0):
        parser.error("--load and --rate must be positive")
    options.workloads = [workloads[name] for name in options.workloads]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()  # both kinds of servers get the same VLLM_* and OMP_* settings
    flags = engine_flags(options.model)
    document: dict[str, Any] = machine("benchmarks.serving_loops") | {
        "engine_flags": shlex.join(flags),
        "age": options.age,
        "workloads": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        """After each round, so that a run that is stopped leaves a report of those before."""
        document["load_average_after"] = os.getloadavg()
        head = f"# Loops and age\n\n`{document['command']}`, {document['date']}, {document['machine']}.\n"
        measured = [format_loops(name, one) for name, one in document["workloads"].items() if one["rounds"]]
        (options.out / "loops.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
        (options.out / "loops.md").write_text("\n".join([head, *measured]), encoding="utf-8")

    with ExitStack() as stack:

        def started() -> Variants:
            stock, ours, _ = start_servers(stack, options.model, flags, {"METAALIGN_API_KEYS": OPERATOR})
            return Variants(Servers(stock, ours, None, None, None))

        pairs = {"aged": started()}
        wanted = [STOCK, PREFERENCES]
        asyncio.run(_used(pairs["aged"].of(WORKLOADS[0], 1, wanted)[0], options.age, 0))
        pairs["fresh"] = started()
        for workload in options.workloads:
            variants, prompt = [], ""
            for age in ("fresh", "aged"):
                found, prompt = pairs[age].of(workload, options.max_tokens, wanted)
                variants += [replace(variant, name=f"{variant.name[0]} {age}") for variant in found]
            results = document["workloads"][workload.name] = {"prompt": prompt, "rounds": {}}
            asyncio.run(measure_loops(variants, workload, options, results, save))
            print(f"\n{format_loops(workload.name, results)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
