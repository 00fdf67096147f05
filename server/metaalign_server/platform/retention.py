"""How long what users said is kept, and how it is erased, whichever table it is in."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.platform import exchanges, responses

__all__ = ["erase_user", "expire"]


async def erase_user(connection: AsyncConnection, tenant_id: str, user_ref: str) -> dict[str, int]:
    """Delete everything stored about a user; return the number of rows by table. `Database.shred` completes it."""
    removed = await exchanges.erase_user(connection, tenant_id, user_ref)
    return removed | {"responses": await responses.erase_user(connection, tenant_id, user_ref)}


async def expire(connection: AsyncConnection, retention_days: float) -> None:
    """Delete exchanges, with their feedback, and responses that are older than `retention_days`."""
    await exchanges.expire(connection, retention_days)
    await responses.expire(connection, retention_days)
