"""`python -m benchmarks.platform_cost [--profiles N]`: what the platform costs in process.

It first times the look-up of a profile among many: known ones come from memory; unknown ones take two reads of the
store, each in its own transaction. Then it times the steps of one request whose key and profile are known, and whose
key and tenant have limits of all kinds. The store is SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
import uvloop

from metaalign import parse_preferences
from metaalign_server.alignment.layers import ProfileChoice, stored_layers
from metaalign_server.callers import Limits, StaticKeys
from metaalign_server.platform import tenants
from metaalign_server.platform.limits import buckets_of
from metaalign_server.platform.lookups import Lookups
from metaalign_server.platform.profiles import canonical
from metaalign_server.platform.profiles import create as create_profile
from metaalign_server.platform.server_secret import Secret
from metaalign_server.platform.startup import COMMAND_LINE, open_platform
from metaalign_server.platform.tenants import ensure_default_tenant
from metaalign_server.settings import Settings
from metaalign_server.store.database import Database
from metaalign_server.store.migrate import migrate
from metaalign_server.store.tables import labels, now_ms, profiles, versions

BATCH = 10_000
TARGETS = {"known": (50.0, None), "unknown": (5_000.0, 5_000.0)}
"""Promised median and 99th percentile, in microseconds."""
STEPS = (
    "identify the key",
    "check eight limits",
    "headers of the limits",
    "layers of the profile",
    "cache salt of the tenant",
    "settle the token counts",
)


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


async def _times(lookups: Lookups, names: Sequence[str]) -> list[float]:
    """Microseconds that each look-up takes."""
    times = []
    for name in names:
        began = time.perf_counter()
        await lookups.find_profiles("default", [name], "ada")
        times.append((time.perf_counter() - began) * 1e6)
    return times


async def measure_profiles(count: int, count_asked: int) -> dict[str, tuple[float, float]]:
    """Print and return the median and 99th percentile of look-ups, in microseconds."""
    with tempfile.TemporaryDirectory(prefix="metaalign-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'store.db'}")
        began = time.perf_counter()
        await fill(database, count)
        print(f"{count} profiles stored in {time.perf_counter() - began:.1f} s\n")
        lookups = Lookups(database, Secret("of a benchmark"), StaticKeys(()), open_allowed=False, ttl=3600)
        names = [f"profile-{i}" for i in random.sample(range(1, count + 1), min(count_asked, count))]
        times = {"unknown": await _times(lookups, names)}
        times["known"] = await _times(lookups, names)
        await database.close()
    print("| look-up | median µs | 99 % µs | promised |\n|---|---|---|---|")
    results = {}
    for kind, values in times.items():
        median, high = statistics.median(values), statistics.quantiles(values, n=100)[98]
        results[kind] = (median, high)
        promised = " / ".join(f"{target:.0f}" for target in TARGETS[kind] if target is not None)
        print(f"| {kind} | {median:.1f} | {high:.1f} | {promised} |")
    return results


async def measure_steps(rounds: int) -> dict[str, float]:
    """Print and return the median of each step of a request, in microseconds."""
    many = Limits(
        requests_per_minute=10**6, tokens_per_minute=10**9, concurrency=10**4, tokens_per_day=10**12
    )
    with tempfile.TemporaryDirectory(prefix="metaalign-") as folder:
        settings = Settings(_env_file=None, api_keys="operator", database_url=f"sqlite:///{folder}/store.db")
        async with open_platform(settings) as platform:
            async with platform.database.write() as connection:
                await tenants.create_tenant(connection, COMMAND_LINE, "acme", limits=many)
                new, _ = await tenants.create_key(
                    connection,
                    COMMAND_LINE,
                    platform.secret,
                    "test",
                    tenant="acme",
                    name="",
                    scopes=["inference"],
                    limits=many,
                )
            token = new.token.encode()
            caller = await platform.lookups.caller(token)
            if caller is None:
                raise AssertionError("a key that was just made is known")
            preferences = parse_preferences({"system": "You are the guide of a museum.", "user": "I am Ada."})
            async with platform.database.write() as connection:
                await create_profile(connection, caller, "museum", preferences)
            museum = ProfileChoice(("museum",), "preferences.profile")
            times: dict[str, list[float]] = {}
            for _ in range(rounds):
                marks = [time.perf_counter()]
                platform.lookups.peek_caller(token)
                marks.append(time.perf_counter())
                buckets = buckets_of(caller, inference=True)
                admission = await platform.limiter.admit(buckets)
                marks.append(time.perf_counter())
                admission.headers()
                marks.append(time.perf_counter())
                await stored_layers(platform, caller, museum, "ada")
                marks.append(time.perf_counter())
                platform.secret.cache_salt(caller.tenant.id)
                marks.append(time.perf_counter())
                await platform.limiter.settle(admission, 64)
                marks.append(time.perf_counter())
                for step, (begun, done) in zip(STEPS, itertools.pairwise(marks), strict=True):
                    times.setdefault(step, []).append((done - begun) * 1e6)
    medians = {step: statistics.median(values) for step, values in times.items()}
    medians["all of them"] = sum(medians.values())
    print("\n| step of a request | median µs |\n|---|---|")
    for step, median in medians.items():
        print(f"| {step} | {median:.1f} |")
    return medians


async def _measure(count: int, lookups: int) -> None:
    await measure_profiles(count, lookups)
    await measure_steps(lookups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=100_000, help="how many are stored")
    parser.add_argument("--lookups", type=int, default=5_000, help="how many are looked up")
    arguments = parser.parse_args()
    uvloop.run(_measure(arguments.profiles, arguments.lookups))


if __name__ == "__main__":
    main()
