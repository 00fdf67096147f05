"""Responses that are stored so that a client can read them again and continue them by id.

Each row has the items of its own request and the answer; a dialogue is the chain of `previous_id`. Nothing is stored
unless the operator enables it and the request does not set `store: false`. Users' ids are stored only as keyed hashes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import RefusedField
from metaalign_server.platform.refusal import Refusal
from metaalign_server.store.erasure import mark_deletion
from metaalign_server.store.tables import now_ms, responses

__all__ = ["Dialogue", "StoredResponse", "delete", "dialogue", "erase_user", "expire", "find", "keep"]

_DAY_MS = 86_400_000
_LONGEST = 1000
"""Responses in a chain."""
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response of the Responses API.

    Attributes:
        input: The items of its own request, without those of the responses before it.
        document: The answer as the client got it.
    """

    id: str
    tenant_id: str
    user_ref: str | None
    previous_id: str | None
    input: list[dict[str, Any]]
    document: dict[str, Any]


def _theirs(tenant_id: str, user_ref: str | None) -> sa.ColumnElement[bool]:
    mine = responses.c.tenant_id == tenant_id
    return mine if user_ref is None else mine & (responses.c.user_ref == user_ref)


def _missing(response_id: str, param: str | None = None) -> Refusal:
    named = f"{param}: " if param is not None else ""
    return Refusal("response_not_found", f"{named}no response `{response_id}` is stored", param=param)


async def keep(connection: AsyncConnection, response: StoredResponse) -> None:
    """Store a response."""
    # Escaped, so that texts with lone surrogates or NUL can be stored too.
    given, document = json.dumps(response.input), json.dumps(response.document)
    await connection.execute(
        sa.insert(responses).values(
            tenant_id=response.tenant_id,
            id=response.id,
            user_ref=response.user_ref,
            previous_id=response.previous_id,
            input=given,
            document=document,
            size=len(given) + len(document),
            created_at=now_ms(),
        )
    )


async def find(
    connection: AsyncConnection, tenant_id: str, response_id: str, user_ref: str | None = None
) -> StoredResponse:
    """Return a response.

    Args:
        connection: A transaction.
        tenant_id: The tenant whose response it is.
        response_id: Its id.
        user_ref: If not None, only a response of this user counts.

    Raises:
        Refusal: there is none.
    """
    query = sa.select(responses).where(_theirs(tenant_id, user_ref), responses.c.id == response_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise _missing(response_id)
    return StoredResponse(
        id=row["id"],
        tenant_id=tenant_id,
        user_ref=row["user_ref"],
        previous_id=row["previous_id"],
        input=json.loads(row["input"]),
        document=json.loads(row["document"]),
    )


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A chain of responses.

    Attributes:
        items: What was said, oldest first.
        user_ref: Whose the last response is, if anybody's.
    """

    items: list[dict[str, Any]]
    user_ref: str | None


async def dialogue(
    connection: AsyncConnection,
    tenant_id: str,
    response_id: str,
    user_ref: str | None = None,
    *,
    max_bytes: int = _MOST_BYTES,
) -> Dialogue:
    """Return everything up to and including a response; the first arguments are those of `find`.

    Args:
        max_bytes: A longer chain is not read.

    Raises:
        Refusal: the response or one before it is missing.
        RefusedField: the chain is too long.
    """
    columns = (responses.c.id, responses.c.previous_id, responses.c.user_ref)
    last = (
        sa.select(*columns, responses.c.size.label("total"), sa.literal(1).label("depth"))
        .where(_theirs(tenant_id, user_ref), responses.c.id == response_id)
        .cte("chain", recursive=True)
    )
    before = (
        sa.select(*columns, last.c.total + responses.c.size, last.c.depth + 1)
        .join(last, responses.c.id == last.c.previous_id)
        .where(_theirs(tenant_id, user_ref), last.c.depth < _LONGEST, last.c.total <= max_bytes)
    )
    chain = last.union_all(before)
    links = (await connection.execute(sa.select(chain).order_by(chain.c.depth))).mappings().all()
    if not links:
        raise _missing(response_id, "previous_response_id")
    if links[-1]["total"] > max_bytes or (links[-1]["previous_id"] is not None and len(links) == _LONGEST):
        raise RefusedField(
            f"previous_response_id: the dialogue has more than {max_bytes} bytes or {_LONGEST} responses; send what"
            " matters of it in `input`",
            param="previous_response_id",
        )
    if (lost := links[-1]["previous_id"]) is not None:
        raise Refusal(
            "response_not_found",
            f"previous_response_id: the dialogue goes back to the response `{lost}`, which is no longer stored",
            param="previous_response_id",
        )
    texts = sa.select(responses.c.id, responses.c.input, responses.c.document).where(
        responses.c.tenant_id == tenant_id, responses.c.id.in_([link["id"] for link in links])
    )
    rows = {row.id: row for row in await connection.execute(texts)}
    items: list[dict[str, Any]] = []
    for link in reversed(links):
        if (row := rows.get(link["id"])) is None:  # deleted between the two reads
            raise _missing(link["id"], "previous_response_id")
        items += json.loads(row.input)
        items += json.loads(row.document)["output"]
    return Dialogue(items, links[0]["user_ref"])


async def delete(
    connection: AsyncConnection, tenant_id: str, response_id: str, user_ref: str | None = None
) -> None:
    """Delete a response; arguments and errors as for `find`. `Database.shred` completes it."""
    found = await connection.execute(
        sa.delete(responses).where(_theirs(tenant_id, user_ref), responses.c.id == response_id)
    )
    if not found.rowcount:
        raise _missing(response_id)
    await mark_deletion(connection)


async def erase_user(connection: AsyncConnection, tenant_id: str, user_ref: str) -> int:
    """Delete all responses to a user; return how many. `Database.shred` completes it."""
    removed = await connection.execute(sa.delete(responses).where(_theirs(tenant_id, user_ref)))
    if removed.rowcount:
        await mark_deletion(connection)
    return int(removed.rowcount)


async def expire(connection: AsyncConnection, retention_days: float, most: int) -> int:
    """Delete at most so many responses that are older than `retention_days`; return how many."""
    oldest = now_ms() - int(retention_days * _DAY_MS)
    old = sa.select(responses.c.id).where(responses.c.created_at < oldest).limit(most)
    ids = (await connection.execute(old)).scalars().all()
    removed = await connection.execute(
        sa.delete(responses).where(responses.c.created_at < oldest, responses.c.id.in_(ids))
    )
    if removed.rowcount:
        await mark_deletion(connection)
    return int(removed.rowcount)
