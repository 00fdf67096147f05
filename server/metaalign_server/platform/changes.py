"""Whether anything that servers keep in memory has changed in the store: one query for all keys, tenants and profiles.

Without it, each value is read again when its time is over, and a request that comes alone waits for all of its reads.
"""

from __future__ import annotations

import asyncio
import time

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from metaalign import MetaAlignError
from metaalign_server.store.database import Database
from metaalign_server.store.tables import changes

__all__ = ["Changes"]

_TRUST_SECONDS = 60.0
"""For so long after its read, a value is vouched for; and so long after the last request, the store is asked."""


class Changes:
    """The store's count of changes, asked for twice in `seconds` while requests come.

    The database itself counts (see migration 0005), in the transaction of the change: who has read a value after the
    count was n has the present value if the count is still n.

    Args:
        database: The store.
        seconds: How long an answer is good for.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._count: int | None = None
        self._good_until = float("-inf")
        self._wanted_until = float("-inf")

    def mark(self) -> int | None:
        """Return the count to keep with a value that is read from now on, or None if it is not known."""
        return self._count

    def vouch_for(self, mark: int | None, read_at: float) -> bool:
        """Return whether a value is known to be as it was at `read_at` (monotonic), when the count was `mark`.

        The question itself keeps `watch` asking for another minute.
        """
        now = time.monotonic()
        self._wanted_until = now + _TRUST_SECONDS
        return (
            mark is not None and mark == self._count and now < min(self._good_until, read_at + _TRUST_SECONDS)
        )

    async def watch(self) -> None:
        """Ask for the count until cancelled; while the store is away, values expire as if nobody asked."""
        while self._seconds > 0:
            await asyncio.sleep(self._seconds / 2)
            if time.monotonic() < self._wanted_until:
                await self.look()

    async def look(self) -> None:
        """Ask once."""
        began = time.monotonic()
        try:
            async with self._database.read() as connection:
                count = await connection.scalar(sa.select(sa.func.sum(changes.c.count)))
        except (MetaAlignError, SQLAlchemyError):  # reported where requests meet it; or an older schema
            return
        self._count = None if count is None else int(count)  # PostgreSQL's sum is a decimal number
        self._good_until = began + self._seconds
