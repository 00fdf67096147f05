"""Connections to SQLite or PostgreSQL: one transaction a block, a deadline on each, failures as three errors.

A block of `read()` or `write()` is one transaction. Writers of SQLite take its lock when they begin, so that a
transaction that reads before it writes never fails half-way; writers of PostgreSQL lock the rows that they read.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from metaalign import MetaAlignError

__all__ = [
    "DEADLINE_SECONDS",
    "Database",
    "DatabaseUrlError",
    "StoreFull",
    "StoreUnavailable",
    "ValueNotStorable",
    "insert_if_absent",
    "parse_database_url",
]

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_POSTGRES_OPTIONS = {"host", "port", "prepared_statement_cache_size", "ssl"}
DEADLINE_SECONDS = 1.6
"""How long a transaction may take; what is promised to clients is an answer within two seconds."""
_CONNECT, _LOCK, _COMMAND = 0.45, 0.35, 0.6
"""Parts of the deadline for a connection, for the lock that another writer holds, and for one command, which is more
than for a lock so that the error says which of the two it was."""
_MIGRATION_SECONDS = 86_400.0
_LONGEST_CONNECT_SECONDS = 10.0
_RETRY_SECONDS = 1.0
"""After a failure the database is left alone this long: waiting requests would only pile up."""
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
_SQLITE_UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN: "the store's file cannot be opened; its folder must exist and be writable",
    sqlite3.SQLITE_READONLY: "the store's file cannot be written; it and its folder must be writable",
    sqlite3.SQLITE_NOTADB: "the store's file is no SQLite database; name another, or restore a backup",
    sqlite3.SQLITE_CORRUPT: "the store's file is damaged; restore a backup",
}
"""By primary result code."""
_POSTGRES_FULL = "53100"  # disk_full
_POSTGRES_VALUE = "22"  # class: data
_POSTGRES_BUSY = (
    "40",
    "55P03",
)  # rolled back for the sake of another transaction; its lock was not to be had
_POSTGRES_AWAY = ("08", "53", "57")  # classes: connection, resources, shutdown
_AWAY = "the store does not answer; try again shortly"
_VALUE = "a text holds characters, or a number has a size, that cannot be stored"


class DatabaseUrlError(ValueError):
    """METAALIGN_DATABASE_URL cannot be used; the message says how to write it and never repeats it."""


class StoreUnavailable(MetaAlignError):
    """The database does not answer, or not in time."""

    code = "store_unavailable"


class StoreFull(MetaAlignError):
    """The database has no room left."""

    code = "store_full"


class ValueNotStorable(MetaAlignError):
    """A text or a number that the database cannot hold, such as a text with a NUL character."""

    code = "value_not_storable"


def parse_database_url(text: str) -> URL:
    """The URL with the driver that we use.

    Raises:
        DatabaseUrlError: neither an SQLite file nor PostgreSQL, or with options that we do not know.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    driver = _DRIVERS.get(url.drivername) if url is not None else None
    if url is None or driver is None:
        raise DatabaseUrlError("write `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`")
    if driver.startswith("sqlite"):
        if not url.database or ":memory:" in url.database or url.query:
            raise DatabaseUrlError("write `sqlite:///FILE`, with a file and without options")
        return url.set(drivername=driver)
    # What libpq, and so every provider's page, calls `sslmode` is `ssl` here.
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
    if set(query) - _POSTGRES_OPTIONS:
        raise DatabaseUrlError(
            "the options of PostgreSQL that can be given after `?` are `sslmode`, `host`, `port`"
        )
    return url.set(drivername=driver, query=query)


def _engine(url: URL, max_bytes: int | None, deadline: float) -> AsyncEngine:
    options: dict[str, Any] = {
        "pool_timeout": _CONNECT * deadline,
        "hide_parameters": True,  # errors are logged, and parameters are private
    }
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, **options)
        _configure_sqlite(engine, max_bytes, deadline)
        return engine
    return create_async_engine(
        url,
        **options,
        pool_pre_ping=True,
        pool_size=8,
        connect_args={
            "timeout": min(_CONNECT * deadline, _LONGEST_CONNECT_SECONDS),
            "command_timeout": _COMMAND * deadline,
            "server_settings": {"lock_timeout": f"{_LOCK * deadline * 1000:.0f}"},
        },
    )


