"""Simulates what routing does to the prefix cache: hit rate against preferences, replicas and policy.

python -m benchmarks.routing_simulation [--plot docs/routing.svg] [--requests 20000]

A replica's cache is a number of blocks, of which the least recently used are taken first, the end of a prompt before
its beginning, as vLLM does. A request takes the blocks of its Meta-Prompt, which are the same for all requests with its
preferences, and some of its own. Placement is the server's own code (`metaalign_server.serving.affinity`). The first
table has the setting of `benchmarks.ray_serving`, where the same is measured.
"""

from __future__ import annotations

import argparse
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from metaalign_server.serving.affinity import ranked

__all__ = ["POLICIES", "Setting", "simulate"]

POLICIES = ("random", "round robin", "preferences", "bounded")


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        blocks: Blocks of each replica's cache.
        shared, own: Whole blocks of a Meta-Prompt, and whole blocks of a request beside them. Each request under way
            has one more, not full, which is not kept.
        skew: Preference k is asked for in proportion to 1 / k ** skew; 0 is uniform.
        in_flight: Requests under way at any time, over all replicas.
        slack, floor: As in `affinity.ranked`.
    """

    preferences: int
    replicas: int
    blocks: int
    shared: int
    own: int
    skew: float = 0.0
    in_flight: int = 8
    slack: float = 1.25
    floor: int = 8


class _Cache:
    """Blocks of one replica, the least recently used first."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._used: OrderedDict[tuple[int, int], None] = OrderedDict()

    def take(self, preference: int, number: int, setting: Setting) -> int:
        """Run one request; returns how many blocks of its Meta-Prompt were there."""
        shared = [(preference, index) for index in range(setting.shared)]
        found = next((i for i, block in enumerate(shared) if block not in self._used), len(shared))
        own = [(-1 - number, index) for index in range(setting.own)]
        for block in reversed(shared + own):  # the end of a prompt goes first
            self._used.pop(block, None)
            self._used[block] = None
        while len(self._used) > self._blocks:
            self._used.popitem(last=False)
        return found


def simulate(setting: Setting, policy: str, requests: int, seed: int = 7) -> tuple[float, float]:
    """Return the share of Meta-Prompt blocks that were cached, and the busiest replica's load over the average.

    The first requests, one for each preference, warm the caches and are not counted.
    """
    chooser = random.Random(seed)
    names = [f"replica-{index}" for index in range(setting.replicas)]
    whole = setting.blocks - setting.in_flight // setting.replicas
    caches = {name: _Cache(whole) for name in names}
    keys = [chooser.randbytes(16) for _ in range(setting.preferences)]
    cumulative = list(accumulate(1 / (rank + 1) ** setting.skew for rank in range(setting.preferences)))
    asked = chooser.choices(range(setting.preferences), cum_weights=cumulative, k=requests)
    under_way: deque[str] = deque()
    loads = dict.fromkeys(names, 0)
    served = dict.fromkeys(names, 0)
    choose = _chooser(policy, setting, names, chooser)
    found = 0
    for number, preference in enumerate([*range(setting.preferences), *asked]):
        if len(under_way) >= setting.in_flight:
            loads[under_way.popleft()] -= 1
        name = choose(keys[preference], number, loads)
        loads[name] += 1
        under_way.append(name)
        hit = caches[name].take(preference, number, setting)
        if number >= setting.preferences:
            found += hit
            served[name] += 1
    return found / (requests * setting.shared), max(served.values()) * setting.replicas / requests


def _chooser(
    policy: str, setting: Setting, names: list[str], chooser: random.Random
) -> Callable[[bytes, int, dict[str, int]], str]:
    if policy == "random":
        return lambda key, number, loads: chooser.choice(names)
    if policy == "round robin":
        return lambda key, number, loads: names[number % len(names)]
    floor = setting.floor if policy == "bounded" else setting.in_flight + 1
    return lambda key, number, loads: ranked(key, loads, slack=setting.slack, floor=floor)[0]


def _row(setting: Setting, requests: int) -> str:
    cells = []
    for policy in POLICIES:
        hit, busiest = simulate(setting, policy, requests)
        cells.append(f"{hit:.2f} ({busiest:.2f})")
    return " | ".join(cells)


def _plot(path: Path, requests: int) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "metaalign"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    counts = [100, 200, 400, 800, 1600, 3200, 6400, 12800]
    for axis, skew in zip(axes, (0.0, 1.0), strict=True):
        for policy in POLICIES:
            hits = [simulate(_box(count, 4, skew), policy, requests)[0] for count in counts]
            axis.plot(counts, hits, marker="o", label=policy)
        axis.set_xscale("log")
        axis.set_xlabel("preferences")
        axis.set_title("uniform" if not skew else "Zipf, exponent 1")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of Meta-Prompt blocks cached")
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _box(preferences: int, replicas: int, skew: float) -> Setting:
    """Replicas with 20,000 blocks each, Meta-Prompts of 20 whole blocks, and 20 blocks for dialogue and answer."""
    return Setting(preferences, replicas, 20_000, 20, 20, skew=skew, in_flight=32 * replicas, floor=32)


def main() -> None:
    """Print the tables and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--preferences", type=int, default=64, help="of the first table")
    parser.add_argument("--blocks", type=int, default=300)
    parser.add_argument("--shared", type=int, default=8)
    parser.add_argument("--own", type=int, default=0)
    arguments = parser.parse_args()
    head = " | ".join(POLICIES)
    print(f"| the measured setting | {head} |\n|---|{'---|' * len(POLICIES)}")
    measured = Setting(arguments.preferences, 2, arguments.blocks, arguments.shared, arguments.own)
    print(f"| {arguments.preferences} preferences, 2 replicas | {_row(measured, arguments.requests)} |")
    print(f"\n| preferences | replicas | popularity | {head} |\n|---|---|---|{'---|' * len(POLICIES)}")
    for skew, word in ((0.0, "uniform"), (1.0, "Zipf")):
        for replicas in (2, 4, 8):
            for preferences in (500, 2000, 8000):
                row = _row(_box(preferences, replicas, skew), arguments.requests)
                print(f"| {preferences:,} | {replicas} | {word} | {row} |")
    if arguments.plot:
        _plot(arguments.plot, arguments.requests)


if __name__ == "__main__":
    main()
