"""`python -m benchmarks.report build/bench/serving.json`: what `benchmarks.serving` measured, as Markdown and plots.

Reads the JSON file, and writes `report.md` and one plot for each workload beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import percentile
from benchmarks.spec_cost import format_spec_cost

__all__ = ["interval", "write_report"]

COLUMNS = {
    "requests_per_second": "req/s",
    "goodput": "goodput req/s",
    "ttft_p50": "TTFT p50 ms",
    "ttft_p99": "TTFT p99 ms",
    "itl_p50": "ITL p50 ms",
    "itl_p99": "ITL p99 ms",
    "total_p50": "total p50 ms",
    "total_p99": "total p99 ms",
    "api_cpu": "API CPU ms/req",
    "engine_cpu": "engine CPU ms/req",
    "cached": "cached share",
}
_OF_STREAMS = ("ttft", "itl")
_PLOTTED = (
    "requests_per_second",
    "goodput",
    "cached",
    "ttft_p50",
    "itl_p50",
    "total_p50",
    "api_cpu",
    "engine_cpu",
)

Round = Mapping[str, Mapping[str, Any]]
"""By variant: a `benchmarks.load.Measured` as a dictionary."""


def _values(rounds: Sequence[Round], name: str, field: str) -> list[float]:
    return [float(one[name]["result"][field]) for one in rounds]


def _ratios(rounds: Sequence[Round], name: str, base: str, field: str) -> list[float]:
    pairs = zip(_values(rounds, name, field), _values(rounds, base, field), strict=True)
    return [x / a if a else float("nan") for x, a in pairs]


def _row(name: str, values: Sequence[float], fields: Sequence[str], ratio: bool = False) -> str:
    def form(value: float, field: str) -> str:
        if np.isnan(value):
            return ""
        return f"{value:.3f}x" if ratio else f"{value:.{2 if field == 'cached' else 1}f}"

    return f"| {name} | " + " | ".join(map(form, values, fields)) + " |"


def format_rounds(rounds: Sequence[Round], *, stream: bool) -> str:
    """A Markdown table: medians over rounds, then the median of the ratios to the first variant within each round."""
    base, *others = rounds[0]
    fields = [field for field in COLUMNS if stream or not field.startswith(_OF_STREAMS)]
    lines = ["| | " + " | ".join(COLUMNS[field] for field in fields) + " |", "|---" * (len(fields) + 1) + "|"]
    for name in rounds[0]:
        lines.append(_row(name, [statistics.median(_values(rounds, name, f)) for f in fields], fields))
    for name in others:
        medians = [statistics.median(_ratios(rounds, name, base, f)) for f in fields]
        lines.append(_row(f"{name[0]}/{base[0]}", medians, fields, ratio=True))
    lines.append("")
    speeds = []
    for name in others:
        speed = _ratios(rounds, name, base, "requests_per_second")
        speeds.append(f"{name[0]} {statistics.median(speed):.3f}x ({min(speed):.3f} to {max(speed):.3f})")
    lines.append(
        f"Throughput over {base[0]}, and its range over {len(rounds)} rounds: {'; '.join(speeds)}.  "
    )
    pooled = []
    for name in rounds[0]:
        samples = [sample for one in rounds for sample in one[name]["samples"]]
        first = f"TTFT {percentile([s['ttft'] for s in samples], 99):.1f}, " if stream else ""
        total = percentile([s["total"] for s in samples], 99)
        pooled.append(f"{name[0]} {first}total {total:.1f} ({len(samples)})")
    lines.append(f"p99 in ms over the requests of all rounds together: {'; '.join(pooled)}.\n")
    return "\n".join(lines)


def format_in_turn(measured: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """What one variant costs over another: medians of pairs of requests, with 95 % intervals by resampling them."""
    lines = ["| | concurrency | pairs | TTFT, ms | total, ms | throughput |", "|---" * 6 + "|"]
    for compared, by_concurrency in measured.items():
        for concurrency, pairs in by_concurrency.items():
            totals = np.array([(one["total"], other["total"]) for one, other in pairs])
            ttfts = np.array([(one["ttft"], other["ttft"]) for one, other in pairs])
            cells = [
                interval(ttfts, _later, "+.2f"),
                interval(totals, _later, "+.2f"),
                interval(totals, _speed, ".3f"),
            ]
            lines.append(f"| {compared} | {concurrency} | {len(pairs)} | " + " | ".join(cells) + "x |")
    return "\n".join([*lines, ""])


def _later(values: Any) -> float:
    return float(np.median(values[:, 1] - values[:, 0]))


def _speed(values: Any) -> float:
    # A connection sends its next request when the last one is answered, so throughput follows from the mean, taken
    # without the slowest per cent, which are the machine's doing.
    kept = values[(values < np.percentile(values, 99)).all(axis=1)]
    return float(kept[:, 0].sum() / kept[:, 1].sum())


def interval(values: Any, of: Callable[[Any], float], form: str) -> str:
    """A statistic of rows, and its 95 % interval by resampling them."""
    drawn = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = np.percentile([of(values[some]) for some in drawn], (2.5, 97.5))
    return f"{of(values):{form}} ({low:{form}} to {high:{form}})"


def _plot(path: Path, title: str, streaming: Mapping[str, Sequence[Round]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "metaalign"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(15, 6.4))
    concurrencies = [int(concurrency) for concurrency in streaming]
    names = list(next(iter(streaming.values()))[0])
    for axis, field in zip(axes.flat, _PLOTTED, strict=True):
        for name in names:
            medians = [statistics.median(_values(rounds, name, field)) for rounds in streaming.values()]
            axis.plot(concurrencies, medians, marker="o", label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(concurrencies, map(str, concurrencies))
        axis.set_ylim(bottom=0, top=1.05 if field == "cached" else None)
        axis.set_title(COLUMNS[field])
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("concurrency")
    axes[0][0].legend(fontsize="small")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write_report(document: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.md` and the plots of a document of `benchmarks.serving`; return the report's path."""
    objective = document["objective"]
    lines = [
        "# Serving benchmark\n",
        f"`{document['command']}`, {document['date']}, {document['machine']}, {document['vllm']}, Python"
        f" {document['python']}. Engine flags of all servers: `{document['engine_flags']}`.\n",
        f"Goodput counts requests with at most {objective['ttft']:g} ms to the first token and"
        f" {objective['per_token']:g} ms for each token after it. CPU of a proxy counts as the API's.\n",
    ]
    for name, workload in document["workloads"].items():
        lines += [f"## {name}\n", workload["prompt"] + "\n"]
        if workload.get("streaming"):
            _plot(folder / f"{name}.svg", f"{name}: {workload['prompt']}", workload["streaming"])
            lines.append(f"![{name}]({name}.svg)\n")
        for key in ("streaming", "not streaming"):
            for concurrency, rounds in workload.get(key, {}).items():
                lines.append(f"**Concurrency {concurrency}, {key}**, {len(rounds)} rounds\n")
                lines.append(format_rounds(rounds, stream=key == "streaming"))
    if document.get("in_turn"):
        lines += [
            "## Requests in turn\n",
            "Pairs of the same request, one after the other on one connection, in changing order; medians with 95 %"
            " intervals.\n",
            format_in_turn(document["in_turn"]),
        ]
    lines += ["## The cost of a specification, in process\n", format_spec_cost(document["spec_cost_us"])]
    path = folder / "report.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    print(write_report(json.loads(file.read_text(encoding="utf-8")), file.parent))


if __name__ == "__main__":
    main()
