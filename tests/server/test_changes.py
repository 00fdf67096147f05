"""The store's count of changes, by which servers know that what they keep in memory is still so."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from metaalign import ProfileNotFound, parse_preferences
from metaalign_server.callers import NO_KEY
from metaalign_server.platform import idempotency, labels, profiles, tenants
from metaalign_server.platform.changes import Changes
from metaalign_server.store.database import Database
from metaalign_server.store.migrate import migrate
from metaalign_server.store.tables import changes, server_state
from tests.server.test_tenants import ADMIN, directory, make_key, make_profile, revoke, rotate, write

_COUNT = sa.select(sa.func.sum(changes.c.count))
_TABLES = ("profile_labels", "profiles", "api_keys", "tenants")


async def count(database: Database) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(_COUNT) or 0)


@asynccontextmanager
async def counted(database: Database, what: str) -> AsyncIterator[None]:
    before = await count(database)
    yield
    assert await count(database) > before, what


async def test_every_change_is_counted(database: Database) -> None:
    change = partial(write, database)
    async with counted(database, "create a tenant"):
        await change(lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    for changed in ({"disabled": True}, {"policy": None}):
        async with counted(database, f"update a tenant: {changed}"):
            await change(partial(tenants.update_tenant, caller=ADMIN, name="acme", changes=changed))
    async with counted(database, "create a key"):
        new, _ = await make_key(database)
    async with counted(database, "rotate a key"):
        await rotate(database, new.id, 60)
    async with counted(database, "revoke a key"):
        await revoke(database, new.id)
    async with counted(database, "create a profile"):
        await make_profile(database)
    preferences = parse_preferences({"user": "2"})
    async with counted(database, "add a version"):
        await change(lambda c: profiles.add_version(c, ADMIN, "support", preferences))
    for number in (1, 2):
        async with counted(database, f"move a label to {number}"):
            to = ((number, 1),)
            await change(
                partial(labels.move_label, caller=ADMIN, name="support", label_name="stable", targets=to)
            )
    async with counted(database, "roll a label back"):
        await change(lambda c: labels.roll_back(c, ADMIN, "support", "stable"))
    async with counted(database, "delete a label"):
        await change(lambda c: labels.delete_label(c, ADMIN, "support", "stable"))
    async with counted(database, "delete a profile"):
        await change(lambda c: profiles.delete(c, ADMIN, "support"))


async def test_what_is_written_by_hand_is_counted(database: Database) -> None:
    """And so is what a server of an older version writes."""
    await make_key(database)
    await make_profile(database)
    await write(database, lambda c: labels.move_label(c, ADMIN, "support", "stable", ((1, 1),)))
    for statement in (
        "UPDATE api_keys SET revoked_at = 1",
        "UPDATE profile_labels SET targets = '[[1, 2]]'",
        "DELETE FROM profile_labels",
        "UPDATE profiles SET latest = 1",
        "DELETE FROM profiles",
        "UPDATE tenants SET policy = NULL",
        "DELETE FROM tenants",  # the keys of a tenant go with it
    ):
        async with counted(database, statement), database.write() as connection:
            await connection.execute(sa.text(statement))


async def test_what_requests_write_is_not_counted(database: Database) -> None:
    """Else every value would be read again after every request."""
    before = await count(database)
    async with database.write() as connection:
        await connection.execute(sa.insert(server_state).values(name="hottest", value="[]"))
        await idempotency.expire(connection)
    assert await count(database) == before


async def test_everything_that_is_kept_in_memory_is_counted(database: Database) -> None:
    """Whatever table a look-up reads has triggers."""
    new, _ = await make_key(database)
    await make_profile(database)
    await write(database, lambda c: labels.move_label(c, ADMIN, "support", "stable", ((1, 1),)))
    read: set[str] = set()

    def listen(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        read.update(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", statement))

    engine = database._engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", listen)
    asked = directory(database, open_allowed=True)
    assert await asked.caller(new.token.encode()) is not None
    assert await asked.caller(NO_KEY) is None
    await asked.find_profiles("default", ["support@stable"], None)
    sa.event.remove(engine, "before_cursor_execute", listen)
    assert read - {"profile_versions"} == set(_TABLES)  # a version never changes
    for table in _TABLES:
        async with counted(database, table), database.write() as connection:
            await connection.execute(sa.delete(sa.table(table)))


async def test_a_change_is_counted_when_it_is_committed(database: Database) -> None:
    before = await count(database)
    with suppress(ZeroDivisionError):
        async with database.write() as connection:
            await connection.execute(sa.text("UPDATE tenants SET policy = NULL"))
            assert await connection.scalar(_COUNT) > before
            assert await count(database) == before
            raise ZeroDivisionError
    assert await count(database) == before


async def test_writers_do_not_wait_for_each_others_count(postgres_url: str) -> None:
    """The later one commits first: both are counted, each when it commits."""
    databases = [Database(postgres_url), Database(postgres_url)]
    try:
        await migrate(databases[0])
        for name in ("a", "b"):
            await write(databases[0], partial(tenants.create_tenant, caller=ADMIN, name=name))
        before = await count(databases[0])
        statement = "UPDATE tenants SET policy = NULL WHERE name = :name"
        async with databases[0].write() as first:
            await first.execute(sa.text(statement), {"name": "a"})
            async with databases[1].write() as second:
                await second.execute(sa.text(statement), {"name": "b"})
            assert await count(databases[1]) == before + 1
        assert await count(databases[1]) == before + 2
    finally:
        for database in databases:
            await database.close()


def stale_reads() -> float:
    """How often a known value was used because the store took too long."""
    return REGISTRY.get_sample_value("metaalign_store_stale_reads_total") or 0.0


def misses() -> float:
    """How often the store was asked for a key, a tenant or a profile."""
    return sum(
        REGISTRY.get_sample_value("metaalign_lookups_total", {"cache": cache, "result": "miss"}) or 0.0
        for cache in ("keys", "tenants", "profiles")
    )


@pytest.mark.timed
async def test_what_has_not_changed_is_not_read_again(database: Database) -> None:
    new, _ = await make_key(database)
    await make_profile(database)
    asked = directory(database, ttl=1)

    async def ask() -> int:
        assert await asked.caller(new.token.encode()) is not None
        (found,) = await asked.find_profiles("default", ["support"], None)
        return found.number

    await asked.changes.look()
    assert await ask() == 1
    before = misses()
    for _ in range(3):
        await asyncio.sleep(1.1)
        await asked.changes.look()
        assert await ask() == 1
    assert misses() == before

    await write(database, lambda c: profiles.add_version(c, ADMIN, "support", parse_preferences("2")))
    await asyncio.sleep(1.1)
    await asked.changes.look()
    assert await ask() == 2
    assert misses() == before + 3

    await asyncio.sleep(1.1)  # nobody looks: as if there were no count
    assert await ask() == 2
    assert misses() == before + 6


async def test_nobody_looks_when_nobody_asks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look(self: Changes) -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(Changes, "look", look)
    watched = Changes(database, 0.02)
    watching = asyncio.create_task(watched.watch())
    await asyncio.sleep(0.1)
    assert looks == 0
    assert not watched.vouch_for(watched.mark(), time.monotonic())
    await asyncio.sleep(0.1)
    assert looks > 0
    watching.cancel()


async def test_an_older_schema_and_a_store_that_is_away_are_survived(
    database: Database, tmp_path: Path
) -> None:
    watched = Changes(database, 60)
    await watched.look()
    mark = watched.mark()
    assert watched.vouch_for(mark, time.monotonic())
    await migrate(database, "0004")
    await watched.look()
    away = Changes(Database(f"sqlite:///{tmp_path}/no/folder.db"), 60)
    await away.look()
    assert away.mark() is None
    assert not away.vouch_for(away.mark(), time.monotonic())


@pytest.mark.timed
async def test_keys_that_share_a_tenant_know_of_its_end_in_time(database: Database) -> None:
    """A key that is first used when the tenant was read a while ago does not begin a new term."""
    await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    first, second = [(await make_key(database, tenant="acme"))[0].token.encode() for _ in range(2)]
    asked = directory(database, ttl=2)
    assert await asked.caller(first) is not None
    await write(database, lambda c: tenants.update_tenant(c, ADMIN, "acme", {"disabled": True}))
    disabled = time.monotonic()
    await asyncio.sleep(0.8)
    await asked.caller(second)
    await asyncio.sleep(disabled + 2.05 - time.monotonic())
    assert asked.peek_caller(second) is None
    assert await asked.caller(second) is None


class History:
    """States of something, and when each ceased to be true: when the change to the next was committed."""

    def __init__(self, state: Any) -> None:
        self.states = [state]
        self.ends: list[float] = []

    @asynccontextmanager
    async def changing(self, state: Any) -> AsyncIterator[None]:
        self.states.append(state)
        yield
        self.ends.append(time.monotonic())

    def since(self, moment: float) -> list[Any]:
        """The states that were true at `moment` or later; the next one may be so already."""
        return self.states[sum(end < moment for end in self.ends) :]


@pytest.mark.timed
async def test_no_change_is_seen_later_than_promised(database: Database) -> None:
    """Random changes from elsewhere, read by a server that watches: every answer was true a moment ago."""
    promised, slack = 0.5, 0.25
    dice = random.Random(5)
    await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    new, _ = await make_key(database, tenant="acme")
    await make_profile(database)
    asked = directory(database, ttl=promised)
    watching = asyncio.create_task(asked.changes.watch())
    enabled, latest = History(True), History(1)
    seen: list[Any] = []

    slow, excused_until = stale_reads(), 0.0

    def check(history: History, value: Any, at: float) -> None:
        nonlocal slow, excused_until
        if slow != (slow := stale_reads()):  # the machine stood still: a store that is slow promises less
            excused_until = at + 2 * promised
        if at < excused_until:
            return
        assert value in history.since(at - promised - slack), (at, value, history)
        seen.append(value)

    async def read() -> None:
        while True:
            at = time.monotonic()
            caller = asked.peek_caller(new.token.encode()) or await asked.caller(new.token.encode())
            check(enabled, caller is not None, at)
            at = time.monotonic()
            with suppress(ProfileNotFound):
                (found,) = await asked.find_profiles("default", ["support"], None)
                check(latest, found.number, at)
            await asyncio.sleep(dice.choice([0, 0.01, 0.3, 0.8]))

    reading = [asyncio.create_task(read()) for _ in range(3)]
    began = time.monotonic()
    while time.monotonic() - began < 8 and not any(task.done() for task in reading):
        await asyncio.sleep(dice.choice([0.01, 0.2, 0.7, 1.2]))
        if dice.random() < 0.5:
            to = {"disabled": enabled.states[-1]}
            async with enabled.changing(not enabled.states[-1]):
                await write(database, partial(tenants.update_tenant, caller=ADMIN, name="acme", changes=to))
        else:
            number = latest.states[-1] + 1
            text = parse_preferences(str(number))
            add = partial(profiles.add_version, caller=ADMIN, name="support", preferences=text)
            async with latest.changing(number):
                await write(database, add)
    for task in (*reading, watching):
        if task.done():
            task.result()
        task.cancel()
    assert {True, False} <= set(seen)
    assert len(set(seen)) >= 4
