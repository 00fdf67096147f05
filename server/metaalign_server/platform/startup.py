"""What the platform is made of, and how it starts: schema checked, secret found, first key made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import Example, MetaAlignError
from metaalign_server.callers import SCOPES, Caller, StaticKeys
from metaalign_server.platform import exchanges, idempotency, tenants
from metaalign_server.platform.exchanges import Recorder
from metaalign_server.platform.limits import Limiter, MemoryLimiter, RedisLimiter
from metaalign_server.platform.lookups import Lookups
from metaalign_server.platform.server_secret import Secret
from metaalign_server.platform.stale_cache import StaleCache
from metaalign_server.settings import Settings
from metaalign_server.store.database import Database, insert_if_absent
from metaalign_server.store.migrate import check_schema
from metaalign_server.store.tables import server_state

__all__ = ["COMMAND_LINE", "Platform", "load_secret", "open_platform"]

logger = logging.getLogger(__name__)

_FLUSH_SECONDS, _RETRY_SECONDS = 0.5, 2.0
_SWEEP_SECONDS = 3600.0

COMMAND_LINE = Caller(frozenset(SCOPES), key_id="command-line")
"""Who acts when an operator runs a command on the server's machine."""


@dataclass(slots=True)
class Platform:
    """Everything beside the engine.

    Attributes:
        learned: Examples by profile, user (or None) and number.
        first_key: The administrator's key, if this start made it.
        open: Whether the server has no key at all and serves everybody.
    """

    settings: Settings
    database: Database
    secret: Secret
    lookups: Lookups
    limiter: Limiter
    recorder: Recorder
    learned: StaleCache[tuple[int, str | None, int], tuple[Example, ...]]
    first_key: str | None = None
    open: bool = False

    def forget(self) -> None:
        """See changes made through this server at once."""
        self.lookups.forget()
        self.learned.forget()

    async def run(self) -> None:
        """Until cancelled: write exchanges as they come, and every hour remove what is kept too long."""
        clock = asyncio.get_running_loop().time
        next_sweep = clock()
        while True:
            try:
                await self.recorder.flush()
                if clock() >= next_sweep:
                    async with self.database.write() as connection:
                        await idempotency.expire(connection)
                        await exchanges.expire(connection, self.settings.retention_days)
                    next_sweep = clock() + _SWEEP_SECONDS
            except MetaAlignError as error:  # the store is away or full: again after the pause
                logger.warning(
                    "what is to be kept waits for the store", extra={"fields": {"cause": error.code}}
                )
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(_FLUSH_SECONDS)

    async def finish(self) -> None:
        """Write what still waits to be written."""
        try:
            await self.recorder.flush()
        except MetaAlignError as error:
            logger.error("exchanges were lost: the store is away", extra={"fields": {"cause": error.code}})


async def _state_value(connection: AsyncConnection, name: str, value: str) -> tuple[str, bool]:
    """The stored value of `name`, and whether it is the one given here: the first server's stays."""
    made = await connection.execute(insert_if_absent(connection, server_state, name=name, value=value))
    stored = await connection.scalar(sa.select(server_state.c.value).where(server_state.c.name == name))
    return str(stored), made.rowcount == 1


async def load_secret(database: Database, settings: Settings) -> Secret:
    """The secret of the settings, or the one that the store keeps."""
    configured = settings.secret.get_secret_value()
    if configured:
        return Secret(configured)
    async with database.write() as connection:
        value, _ = await _state_value(connection, "secret", Secret.random())
    return Secret(value)


async def _first_key(database: Database, secret: Secret, settings: Settings) -> str | None:
    """An administrator's key, if there is none of any kind and the server can be reached by others."""
    async with database.write() as connection:
        if settings.keys or settings.open_allowed or await tenants.any_key(connection):
            return None
        _, first = await _state_value(connection, "first_key", "made")
        if not first:
            return None  # another server that started at the same time shows it
        new, _ = await tenants.create_key(
            connection,
            COMMAND_LINE,
            secret,
            settings.key_environment,
            tenant="default",
            name="first administrator",
            scopes=SCOPES,
        )
        return new.token


@asynccontextmanager
async def open_platform(settings: Settings) -> AsyncIterator[Platform]:
    """The platform, ready; its connections are opened when they are needed, so that an engine may be forked before.

    Raises:
        StoreUnavailable: the database does not answer.
        WrongSchema: its schema is not the one that this server needs.
    """
    database = Database(settings.database_url.get_secret_value(), settings.database_max_bytes)
    redis_url = settings.redis_url.get_secret_value()
    limiter: Limiter = RedisLimiter(redis_url) if redis_url else MemoryLimiter()
    try:
        await check_schema(database)
        async with database.write() as connection:
            await tenants.ensure_default_tenant(connection)
        secret = await load_secret(database, settings)
        first_key = await _first_key(database, secret, settings)
        platform = _assemble(settings, database, secret, limiter)
        platform.first_key = first_key
        platform.open = await platform.lookups.caller(b"") is not None
        await database.close()  # connections that a fork would share
        yield platform
    finally:
        with suppress(asyncio.CancelledError):
            await limiter.close()
        await database.close()


def _assemble(settings: Settings, database: Database, secret: Secret, limiter: Limiter) -> Platform:
    async def load_learned(key: tuple[int, str | None, int]) -> tuple[Example, ...]:
        async with database.read() as connection:
            return await exchanges.learned_examples(connection, *key)

    return Platform(
        settings=settings,
        database=database,
        secret=secret,
        lookups=Lookups(
            database,
            secret,
            StaticKeys(settings.keys),
            open_allowed=settings.open_allowed,
            ttl=settings.refresh_seconds,
            key_limits=settings.key_limits,
            tenant_limits=settings.tenant_limits,
        ),
        limiter=limiter,
        recorder=Recorder(database),
        learned=StaleCache(load_learned, settings.refresh_seconds, 10_000),
    )
