"""`python -m benchmarks.dial`: what a dial, a blend and candidates do to a model's answers.

The questions are the held-out ones of the demo's world, and its verifiers judge; the answers come from this server over
HTTP. Answers are kept in `--folder`, so that a run that was ended asks only for the rest. Writes `dial.svg` and
`report.md` there.

- curves: every split at each strength, greedy: of both tiers together, and of one tier alone.
- blend: two opposite wishes with weights w and 1 - w, sampled at temperature 1: how often each is followed.
- candidates: greedy, one answer sampled at temperature 0.8, and the best of four such.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.processes import free_port

from benchmarks.load import MODEL, NAME, engine_flags, running_server, terminated
from metaalign.verifiers import check_all, checks_for
from metaalign_server.cli import prepare_environment
from metaalign_training.stages.data.synthetic import evaluation_rows
from metaalign_training.stages.evaluation.intervals import Share, mean_with_interval, paired_difference
from metaalign_training.stages.evaluation.items import Expectation, score
from metaalign_training.world.sample import Check as WorldCheck

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SHOWN = 3.0
"""Curves are asked to be monotone up to here."""
DIALS: dict[str, tuple[str, ...]] = {"both": ("system", "user"), "system": ("system",), "user": ("user",)}
TIER_SPLITS = ("wordings", "values", "conflict", "safety", "consensus", "combinations", "none")
"""Those that are asked with one tier's dial alone, too."""
BLENDS = [
    (("language", "English"), ("language", "Spanish")),
    (("format", "bullets"), ("format", "numbered")),
    (("greeting", "French"), ("greeting", "Spanish")),
]
WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
BLEND_QUERIES = [f"Tell me three things about the {animal}." for animal in "otter fox owl bear wolf".split()]
CANDIDATE_SPLITS = ("wordings", "values", "conflict", "combinations")
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "one sampled": {"temperature": 0.8},
    "best of four": {"temperature": 0.8, "candidates": 4},
}
CONNECTIONS = 16
MAX_TOKENS = 200


@dataclass(frozen=True)
class Ask:
    """One request: a conversation, its preferences, and how the answer is drawn."""

    messages: Sequence[Mapping[str, str]]
    preferences: Mapping[str, Any]
    temperature: float = 0.0
    seed: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        sampling = {"temperature": self.temperature} | ({} if self.seed is None else {"seed": self.seed})
        return {
            "model": NAME,
            "messages": list(self.messages),
            "max_tokens": MAX_TOKENS,
            "preferences": dict(self.preferences),
        } | sampling

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()[:24]


