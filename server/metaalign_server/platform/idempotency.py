"""Writes that can be retried: the response for an `Idempotency-Key` is stored in the transaction of the write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.platform.refusal import Refusal
from metaalign_server.store.database import Database
from metaalign_server.store.erasure import mark_deletion
from metaalign_server.store.tables import idempotency, now_ms

__all__ = ["KEEP_HOURS", "Outcome", "expire", "once"]

KEEP_HOURS = 24
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The response to a write: status, JSON text, ETag; `replayed` if the write was done earlier."""

    status: int
    body: str
    etag: str | None = None
    replayed: bool = False


async def once(
    database: Database,
    tenant_id: str,
    key: str | None,
    request: str,
    write: Callable[[AsyncConnection], Awaitable[Outcome]],
    seconds: float | None = None,
) -> Outcome:
    """Run `write` in a transaction, at most once per key and tenant within a day.

    Args:
        database: The store.
        tenant_id: Each tenant has its own keys.
        key: The `Idempotency-Key`, if one was sent.
        request: Method, path and body; a key is bound to one request.
        write: Makes the change; an exception rolls everything back.
        seconds: Time limit, if not the default.

    Raises:
        Refusal: the key was used for another request, or is not 1 to 255 characters of visible ASCII.
    """
    if key is None:
        async with database.write(seconds) as connection:
            return await write(connection)
    if not _KEY.fullmatch(key):
        raise Refusal(
            "invalid_idempotency_key",
            "Idempotency-Key: must be 1 to 255 visible ASCII characters, no space",
            param="Idempotency-Key",
        )
    fingerprint = hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest()
    try:
        return await _attempt(database, tenant_id, key, fingerprint, write, seconds)
    except IntegrityError:  # another server stored the same key concurrently, so its response exists now
        return await _attempt(database, tenant_id, key, fingerprint, write, seconds)


async def _attempt(
    database: Database,
    tenant_id: str,
    key: str,
    fingerprint: str,
    write: Callable[[AsyncConnection], Awaitable[Outcome]],
    seconds: float | None,
) -> Outcome:
    async with database.write(seconds) as connection:
        await expire(connection)
        mine = (idempotency.c.tenant_id == tenant_id) & (idempotency.c.key == key)
        row = (await connection.execute(sa.select(idempotency).where(mine))).mappings().first()
        if row is not None:
            if row["fingerprint"] != fingerprint:
                raise Refusal(
                    "idempotency_key_reused",
                    "Idempotency-Key: was used for another request; use a new one",
                    param="Idempotency-Key",
                )
            return Outcome(row["status"], row["body"], row["etag"], replayed=True)
        # Insert the row first: a concurrent request with the same key waits here instead of repeating the write.
        values = {"tenant_id": tenant_id, "key": key, "fingerprint": fingerprint, "created_at": now_ms()}
        await connection.execute(sa.insert(idempotency).values(status=0, body="", **values))
        outcome = await write(connection)
        await connection.execute(
            sa.update(idempotency)
            .where(mine)
            .values(status=outcome.status, body=outcome.body, etag=outcome.etag)
        )
        return outcome


async def expire(connection: AsyncConnection) -> None:
    """Delete expired responses; what remains of them in the files goes with the next hourly `Database.shred`."""
    oldest = now_ms() - KEEP_HOURS * 3_600_000
    removed = await connection.execute(sa.delete(idempotency).where(idempotency.c.created_at < oldest))
    if removed.rowcount:
        await mark_deletion(connection)
