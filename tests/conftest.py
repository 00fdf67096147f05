"""Databases for every test folder; which tests need an engine, and which may run side by side."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from metaalign_server.platform.tenants import ensure_default_tenant
from metaalign_server.store.database import Database
from metaalign_server.store.migrate import migrate
from tests.databases import PATIENCE, Postgres, RedisServer, running_postgres, running_redis

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores; threads that wait for each other by spinning would take them from the others.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_ENGINE_FOLDERS = {"e2e", "examples", "reliability", "security"}
_TIMED = {
    "reliability", "test_exhaustion.py", "test_isolation.py", "test_keys.py", "test_limits.py", "test_store.py",
    "test_timing.py",
}  # fmt: skip
"""Folders and modules whose tests look at the clock; the marker `timed` names other such tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--timed` and `--write-pictures`."""
    parser.addoption(
        "--timed",
        choices=("only", "without"),
        help="run only the tests that look at the clock, or only the others",
    )
    parser.addoption(
        "--write-pictures",
        action="store_true",
        help="write the pictures that pages of docs show (`make pictures`)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs an engine, and say what may run side by side when there are several workers (`make test`).

    Tests of one group run one after the other in one worker, so that they share their servers. Groups that take long
    come first. Tests that look at the clock need the machine for themselves.
    """
    groups: dict[str, list[pytest.Item]] = {}
    left_out = []
    for item in items:
        folder = item.path.parent.name
        twin = "twin" in getattr(item, "fixturenames", ())
        if twin or folder in _ENGINE_FOLDERS:
            item.add_marker(pytest.mark.engine)
        timed = bool({folder, item.path.name} & _TIMED) or item.get_closest_marker("timed") is not None
        if config.option.timed is not None and timed != (config.option.timed == "only"):
            left_out.append(item)
            continue
        group = "twin" if twin else folder if folder == "security" else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
        groups.setdefault(group, []).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)

    def rank(group: str) -> int:
        if group in ("test_openapi.py", "twin"):  # the longest
            return 0
        marks = {mark.name for item in groups[group] for mark in item.iter_markers()}
        return 1 if marks & {"slow", "engine"} else 2

    items[:] = [item for group in sorted(groups, key=rank) for item in groups[group]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server: the one that TEST_DATABASE_URL names, or one of our own."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield Postgres(url)
        return
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _own_postgres(postgres: Postgres) -> Iterator[Postgres]:
    if postgres.daemon is not None:
        yield postgres
        return
    with running_postgres() as server:
        yield server


@pytest.fixture
def breakable_postgres(_own_postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL server that the test may freeze, kill and stop."""
    yield _own_postgres
    assert _own_postgres.daemon is not None
    _own_postgres.daemon.thaw()
    _own_postgres.daemon.start()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server."""
    with running_redis() as server:
        yield server


@pytest.fixture
def breakable_redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """An empty Redis server that the test may freeze, kill and stop."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    yield redis_server
    redis_server.daemon.thaw()
    redis_server.daemon.start()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database; the test runs once with each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A new database at the newest schema, with the default tenant."""
    made = Database(database_url, deadline=PATIENCE)
    await migrate(made)
    async with made.write() as connection:
        await ensure_default_tenant(connection)
    yield made
    await made.close()
