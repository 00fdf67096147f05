"""The audit log: who changed what and when, with hashes of what was there before and after; never the content."""

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
    """SHA-256 of a JSON value in canonical form; of a text itself, so that a version's is its own `sha256`."""
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
    """Write one entry in the transaction of the change itself.

    Args:
        connection: The transaction of the change.
        caller: Who makes it.
        action: Such as `profile.version.create`.
        what: The name of what is changed.
        tenant_id: Whose it is; the caller's tenant by default.
        before, after: JSON values of which only hashes are kept.
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
    """Entries, the newest first."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(audit.c.tenant_id == tenant_id)
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    async with database.read() as connection:
        return [dict(row) for row in (await connection.execute(query)).mappings()]
