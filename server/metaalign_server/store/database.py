"""Connections to SQLite or PostgreSQL: one transaction per block, a deadline on each, failures as three errors.

A block of `read()` or `write()` is one transaction. SQLite writers take the write lock when they begin, so that a
transaction that reads before it writes never fails midway; PostgreSQL writers lock the rows that they read.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import aiosqlite
import sqlalchemy as sa
from prometheus_client import Counter, Histogram
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from metaalign import MetaAlignError
from metaalign_server.outages import Dependency
from metaalign_server.store.erasure import shred_file

__all__ = [
    "DEADLINE_SECONDS",
    "UNHURRIED_SECONDS",
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
"""Time limit of a transaction; clients are promised an answer within two seconds."""
UNHURRIED_SECONDS = 10.0
"""The same where no request waits: for commands, and while a server starts."""
_CONNECT, _LOCK, _COMMAND = 0.45, 0.35, 0.6
"""Fractions of the deadline for connecting, for waiting for another writer's lock, and for one command. A command gets
more time than a lock, so that the error says which of the two timed out."""
_MIGRATION_SECONDS = 86_400.0
_LONGEST_CONNECT_SECONDS = 10.0
_RETRY_SECONDS = 1.0
"""After a failed connection, no request tries the database for this long; waiting requests would only pile up."""
_IN_A_ROW = 3
"""So many transactions in a row that fail, or connect but are not over in time, are an outage; one is only slow."""
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
_SQLITE_UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN: "the store's file cannot be opened; its folder must exist and be writable",
    sqlite3.SQLITE_READONLY: "the store's file cannot be written; it and its folder must be writable",
    sqlite3.SQLITE_NOTADB: "the store's file is no SQLite database; name another, or restore a backup",
    sqlite3.SQLITE_CORRUPT: "the store's file is damaged; restore a backup",
}
"""Messages by SQLite's primary result code."""
_POSTGRES_FULL = "53100"  # disk_full
_POSTGRES_VALUE = "22"  # class: data
_POSTGRES_BUSY = (
    "40",  # class: rolled back in favour of another transaction
    "55P03",  # lock_not_available
)
_POSTGRES_AWAY = ("08", "53", "57")  # classes: connection, resources, shutdown
_SHRED_PATIENCE_SECONDS = 10.0
_SHRED_SHARE = 0.1
"""Rewriting the file stops all writers, so it may take no more than this share of the time."""
_AWAY = "the store does not answer; try again shortly"
_VALUE = "a text holds characters, or a number has a size, that cannot be stored"

TRANSACTIONS = Histogram(
    "metaalign_store_transaction_duration_seconds",
    "Time that a transaction of the store took, connecting included, whether it failed or not.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 60),
)
ERRORS = Counter(
    "metaalign_store_errors_total",
    "Transactions that the store failed, or that were not tried because it is away.",
    ["kind", "code"],
)
for _kind in ("read", "write"):
    for _code in ("store_unavailable", "store_full"):
        ERRORS.labels(_kind, _code)


class DatabaseUrlError(ValueError):
    """METAALIGN_DATABASE_URL is invalid; the message says how to write it and never repeats it."""


class StoreUnavailable(MetaAlignError):
    """The database does not respond, or not in time."""

    code = "store_unavailable"


class StoreFull(MetaAlignError):
    """The database is full."""

    code = "store_full"


class ValueNotStorable(MetaAlignError):
    """A text or a number that the database cannot store, such as a text with a NUL character."""

    code = "value_not_storable"


