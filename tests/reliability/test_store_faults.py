"""An SQLite store that is full, and one whose server is killed while it writes."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.reliability.serving import (
    ADMIN,
    MODEL,
    QUESTION,
    client,
    exit_code,
    metric,
    outages,
    serving,
    until,
)

pytestmark = pytest.mark.slow

BIG = {"preferences": {"user": {"info": "I like otters. " * 400}}}
"""A version of about 6 KB."""
SMALL = {"preferences": {"user": "I like otters."}}


async def answers(http: httpx.AsyncClient, profile: str) -> None:
    body = {"query": QUESTION, "model": f"{MODEL}@{profile}", "max_tokens": 4}
    answer = await http.post("/v1/align", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["metaalign"]["profiles"]


async def test_disk_full(tmp_path: Path) -> None:
    """Writes get 507, reads and inference keep working; after something is removed, writes work again."""
    url = "/v1/profiles/big/versions"
    with serving(tmp_path, database_max_bytes=500_000, refresh_seconds=0) as server:
        async with client(server) as http:
            for name, body in (("small", SMALL), ("big", BIG), ("other", BIG)):
                made = await http.post("/v1/profiles", json=body | {"name": name})
                assert made.status_code == 201
            for _ in range(9):
                assert (await http.post("/v1/profiles/other/versions", json=BIG)).status_code == 201
            written = 1
            while (answer := await http.post(url, json=BIG)).status_code == 201:
                written += 1
                assert written < 100
            for _ in range(3):
                full = await http.post(url, json=BIG)
                assert full.status_code == 507
                assert full.json()["error"]["code"] == "store_full"
            assert answer.status_code == 507
            assert written > 3
            assert (await http.get("/readyz")).status_code == 200
            assert (await http.get("/v1/profiles/big")).json()["latest"] == written
            assert (await http.get(f"{url}/{written}")).status_code == 200
            await answers(http, "small")
            assert (await http.delete("/v1/profiles/other")).status_code == 204
            assert (await http.post(url, json=BIG)).status_code == 201
            assert (await http.get("/v1/profiles/big")).json()["latest"] == written + 1


async def test_a_lock_on_the_file_is_one_outage(tmp_path: Path) -> None:
    """Another program holds the write lock: look-ups go on, and the end is noticed though nobody writes."""
    path = tmp_path / "store.db"
    with serving(tmp_path, database_url=f"sqlite:///{path}", refresh_seconds=0) as server:
        async with client(server) as http:
            assert (await http.post("/v1/profiles", json=SMALL | {"name": "a"})).status_code == 201
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                for number in range(6):
                    refused = await http.post("/v1/profiles", json=SMALL | {"name": f"b{number}"})
                    assert refused.status_code == 503
                    await answers(http, "a")
                assert await metric(http, "metaalign_dependency_up") == 0
                other.execute("ROLLBACK")

            async def up() -> bool:
                return await metric(http, "metaalign_dependency_up") == 1

            await until(up, 10, "the end is noticed")
            assert (await http.post("/v1/profiles", json=SMALL | {"name": "b"})).status_code == 201
    away, back = outages(server, "store")
    assert away["message"].startswith("store is away")
    assert back["missed"] >= 4


async def test_killed_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL while four clients write: every write that was answered with 2xx exists after the next start."""
    path = tmp_path / "store.db"
    kept: list[tuple[str, int, str]] = []

    async def write(http: httpx.AsyncClient, name: str) -> None:
        body = {"name": name, "preferences": {"user": f"{name} 1"}}
        try:
            assert (await http.post("/v1/profiles", json=body)).status_code == 201
            kept.append((name, 1, f"{name} 1"))
            for number in range(2, 10_000):
                text = f"{name} {number}"
                made = await http.post(f"/v1/profiles/{name}/versions", json={"preferences": {"user": text}})
                assert made.status_code == 201, made.text
                kept.append((name, made.json()["version"], text))
        except httpx.TransportError:
            return

    with serving(tmp_path, database_url=f"sqlite:///{path}") as server:
        async with client(server) as http:
            writers = [asyncio.create_task(write(http, name)) for name in ("a", "b", "c", "d")]
            await until(lambda: len(kept) > 100 or any(w.done() for w in writers), 30, "much is written")
            server.process.kill()
            await asyncio.wait_for(asyncio.gather(*writers), 10)
        assert await exit_code(server) == -signal.SIGKILL
    assert len(kept) > 100
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    with serving(tmp_path, name="again", database_url=f"sqlite:///{path}") as server:
        async with client(server, ADMIN) as http:
            exported = (await http.get("/v1/profiles:export")).json()["profiles"]
            stored = {document["name"]: document["versions"] for document in exported}
            for name, number, text in kept:
                version = stored[name][number - 1]
                assert version["preferences"]["user"]["info"] == text
            for name in stored:  # at most the one that was not answered in time
                assert len(stored[name]) <= sum(n == name for n, _, _ in kept) + 1
            made = await http.post("/v1/profiles", json={"name": "e", "preferences": "E"})
            assert made.status_code == 201
