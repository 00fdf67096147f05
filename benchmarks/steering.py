"""`python -m benchmarks.steering`: what steering costs, against stock vLLM with as many plain sequences.

Three servers run the whole time: stock vLLM, this server without steering, and this server with it. An answer of k
branches is k sequences in the engine, so c connections that ask for steered answers are compared with k * c connections
that ask stock vLLM for plain ones: the ratio is of sequences per second. Requests without a dial are compared in pairs,
one with steering installed and one without, sent one after the other in changing order.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tests.processes import free_port

from benchmarks.load import (
    MODEL,
    NAME,
    Load,
    Objective,
    ServerProcesses,
    Variant,
    engine_flags,
    measure,
    measure_in_turn,
    running_server,
    terminated,
)
from benchmarks.report import interval
from benchmarks.serving import machine
from metaalign_server.cli import prepare_environment

SYSTEM = "You are a guide of a zoo. Be kind, be brief, and give no medical advice."
USERS = [
    "I like bullet points.",
    "I am ten years old.",
    "I am a chemist and like long words.",
    "I speak like a pirate.",
]
NEVER = Objective(1e9, 1e9)
CASES = [(2, 1), (2, 8), (2, 32), (3, 8), (4, 8)]
"""Branches of an answer, and connections."""
PLAIN_CONNECTIONS = (1, 8)


def _steered(branches: int) -> dict[str, Any]:
    if branches == 4:
        return {"system": SYSTEM, "blend": [{"user": user, "weight": 0.25} for user in USERS]}
    strength = {"user": 1.5} if branches == 2 else {"system": 1.2, "user": 1.5}
    return {"system": SYSTEM, "user": USERS[0], "strength": strength}


@dataclass(frozen=True)
class Servers:
    """What is compared."""

    stock: ServerProcesses
    without: ServerProcesses
    installed: ServerProcesses

    def stock_plain(self) -> Variant:
        """The same tiers as messages, as this server would place them."""
        tiers = [{"role": "system", "content": SYSTEM}, {"role": "user_info", "content": USERS[0]}]
        return Variant("stock", self.stock, lambda number: {"messages": tiers})

    def steered(self, branches: int) -> Variant:
        return Variant(
            f"{branches} branches", self.installed, lambda number: {"preferences": _steered(branches)}
        )

    def plain(self, *, installed: bool) -> Variant:
        field = {"system": SYSTEM, "user": USERS[0]}
        server = self.installed if installed else self.without
        return Variant("plain", server, lambda number: {"preferences": field})


def _start(stack: ExitStack, model: str) -> Servers:
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="metaalign-bench-")))
    flags = ["--model", model, "--served-model-name", NAME, *engine_flags(model)]
    stock = ["-m", "vllm.entrypoints.openai.api_server", *flags, "--disable-uvicorn-access-log"]
    ours = ["-m", "metaalign_server.cli", "serve", "--log-level", "warning", *flags]

    def serve(steering: str) -> ServerProcesses:
        log = folder / f"{steering}.log"
        env = {"METAALIGN_STEERING": steering}
        return stack.enter_context(running_server(ours, free_port(), log, ready="/readyz", env=env))

    stock_server = stack.enter_context(
        running_server(stock, free_port(), folder / "stock.log", ready="/health")
    )
    return Servers(stock_server, serve("false"), serve("true"))


async def measure_branches(
    servers: Servers, options: argparse.Namespace, results: dict[str, Any], save: Callable[[], None]
) -> None:
    """Add a round of every case to `results` at a time."""
    for number in range(options.rounds):
        for case, (branches, connections) in enumerate(CASES):
            count = max(options.least, connections * options.each)
            start = 100_000 * (number * len(CASES) + case)
            loads = {
                "steered": (
                    servers.steered(branches),
                    Load(connections, count, options.max_tokens, False, NEVER),
                ),
                "plain": (
                    servers.stock_plain(),
                    Load(branches * connections, branches * count, options.max_tokens, False, NEVER),
                ),
            }
            order = list(loads) if number % 2 else list(reversed(loads))
            found = {}
            for name in order:
                variant, load = loads[name]
                found[name] = asdict((await measure(variant, load, itertools.count(start))).result)
            results.setdefault(f"{branches} at {connections}", []).append(found)
            save()
            print(".", end="", file=sys.stderr, flush=True)


async def measure_plain(servers: Servers, options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Add pairs of plain requests to `results`."""
    for connections in PLAIN_CONNECTIONS:
        load = Load(connections, options.pairs * 2, options.max_tokens, False, NEVER)
        pairs = await measure_in_turn(
            servers.plain(installed=True), servers.plain(installed=False), load, itertools.count(9_000_000)
        )
        results[str(connections)] = [[one.total, other.total] for one, other in pairs]


def _ratios(branches: int, rounds: Sequence[dict[str, Any]], field: str) -> list[float]:
    return [branches * one["steered"][field] / one["plain"][field] for one in rounds]


def _range(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def format_report(document: dict[str, Any]) -> str:
    """Two Markdown tables."""
    lines = [
        "| branches | connections | sequences/s, steered / stock | engine CPU of a sequence |",
        "|---|---|---|---|",
    ]
    for case, rounds in document["branches"].items():
        branches, connections = map(int, case.split(" at "))
        # CPU is per request: a steered one is as many sequences as it has branches.
        cpu = [one["steered"]["engine_cpu"] / branches / one["plain"]["engine_cpu"] for one in rounds]
        rate = _ratios(branches, rounds, "requests_per_second")
        lines.append(f"| {branches} | {connections} | {_range(rate)} | {_range(cpu)} |")
    lines += [
        "",
        "| connections | pairs | time of a plain answer, installed / not installed |",
        "|---|---|---|",
    ]
    for connections, pairs in document["plain"].items():
        values = np.array(pairs)
        lines.append(f"| {connections} | {len(pairs)} | {interval(values, _medians, '.3f')} |")
    return "\n".join(lines) + "\n"


def _medians(values: Any) -> float:
    return float(np.median(values[:, 0]) / np.median(values[:, 1]))


def main() -> None:
    """Measure and write the report; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steering", description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rounds", type=int, default=4, help="alternating measurements of each case")
    parser.add_argument("--each", type=int, default=2, help="requests of a connection in a measurement")
    parser.add_argument("--least", type=int, default=8, help="requests of a measurement at least")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of plain requests")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path("steering.json"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()
    document: dict[str, Any] = {"machine": machine("benchmarks.steering"), "branches": {}, "plain": {}}

    def save() -> None:
        options.output.write_text(json.dumps(document), encoding="utf-8")

    with ExitStack() as stack:
        servers = _start(stack, options.model)
        asyncio.run(measure_branches(servers, options, document["branches"], save))
        asyncio.run(measure_plain(servers, options, document["plain"]))
        save()
    print(format_report(document))


if __name__ == "__main__":
    main()