def parse_database_url(text: str) -> URL:
    """Parse the URL and set the driver that we use.

    Raises:
        DatabaseUrlError: it names neither an SQLite file nor PostgreSQL, or has unknown options.
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
    # libpq, and therefore every provider's documentation, calls it `sslmode`; our driver calls it `ssl`.
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
        engine = create_async_engine(url, async_creator=lambda: _open_file(str(url.database)), **options)
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


async def _open_file(path: str) -> aiosqlite.Connection:
    connection = aiosqlite.connect(path)
    connection._thread.daemon = True  # as SQLAlchemy does: a hanging disk must not hold up the exit
    try:
        return await connection
    except sqlite3.Error:
        # Its thread has one more thing to say to the event loop, which may be closed by then.
        await asyncio.to_thread(connection._thread.join, 1)
        raise


def _configure_sqlite(engine: AsyncEngine, max_bytes: int | None, deadline: float) -> None:
    wait = f"busy_timeout={_LOCK * deadline * 1000:.0f}"

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        cursor = connection.cursor()
        for pragma in (wait, "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute("PRAGMA secure_delete=ON")  # overwrite deleted content; not the default in every build
        if max_bytes is not None:
            cursor.execute("PRAGMA page_size")
            page = cursor.fetchone()[0]
            cursor.execute(f"PRAGMA max_page_count={max(1, max_bytes // page)}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@dataclass(slots=True)
class _Kind:
    """Transactions that read, or that write: writes that are too slow say nothing about look-ups.

    Attributes:
        slow: How many were not over in time since the last that succeeded.
        failed: How many failed since then, for whatever reason.
        away: Whether that is so since the store went away.
    """

    name: str
    slow: int = 0
    failed: int = 0
    refused_until: float = 0.0
    away: bool = False


class Database:
    """One database.

    Args:
        url: As in `METAALIGN_DATABASE_URL`.
        max_bytes: Maximum size of an SQLite file; None for no limit.
        deadline: Time limit of a transaction, in seconds.

    Attributes:
        dependency: Is told when the store goes away and when it is back, if somebody wants to know.

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
            if self.sqlite  # SQLite gives a reader one snapshot for all its statements anyway
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._writer = self._engine.execution_options(writes=True)
        # SQLite grants its lock to whoever happens to ask at the right moment; this lock makes writers queue.
        self._turn = asyncio.Lock() if self.sqlite else nullcontext()
        self._down_until = 0.0
        self._answered_at = 0.0
        # Writes that are too slow say nothing about look-ups, on which keys and profiles depend.
        self._reads, self._writes = _Kind("read"), _Kind("write")
        self.dependency: Dependency | None = None
        self._shredding = asyncio.Lock()
        self._next_shred = 0.0
        self.unshredded = self.sqlite
        """Whether the files may hold copies of deleted rows: at first, since an earlier process may have left some."""

    def read(self, seconds: float | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a read-only transaction: `async with database.read() as connection`.

        Args:
            seconds: Time limit, if not the default.

        Raises:
            StoreUnavailable: the database does not respond in time.
            ValueNotStorable: a value cannot be searched for.
        """
        return self._transaction(self._reader, nullcontext(), seconds, self._reads)

    def write(self, seconds: float | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits when the block ends and rolls back when it raises.

        Args:
            seconds: Time limit, if not the default.

        Raises:
            StoreUnavailable: the database does not respond in time, or its lock is not available.
            StoreFull: the database is full.
            ValueNotStorable: a value cannot be stored.
        """
        return self._transaction(self._writer, self._turn, seconds, self._writes)

    async def look(self) -> None:
        """Ask whether it is up, or is again, though no request may need it now."""
        ways = [(self._reads, self.read), (self._writes, self.write)]
        for _, begin in [way for way in ways if way[0].away] or ways[:1]:
            with suppress(MetaAlignError):
                async with begin():
                    pass

    @asynccontextmanager
    async def migration(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for schema changes, which may take up to a day.

        Raises:
            StoreUnavailable, StoreFull: as for `write`.
        """
        engine = _engine(self.url, None, _MIGRATION_SECONDS)
        try:
            writer = engine.execution_options(writes=True)
            async with self._transaction(
                writer, nullcontext(), _MIGRATION_SECONDS, _Kind("migration")
            ) as connection:
                yield connection
        finally:
            await engine.dispose()

    def shred_later(self) -> None:
        """Have the bytes of marked deletions removed in the background, where nobody waits for it."""
        self.unshredded = self.sqlite

    async def shred(self, patience: float = _SHRED_PATIENCE_SECONDS) -> None:
        """Remove the bytes of marked deletions (`mark_deletion`) from SQLite's files; see `store/erasure.py`.

        Of PostgreSQL, they are the operator's to remove (docs/platform.md).

        Args:
            patience: Seconds to wait for other programs that use the files.

        Raises:
            ErasureIncomplete: they took longer, or the disk is full; `unshredded` is then true.
        """
        if not self.sqlite:
            return
        async with self._shredding:
            self.unshredded = True
            await asyncio.sleep(self._next_shred - time.monotonic())
            stop = threading.Event()
            try:
                seconds = await asyncio.to_thread(shred_file, str(self.url.database), patience, stop)
            finally:
                stop.set()
            self._next_shred = time.monotonic() + seconds * (1 / _SHRED_SHARE - 1)
            self.unshredded = False

    @asynccontextmanager
    async def _transaction(
        self,
        engine: AsyncEngine,
        turn: AbstractAsyncContextManager[None],
        seconds: float | None,
        kind: _Kind,
    ) -> AsyncIterator[AsyncConnection]:
        now = time.monotonic()
        if now < max(self._down_until, kind.refused_until):
            raise self._failed(kind, StoreUnavailable(_AWAY), "refused")
        if self._down_until:  # this transaction probes whether it is back; the others fail fast meanwhile
            self._down_until = now + self._deadline
        deadline = asyncio.timeout(self._deadline if seconds is None else seconds)
        reached, connected = now, False
        try:
            async with deadline, turn, engine.connect() as connection:
                self._down_until = 0.0
                reached = self._answered_at = time.monotonic()
                connected = True
                async with connection.begin():
                    yield connection
            self._succeeded(kind)
        except (DBAPIError, PoolTimeout, OSError, TimeoutError, OverflowError, UnicodeEncodeError) as error:
            if deadline.expired() and seconds is not None:
                raise StoreUnavailable(
                    f"this took more than {seconds:g} s and was given up; ask for less at a time"
                ) from error
            if connected and isinstance(error, TimeoutError):
                kind.slow += 1
                if kind.slow >= _IN_A_ROW:
                    kind.refused_until = time.monotonic() + _RETRY_SECONDS
                raise self._failed(kind, StoreUnavailable(_AWAY), "slow") from error
            described = self._described(error, reached)
            if described is None:
                raise  # a conflict between two writers, or a bug of ours
            if isinstance(described, ValueNotStorable):
                raise described from None  # the database repeats the value in its error, and it may be private
            raise self._failed(kind, described, type(error).__name__) from error
        finally:
            TRANSACTIONS.labels(kind.name).observe(time.monotonic() - now)

    def _failed(self, kind: _Kind, error: MetaAlignError, cause: str) -> MetaAlignError:
        """Count a transaction that the store failed, and notice when it is away; return `error`."""
        ERRORS.labels(kind.name, error.code).inc()
        if isinstance(error, StoreUnavailable):
            kind.failed += 1
            kind.away = kind.away or bool(self._down_until) or kind.failed >= _IN_A_ROW
        if kind.away and self.dependency is not None:
            self.dependency.missed()
            self.dependency.away(cause)
        return error

    def _succeeded(self, kind: _Kind) -> None:
        kind.slow = kind.failed = 0
        kind.away = False
        if self.dependency is not None and not (self._reads.away or self._writes.away):
            self.dependency.answered()

    def _described(self, error: Exception, reached: float) -> MetaAlignError | None:
        """Map `error` to one of our errors, or None; `reached` is when the transaction connected, or else began."""
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
        if self._answered_at <= reached:  # otherwise others have connected since: it is slow, not down
            self._down_until = time.monotonic() + _RETRY_SECONDS
        return StoreUnavailable(_AWAY)

    async def close(self) -> None:
        """Close all connections, without waiting for a server that hangs."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._engine.dispose()
        except (SQLAlchemyError, OSError, TimeoutError):
            await self._engine.dispose(close=False)


def insert_if_absent(connection: AsyncConnection, table: sa.Table, **values: Any) -> sa.Executable:
    """Return an insert that does nothing if the key exists, so that one of several concurrent servers adds the row."""
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    return insert(table).values(**values).on_conflict_do_nothing()
