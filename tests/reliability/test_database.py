"""Two servers on one PostgreSQL: writers at the same time, and a database that is killed, stopped or frozen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from metaalign_server.platform.server_secret import Secret
from metaalign_server.platform.startup import open_platform
from metaalign_server.settings import Settings
from metaalign_server.store.database import DEADLINE_SECONDS, Database, insert_if_absent
from metaalign_server.store.tables import server_state
from tests.databases import Postgres
from tests.processes import Server, command
from tests.reliability.serving import (
    MODEL,
    QUESTION,
    client,
    make_key,
    metric,
    outages,
    serving_two,
    took,
    until,
)

pytestmark = pytest.mark.slow

REFRESH = 0.5
NAMES = (f"profile-{number}" for number in count())


@dataclass(frozen=True)
class Pair:
    """Two servers on one database, asked with the key that may do everything."""

    first: httpx.AsyncClient
    second: httpx.AsyncClient
    server: Server


@pytest.fixture(scope="module")
def servers(
    _own_postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    folder: Path = tmp_path_factory.mktemp("database")
    url = _own_postgres.create_database()
    assert command(url, "migrate")[0] == 0
    settings = {
        "database_url": url,
        "refresh_seconds": REFRESH,
        "feedback": "true",
        "store_responses": "true",
    }
    with serving_two(folder, **settings) as started:
        for server in started:
            assert not outages(server, "store")
        yield started
    _own_postgres.drop_database(url)


@pytest.fixture
async def pair(servers: tuple[Server, Server]) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(client(server)) for server in servers]
        yield Pair(first, second, servers[0])


async def create(http: httpx.AsyncClient, text: str = "1") -> str:
    name = next(NAMES)
    made = await http.post("/v1/profiles", json={"name": name, "preferences": {"user": text}})
    assert made.status_code == 201, made.text
    return name


async def ask(http: httpx.AsyncClient, profile: str, **extra: Any) -> httpx.Response:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"messages": messages, "max_tokens": 4, "model": f"{MODEL}@{profile}"}
    return await http.post("/v1/chat/completions", json=body | extra)


async def used(http: httpx.AsyncClient, profile: str) -> list[str]:
    """The versions that the server uses to answer under `profile`."""
    found: list[str] = (await ask(http, profile)).json()["metaalign"]["profiles"]
    return found


async def when_not_busy(http: httpx.AsyncClient, url: str) -> Any:
    """What GET returns; after a 503 it asks again."""
    answer = await http.get(url)
    for _ in range(10):
        if answer.status_code != 503:
            break
        await asyncio.sleep(int(answer.headers["retry-after"]))
        answer = await http.get(url)
    return answer.raise_for_status().json()


# Two servers


async def test_servers_that_start_at_the_same_time(postgres_url: str) -> None:
    """On an unused store, they agree on its secret, and one of them shows the first key."""
    assert (await asyncio.to_thread(command, postgres_url, "migrate"))[0] == 0
    settings = Settings(_env_file=None, host="0.0.0.0", database_url=postgres_url)

    async def start() -> tuple[bytes, bool]:
        async with open_platform(settings) as platform:
            return platform.secret.cache_salt("x").encode(), platform.first_key is not None

    started = await asyncio.gather(*(start() for _ in range(6)))
    assert len({secret for secret, _ in started}) == 1
    assert [first for _, first in started].count(True) == 1


async def test_a_start_waits_for_the_lock_of_another(postgres_url: str) -> None:
    """Longer than a request would: a server that starts beside a slow one must not give up."""
    assert (await asyncio.to_thread(command, postgres_url, "migrate"))[0] == 0
    settings = Settings(_env_file=None, host="0.0.0.0", database_url=postgres_url)
    held = asyncio.Event()

    async def hold() -> None:
        database = Database(postgres_url, deadline=60)
        try:
            async with database.write() as connection:
                await connection.execute(insert_if_absent(connection, server_state, name="secret", value="s"))
                held.set()
                await asyncio.sleep(DEADLINE_SECONDS)
        finally:
            await database.close()

    holding = asyncio.create_task(hold())
    await held.wait()
    async with open_platform(settings) as platform:
        assert platform.secret.cache_salt("x") == Secret("s").cache_salt("x")
    await holding


async def test_concurrent_writers_of_two_servers(pair: Pair) -> None:
    """Every acknowledged version is there under its number, without gaps; labels point to versions that exist."""
    name = await create(pair.first)
    url = f"/v1/profiles/{name}"
    kept: dict[int, str] = {1: "1"}
    moves: dict[str, int] = {}
    writing = True

    async def write(http: httpx.AsyncClient, who: str) -> None:
        own = 0
        for turn in range(100):
            text = f"{who} {turn}"
            made = await http.post(f"{url}/versions", json={"preferences": {"user": text}})
            if made.status_code == 503:  # it did not get its lock in time; the client may try again
                await asyncio.sleep(float(made.headers["retry-after"]) / 2)
                continue
            assert made.status_code == 201, made.text
            number = made.json()["version"]
            assert number not in kept
            kept[number] = text
            own += 1
            moved = await http.put(f"{url}/labels/{who}", json={"version": number})
            assert moved.status_code in (200, 503)
            if moved.status_code == 200:
                moves[who] = number
            if own == 8:
                return
        raise AssertionError(f"{who} could hardly ever write")

    async def read(http: httpx.AsyncClient) -> None:
        while writing:
            answer = await http.get(url)
            if answer.status_code == 503:  # busy
                continue
            head = answer.json()
            for label in head["labels"].values():
                number = label["versions"][0]["version"]
                assert number <= head["latest"]
                assert (await http.get(f"{url}/versions/{number}")).status_code in (200, 503)

    readers = [asyncio.create_task(read(http)) for http in (pair.first, pair.second)]
    writers = {f"a{number}": pair.first for number in range(3)}
    writers |= {f"b{number}": pair.second for number in range(3)}
    await asyncio.gather(*(write(http, who) for who, http in writers.items()))
    writing = False
    await asyncio.gather(*readers)
    assert len(kept) == 1 + 6 * 8
    for http in (pair.first, pair.second):
        versions = (await when_not_busy(http, f"{url}/versions?limit=200"))["data"]
        assert [version["version"] for version in versions] == list(range(len(versions), 0, -1))
        texts = {version["version"]: version["preferences"]["user"]["info"] for version in versions}
        assert kept.items() <= texts.items()
        head = await when_not_busy(http, url)
        assert {who: label["versions"][0]["version"] for who, label in head["labels"].items()} == moves


async def test_a_moved_label_is_seen_by_the_other_server(pair: Pair) -> None:
    """Within METAALIGN_REFRESH_SECONDS."""
    name = await create(pair.first)
    url = f"/v1/profiles/{name}"
    assert (await pair.first.put(f"{url}/labels/live", json={"version": 1})).status_code == 200
    for number in (2, 3):
        made = await pair.first.post(f"{url}/versions", json={"preferences": {"user": str(number)}})
        assert made.json()["version"] == number
        assert await used(pair.second, f"{name}@live") == [f"{name}:{number - 1}"]
        assert (await pair.first.put(f"{url}/labels/live", json={"version": number})).status_code == 200
        assert await used(pair.first, f"{name}@live") == [f"{name}:{number}"]
        await asyncio.sleep(REFRESH)
        assert await used(pair.second, f"{name}@live") == [f"{name}:{number}"]


async def test_a_response_goes_on_at_the_other_server(pair: Pair) -> None:
    """It is stored before the client knows its end, streamed or not."""
    body = {"model": MODEL, "input": QUESTION, "max_output_tokens": 8, "temperature": 0}
    last = (await pair.first.post("/v1/responses", json=body)).raise_for_status().json()
    for http in (pair.second, pair.first, pair.second):
        following = body | {"previous_response_id": last["id"]}
        streamed = (await http.post("/v1/responses", json=following | {"stream": True})).raise_for_status()
        data = streamed.text.split("event: response.")[-1].split("data: ", 1)[1]
        answer = json.loads(data)["response"]
        assert answer["previous_response_id"] == last["id"]
        assert answer["usage"]["input_tokens"] > last["usage"]["input_tokens"]
        last = answer


async def test_if_match_between_two_servers(pair: Pair) -> None:
    """Of two simultaneous changes to the same state, one wins and the other gets a 412."""
    name = await create(pair.first)
    url = f"/v1/profiles/{name}"
    for _ in range(5):
        etag = (await pair.first.get(url)).headers["etag"]
        assert (await pair.second.get(url)).headers["etag"] == etag
        answers = await asyncio.gather(
            *(
                http.post(f"{url}/versions", json={"preferences": {"user": "x"}}, headers={"if-match": etag})
                for http in (pair.first, pair.second)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [201, 412]
        late = await pair.second.put(f"{url}/labels/live", json={"version": 1}, headers={"if-match": etag})
        assert late.status_code == 412
    assert (await pair.first.get(url)).json()["latest"] == 6


# The database is down


def break_it(postgres: Postgres, how: str) -> None:
    assert postgres.daemon is not None
    {"killed": postgres.daemon.kill, "stopped": postgres.daemon.stop, "frozen": postgres.daemon.freeze}[how]()


def mend(postgres: Postgres, how: str) -> None:
    assert postgres.daemon is not None
    if how == "frozen":
        postgres.daemon.thaw()
    else:
        postgres.daemon.start()


@pytest.mark.parametrize("how", ["killed", "stopped", "frozen"])
async def test_database_away(pair: Pair, breakable_postgres: Postgres, how: str) -> None:
    """Known keys and profiles keep working, writes get 503 within 2 s, and everything recovers by itself."""
    known, unseen = await create(pair.first), await create(pair.first)
    url = f"/v1/profiles/{known}"
    key = await make_key(pair.first)
    async with client(pair.server, key) as http:
        earlier = await ask(http, known)
        assert earlier.status_code == 200

        async def kept() -> bool:
            given = await http.post("/v1/feedback", json={"id": earlier.json()["id"], "rating": "up"})
            return given.status_code == 200

        await until(kept, 10, "the exchange is kept")
        stale = await metric(pair.first, "metaalign_store_stale_reads_total")
        failed = await metric(pair.first, "metaalign_store_errors_total")
        lines = len(outages(pair.server, "store"))

        await asyncio.to_thread(break_it, breakable_postgres, how)
        try:
            later = await serve_on(pair.server, http, known, 6 * REFRESH)
            assert await metric(pair.first, "metaalign_store_stale_reads_total") > stale
            assert (await pair.first.get("/readyz")).status_code == 200
            missing = await ask(http, unseen)
            assert missing.status_code == 503
            assert missing.json()["error"]["code"] == "store_unavailable"
            assert missing.headers["retry-after"]
            for _ in range(3):
                for asked in (
                    pair.first.post(f"{url}/versions", json={"preferences": {"user": "2"}}),
                    pair.first.put(f"{url}/labels/live", json={"version": 1}),
                    http.post("/v1/feedback", json={"id": earlier.json()["id"], "rating": "down"}),
                ):
                    refused = await asked
                    assert refused.status_code == 503, refused.text
                    assert refused.headers["retry-after"]
                    assert await took(pair.server, refused) < 2
                assert (await ask(http, known)).status_code == 200
            assert await metric(pair.first, "metaalign_dependency_up") == 0
            assert await metric(pair.first, "metaalign_store_errors_total") >= failed + 10
            (away,) = outages(pair.server, "store")[lines:]
            assert away["message"].startswith("store is away")
            assert away["cause"]
        finally:
            mend(breakable_postgres, how)

        async def writes() -> bool:
            made = await pair.first.post(f"{url}/versions", json={"preferences": {"user": "2"}})
            return made.status_code == 201

        await until(writes, 10, "writes work again")
        assert (await ask(http, unseen)).status_code == 200

        async def up() -> bool:
            return await metric(pair.first, "metaalign_dependency_up") == 1

        await until(up, 10, "the server says so")
        _, back = outages(pair.server, "store")[lines:]
        assert back["message"] == "store is back"
        assert back["missed"] >= 10
        assert 6 * REFRESH <= back["seconds"] < 60

    # Exchanges from the time when the database was down are there now, for the other server too.
    async with client(pair.server, key) as http:
        for identifier in later:

            async def known_there(identifier: str = identifier) -> bool:
                given = await pair.second.post("/v1/feedback", json={"id": identifier, "rating": "down"})
                return given.status_code == 200

            await until(known_there, 10, "an exchange from the outage was kept")


async def test_a_response_is_not_lost_with_the_store(pair: Pair, breakable_postgres: Postgres) -> None:
    """It is answered, counted as not stored, and not found later; what needs the store says that it is away."""
    body = {"model": MODEL, "input": QUESTION, "max_output_tokens": 4}
    kept = (await pair.first.post("/v1/responses", json=body)).raise_for_status().json()
    before = await metric(pair.first, "metaalign_responses_dropped_total")
    await asyncio.to_thread(break_it, breakable_postgres, "killed")
    try:
        answer = await pair.first.post("/v1/responses", json=body)
        assert answer.status_code == 200
        assert await took(pair.server, answer) < 2
        assert await metric(pair.first, "metaalign_responses_dropped_total") == before + 1
        for refused in (
            await pair.first.get(f"/v1/responses/{kept['id']}"),
            await pair.first.post("/v1/responses", json=body | {"previous_response_id": kept["id"]}),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    finally:
        mend(breakable_postgres, "killed")

    async def found() -> bool:
        return (await pair.first.get(f"/v1/responses/{kept['id']}")).status_code == 200

    await until(found, 10, "the store is back")
    assert (await pair.first.get(f"/v1/responses/{answer.json()['id']}")).status_code == 404
    # Both lines of the outage are in the log before the next test counts them.
    await until(lambda: outages(pair.server, "store")[-1]["message"] == "store is back", 10, "it is said")


async def test_database_away_from_an_idle_server(pair: Pair, breakable_postgres: Postgres) -> None:
    """No request needs it, and the operator still learns of it."""
    lines = len(outages(pair.server, "store"))
    await asyncio.to_thread(break_it, breakable_postgres, "killed")
    await until(lambda: len(outages(pair.server, "store")) == lines + 1, 10, "the outage is noticed")
    mend(breakable_postgres, "killed")
    await until(lambda: len(outages(pair.server, "store")) == lines + 2, 15, "its end is noticed")


async def serve_on(server: Server, http: httpx.AsyncClient, profile: str, seconds: float) -> list[str]:
    """Ask for this many seconds; returns the ids of the answers."""
    ids = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = await ask(http, profile)
        assert answer.status_code == 200, answer.text
        assert answer.json()["metaalign"]["profiles"] == [f"{profile}:1"]
        assert await took(server, answer) < 5
        ids.append(answer.json()["id"])
        await asyncio.sleep(0.05)
    return ids
