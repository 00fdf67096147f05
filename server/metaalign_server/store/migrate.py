"""The schema's version: which one a database has, and how it gets to the one that this code needs."""

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

__all__ = ["WrongSchema", "check_schema", "current_revision", "drift", "head_revision", "migrate"]


class WrongSchema(MetaAlignError):
    """The database has another schema than this server needs; the message says which command mends it."""

    code = "wrong_schema"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """The revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise AssertionError("the package ships its migrations")
    return head


def known_revisions() -> list[str]:
    """All revisions, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


async def current_revision(database: Database) -> str | None:
    """The revision that the database has; None if it is empty."""
    async with database.read() as connection:
        return await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())


async def _is_empty(database: Database) -> bool:
    async with database.read() as connection:
        return not await connection.run_sync(lambda c: sa.inspect(c).get_table_names())


async def check_schema(database: Database) -> None:
    """Make the schema of an empty SQLite file; refuse any database whose schema is not ours.

    Raises:
        WrongSchema: older or newer than this code; nothing is changed.
        StoreUnavailable: the database does not answer.
    """
    revision, head = await current_revision(database), head_revision()
    if revision == head:
        return
    if revision is None and database.sqlite and await _is_empty(database):
        await migrate(database)
        return
    if revision is not None and revision not in known_revisions():
        raise WrongSchema(
            f"store: its schema {revision} was made by a newer version; upgrade this server, or restore a backup"
        )
    state = "empty" if revision is None else f"at schema {revision}"
    raise WrongSchema(
        f"store: the database is {state} and this server needs {head}; make a backup, then run"
        " `metaalign-server migrate`"
    )


async def migrate(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`, up or down, in one transaction.

    Raises:
        WrongSchema: there is no such revision.
    """
    if revision not in ("head", "base", *known_revisions()):
        raise WrongSchema(
            f"migrate: no revision {revision!r}; there are {', '.join(known_revisions())} and base"
        )
    config = _config()
    # Its own connection, without the deadline of requests: a migration of much data takes its time.
    async with database.engine.connect() as connection:
        await connection.execution_options(writes=True)
        async with connection.begin():
            await connection.run_sync(_run, config, revision)


def _run(connection: sa.Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    current = MigrationContext.configure(connection).get_current_revision()
    order = ["base", *reversed(known_revisions())]
    target = order[-1] if revision == "head" else revision
    if order.index(target) < order.index(current or "base"):
        command.downgrade(config, target)
    else:
        command.upgrade(config, target)


async def drift(connection: AsyncConnection) -> list[Any]:
    """How the database differs from the tables of this code; empty if the migrations are complete."""
    return await connection.run_sync(
        lambda c: list(compare_metadata(MigrationContext.configure(c), metadata))
    )
