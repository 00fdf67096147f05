"""What is kept for feedback is written without holding anybody up, learned from, exported, and removed in time."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from metaalign import Example
from metaalign_server.callers import DEFAULT_TENANT, Caller
from metaalign_server.platform import exchanges, profiles, tenants
from metaalign_server.platform.exchanges import DISLIKED, LIKED, Exchange, Opinion, Recorder
from metaalign_server.platform.profiles import validate
from metaalign_server.platform.refusal import Refusal
from metaalign_server.store import tables
from metaalign_server.store.database import Database, StoreUnavailable

OPERATOR = Caller(frozenset({"admin", "system"}), "operator", DEFAULT_TENANT)


def exchange(id_: str, **changes: Any) -> Exchange:
    values: dict[str, Any] = {
        "tenant_id": "default",
        "user_ref": "ada",
        "profile_id": None,
        "profiles": (),
        "messages": ({"role": "user", "content": "Why?"},),
        "answer": f"Because of {id_}.",
    }
    return Exchange(id=id_, **(values | changes))


async def keep(database: Database, *kept: Exchange) -> None:
    recorder = Recorder(database)
    for one in kept:
        recorder.add(one)
    await recorder.flush()


async def say(database: Database, id_: str, tenant: str = "default", **opinion: Any) -> None:
    async with database.write() as connection:
        await exchanges.give_feedback(connection, tenant, id_, Opinion(**opinion))


async def count(database: Database, table: sa.Table) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def dropped() -> float:
    return REGISTRY.get_sample_value("metaalign_exchanges_dropped_total") or 0.0


async def test_one_that_cannot_be_written_does_not_hold_up_the_others(database: Database) -> None:
    before = dropped()
    await keep(
        database,
        exchange("a"),
        exchange("b", tenant_id="no-such-tenant"),
        exchange("c", answer="\ud800"),
        exchange("d"),
        exchange("a", answer="A client chose this id again."),
    )
    assert dropped() == before + 2
    async with database.read() as connection:
        rows = (await connection.execute(sa.select(tables.exchanges.c.id, tables.exchanges.c.answer))).all()
    assert sorted(tuple(row) for row in rows) == [("a", "Because of a."), ("d", "Because of d.")]


async def test_what_waits_is_bounded_and_survives_an_outage(database: Database) -> None:
    recorder = Recorder(database, size=3)
    before = dropped()
    for number in range(5):
        recorder.add(exchange(str(number)))
    assert dropped() == before + 2
    away = Database("postgresql://nobody@127.0.0.1:9/nothing")
    recorder._database, home = away, recorder._database
    with pytest.raises(StoreUnavailable):
        await recorder.flush()
    recorder._database = home
    assert recorder.forget_user("default", "bob") == 0
    await recorder.flush()
    assert await count(database, tables.exchanges) == 3
    recorder.add(exchange("late"))
    assert recorder.forget_user("default", "ada") == 1
    await recorder.flush()
    assert await count(database, tables.exchanges) == 3
    await away.close()


async def test_the_last_liked_ones_become_examples(database: Database) -> None:
    """For one profile, of one user or of all; later feedback replaces earlier; too long examples are skipped."""
    async with database.write() as connection:
        head = await profiles.create(connection, OPERATOR, "support", validate({"user": "Hi."}, OPERATOR))
    liked = [exchange(str(number), profile_id=head.id) for number in range(5)]
    await keep(
        database,
        *liked,
        exchange("long", profile_id=head.id, answer="x" * 3000),
        exchange("other", profile_id=None),
        exchange("bob", profile_id=head.id, user_ref="bob"),
    )
    for id_ in ("0", "1", "2", "3", "4", "long", "other", "bob"):
        await say(database, id_, rating=LIKED)
    await say(database, "4", rating=DISLIKED)
    await say(database, "3", chosen="Better.")

    async def learned(user: str | None, limit: int) -> list[str | None]:
        async with database.read() as connection:
            found = await exchanges.learned_examples(connection, head.id, user, limit)
        assert all(example.query == "Why?" for example in found)
        return [example.preferred for example in found]

    assert await learned("ada", 2) == ["Because of 2.", "Better."]
    assert await learned("ada", 8) == ["Because of 0.", "Because of 1.", "Because of 2.", "Better."]
    assert await learned(None, 2) == ["Because of bob.", "Better."]
    assert await learned("eve", 2) == []
    async with database.read() as connection:
        (last,) = await exchanges.learned_examples(connection, head.id, "ada", 1)
    assert last == Example(query="Why?", preferred="Better.", rejected="Because of 3.")


async def test_pairs_are_those_of_one_prompt(database: Database) -> None:
    other = ({"role": "user", "content": "How?"},)
    await keep(
        database,
        *(exchange(id_) for id_ in "abcd"),
        exchange("e", messages=other),
        exchange("f", answer="Because of a."),
    )
    for id_ in "abf":
        await say(database, id_, rating=LIKED)
    for id_ in "ce":
        await say(database, id_, rating=DISLIKED)
    await say(database, "d", rejected="Worse.")

    async def pairs(since_ms: int = 0) -> set[tuple[str, str, str]]:
        found = [pair async for pair in exchanges.export_pairs(database, None, since_ms)]
        texts = [
            (p["prompt"][-1]["content"], p["chosen"][0]["content"], p["rejected"][0]["content"])
            for p in found
        ]
        assert len(texts) == len(set(texts))
        return set(texts)

    assert await pairs() == {
        ("Why?", "Because of a.", "Because of c."),
        ("Why?", "Because of b.", "Because of c."),
        ("Why?", "Because of d.", "Worse."),
    }
    assert await pairs(since_ms=2**53) == set()


async def test_an_export_of_many_pages_is_whole(database: Database) -> None:
    await keep(database, *(exchange(f"n{number}") for number in range(450)))
    for number in range(450):
        await say(database, f"n{number}", chosen=f"Better {number}.")
    chosen = [pair["chosen"][0]["content"] async for pair in exchanges.export_pairs(database, "default")]
    assert sorted(chosen) == sorted(f"Better {number}." for number in range(450))


async def test_retention_and_erasure(database: Database) -> None:
    """Both remove the feedback too, and neither touches another tenant's or another user's."""
    async with database.write() as connection:
        row = await tenants.create_tenant(connection, OPERATOR, "acme")
    await keep(
        database,
        exchange("a"),
        exchange("b", user_ref="bob"),
        exchange("a", tenant_id=row.tenant.id),
        exchange("c"),
    )
    for id_, tenant in (("a", "default"), ("b", "default"), ("a", row.tenant.id)):
        await say(database, id_, tenant, rating=LIKED)
    with pytest.raises(Refusal):
        await say(database, "b", row.tenant.id, rating=LIKED)
    async with database.write() as connection:
        assert await exchanges.erase_user(connection, "default", "ada") == {"exchanges": 2, "feedback": 1}
    assert (await count(database, tables.exchanges), await count(database, tables.feedback)) == (2, 2)
    async with database.write() as connection:
        old = sa.update(tables.exchanges).where(tables.exchanges.c.id == "b")
        await connection.execute(old.values(created_at=tables.now_ms() - 31 * 86_400_000))
        assert await exchanges.expire(connection, 30) == 1
    assert (await count(database, tables.exchanges), await count(database, tables.feedback)) == (1, 1)
