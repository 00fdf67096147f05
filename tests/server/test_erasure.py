"""Deleted rows leave no bytes: not in the file, not in its log, not in later copies, whatever moved between pages."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sqlite3
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from metaalign_server.platform import exchanges, idempotency
from metaalign_server.platform.exchanges import Exchange, Opinion, Recorder
from metaalign_server.platform.tenants import ensure_default_tenant
from metaalign_server.store.database import Database
from metaalign_server.store.erasure import ErasureIncomplete
from metaalign_server.store.migrate import migrate
from metaalign_server.store.tables import idempotency as idempotency_keys
from metaalign_server.store.tables import server_state
from tests.databases import PATIENCE, Postgres, postgres_program
from tests.processes import ROOT, command


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/store.db", deadline=PATIENCE)
    await migrate(database)
    async with database.write() as connection:
        await ensure_default_tenant(connection)
    yield database
    await database.close()


def stored(database: Database) -> bytes:
    """The bytes of the store's file, its log and its index, as they are on the disk."""
    path = Path(str(database.url.database))
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


def canary(user: int) -> str:
    return f"canary-of-{user}-"


async def keep(database: Database, *texts: tuple[int, int]) -> None:
    """Keep exchanges, given as user and length, with feedback; their texts consist of their user's canary."""
    recorder, opinions = Recorder(database), {}
    for user, size in texts:
        text = canary(user) * size
        message = {"role": "user", "content": text}
        number = f"chatcmpl-{uuid.uuid4().hex}"
        recorder.add(Exchange(number, "default", f"user-{user}", None, (), (message,), text[:200]))
        opinions[number] = Opinion(chosen=text[: size * 7])
    await recorder.flush()
    async with database.write() as connection:
        for number, opinion in opinions.items():
            await exchanges.give_feedback(connection, "default", number, opinion)


async def erase(database: Database, user: int) -> None:
    async with database.write() as connection:
        await exchanges.erase_user(connection, "default", f"user-{user}")
    await database.shred()


@pytest.mark.parametrize("seed", range(4))
async def test_rows_that_moved_between_pages(store: Database, seed: int) -> None:
    """SQLite's `secure_delete` does not overwrite the places from which it moved a row to another page."""
    draw = random.Random(seed)
    for _ in range(30):
        await keep(store, *((draw.randrange(8), draw.choice((1, 8, 30, 120))) for _ in range(20)))
        user = draw.randrange(8)
        store._next_shred = 0.0  # the pause is tested below
        await erase(store, user)
        assert canary(user).encode() not in stored(store)
    async with store.read() as connection:
        assert (await connection.exec_driver_sql("PRAGMA integrity_check")).scalar() == "ok"


async def test_a_log_that_somebody_reads(store: Database) -> None:
    """The erasure says that it is incomplete; others can write; it can be completed once the reader has gone."""
    await keep(store, (7, 50))
    with closing(sqlite3.connect(str(store.url.database), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM exchanges").fetchone() == (1,)
        async with store.write() as connection:
            await exchanges.erase_user(connection, "default", "user-7")
        with pytest.raises(ErasureIncomplete, match="another program is reading"):
            await store.shred(patience=0.5)
        assert store.unshredded
        await keep(store, (8, 1))  # others can still write
        reader.execute("COMMIT")
    await store.shred()
    assert not store.unshredded
    assert canary(7).encode() not in stored(store)
    assert canary(8).encode() in stored(store)


async def test_what_a_crash_has_left(store: Database) -> None:
    """A process that ends between the deletion and the rewriting leaves a mark that the next one finds."""
    await keep(store, (3, 50))
    async with store.write() as connection:
        await exchanges.erase_user(connection, "default", "user-3")
    again = Database(store.url.render_as_string())
    assert again.unshredded
    await again.shred()
    assert canary(3).encode() not in stored(store)
    await again.close()


async def test_expired_exchanges(store: Database) -> None:
    await keep(store, (3, 50))
    async with store.write() as connection:
        assert await exchanges.expire(connection, 1e-9) == 1
    await store.shred()
    assert canary(3).encode() not in stored(store)


async def test_expired_answers_to_idempotent_writes(store: Database) -> None:
    """They hold what a profile said, also after the profile was deleted."""
    values = {"tenant_id": "default", "key": "k", "fingerprint": "f", "status": 201, "created_at": 1}
    async with store.write() as connection:
        await connection.execute(sa.insert(idempotency_keys).values(body=canary(5) * 500, **values))
    assert canary(5).encode() in stored(store)
    async with store.write() as connection:
        await idempotency.expire(connection)
    await store.shred()
    assert canary(5).encode() not in stored(store)


async def test_rewriting_takes_a_share_of_the_time(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasures one after the other cannot keep everybody from writing."""
    monkeypatch.setattr("metaalign_server.store.database.shred_file", lambda *_: 0.1)
    clock = asyncio.get_running_loop().time
    began = clock()
    for _ in range(3):
        await store.shred()
    assert clock() - began > 2 * 0.9


async def test_nothing_to_remove_rewrites_nothing(store: Database) -> None:
    async with store.write() as connection:
        await connection.execute(sa.insert(server_state).values(name="a", value="not-deleted"))
    before = len(stored(store))
    await store.shred()
    assert len(stored(store)) == before  # otherwise the log would be empty


async def test_later_copies(store: Database, tmp_path: Path) -> None:
    """A backup holds what the tables hold and nothing else, even between a deletion and the rewriting."""
    draw = random.Random(1)
    await keep(store, *((number % 3, draw.choice((1, 8, 30, 120))) for number in range(60)))
    async with store.write() as connection:
        await exchanges.erase_user(connection, "default", "user-1")
    assert command(f"sqlite:///{store.url.database}", "backup", str(tmp_path / "copy.db"))[0] == 0
    copied = Database(f"sqlite:///{tmp_path / 'copy.db'}")
    assert canary(1).encode() not in stored(copied)
    assert canary(2).encode() in stored(copied)
    assert set(os.listdir(tmp_path)) <= {"copy.db", "store.db", "store.db-wal", "store.db-shm"}


def test_postgresql_by_the_commands_of_the_guide(breakable_postgres: Postgres) -> None:
    """PostgreSQL keeps deleted rows until its tables are rewritten; the guide's command does it."""
    guide = (ROOT / "docs/platform.md").read_text(encoding="utf-8")
    (rewriting,) = re.findall(r"psql .* -c '(VACUUM [^']*)'", guide)
    assert breakable_postgres.daemon is not None
    tables = breakable_postgres.daemon.log.parent / "data/base"
    url = breakable_postgres.create_database()
    plain = url.replace("postgresql+asyncpg://", "postgresql://")

    def run(statement: str) -> None:
        psql = [str(postgres_program("psql")), plain, "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(psql, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def on_disk() -> bool:
        run("CHECKPOINT")
        return any(canary(4).encode() in file.read_bytes() for file in tables.rglob("*") if file.is_file())

    async def fill() -> None:
        database = Database(url, deadline=PATIENCE)
        await migrate(database)
        async with database.write() as connection:
            await ensure_default_tenant(connection)
        await keep(database, *((user, 8) for user in range(8)))
        await database.close()

    async def clear() -> None:
        database = Database(url, deadline=PATIENCE)
        await erase(database, 4)
        await database.close()

    try:
        asyncio.run(fill())
        assert on_disk()
        asyncio.run(clear())
        assert on_disk()
        run(rewriting)
        assert not on_disk()
    finally:
        breakable_postgres.drop_database(url)