def _configure_sqlite(engine: AsyncEngine, max_bytes: int | None, deadline: float) -> None:
    wait = f"busy_timeout={_LOCK * deadline * 1000:.0f}"

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        cursor = connection.cursor()
        for pragma in (wait, "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten; not every build's default
        if max_bytes is not None:
            cursor.execute("PRAGMA page_size")
            page = cursor.fetchone()[0]
            cursor.execute(f"PRAGMA max_page_count={max(1, max_bytes // page)}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Database:
    """One database.

    Args:
        url: As `METAALIGN_DATABASE_URL`.
        max_bytes: Largest size of an SQLite file; None for no bound.
        deadline: Seconds that a transaction may take.

    Raises:
        DatabaseUrlError: see `parse_database_url`.
    """

    def __init__(self, url: str, max_bytes: int | None = None, deadline: float = DEADLINE_SECONDS) -> None:
        self.url = parse_database_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._deadline = deadline
        self._engine = _engine(self.url, max_bytes, deadline)
        self._reader = (
            self._engine
            if self.sqlite  # one state for all statements of a reader is what SQLite gives anyway
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._writer = self._engine.execution_options(writes=True)
        # SQLite gives its lock to whoever happens to ask at the right moment; here writers take turns.
        self._turn = asyncio.Lock() if self.sqlite else nullcontext()
        self._down_until = 0.0
        self._answered_at = 0.0

    def read(self, seconds: float | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that only reads: `async with database.read() as connection`.

        Args:
            seconds: How long it may take, if not as long as others.

        Raises:
            StoreUnavailable: the database does not answer in time.
            ValueNotStorable: a value that cannot be looked for.
        """
        return self._transaction(self._reader, nullcontext(), seconds)

    def write(self, seconds: float | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that is committed when the block ends and rolled back when it raises.

        Args:
            seconds: How long it may take, if not as long as others.

        Raises:
            StoreUnavailable: the database does not answer in time, or its lock was not to be had.
            StoreFull: it has no room.
            ValueNotStorable: a value that it cannot hold.
        """
        return self._transaction(self._writer, self._turn, seconds)

    @asynccontextmanager
    async def migration(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for changes of the schema, which may take a day.

        Raises:
            StoreUnavailable, StoreFull: as `write`.
        """
        engine = _engine(self.url, None, _MIGRATION_SECONDS)
        try:
            writer = engine.execution_options(writes=True)
            async with self._transaction(writer, nullcontext(), _MIGRATION_SECONDS) as connection:
                yield connection
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def _transaction(
        self, engine: AsyncEngine, turn: AbstractAsyncContextManager[None], seconds: float | None
    ) -> AsyncIterator[AsyncConnection]:
        now = time.monotonic()
        if now < self._down_until:
            raise StoreUnavailable(_AWAY)
        if self._down_until:  # this transaction finds out whether it is back; others need not wait for that
            self._down_until = now + self._deadline
        deadline = asyncio.timeout(self._deadline if seconds is None else seconds)
        reached = now
        try:
            async with deadline, turn, engine.connect() as connection:
                self._down_until = 0.0
                reached = self._answered_at = time.monotonic()
                async with connection.begin():
                    yield connection
        except (DBAPIError, PoolTimeout, OSError, TimeoutError, OverflowError, UnicodeEncodeError) as error:
            if deadline.expired() and seconds is not None:
                raise StoreUnavailable(
                    f"this took more than {seconds:g} s and was given up; ask for less at a time"
                ) from error
            described = self._described(error, reached)
            if described is None:
                raise  # two writers met, or a bug of ours
            # A database repeats a value that it refuses, and a value may be private.
            raise described from (None if isinstance(described, ValueNotStorable) else error)

    def _described(self, error: Exception, reached: float) -> MetaAlignError | None:
        """What an error means in a transaction that reached the database, or set out for it, at `reached`."""
        if isinstance(error, OverflowError | UnicodeEncodeError):
            return ValueNotStorable(_VALUE)
        cause = error.orig if isinstance(error, DBAPIError) else error
        if self.sqlite:
            number = getattr(cause, "sqlite_errorcode", None)
            if number in _SQLITE_FULL:
                return StoreFull("the store has no room left; reads and inference go on")
            if number is not None and (reason := _SQLITE_UNUSABLE.get(number & 0xFF)) is not None:
                return StoreUnavailable(reason)
            mine = isinstance(error, DBAPIError) and not isinstance(error, OperationalError)
            return None if mine or number == sqlite3.SQLITE_ERROR else StoreUnavailable(_AWAY)
        state = str(getattr(cause, "sqlstate", None) or "")
        if state.startswith(_POSTGRES_VALUE):
            return ValueNotStorable(_VALUE)
        if state == _POSTGRES_FULL:
            return StoreFull("the store has no room left; reads and inference go on")
        if state.startswith(_POSTGRES_BUSY) or isinstance(error, PoolTimeout):
            return StoreUnavailable("the store is busy; try again shortly")
        if (
            isinstance(error, DBAPIError)
            and not isinstance(error, OperationalError | InterfaceError)
            and not error.connection_invalidated
            and not state.startswith(_POSTGRES_AWAY)
        ):
            return None
        if self._answered_at <= reached:  # else others got through since then: it is slow, not away
            self._down_until = time.monotonic() + _RETRY_SECONDS
        return StoreUnavailable(_AWAY)

    async def close(self) -> None:
        """Close all connections; a server that hangs is not waited for."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._engine.dispose()
        except (SQLAlchemyError, OSError, TimeoutError):
            await self._engine.dispose(close=False)


def insert_if_absent(connection: AsyncConnection, table: sa.Table, **values: Any) -> sa.Executable:
    """Insert a row unless its key exists: of several servers that do it at the same time, one makes the row."""
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    return insert(table).values(**values).on_conflict_do_nothing()
