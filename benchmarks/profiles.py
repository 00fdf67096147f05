"""`python -m benchmarks.profiles [--profiles N]`: what looking a profile up costs, among many.

The store is SQLite in a temporary folder. Known profiles come from memory; unknown ones take two reads of the store,
each in a transaction of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
import uvloop

from metaalign import parse_preferences
from metaalign_server.auth import StaticKeys
from metaalign_server.platform.directory import Directory
from metaalign_server.platform.profiles import canonical
from metaalign_server.platform.secrets import Secret
from metaalign_server.platform.tenants import ensure_default_tenant
from metaalign_server.store.database import Database
from metaalign_server.store.migrate import migrate
from metaalign_server.store.tables import labels, now_ms, profiles, versions

BATCH = 10_000
TARGETS = {"known": (50.0, None), "unknown": (5_000.0, 5_000.0)}
"""Median and 99th percentile that are promised, in microseconds."""


async def fill(database: Database, count: int) -> None:
    """Store `count` profiles with two versions and a label each."""
    await migrate(database)
    async with database.write() as connection:
        await ensure_default_tenant(connection)
    text = canonical(
        parse_preferences({"system": "You are the guide of a museum. " * 10, "user": "I am Ada."})
    )
    now, digest = now_ms(), hashlib.sha256(text.encode()).hexdigest()
    for start in range(1, count + 1, BATCH):
        ids = range(start, min(start + BATCH, count + 1))
        async with database.write(60) as connection:
            await connection.execute(
                sa.insert(profiles),
                [
                    {
                        "id": i, "tenant_id": "default", "name": f"profile-{i}", "latest": 2, "revision": 3,
                        "learn_examples": 0, "learn_scope": "user", "created_at": now, "updated_at": now,
                    }
                    for i in ids
                ],
            )  # fmt: skip
            await connection.execute(
                sa.insert(versions),
                [
                    {
                        "profile_id": i, "number": number, "preferences": text, "sha256": digest, "note": "",
                        "created_at": now, "created_by": "benchmark",
                    }
                    for i in ids
                    for number in (1, 2)
                ],
            )  # fmt: skip
            await connection.execute(
                sa.insert(labels),
                [
                    {
                        "profile_id": i, "label": "stable", "targets": [[1, 90], [2, 10]], "history": [],
                        "protected": False, "updated_at": now,
                    }
                    for i in ids
                ],
            )  # fmt: skip


async def _times(directory: Directory, names: Sequence[str]) -> list[float]:
    """Microseconds of each look-up."""
    times = []
    for name in names:
        began = time.perf_counter()
        await directory.find_profiles("default", [name], "ada")
        times.append((time.perf_counter() - began) * 1e6)
    return times


async def measure_profiles(count: int, lookups: int) -> dict[str, tuple[float, float]]:
    """Print and return the median and 99th percentile of look-ups, in microseconds."""
    with tempfile.TemporaryDirectory(prefix="metaalign-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'store.db'}")
        began = time.perf_counter()
        await fill(database, count)
        print(f"{count} profiles stored in {time.perf_counter() - began:.1f} s\n")
        directory = Directory(
            database, Secret("of a benchmark"), StaticKeys(()), open_allowed=False, ttl=3600
        )
        names = [f"profile-{i}" for i in random.sample(range(1, count + 1), min(lookups, count))]
        times = {"unknown": await _times(directory, names)}
        times["known"] = await _times(directory, names)
        await database.close()
    print("| look-up | median µs | 99 % µs | promised |\n|---|---|---|---|")
    results = {}
    for kind, values in times.items():
        median, high = statistics.median(values), statistics.quantiles(values, n=100)[98]
        results[kind] = (median, high)
        promised = " / ".join(f"{target:.0f}" for target in TARGETS[kind] if target is not None)
        print(f"| {kind} | {median:.1f} | {high:.1f} | {promised} |")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=100_000, help="how many are stored")
    parser.add_argument("--lookups", type=int, default=5_000, help="how many are looked up")
    arguments = parser.parse_args()
    uvloop.run(measure_profiles(arguments.profiles, arguments.lookups))


if __name__ == "__main__":
    main()
