"""`python -m benchmarks.timing [--samples 10000]`: what do the times of answers tell?

A real server with several tenants gets two kinds of requests in random order, whose answers have the same bytes or
must look alike: no key and wrong ones, another tenant's profile and none, a prefix that another tenant has in the
cache and one that nobody has. Nothing may tell them apart. One's own cached prefix must be told apart: otherwise the
method would see nothing. The method is described in `tests/security/timing.py`.

The exit code is 1 if one of this is not so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.security.test_timing import COMPARISONS, TENANTS
from tests.security.timing import Connection
from tests.security.world import open_world


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=10_000, help="requests of each kind")
    parser.add_argument("--only", help="a part of the names of the comparisons to make")
    options = parser.parse_args(argv)
    failed = False
    with TemporaryDirectory(prefix="metaalign-timing-") as folder, open_world(Path(folder), TENANTS) as world:
        print("| comparison | samples each | medians, ms | t | z | told apart |\n|---|---|---|---|---|---|")
        for name, comparison in COMPARISONS.items():
            if options.only and options.only not in name:
                continue
            with closing(Connection(world.server.url)) as connection:
                verdict = comparison.measure(world, connection, options.samples)
            first, second = verdict.medians
            told = "yes" if verdict.differ else "no"
            cells = f"{verdict.samples:,} | {first:.3f}, {second:.3f} | {verdict.t:+.2f} | {verdict.z:+.2f} | {told}"
            print(f"| {name} | {cells} |", flush=True)
            failed |= verdict.differ != comparison.differ
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
