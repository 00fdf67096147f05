"""`python -m benchmarks.spec_cache [--before CHECKOUT]`: what a rendering costs with few and with many specifications.

In process, without a server. Each count of different specifications is asked for in order, again and again, which is
the worst order for a cache that does not hold them all. The CPU time of one `Aligner.apply` and one prompt is reported
for the first pass, in which nothing is cached, and for the passes after it, with the share that the cache had.

`--before` names another working tree; both render in processes of their own, in turn, by this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.workloads import SHORT_FEW

ROOT = Path(__file__).resolve().parents[1]
MODEL = "checkpoints/metaalign-demo"
LEAST_CALLS = 20_000
"""Of each count, so that few specifications are measured as long as many."""


def measure(model: Path, count: int) -> dict[str, float]:
    """Microseconds of CPU for a request's rendering, of a first pass and of those after it."""
    from prometheus_client import REGISTRY
    from transformers import AutoTokenizer

    from metaalign import parse_preferences
    from metaalign.prompt import PromptAssembler
    from metaalign_server.alignment.aligner import Aligner
    from metaalign_server.alignment.context import RequestContext
    from metaalign_server.engine.rendering import render_conversation

    assembler = PromptAssembler.from_tokenizer(AutoTokenizer.from_pretrained(model))
    bodies = [SHORT_FEW.preferences(f"{number:06d}") for number in range(count)]
    specs = [RequestContext(preferences=parse_preferences(body)) for body in bodies]
    dialogue = [{"role": "user", "content": "Tell me three things about the otter."}]
    render_conversation(Aligner(assembler), specs[0], dialogue, add_generation_prompt=True)

    def one_pass(aligner: Any) -> float:
        began = time.process_time()
        for spec in specs:
            render_conversation(aligner, spec, dialogue, add_generation_prompt=True)
        return (time.process_time() - began) / count * 1e6

    def hits() -> float:
        return REGISTRY.get_sample_value("metaalign_meta_prompts_total", {"result": "hit"}) or 0.0

    aligner = Aligner(assembler)
    first = [one_pass(aligner)]
    while len(first) * count < 1000:  # a pass over few is too short for the clock
        first.append(one_pass(Aligner(assembler)))
    passes = max(1, LEAST_CALLS // count)
    before = hits()
    again = [one_pass(aligner) for _ in range(passes)]
    return {
        "first": statistics.median(first),
        "again": statistics.mean(again),
        "hits": (hits() - before) / (passes * count),
    }


def _in_process(model: Path, count: int, checkout: Path) -> dict[str, float]:
    packages = [checkout / "server", checkout / "clients/python", ROOT]
    command = [sys.executable, "-m", "benchmarks.spec_cache", "--model", str(model), "--only", str(count)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, packages))},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def format_rounds(measured: Mapping[int, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """As a Markdown table: medians over rounds, and the ratios within a round to the tree that was named."""
    lines = [
        "| specifications | | first pass, µs | again, µs | again, cached | again / before |",
        "|---" * 6 + "|",
    ]
    for count, trees in measured.items():
        for name, rounds in trees.items():
            first, again, hits = (
                statistics.median(one[field] for one in rounds) for field in ("first", "again", "hits")
            )
            pairs = zip(rounds, trees.get("before", []), strict=False)
            ratios = [one["again"] / other["again"] for one, other in pairs] if name == "now" else []
            spread = (
                f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            )
            lines.append(f"| {count:,} | {name} | {first:.0f} | {again:.0f} | {hits:.2f} | {spread} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path(MODEL), help="checkpoint folder")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 1024, 1025, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another working tree, measured in turn")
    parser.add_argument(
        "--only", type=int, help=argparse.SUPPRESS
    )  # one measurement, in a process of its own
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.model, options.only)))
        return
    trees = ({"before": options.before} if options.before else {}) | {"now": ROOT}
    measured: dict[int, dict[str, list[dict[str, float]]]] = {}
    for number in range(options.rounds):
        for count in options.counts:
            order = list(trees.items())[:: -1 if number % 2 else 1]
            for name, checkout in order:
                one = _in_process(options.model.resolve(), count, checkout.resolve())
                measured.setdefault(count, {tree: [] for tree in trees})[name].append(one)
    print(format_rounds(measured))


if __name__ == "__main__":
    main()
