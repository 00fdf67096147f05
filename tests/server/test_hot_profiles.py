"""Which profiles count as hot, in both databases, and which labels count as moved."""

from __future__ import annotations

from metaalign import Preferences
from metaalign_server.callers import DEFAULT_TENANT, Caller
from metaalign_server.platform import labels, profiles
from metaalign_server.platform.hot_profiles import HotProfiles, moved_labels
from metaalign_server.store.database import Database

CALLER = Caller(frozenset({"admin", "system"}), "operator", DEFAULT_TENANT)


async def test_the_hottest_survive_a_restart(database: Database) -> None:
    hot = HotProfiles()
    async with database.write() as connection:
        await hot.save(connection)
        assert await hot.load(connection, 9) == []
    for name, times in (("a:1", 3), ("b:2", 5), ("c:1", 1)):
        for _ in range(times):
            hot.note("default", (name,))
    hot.note("other", ())
    async with database.write() as connection:
        await hot.save(connection)
        await hot.save(connection)
    async with database.read() as connection:
        found = await HotProfiles().load(connection, 2)
    assert found == [("default", ("b:2",)), ("default", ("a:1",))] == hot.hottest(2)


def test_what_is_counted_is_bounded_and_fades() -> None:
    hot = HotProfiles()
    for _ in range(50):
        hot.note("default", ("old:1",))
    for number in range(40_000):
        hot.note("default", (f"passing:{number}",))
        if number % 100 == 0:
            hot.note("default", ("new:1",))
    assert len(hot._uses) <= 4096
    assert hot.hottest(1) == [("default", ("new:1",))]


async def test_labels_that_moved(database: Database) -> None:
    async with database.write() as connection:
        for name in ("kept", "gone", "archived"):
            await profiles.create(connection, CALLER, name, Preferences())
            await profiles.add_version(connection, CALLER, name, Preferences())
            await labels.move_label(connection, CALLER, name, "stable", ((1, 90), (2, 10)))
        await profiles.delete(connection, CALLER, "gone")
        await profiles.update(connection, CALLER, "archived", archived=True)
    async with database.read() as connection:
        ((_, uses),) = await moved_labels(connection, 60, 10)
        assert uses == [("default", ("kept:1",)), ("default", ("kept:2",))]
        assert await moved_labels(connection, -60, 10) == []
