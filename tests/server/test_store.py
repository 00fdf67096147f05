"""The store: schema, deadlines, size limits, and its errors when a database is down."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from metaalign_server.store.database import (
    DEADLINE_SECONDS,
    Database,
    DatabaseUrlError,
    StoreFull,
    StoreUnavailable,
    ValueNotStorable,
    parse_database_url,
)
from metaalign_server.store.migrate import (
    WrongSchema,
    check_schema,
    current_revision,
    drift,
    head_revision,
    migrate,
)
from metaalign_server.store.tables import server_state
from tests.databases import PATIENCE, Postgres


@asynccontextmanager
async def opened(
    url: str, max_bytes: int | None = None, deadline: float = PATIENCE
) -> AsyncIterator[Database]:
    database = Database(url, max_bytes, deadline)
    try:
        yield database
    finally:
        await database.close()


async def put(database: Database, name: str, value: str = "") -> None:
    async with database.write() as connection:
        await connection.execute(sa.insert(server_state).values(name=name, value=value))


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        return list(await connection.scalars(sa.select(server_state.c.name).order_by(server_state.c.name)))


async def seconds_until_refused(call: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call()
    return time.monotonic() - began


def test_a_file_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    """A thread that outlives the event loop prints a traceback behind the error of a command."""

    async def open_it() -> None:
        async with opened(f"sqlite:///{tmp_path}/no/folder.db") as database:
            with pytest.raises(StoreUnavailable):
                async with database.read():
                    pass

    for _ in range(50):
        before = set(threading.enumerate())
        asyncio.run(open_it())
        assert set(threading.enumerate()) == before


# Schema


async def test_migrations_make_exactly_the_tables_of_the_code_and_go_both_ways(database_url: str) -> None:
    async with opened(database_url) as database:
        await migrate(database)
        async with database.read() as connection:
            assert await drift(connection) == []
        await put(database, "lost")
        await migrate(database, "base")
        assert await current_revision(database) is None
        async with database.read() as connection:
            tables = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        assert set(tables) <= {"alembic_version"}
        await migrate(database)
        assert await current_revision(database) == head_revision()
        assert await names(database) == []


async def test_a_missing_column_is_a_drift(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("ALTER TABLE server_state DROP COLUMN value"))
    async with database.read() as connection:
        assert "value" in str(await drift(connection))


async def test_only_an_empty_sqlite_file_is_given_its_schema(database_url: str) -> None:
    async with opened(database_url) as database:
        if not database.sqlite:
            with pytest.raises(WrongSchema, match=r"is empty .* run `metaalign-server migrate`"):
                await check_schema(database)
            assert await current_revision(database) is None
            await migrate(database)
        await check_schema(database)
        assert await current_revision(database) == head_revision()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "9999 was made by a newer version"),
        ("DELETE FROM alembic_version", "holds tables of something else"),
    ],
)
async def test_a_schema_that_is_not_ours_is_refused_and_left_alone(
    database: Database, statement: str, message: str
) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text(statement))
    with pytest.raises(WrongSchema, match=message):
        await check_schema(database)
    assert await names(database) == []


async def test_a_newer_schema_is_not_migrated_and_an_unknown_revision_is_no_target(
    database: Database,
) -> None:
    with pytest.raises(
        WrongSchema, match="no revision 'nope'; there are 0005, 0004, 0003, 0002, 0001 and base"
    ):
        await migrate(database, "nope")
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(WrongSchema, match="newer version"):
        await migrate(database)


_MIGRATE = """
import asyncio, sys
from metaalign_server.store.database import Database
from metaalign_server.store.migrate import check_schema, migrate
database = Database(sys.argv[1])
asyncio.run(check_schema(database) if database.sqlite else migrate(database))
"""


async def test_servers_that_start_at_once_make_the_schema_once(database_url: str) -> None:
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _MIGRATE, database_url) for _ in range(3)
    ]
    assert [await process.wait() for process in started] == [0, 0, 0]
    async with opened(database_url) as database, database.read() as connection:
        assert await drift(connection) == []


# Transactions


async def test_many_writers_take_turns(database: Database) -> None:
    async with opened(database.url.render_as_string(hide_password=False)) as other:
        expected = [f"{number:02}" for number in range(60)]
        await asyncio.gather(*(put((database, other)[n % 2], name) for n, name in enumerate(expected)))
        assert await names(database) == expected


async def test_a_long_transaction_has_its_own_deadline(database: Database) -> None:
    async def slow(seconds: float) -> None:
        async with database.write(seconds) as connection:
            await connection.execute(sa.insert(server_state).values(name="slow", value=""))
            await asyncio.sleep(0.3)

    with pytest.raises(StoreUnavailable, match=r"more than 0.1 s .* ask for less"):
        await slow(0.1)
    assert await names(database) == []  # at once, because the database is fine
    await slow(3)
    assert await names(database) == ["slow"]


async def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    async def half() -> None:
        async with database.write() as connection:
            await connection.execute(sa.insert(server_state).values(name="half", value=""))
            raise LookupError

    with pytest.raises(LookupError):
        await half()
    assert await names(database) == []


async def test_the_statements_of_a_reader_see_one_state(database: Database) -> None:
    count = sa.select(sa.func.count()).select_from(server_state)
    async with database.read() as connection:
        before = await connection.scalar(count)
        await put(database, "meanwhile")
        assert await connection.scalar(count) == before == 0
    assert await names(database) == ["meanwhile"]


@pytest.mark.parametrize("name", ["nul\0", "\ud800"])
async def test_a_value_that_cannot_be_stored_is_the_clients_mistake_and_is_not_repeated(
    database: Database, name: str
) -> None:
    if database.sqlite and "\0" in name:
        await put(database, name)
        return
    with pytest.raises(ValueNotStorable) as caught:
        await put(database, name)
    assert caught.value.__cause__ is None
    assert await names(database) == []


async def test_errors_do_not_repeat_parameters(database: Database) -> None:
    await put(database, "once", "the private value")
    with pytest.raises(sa.exc.IntegrityError) as caught:
        await put(database, "once", "the private value")
    assert "private" not in str(caught.value)


# Size limits


async def test_a_full_file_refuses_writes_and_is_still_read(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'store.db'}", max_bytes=400_000) as database:
        await migrate(database)
        await put(database, "kept")
        with pytest.raises(StoreFull):
            await put(database, "large", "x" * 500_000)
        assert await names(database) == ["kept"]
        await put(database, "small")


# Down


async def test_a_writer_that_holds_the_lock_of_the_file_stops_writers_but_no_readers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with opened(url, deadline=DEADLINE_SECONDS) as database, opened(url) as other:
        await migrate(database)
        async with other.write():
            assert await seconds_until_refused(lambda: put(database, "late")) < 2
            assert await names(database) == []
        await put(database, "later")


async def test_a_locked_row_stops_its_own_writers_only(postgres: Postgres) -> None:
    url = postgres.create_database()
    async with opened(url, deadline=4) as database, opened(url) as other:
        await migrate(database)
        await put(database, "row")
        change = sa.update(server_state).values(value="new")

        async def write() -> None:
            async with database.write() as connection:
                await connection.execute(change)

        async with other.write() as connection:
            await connection.execute(change)
            assert await seconds_until_refused(write) < 4
            await put(database, "another row")  # at once, because the server is not considered down
    postgres.drop_database(url)


async def test_a_lost_connection_is_an_outage_only_if_nobody_gets_through(postgres: Postgres) -> None:
    url = postgres.create_database()
    async with opened(url, deadline=DEADLINE_SECONDS) as database:
        await migrate(database)

        async def lose(*, others_get_through: bool) -> None:
            async with database.read():
                if others_get_through:
                    await names(database)
                raise ConnectionResetError

        with pytest.raises(StoreUnavailable):
            await lose(others_get_through=True)
        assert await names(database) == []
        with pytest.raises(StoreUnavailable):
            await lose(others_get_through=False)
        assert await seconds_until_refused(lambda: names(database)) < 0.1
    postgres.drop_database(url)


async def test_slow_transactions_close_the_store_only_in_a_row_and_only_to_their_kind(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as patient:
        await migrate(patient)
    async with opened(postgres_url, deadline=1) as database:
        await put(database, "first")

        async def write_slowly() -> None:
            async with database.write() as connection:
                await connection.execute(sa.text("select pg_sleep(5)"))

        for _ in range(2):
            assert await seconds_until_refused(write_slowly) > 0.3
        await put(database, "second")
        for _ in range(3):
            assert await seconds_until_refused(write_slowly) > 0.3
        assert await seconds_until_refused(lambda: put(database, "third")) < 0.1
        assert await names(database) == ["first", "second"]
        await asyncio.sleep(1.05)
        await put(database, "third")


@pytest.mark.parametrize("seen_before", [True, False], ids=["pooled", "new connection"])
@pytest.mark.parametrize("fault", ["freeze", "stop", "kill"])
async def test_a_server_that_is_away_is_refused_in_time_and_used_again_when_it_is_back(
    breakable_postgres: Postgres, fault: str, seen_before: bool
) -> None:
    daemon = breakable_postgres.daemon
    assert daemon is not None
    async with opened(breakable_postgres.create_database(), deadline=DEADLINE_SECONDS) as database:
        await migrate(database)
        if seen_before:
            await put(database, "before")
        getattr(daemon, fault)()
        assert await seconds_until_refused(lambda: names(database)) < 2
        assert await seconds_until_refused(lambda: put(database, "during")) < 0.1  # not asked again so soon
        daemon.thaw()
        daemon.start()
        await _wait_until_back(database)
        await put(database, "after")
        assert await names(database) == (["after", "before"] if seen_before else ["after"])


async def test_one_asks_whether_a_frozen_server_is_back_and_the_others_do_not_wait(
    breakable_postgres: Postgres,
) -> None:
    daemon = breakable_postgres.daemon
    assert daemon is not None
    async with opened(breakable_postgres.create_database(), deadline=DEADLINE_SECONDS) as database:
        await migrate(database)
        daemon.freeze()
        await seconds_until_refused(lambda: names(database))
        await asyncio.sleep(1.05)
        waits = await asyncio.gather(*(seconds_until_refused(lambda: names(database)) for _ in range(5)))
        assert sorted(wait < 0.1 for wait in waits) == [False, True, True, True, True]
        assert max(waits) < 2


async def test_a_server_that_freezes_within_a_transaction_is_refused_in_time(
    breakable_postgres: Postgres,
) -> None:
    daemon = breakable_postgres.daemon
    assert daemon is not None
    async with opened(breakable_postgres.create_database(), deadline=DEADLINE_SECONDS) as database:
        await migrate(database)

        async def write() -> None:
            async with database.write() as connection:
                await connection.execute(sa.insert(server_state).values(name="half", value=""))
                daemon.freeze()
                await connection.execute(sa.insert(server_state).values(name="other half", value=""))

        assert await seconds_until_refused(write) < 2
        daemon.thaw()
        await _wait_until_back(database)
        assert await names(database) == []


async def _wait_until_back(database: Database) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            await names(database)
        except StoreUnavailable:
            assert time.monotonic() < deadline, "the store does not come back"
            await asyncio.sleep(0.05)
        else:
            return


# URLs


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///store.db", "sqlite+aiosqlite"),
        ("sqlite:////srv/store.db", "sqlite+aiosqlite"),
        ("postgres://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql://u:p@h:5432/d", "postgresql+asyncpg"),
    ],
)
def test_the_driver_is_ours(url: str, driver: str) -> None:
    assert parse_database_url(url).drivername == driver


def test_the_name_that_providers_use_for_tls_is_understood() -> None:
    assert dict(parse_database_url("postgresql://h/d?sslmode=require").query) == {"ssl": "require"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "mysql://u:secret@h/d",
        "postgresql+psycopg://u:secret@h/d",
        "postgresql://u:p@h:secret/d",
        "postgresql://u:p@h/d?secret=1",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file?secret=1",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        Database(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
