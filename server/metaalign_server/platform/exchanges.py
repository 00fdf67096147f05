"""Exchanges stored for feedback, and the examples and training pairs derived from the feedback.

Nothing is stored unless the operator enables feedback and the request does not set `store: false`. Users' ids are
stored only as keyed hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import Example
from metaalign.preferences import LIMITS
from metaalign_server.platform import audit
from metaalign_server.platform.refusal import not_found
from metaalign_server.store.database import Database, ValueNotStorable
from metaalign_server.store.erasure import mark_deletion
from metaalign_server.store.tables import exchanges, feedback, now_ms

__all__ = [
    "Exchange",
    "Opinion",
    "Recorder",
    "erase_user",
    "expire",
    "export_pairs",
    "give_feedback",
    "learned_examples",
]

DROPPED = Counter("metaalign_exchanges_dropped_total", "Exchanges that could not be kept.")

LIKED, DISLIKED = 1, -1
_DAY_MS = 86_400_000
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer and its prompt: the tiers and the dialogue as messages."""

    id: str
    tenant_id: str
    user_ref: str | None
    profile_id: int | None
    profiles: tuple[str, ...]
    messages: tuple[Mapping[str, str], ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """Feedback on an exchange: a rating, or the better and the worse of two answers.

    If only one of the two is given, the exchange's own answer is the other.
    """

    rating: int | None = None
    chosen: str | None = None
    rejected: str | None = None


class Recorder:
    """Writes exchanges to the store in the background, so that no request waits for it.

    Args:
        database: The store.
        size: Capacity of the queue; when it is full, the oldest exchange is dropped and counted.
    """

    def __init__(self, database: Database, size: int = 1000) -> None:
        self._database = database
        self._size = size
        self._waiting: deque[Exchange] = deque()
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many exchanges are queued."""
        return len(self._waiting)

    def add(self, exchange: Exchange) -> None:
        """Queue an exchange to be written."""
        if len(self._waiting) >= self._size:
            self._waiting.popleft()
            DROPPED.inc()
        self._waiting.append(exchange)

    def forget_user(self, tenant_id: str, user_ref: str) -> int:
        """Drop the queued exchanges of a user; return how many."""
        kept = [e for e in self._waiting if (e.tenant_id, e.user_ref) != (tenant_id, user_ref)]
        removed = len(self._waiting) - len(kept)
        self._waiting = deque(kept)
        return removed

    @asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """Pause writing during the block, so that erased exchanges are not written again."""
        async with self._writing:
            yield

    async def flush(self) -> None:
        """Write all queued exchanges.

        Raises:
            StoreUnavailable, StoreFull: unwritten exchanges stay queued.
        """
        async with self._writing:
            while self._waiting:
                batch = list(self._waiting)[:100]
                try:
                    await self._write(batch)
                except (IntegrityError, ValueNotStorable):  # one of them fails; it must not block the others
                    for exchange in batch:
                        try:
                            await self._write([exchange])
                        except (IntegrityError, ValueNotStorable):
                            DROPPED.inc()
                written = set(map(id, batch))
                self._waiting = deque(e for e in self._waiting if id(e) not in written)

    async def _write(self, batch: list[Exchange]) -> None:
        async with self._database.write() as connection:
            for exchange in batch:
                await _insert(connection, exchange)


async def _insert(connection: AsyncConnection, exchange: Exchange) -> None:
    same = (exchanges.c.tenant_id == exchange.tenant_id) & (exchanges.c.id == exchange.id)
    if await connection.scalar(sa.select(sa.literal(1)).where(same)) is not None:
        return  # already written; only the confirmation was lost
    messages = json.dumps(list(exchange.messages), ensure_ascii=False)
    await connection.execute(
        sa.insert(exchanges).values(
            tenant_id=exchange.tenant_id,
            id=exchange.id,
            user_ref=exchange.user_ref,
            profile_id=exchange.profile_id,
            profiles=list(exchange.profiles),
            messages=messages,
            prompt_sha256=hashlib.sha256(messages.encode("utf-8", "surrogatepass")).hexdigest(),
            answer=exchange.answer,
            created_at=now_ms(),
        )
    )


async def give_feedback(
    connection: AsyncConnection,
    tenant_id: str,
    exchange_id: str,
    opinion: Opinion,
    user_ref: str | None = None,
) -> None:
    """Store an opinion on an exchange, replacing any earlier one.

    Args:
        connection: A transaction.
        tenant_id: The tenant whose exchange it is.
        exchange_id: The id of the answer.
        opinion: The opinion.
        user_ref: If not None, only an exchange of this user counts.

    Raises:
        Refusal: there is no such exchange.
    """
    mine = (exchanges.c.tenant_id == tenant_id) & (exchanges.c.id == exchange_id)
    if user_ref is not None:
        mine &= exchanges.c.user_ref == user_ref
    answer = await connection.scalar(sa.select(exchanges.c.answer).where(mine).with_for_update())
    if answer is None:
        raise not_found("exchange", exchange_id, "id")
    about = (feedback.c.tenant_id == tenant_id) & (feedback.c.exchange_id == exchange_id)
    await connection.execute(sa.delete(feedback).where(about))
    chosen, rejected = opinion.chosen, opinion.rejected
    if chosen is not None or rejected is not None:  # the missing one is the answer itself
        chosen, rejected = (answer if text is None else text for text in (chosen, rejected))
    await connection.execute(
        sa.insert(feedback).values(
            tenant_id=tenant_id,
            exchange_id=exchange_id,
            rating=opinion.rating,
            chosen=chosen,
            rejected=rejected,
            created_at=now_ms(),
        )
    )


def _joined() -> sa.FromClause:
    return exchanges.join(
        feedback,
        (feedback.c.tenant_id == exchanges.c.tenant_id) & (feedback.c.exchange_id == exchanges.c.id),
    )


async def learned_examples(
    connection: AsyncConnection, profile_id: int, user_ref: str | None, limit: int
) -> tuple[Example, ...]:
    """Return the most recently liked exchanges of a profile as examples, oldest first.

    Args:
        connection: A transaction.
        profile_id: The profile.
        user_ref: Only exchanges of this user; None for those of all users.
        limit: Maximum number of examples.
    """
    query = (
        sa.select(exchanges.c.messages, exchanges.c.answer, feedback.c.chosen, feedback.c.rejected)
        .select_from(_joined())
        .where(exchanges.c.profile_id == profile_id)
        .where((feedback.c.rating == LIKED) | feedback.c.chosen.is_not(None))
        .order_by(feedback.c.created_at.desc(), feedback.c.id.desc())
        .limit(4 * limit)  # some may be too long for an example
    )
    if user_ref is not None:
        query = query.where(exchanges.c.user_ref == user_ref)
    found: list[Example] = []
    for messages, answer, chosen, rejected in await connection.execute(query):
        questions = [m["content"] for m in json.loads(messages) if m["role"] == "user"]
        texts = [questions[-1] if questions else "", chosen or answer, rejected]
        if texts[0] and texts[1] and all(len(t or "") <= LIMITS["example_text"] for t in texts):
            found.append(Example(query=texts[0], preferred=texts[1], rejected=texts[2] or None))
        if len(found) == limit:
            break
    return tuple(reversed(found))


async def export_pairs(
    database: Database, tenant_id: str | None, since_ms: int = 0
) -> AsyncIterator[dict[str, Any]]:
    """Yield pairs of a better and a worse answer to the same prompt, in the format that `metaalign-train` reads.

    Explicit pairs are exported as given; of rated answers, each liked one is paired with each disliked one to the same
    prompt. Each pair is exported once. Rows are read page by page, so that an export does not block anyone.
    """
    written: set[str] = set()
    query = (
        sa.select(feedback, exchanges.c.messages, exchanges.c.prompt_sha256, exchanges.c.answer)
        .select_from(_joined())
        .where(feedback.c.created_at >= since_ms)
        .order_by(feedback.c.id)
        .limit(_PAGE)
    )
    if tenant_id is not None:
        query = query.where(feedback.c.tenant_id == tenant_id)
    last = 0
    while True:
        pairs: list[dict[str, Any]] = []
        async with database.read(seconds=60) as connection:
            rows = (await connection.execute(query.where(feedback.c.id > last))).mappings().all()
            for row in rows:
                if row["chosen"] is not None:
                    pairs.append(_pair(row["messages"], row["chosen"], row["rejected"]))
                elif row["rating"] == LIKED:
                    others = await connection.execute(
                        _disliked(row["tenant_id"], row["prompt_sha256"], since_ms)
                    )
                    for other in others.scalars():
                        if other != row["answer"]:
                            pairs.append(_pair(row["messages"], row["answer"], other))
        for pair in pairs:
            if (key := audit.fingerprint(pair)) not in written:
                written.add(key)
                yield pair
        if len(rows) < _PAGE:
            return
        last = rows[-1]["id"]


def _disliked(tenant_id: str, prompt_sha256: str, since_ms: int) -> sa.Select[Any]:
    return (
        sa.select(exchanges.c.answer)
        .select_from(_joined())
        .where(exchanges.c.tenant_id == tenant_id, exchanges.c.prompt_sha256 == prompt_sha256)
        .where(feedback.c.rating == DISLIKED, feedback.c.created_at >= since_ms)
        .distinct()
    )


def _pair(messages: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "prompt": json.loads(messages),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


async def erase_user(connection: AsyncConnection, tenant_id: str, user_ref: str) -> dict[str, int]:
    """Delete everything stored about a user; return the number of rows by table. `Database.shred` completes it."""
    mine = (exchanges.c.tenant_id == tenant_id) & (exchanges.c.user_ref == user_ref)
    ids = sa.select(exchanges.c.id).where(mine)
    opinions = await connection.execute(
        sa.delete(feedback).where(feedback.c.tenant_id == tenant_id, feedback.c.exchange_id.in_(ids))
    )
    kept = await connection.execute(sa.delete(exchanges).where(mine))
    if kept.rowcount:
        await mark_deletion(connection)
    return {"exchanges": kept.rowcount, "feedback": opinions.rowcount}


async def expire(connection: AsyncConnection, retention_days: float) -> int:
    """Delete exchanges older than `retention_days`, with their feedback; return how many."""
    oldest = now_ms() - int(retention_days * _DAY_MS)
    removed = await connection.execute(sa.delete(exchanges).where(exchanges.c.created_at < oldest))
    if removed.rowcount:
        await mark_deletion(connection)
    return int(removed.rowcount)
