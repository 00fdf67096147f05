"""The parts of the platform and its startup: check the schema, load the secret, create the first key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import Example, MetaAlignError
from metaalign_server.callers import NO_KEY, SCOPES, Caller, StaticKeys
from metaalign_server.outages import Dependency
from metaalign_server.platform import exchanges, idempotency, retention, tenants
from metaalign_server.platform.exchanges import Recorder
from metaalign_server.platform.hot_profiles import HotProfiles
from metaalign_server.platform.limits import Limiter, MemoryLimiter
from metaalign_server.platform.lookups import Lookups
from metaalign_server.platform.redis_limits import RedisLimiter
from metaalign_server.platform.server_secret import Secret
from metaalign_server.platform.stale_cache import StaleCache
from metaalign_server.settings import Settings
from metaalign_server.store.database import UNHURRIED_SECONDS, Database, StoreUnavailable, insert_if_absent
from metaalign_server.store.migrate import check_schema
from metaalign_server.store.tables import server_state

__all__ = ["COMMAND_LINE", "Platform", "load_secret", "open_platform"]

logger = logging.getLogger(__name__)

_FLUSH_SECONDS, _RETRY_SECONDS = 0.5, 2.0
_LOOK_SECONDS = 2.0
_SWEEP_SECONDS = 3600.0

COMMAND_LINE = Caller(frozenset(SCOPES), key_id="command-line")
"""The caller on record when an operator runs a command on the server's machine."""


@dataclass(slots=True)
class Platform:
    """Everything except the engine.

    Attributes:
        learned: Examples by profile, user (or None) and maximum number.
        hot: Which profiles are used most.
        first_key: The administrator's key, if this start created it.
        open: Whether the server has no key at all and serves everyone.
    """

    settings: Settings
    database: Database
    secret: Secret
    lookups: Lookups
    limiter: Limiter
    recorder: Recorder
    learned: StaleCache[tuple[int, str | None, int], tuple[Example, ...]]
    hot: HotProfiles = field(default_factory=HotProfiles)
    first_key: str | None = None
    open: bool = False

    def forget(self) -> None:
        """Make changes made through this server take effect immediately."""
        self.lookups.forget()
        self.learned.forget()

    async def connect(self) -> None:
        """Connect to the store, so that the first request does not wait for it."""
        with suppress(MetaAlignError):  # inference goes on without the store, and `run` reports it
            async with self.database.read():
                pass

    async def run(self) -> None:
        """Until cancelled, write queued exchanges, delete expired data, and look at the store and Redis."""
        await asyncio.gather(self._write(), self._look(), self.lookups.changes.watch())

    async def _write(self) -> None:
        clock = asyncio.get_running_loop().time
        next_sweep = clock()
        full = False
        while True:
            try:
                await self.recorder.flush()
                if clock() >= next_sweep:
                    async with self.database.write() as connection:
                        await idempotency.expire(connection)
                    await retention.expire(self.database, self.settings.retention_days)
                    next_sweep = clock() + _SWEEP_SECONDS
                    await self.database.shred()  # also what an operator's command could not finish
                elif self.database.unshredded:
                    await self.database.shred()
                full = False
            except MetaAlignError as error:  # retry after the pause
                # That the store is away is logged once for all.
                if not full and not isinstance(error, StoreUnavailable):
                    full = True
                    logger.warning(
                        "cannot write to the store; will retry", extra={"fields": {"cause": error.code}}
                    )
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(_FLUSH_SECONDS)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.gather(self.database.look(), self.limiter.look())

    async def finish(self) -> None:
        """Write the exchanges that are still queued, and which profiles were used most."""
        try:
            if self.hot.hottest(1):
                async with self.database.write() as connection:
                    await self.hot.save(connection)
            await self.recorder.flush()
        except MetaAlignError as error:
            logger.error(
                "queued exchanges are lost: cannot write to the store",
                extra={"fields": {"cause": error.code}},
            )


async def _state_value(connection: AsyncConnection, name: str, value: str) -> tuple[str, bool]:
    """Return the stored value of `name`, and whether this call stored it: the first server's value stays."""
    made = await connection.execute(insert_if_absent(connection, server_state, name=name, value=value))
    stored = await connection.scalar(sa.select(server_state.c.value).where(server_state.c.name == name))
    return str(stored), made.rowcount == 1


async def load_secret(database: Database, settings: Settings) -> Secret:
    """Return the secret from the settings, or the one in the store, which is created if it is missing."""
    configured = settings.secret.get_secret_value()
    if configured:
        return Secret(configured)
    async with database.write() as connection:
        value, _ = await _state_value(connection, "secret", Secret.random())
    return Secret(value)


async def _first_key(database: Database, secret: Secret, settings: Settings) -> str | None:
    """Create an administrator's key if there is no key of any kind and open mode is not allowed."""
    async with database.write() as connection:
        if settings.keys or settings.open_allowed or await tenants.any_key(connection):
            return None
        _, first = await _state_value(connection, "first_key", "made")
        if not first:
            return None  # another server that started at the same time created and shows it
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
    """Open the platform; it connects on first use, so that the engine can be forked before that.

    Raises:
        StoreUnavailable: the database does not respond.
        WrongSchema: its schema is not the one that this server needs.
    """
    url = settings.database_url.get_secret_value()
    # No request waits for a start, but other servers that start may hold locks that it needs.
    starting = Database(url, settings.database_max_bytes, deadline=UNHURRIED_SECONDS)
    database = Database(url, settings.database_max_bytes)
    redis_url = settings.redis_url.get_secret_value()
    limiter: Limiter = RedisLimiter(redis_url) if redis_url else MemoryLimiter()
    try:
        try:
            await check_schema(starting)
            async with starting.write() as connection:
                await tenants.ensure_default_tenant(connection)
            secret = await load_secret(starting, settings)
            first_key = await _first_key(starting, secret, settings)
        finally:
            await starting.close()
        platform = _assemble(settings, database, secret, limiter)
        platform.first_key = first_key
        platform.open = await platform.lookups.caller(NO_KEY) is not None
        await database.close()  # a forked engine would share open connections
        database.dependency = Dependency(
            "store", "known keys and profiles stay in use, writes and unknown ones are refused"
        )
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
            user_limits=settings.user_limits,
        ),
        limiter=limiter,
        recorder=Recorder(database),
        learned=StaleCache(load_learned, settings.refresh_seconds, 10_000, "learned_examples"),
    )
