"""Connections to SQLite or PostgreSQL: one transaction a block, a deadline on each, failures as two errors.

A block of `read()` or `write()` is one transaction. Writers of SQLite take its lock when they begin, so that a
transaction that reads before it writes never fails half-way; writers of PostgreSQL lock the rows that they read.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from metaalign import MetaAlignError

__all__ = ["Database", "DatabaseUrlError", "StoreFull", "StoreUnavailable", "parse_database_url"]

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_CONNECT_SECONDS = 0.7
_COMMAND_SECONDS = 1.0
_DEADLINE_SECONDS = 1.6
"""How long a transaction may take; what is promised to clients is an answer within two seconds."""
_RETRY_SECONDS = 1.0
"""After a failure the database is left alone this long: waiting requests would only pile up."""
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
_POSTGRES_FULL = "53100"  # disk_full
_POSTGRES_AWAY = ("08", "40", "53", "57")  # classes: connection, rollback of a deadlock, resources, shutdown


class DatabaseUrlError(ValueError):
    """METAALIGN_DATABASE_URL cannot be used; the message says how to write it and never repeats it."""


class StoreUnavailable(MetaAlignError):
    """The database does not answer, or not in time."""

    code = "store_unavailable"


class StoreFull(MetaAlignError):
    """The database has no room left."""

    code = "store_full"


def parse_database_url(text: str) -> URL:
    """The URL with the driver that we use.

    Raises:
        DatabaseUrlError: neither SQLite nor PostgreSQL.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    driver = _DRIVERS.get(url.drivername) if url is not None else None
    if url is None or driver is None:
        raise DatabaseUrlError("write `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`")
    return url.set(drivername=driver)


def _configure_sqlite(engine: AsyncEngine, max_bytes: int | None) -> None:
    @sa.event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=1000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        if max_bytes is not None:
            page = cursor.execute("PRAGMA page_size").fetchone()[0]
            cursor.execute(f"PRAGMA max_page_count={max(1, max_bytes // page)}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Database:
    """One database.

    Args:
        url: As `METAALIGN_DATABASE_URL`.
        max_bytes: Largest size of an SQLite file; None for no bound.

    Raises:
        DatabaseUrlError: see `parse_database_url`.
    """

    def __init__(self, url: str, max_bytes: int | None = None) -> None:
        self.url = parse_database_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_pre_ping": not self.sqlite, "pool_timeout": _CONNECT_SECONDS}
        if not self.sqlite:
            options["connect_args"] = {"timeout": _CONNECT_SECONDS, "command_timeout": _COMMAND_SECONDS}
            options["pool_size"] = 8
        self.engine = create_async_engine(self.url, **options)
        if self.sqlite:
            _configure_sqlite(self.engine, max_bytes)
        self._down_until = 0.0

    def read(self) -> Any:
        """A transaction that only reads: `async with database.read() as connection`.

        Raises:
            StoreUnavailable: the database does not answer in time.
        """
        return self._transaction(writes=False)

    def write(self) -> Any:
        """A transaction that is committed when the block ends and rolled back when it raises.

        Raises:
            StoreUnavailable: the database does not answer in time, or its lock was not to be had.
            StoreFull: it has no room.
        """
        return self._transaction(writes=True)

    @asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        if time.monotonic() < self._down_until:
            raise StoreUnavailable("the store does not answer; try again shortly")
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS), self.engine.connect() as connection:
                if self.sqlite:
                    await connection.execution_options(writes=writes)
                elif not writes:  # several statements of a reader see one state
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    yield connection
        except (DBAPIError, PoolTimeout, OSError, TimeoutError) as error:
            described = self._described(error)
            if described is None:
                raise  # two writers met, or a bug of ours
            raise described from error

    def _described(self, error: Exception) -> MetaAlignError | None:
        cause = error.orig if isinstance(error, DBAPIError) else error
        number = getattr(cause, "sqlite_errorcode", None)
        state = str(getattr(cause, "sqlstate", None) or "")
        if number in _SQLITE_FULL or state == _POSTGRES_FULL:
            return StoreFull("the store has no room left; reads and inference go on")
        away = not isinstance(error, DBAPIError) or isinstance(error, OperationalError | InterfaceError)
        if not away and not error.connection_invalidated and state[:2] not in _POSTGRES_AWAY:
            return None
        if number is None and state[:2] != "40":  # a server that is away concerns all, not one statement
            self._down_until = time.monotonic() + _RETRY_SECONDS
        return StoreUnavailable("the store does not answer; try again shortly")

    async def close(self) -> None:
        """Close all connections; a server that hangs is not waited for."""
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self.engine.dispose()
        except (SQLAlchemyError, OSError, TimeoutError):
            await self.engine.dispose(close=False)