class Answers:
    """Answers by request, kept in a file as they arrive."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self._known: dict[str, str] = dict(json.loads(line) for line in lines)

    def __getitem__(self, ask: Ask) -> str:
        return self._known[ask.key]

    async def fetch(self, url: str, asks: Iterable[Ask], what: str) -> None:
        """Ask for what is not known yet."""
        missing = {ask.key: ask for ask in asks if ask.key not in self._known}
        waiting = iter(missing.items())
        done = 0
        timeout = aiohttp.ClientTimeout(600)
        with self._file.open("a", encoding="utf-8") as kept:
            async with aiohttp.ClientSession(timeout=timeout) as session:

                async def worker() -> None:
                    nonlocal done
                    for key, ask in waiting:
                        async with session.post(f"{url}/v1/chat/completions", json=ask.body) as response:
                            told = await response.json()
                            if response.status != 200:
                                raise RuntimeError(f"{what}: {told}")
                        self._known[key] = told["choices"][0]["message"]["content"] or ""
                        kept.write(json.dumps([key, self._known[key]]) + "\n")
                        kept.flush()
                        done += 1
                        if done % 50 == 0:
                            print(f"\r{what}: {done} of {len(missing)}", end="", file=sys.stderr, flush=True)

                await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        print(f"\r{what}: {len(missing)} asked", file=sys.stderr, flush=True)


def _dialled(row: Any, dial: str, strength: float) -> Ask:
    return Ask(row["prompt"], {"strength": dict.fromkeys(DIALS[dial], strength)})


def _splits(dial: str, splits: Iterable[str]) -> list[str]:
    return [split for split in splits if dial == "both" or split in TIER_SPLITS]


def _right(row: Any, answer: str) -> float:
    value = score(answer, Expectation(check=WorldCheck(**row["check"]))).value
    return float(value or 0.0)


Rows = Mapping[str, Sequence[Any]]
"""By split."""


def _curve_asks(rows: Rows) -> list[Ask]:
    return [
        _dialled(row, dial, strength)
        for dial in DIALS
        for split in _splits(dial, rows)
        for row in rows[split]
        for strength in STRENGTHS
    ]


def curves(rows: Rows, answers: Answers) -> dict[str, dict[str, list[Share]]]:
    """Dial -> split -> share of right answers at each strength."""
    return {
        dial: {
            split: [
                mean_with_interval(
                    [_right(row, answers[_dialled(row, dial, strength)]) for row in rows[split]], 2000, split
                )
                for strength in STRENGTHS
            ]
            for split in _splits(dial, rows)
        }
        for dial in DIALS
    }


def monotone(rows: Rows, answers: Answers) -> Share:
    """Share of the items with an opposite that, once followed at some strength up to 3, stay followed above it."""
    found = []
    for row in itertools.chain(*rows.values()):
        if "opposite" not in row:
            continue
        told = [_right(row, answers[_dialled(row, "both", s)]) for s in STRENGTHS if s <= SHOWN]
        found.append(float(told == sorted(told)))
    return mean_with_interval(found, 2000, 0)


def _blend_asks(blend: tuple[tuple[str, str], tuple[str, str]], weight: float, samples: int) -> list[Ask]:
    shares = (weight, round(1 - weight, 6))
    parts = [
        {"user": {"attributes": {name: value}}, "weight": share}
        for (name, value), share in zip(blend, shares, strict=True)
    ]
    return [
        Ask([{"role": "user", "content": query}], {"blend": parts}, 1.0, seed)
        for query in BLEND_QUERIES
        for seed in range(samples // len(BLEND_QUERIES))
    ]


def _way_ask(row: Any, way: str, seed: int) -> Ask:
    options = dict(WAYS[way])
    temperature = options.pop("temperature")
    # The verifier of the benchmark takes no part in the choice; only likelihood does.
    preferences = options or {"strength": 1}
    return Ask(row["prompt"], preferences, temperature, seed if temperature else None)


def _draw(path: Path, found: Mapping[str, Mapping[str, Sequence[Share]]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "metaalign"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(15, 5.4), sharey=True)
    titles = {"both": "both tiers", "system": "System alone", "user": "User alone"}
    for axis, (dial, splits) in zip(axes, found.items(), strict=True):
        for number, (split, shares) in enumerate(splits.items()):
            style = ("-", "--", ":")[number // 7]
            (line,) = axis.plot(
                STRENGTHS, [share.share for share in shares], style, marker="o", markersize=3, label=split
            )
            low, high = [share.low for share in shares], [share.high for share in shares]
            axis.fill_between(STRENGTHS, low, high, alpha=0.06, color=line.get_color())
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("strength; 1 is as trained")
        axis.set_title(f"strength of {titles[dial]}")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="x-small", ncols=2)
    axes[0].set_ylabel("share of right answers")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _cell(share: Share) -> str:
    return f"{share.share:.3f} [{share.low:.3f}, {share.high:.3f}]"


def report(rows: Rows, answers: Answers, folder: Path, samples: int) -> str:
    """Draw the curves, and return the tables."""
    found = curves(rows, answers)
    _draw(folder / "dial.svg", found)
    lines = []
    for dial, splits in found.items():
        lines += [f"\nStrength of {dial}; share of right answers\n"]
        lines += ["| split | n | " + " | ".join(f"{s:g}" for s in STRENGTHS) + " | best against 1 |"]
        lines += ["|---" * (len(STRENGTHS) + 3) + "|"]
        for split, shares in splits.items():
            best = max(range(len(STRENGTHS)), key=lambda place, own=shares: own[place].share)  # type: ignore[misc]
            pairs = [
                _right(row, answers[_dialled(row, dial, STRENGTHS[best])])
                - _right(row, answers[_dialled(row, dial, 1.0)])
                for row in rows[split]
            ]
            gain = paired_difference(pairs, 2000, split)
            told = f"{STRENGTHS[best]:g}: {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            cells = " | ".join(f"{share.share:.3f}" for share in shares)
            lines.append(f"| {split} | {shares[0].n} | {cells} | {told} |")
    share = monotone(rows, answers)
    lines += [f"\nMonotone from 0 to {SHOWN:g}: {_cell(share)} of {share.n} items with an opposite.\n"]
    lines += [
        "| blend of | " + " | ".join(f"{w:g}" for w in WEIGHTS) + " |",
        "|---" * (len(WEIGHTS) + 1) + "|",
    ]
    for blend in BLENDS:
        for place, (name, value) in enumerate(blend):
            checks = checks_for({name: value})
            shown = []
            for weight in WEIGHTS:
                texts = [answers[ask] for ask in _blend_asks(blend, weight, samples)]
                passed = [float(check_all(checks, text)[0].passed) for text in texts]
                shown.append(_cell(mean_with_interval(passed, 2000, value)))
            lines.append(f"| {value}, weight {'w' if not place else '1 - w'} | " + " | ".join(shown) + " |")
    lines += [
        "\n| split | " + " | ".join(WAYS) + " | best of four against one |",
        "|---" * (len(WAYS) + 2) + "|",
    ]
    for split in CANDIDATE_SPLITS:
        right = {
            way: [_right(row, answers[_way_ask(row, way, n)]) for n, row in enumerate(rows[split])]
            for way in WAYS
        }
        gain = paired_difference(
            [four - one for four, one in zip(right["best of four"], right["one sampled"], strict=True)],
            2000,
            0,
        )
        cells = " | ".join(_cell(mean_with_interval(values, 2000, split)) for values in right.values())
        lines.append(f"| {split} | {cells} | {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask and write the report; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--folder", type=Path, default=Path("dial"))
    parser.add_argument("--per-split", type=int, default=40, help="questions of a split")
    parser.add_argument("--samples", type=int, default=40, help="answers of a blend at each weight")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Any]] = {}
    for row in evaluation_rows(0, options.per_split):
        rows.setdefault(row["split"], []).append(row)
    answers = Answers(options.folder / "answers.jsonl")
    parts = {
        "curves": _curve_asks(rows),
        "blend": [
            ask
            for blend in BLENDS
            for weight in WEIGHTS
            for ask in _blend_asks(blend, weight, options.samples)
        ],
        "candidates": [
            _way_ask(row, way, number)
            for split in CANDIDATE_SPLITS
            for number, row in enumerate(rows[split])
            for way in WAYS
        ],
    }
    command = ["-m", "metaalign_server.cli", "serve", "--model", options.model, "--served-model-name", NAME]
    command += ["--log-level", "warning", *engine_flags(options.model)]
    with ExitStack() as stack:
        log = options.folder / "server.log"
        server = stack.enter_context(running_server(command, free_port(), log, ready="/readyz"))
        for name, asks in parts.items():
            asyncio.run(answers.fetch(server.url, asks, name))
    text = report(rows, answers, options.folder, options.samples)
    (options.folder / "report.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
