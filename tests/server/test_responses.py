"""Stored responses in both databases: chains, their ends, retention, erasure, and a store that is away."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from metaalign import RefusedField
from metaalign_server.callers import DEFAULT_TENANT, Caller
from metaalign_server.platform import responses, retention, tenants
from metaalign_server.platform.refusal import Refusal
from metaalign_server.platform.responses import StoredResponse
from metaalign_server.store import tables
from metaalign_server.store.database import Database

OPERATOR = Caller(frozenset({"admin", "system"}), "operator", DEFAULT_TENANT)


def response(number: int, **changes: Any) -> StoredResponse:
    values: dict[str, Any] = {
        "tenant_id": "default",
        "user_ref": "ada",
        "previous_id": f"resp_{number - 1}" if number else None,
        "input": [{"role": "user", "content": f"question {number} 🦊"}],
        "document": {
            "id": f"resp_{number}",
            "output": [{"role": "assistant", "content": f"answer {number}"}],
        },
    }
    return StoredResponse(id=f"resp_{number}", **(values | changes))


async def keep(database: Database, *kept: StoredResponse) -> None:
    async with database.write() as connection:
        for one in kept:
            await responses.keep(connection, one)


async def said(database: Database, id_: str, user_ref: str | None = None) -> list[str]:
    async with database.read() as connection:
        found = await responses.dialogue(connection, "default", id_, user_ref)
    return [item["content"] for item in found.items]


async def test_a_chain_is_read_in_order(database: Database) -> None:
    await keep(database, *(response(number) for number in (3, 0, 2, 1)))
    assert await said(database, "resp_2") == [
        text for number in range(3) for text in (f"question {number} 🦊", f"answer {number}")
    ]
    assert await said(database, "resp_2", "ada") == await said(database, "resp_2")
    async with database.read() as connection:
        assert await responses.find(connection, "default", "resp_3") == response(3)


async def test_a_long_dialogue(database: Database) -> None:
    await keep(database, *(response(number) for number in range(400)))
    assert len(await said(database, "resp_399")) == 800


async def test_what_ends_a_chain(database: Database) -> None:
    await keep(database, response(0), response(1, user_ref="eve"), response(2))
    with pytest.raises(Refusal, match="goes back to the response `resp_1`"):
        await said(database, "resp_2", "ada")
    for user_ref, id_ in (("ada", "resp_1"), (None, "resp_9"), ("", "resp_0")):
        with pytest.raises(Refusal, match=f"no response `{id_}` is stored"):
            await said(database, id_, user_ref)


async def test_a_chain_does_not_leave_its_tenant(database: Database) -> None:
    async with database.write() as connection:
        made = await tenants.create_tenant(connection, OPERATOR, "other")
    await keep(database, response(0, tenant_id=made.tenant.id), response(1))
    with pytest.raises(Refusal, match="goes back to the response `resp_0`"):
        await said(database, "resp_1")


async def test_a_chain_is_measured_before_it_is_read(database: Database) -> None:
    await keep(database, *(response(number) for number in range(4)))
    async with database.read() as connection:
        whole = await responses.dialogue(connection, "default", "resp_3")
        assert whole.user_ref == "ada"
        with pytest.raises(RefusedField, match="more than 300 bytes"):
            await responses.dialogue(connection, "default", "resp_3", max_bytes=300)
    await keep(database, *(response(number) for number in range(4, 1002)))
    with pytest.raises(RefusedField, match="or 1000 responses"):
        await said(database, "resp_1001")


async def test_texts_that_a_database_does_not_take(database: Database) -> None:
    odd = response(0, input=[{"role": "user", "content": "lone \ud800 and \x00"}])
    await keep(database, odd)
    async with database.read() as connection:
        assert await responses.find(connection, "default", "resp_0") == odd


async def test_retention_and_erasure(database: Database) -> None:
    await keep(database, response(0), response(1), response(2, user_ref="eve"), response(3, user_ref=None))
    old = sa.update(tables.responses).where(tables.responses.c.id == "resp_0").values(created_at=0)
    async with database.write() as connection:
        await connection.execute(old)
    await retention.expire(database, 1)
    async with database.write() as connection:
        assert await retention.erase_user(connection, "default", "ada") == {
            "exchanges": 0,
            "feedback": 0,
            "responses": 1,
        }
    async with database.read() as connection:
        left = (await connection.execute(sa.select(tables.responses.c.id))).scalars().all()
    assert sorted(left) == ["resp_2", "resp_3"]


async def test_what_is_old_goes_in_batches(database: Database) -> None:
    await keep(database, *(response(number) for number in range(450)))
    async with database.write() as connection:
        await connection.execute(sa.update(tables.responses).values(created_at=0))
        assert await responses.expire(connection, 1, 100) == 100
    await keep(database, response(999))
    await retention.expire(database, 1)
    async with database.read() as connection:
        left = (await connection.execute(sa.select(tables.responses.c.id))).scalars().all()
    assert left == ["resp_999"]


async def test_bytes_that_are_to_go_are_sqlites(database: Database) -> None:
    """PostgreSQL's are the operator's, so that nothing may count as pending there for ever."""
    database.unshredded = False
    database.shred_later()
    assert database.unshredded is database.sqlite
    await database.shred()
    assert database.unshredded is False
