"""Schema versions: which one a database has, and how to migrate it to the one that this code needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import MetaAlignError
from metaalign_server.store.database import Database
from metaalign_server.store.tables import metadata

__all__ = [
    "WrongSchema",
    "check_schema",
    "current_revision",
    "drift",
    "head_revision",
    "migrate",
    "rows_at_risk",
]


_LOCK = 0x6D657461  # an arbitrary advisory lock id that only we use


class WrongSchema(MetaAlignError):
    """The database does not have the schema that this server needs; the message names the command that fixes it."""

    code = "wrong_schema"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """Return the revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise AssertionError("the package ships its migrations")
    return head


def known_revisions() -> list[str]:
    """Return all revisions, newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


async def current_revision(database: Database) -> str | None:
    """Return the revision of the database, or None if it is empty."""
    async with database.read() as connection:
        return await connection.run_sync(_revision)


def _revision(connection: sa.Connection) -> str | None:
    revision: str | None = MigrationContext.configure(connection).get_current_revision()
    return revision


def _is_empty(connection: sa.Connection) -> bool:
    # Alembic's own table remains after everything else is dropped.
    return not set(sa.inspect(connection).get_table_names()) - {"alembic_version"}


async def check_schema(database: Database) -> None:
    """Create the schema in an empty SQLite file; reject any other database whose schema is not ours.

    Raises:
        WrongSchema: the schema is older or newer than this code; nothing is changed.
        StoreUnavailable: the database does not respond.
    """
    head = head_revision()
    async with database.read() as connection:
        revision = await connection.run_sync(_revision)
        empty = revision is None and await connection.run_sync(_is_empty)
    if revision == head:
        return
    if empty and database.sqlite:
        await migrate(database)
        return
    if revision is not None and revision not in known_revisions():
        raise WrongSchema(
            f"store: its schema {revision} was made by a newer version; upgrade this server, or restore a backup"
        )
    if revision is None and not empty:
        raise WrongSchema("store: the database holds tables of something else; name an empty one")
    state = "empty" if empty else f"at schema {revision}"
    raise WrongSchema(
        f"store: the database is {state} and this server needs {head}; make a backup, then run"
        " `metaalign-server migrate`"
    )


async def migrate(database: Database, revision: str = "head") -> None:
    """Migrate the schema up or down to `revision` in one transaction.

    Raises:
        WrongSchema: there is no such revision, or the database is at one that this code does not know.
        StoreUnavailable: the database does not respond.
        StoreFull: the database is full.
    """
    if revision not in ("head", "base", *known_revisions()):
        raise WrongSchema(
            f"migrate: no revision {revision!r}; there are {', '.join(known_revisions())} and base"
        )
    config = _config()
    async with database.migration() as connection:
        if not database.sqlite:  # several servers may start at once
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        await connection.run_sync(_run, config, revision)


async def rows_at_risk(database: Database, revision: str) -> dict[str, int]:
    """Return the rows of each table that is not empty if `revision` is older than the schema; else nothing.

    Going back drops tables and columns. Which of them hold something worth keeping, only the operator knows.

    Raises:
        StoreUnavailable: the database does not respond.
    """

    def count(connection: sa.Connection) -> dict[str, int]:
        if revision not in ("base", *known_revisions()) or not _is_older(connection, revision):
            return {}
        names = sorted(set(sa.inspect(connection).get_table_names()) - {"alembic_version"})
        tables = [sa.table(name) for name in names]
        rows = {t.name: connection.scalar(sa.select(sa.func.count()).select_from(t)) or 0 for t in tables}
        return {name: number for name, number in rows.items() if number}

    async with database.migration() as connection:
        return await connection.run_sync(count)


def _is_older(connection: sa.Connection, revision: str) -> bool:
    current = _revision(connection) or "base"
    order = ["base", *reversed(known_revisions())]
    if current not in order:
        raise WrongSchema(f"migrate: the schema {current} was made by a newer version; use that one")
    return order.index(order[-1] if revision == "head" else revision) < order.index(current)


def _run(connection: sa.Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    go = command.downgrade if _is_older(connection, revision) else command.upgrade
    go(config, revision)


async def drift(connection: AsyncConnection) -> list[Any]:
    """Return how the database differs from the tables in this code; empty if the migrations are complete."""
    return await connection.run_sync(
        lambda c: list(compare_metadata(MigrationContext.configure(c), metadata))
    )
