"""Writes that can be sent again: the answer to an `Idempotency-Key` is kept with the write, in its transaction."""

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
from metaalign_server.store.tables import idempotency, now_ms

__all__ = ["KEEP_HOURS", "Outcome", "expire", "once"]

KEEP_HOURS = 24
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write answers: status, JSON text, ETag; `replayed` if it was done before."""

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
    """Do `write` in a transaction, at most once for each key of a tenant within a day.

    Args:
        database: The store.
        tenant_id: Keys of different tenants are different.
        key: The `Idempotency-Key`, if one was sent.
        request: Method, path and body: a key belongs to one request.
        write: Makes the change; what it raises undoes everything.
        seconds: How long it may take, if not as long as others.

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
    except IntegrityError:  # the same key at the same time on another server: that one's answer is there now
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
        # The row is taken first: a second request with the key waits here, not after the same write.
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
    """Remove answers that are kept no longer."""
    oldest = now_ms() - KEEP_HOURS * 3_600_000
    await connection.execute(sa.delete(idempotency).where(idempotency.c.created_at < oldest))
