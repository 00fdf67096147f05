"""The audit log: who changed what and when, with hashes of the state before and after; never the content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.callers import Caller
from metaalign_server.store.database import Database
from metaalign_server.store.tables import audit, now_ms

__all__ = ["fingerprint", "list_entries", "record"]


def fingerprint(tree: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form; a string is hashed as is, to match a version's `sha256`."""
    text = (
        tree
        if isinstance(tree, str)
        else json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


async def record(
    connection: AsyncConnection,
    caller: Caller,
    action: str,
    what: str,
    *,
    tenant_id: str | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Write one entry in the same transaction as the change.

    Args:
        connection: The transaction of the change.
        caller: Who makes the change.
        action: For example `profile.version.create`.
        what: Name of the changed object.
        tenant_id: The object's tenant; the caller's tenant by default.
        before, after: JSON values; only their hashes are stored.
    """
    await connection.execute(
        sa.insert(audit).values(
            at=now_ms(),
            tenant_id=tenant_id or caller.tenant.id,
            actor=caller.key_id,
            action=action,
            object=what[:200],
            before=None if before is None else fingerprint(before),
            after=None if after is None else fingerprint(after),
        )
    )


async def list_entries(
    database: Database, *, tenant_id: str | None, before_id: int | None, limit: int
) -> list[dict[str, Any]]:
    """Return entries, newest first."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(audit.c.tenant_id == tenant_id)
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    async with database.read() as connection:
        return [dict(row) for row in (await connection.execute(query)).mappings()]
