"""How long what users said is kept, and how it is erased, whichever table it is in."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.platform import exchanges, responses
from metaalign_server.store.database import Database

__all__ = ["erase_user", "expire"]

_BATCH = 200
"""Responses, which may be megabytes each, that are deleted in one transaction."""


async def erase_user(connection: AsyncConnection, tenant_id: str, user_ref: str) -> dict[str, int]:
    """Delete everything stored about a user; return the number of rows by table. `Database.shred` completes it."""
    removed = await exchanges.erase_user(connection, tenant_id, user_ref)
    return removed | {"responses": await responses.erase_user(connection, tenant_id, user_ref)}


async def expire(database: Database, retention_days: float) -> None:
    """Delete exchanges, with their feedback, and responses that are older than `retention_days`."""
    async with database.write() as connection:
        await exchanges.expire(connection, retention_days)
    removed = _BATCH
    while removed >= _BATCH:
        async with database.write() as connection:
            removed = await responses.expire(connection, retention_days, _BATCH)
