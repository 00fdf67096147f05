"""`python -m benchmarks.growth [--plot FILE]`: what long Meta-Prompts cost, and many stored profiles.

Long Meta-Prompts: variants A (stock vLLM, the tiers as messages) and C (this server, `preferences`) of
`benchmarks.serving`, alternating, on one connection, with Meta-Prompts of 100 tokens up to what `preferences` may hold.
A warm Meta-Prompt has been sent before; a cold one differs from all others from its first words on. The demo
checkpoint is served with more positions than it was trained on, which changes its answers and not their cost.

Stored profiles: a profile's look-up, and the resolution and rendering of its Meta-Prompt, with one to a million
profiles in an SQLite file: for the first time, and when it is known. Nothing else is kept from one count to the next.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop
from transformers import AutoTokenizer

from benchmarks.load import MODEL, Load, Objective, engine_flags, measure, start_servers, terminated
from benchmarks.platform_cost import fill
from benchmarks.report import interval
from benchmarks.serving import OPERATOR, PREFERENCES, STOCK, Servers, Variants
from benchmarks.workloads import Workload
from metaalign.prompt import Layer, PromptAssembler
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.layers import StoredLayers
from metaalign_server.callers import StaticKeys
from metaalign_server.cli import prepare_environment
from metaalign_server.platform.lookups import Lookups
from metaalign_server.platform.server_secret import Secret
from metaalign_server.store.database import Database

SENTENCES = [1, 8, 26, 58, 120, 246, 465]
PROFILES = [1, 1_000, 100_000, 1_000_000]
POSITIONS = 9_216
WORDS = {"cold": None, "warm": 1}


async def _lengths(
    variants: Variants, options: argparse.Namespace, measured: list[dict[str, Any]], save: Callable[[], None]
) -> None:
    """Add measurements of each length to `measured`; requests of a round are the same for both variants."""
    numbers = itertools.count(10, options.requests + 1)
    for sentences, (word, distinct) in itertools.product(SENTENCES, WORDS.items()):
        # A cold Meta-Prompt of 8,000 tokens takes the demo's engine six seconds.
        requests = max(4, options.requests * 26 // max(26, sentences))
        load = Load(1, requests, 4, True, Objective(200.0, 20.0))
        workload = Workload(f"{word}-{sentences}", sentences, distinct)
        compared, prompt = variants.of(workload, 4, [STOCK, PREFERENCES])
        by_round = []
        for number in range(options.rounds):
            first = next(numbers)
            order = compared[:: -1 if number % 2 else 1]
            by_round.append(
                {v.name[0]: asdict(await measure(v, load, itertools.count(first))) for v in order}
            )
        tokens = re.search(r"(\d+) of them", prompt)
        one = {"tokens": int(tokens[1]) if tokens else 0, "kind": word, "rounds": by_round}
        measured.append(one)
        save()
        print(_length_row(one), flush=True)


def _ttft(one: dict[str, Any], name: str) -> list[float]:
    return [
        sample["ttft"] for r in one["rounds"] for sample in sorted(r[name]["samples"], key=lambda s: s["at"])
    ]


def _cpu(one: dict[str, Any], name: str) -> float:
    return float(statistics.median(r[name]["result"]["api_cpu"] for r in one["rounds"]))


def _medians(values: Any) -> float:
    return float(np.median(values[:, 1]) / np.median(values[:, 0]))


def _length_row(one: dict[str, Any]) -> str:
    pairs = np.array(list(zip(_ttft(one, "A"), _ttft(one, "C"), strict=True)))
    ratios = [r["C"]["result"]["api_cpu"] / r["A"]["result"]["api_cpu"] for r in one["rounds"]]
    stock, ours = np.median(pairs, axis=0)
    return (
        f"| {one['tokens']:,} | {one['kind']} | {stock:.1f} | {ours:.1f} | {interval(pairs, _medians, '.2f')}"
        f" | {_cpu(one, 'A'):.1f} | {_cpu(one, 'C'):.1f}"
        f" | {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 2**20


async def _stored(count: int, asked: int, assembler: PromptAssembler) -> dict[str, float]:
    """Median microseconds of a profile's look-up and of the rendering after it, when it is new and when it is known."""
    times: dict[str, list[float]] = {}
    with TemporaryDirectory(prefix="metaalign-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'store.db'}")
        began = time.perf_counter()
        await fill(database, count)
        filled = time.perf_counter() - began
        drawn = random.Random(1).sample(range(1, count + 1), min(asked, count))
        # A profile alone cannot be new twice, so each pass over few begins with nothing in memory.
        for _ in range(-(-min(asked, 200) // len(drawn))):
            lookups = Lookups(
                database, Secret("of a benchmark"), StaticKeys(()), open_allowed=False, ttl=3600
            )
            aligner = Aligner(assembler)
            for kind, number in itertools.product(("first", "known"), drawn):
                began = time.perf_counter()
                found = await lookups.find_profiles("default", [f"profile-{number}"], "ada")
                looked_up = time.perf_counter()
                layers = tuple(
                    Layer(f"profile {p.reference}", p.preferences.system, p.preferences.user) for p in found
                )
                key = tuple((p.profile_id, p.number) for p in found)
                aligner.apply(None, stored=StoredLayers(layers=layers, key=key))
                done = time.perf_counter()
                times.setdefault(f"{kind} look-up", []).append((looked_up - began) * 1e6)
                times.setdefault(f"{kind} rendering", []).append((done - looked_up) * 1e6)
        await database.close()
        size = _megabytes(Path(folder))
    result = {name: statistics.median(values) for name, values in times.items()}
    result["first look-up, 99 %"] = float(np.percentile(times["first look-up"], 99))
    result |= {"profiles": count, "MiB": size, "fill, s": filled}
    cells = [
        f"{result[f'{kind} {what}']:.0f}" for kind in ("first", "known") for what in ("look-up", "rendering")
    ]
    print(
        f"| {count:,} | {size:,.1f} | {' | '.join(cells)} | {result['first look-up, 99 %']:.0f} |", flush=True
    )
    return result


def _plot(path: Path, lengths: Sequence[dict[str, Any]], stored: Sequence[dict[str, float]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "metaalign"
    import matplotlib.pyplot as plt

    figure, (ttft, cpu, look_up) = plt.subplots(1, 3, figsize=(14, 3.8))
    for kind, name in itertools.product(WORDS, "AC"):
        of_kind = [one for one in lengths if one["kind"] == kind]
        tokens = [one["tokens"] for one in of_kind]
        drawn: dict[str, Any] = {
            "marker": "o" if name == "C" else "x",
            "linestyle": "-" if kind == "warm" else "--",
        }
        label = f"{name}, {kind}"
        ttft.plot(tokens, [statistics.median(_ttft(one, name)) for one in of_kind], label=label, **drawn)
        cpu.plot(tokens, [_cpu(one, name) for one in of_kind], label=label, **drawn)
    counts = [one["profiles"] for one in stored]
    for line in ("first look-up", "first rendering", "known look-up", "known rendering"):
        look_up.plot(counts, [one[line] for one in stored], marker="o", label=line)
    ttft.set_title("TTFT p50, ms")
    cpu.set_title("API CPU, ms per request")
    look_up.set_title("stored profiles, µs per request")
    for axis, label in (
        (ttft, "tokens of the Meta-Prompt"),
        (cpu, "tokens of the Meta-Prompt"),
        (look_up, "profiles"),
    ):
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    ttft.set_yscale("log")
    look_up.set_yscale("log")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=MODEL, help="checkpoint folder")
    parser.add_argument("--rounds", type=int, default=4, help="of each length")
    parser.add_argument("--requests", type=int, default=12, help="of each variant in a round")
    parser.add_argument("--profiles", type=int, nargs="+", default=PROFILES, help="how many are stored")
    parser.add_argument("--lookups", type=int, default=2_000, help="how many are looked up")
    parser.add_argument("--plot", type=Path, help="SVG to draw")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of growth.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()
    assembler = PromptAssembler.from_tokenizer(AutoTokenizer.from_pretrained(options.model))
    print(
        "| profiles | MiB | first look-up, µs | first rendering | known look-up | known rendering | first, 99 % |"
    )
    print("|---" * 7 + "|")
    stored = [uvloop.run(_stored(count, options.lookups, assembler)) for count in options.profiles]
    more = json.dumps({"max_position_embeddings": POSITIONS})
    flags = [*engine_flags(options.model), "--hf-overrides", more, "--max-model-len", str(POSITIONS)]
    print("\n| tokens | | TTFT A, ms | TTFT C, ms | C/A | CPU A, ms | CPU C, ms | C/A |\n" + "|---" * 8 + "|")
    options.out.mkdir(parents=True, exist_ok=True)
    lengths: list[dict[str, Any]] = []

    def save() -> None:
        document = {"stored": stored, "lengths": lengths}
        (options.out / "growth.json").write_text(json.dumps(document) + "\n", encoding="utf-8")

    with ExitStack() as stack:
        stock, ours, _ = start_servers(stack, options.model, flags, {"METAALIGN_API_KEYS": OPERATOR})
        variants = Variants(Servers(stock, ours, None, None, None))
        asyncio.run(_lengths(variants, options, lengths, save))
    if options.plot:
        _plot(options.plot, lengths, stored)


if __name__ == "__main__":
    main()
