"""Clients that disconnect, and too many clients: slots are released, nobody hangs, no tenant starves."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.processes import Server
from tests.reliability.serving import LONG, client, log, make_key, metric, serving, time_of, until

pytestmark = pytest.mark.slow

SEQUENCES, SLOTS, WAITING = 2, 3, 8
"""`--max-num-seqs`, the slots that the queue derives from it, and METAALIGN_MAX_WAITING."""
WRITE_SECONDS = 3
RUNNING = "vllm:num_requests_running"
CHAT = "/v1/chat/completions"
SHORT = LONG | {"max_tokens": 8}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("clients")
    with serving(
        folder, "--max-num-seqs", str(SEQUENCES), max_waiting=WAITING, write_seconds=WRITE_SECONDS
    ) as started:
        yield started


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client(server) as http:
        yield http


async def at_rest(http: httpx.AsyncClient) -> None:
    """Wait until the engine has nothing to do and nobody waits for it."""

    async def nothing_left() -> bool:
        # One request is in flight: the one that asks.
        expected = {"metaalign_requests_in_flight": 1, "metaalign_queue_waiting": 0, RUNNING: 0}
        return [await metric(http, name) for name in expected] == list(expected.values())

    await until(nothing_left, 10, "the engine is at rest")


async def leave_mid_stream(http: httpx.AsyncClient) -> None:
    async with http.stream("POST", CHAT, json=LONG | {"stream": True}) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        for _ in range(5):
            await anext(lines)


async def leave_mid_request(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        answer = await http.post(CHAT, json=LONG, timeout=httpx.Timeout(30, read=0.2))
        pytest.fail(f"answered already: {answer.status_code} {answer.text[:500]}")


async def test_a_client_that_reads_nothing_is_disconnected(server: Server, admin: httpx.AsyncClient) -> None:
    """Its key, which may have one request at a time, can ask again although the client keeps its connection open."""
    key = await make_key(admin, limits={"concurrency": 1})
    body = LONG | {"stream": True, "n": 8, "max_tokens": 560, "logprobs": True, "top_logprobs": 10}
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    unread = socket.socket()
    unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    address = urlsplit(server.url)
    with unread:
        unread.connect((address.hostname, address.port))
        unread.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        async with client(server, key) as http:
            await asyncio.sleep(1)
            assert (await http.post(CHAT, json=SHORT)).status_code == 429

            async def engine_is_done() -> bool:
                return await metric(admin, "metaalign_queue_places_used") == 0

            # By then there is more to read than the system's buffers hold; a slow machine takes long to write it.
            await until(engine_is_done, 90, "the engine has finished")

            async def can_ask_again() -> bool:
                return (await http.post(CHAT, json=SHORT)).status_code == 200

            await until(can_ask_again, WRITE_SECONDS + 5, "the key can ask again")
        unread.settimeout(5)
        received = b""
        while piece := unread.recv(65_536):
            received += piece
        assert b"data: {" in received
        assert b"[DONE]" not in received
    await at_rest(admin)


@pytest.mark.parametrize("leave", [leave_mid_stream, leave_mid_request])
async def test_a_client_that_leaves_gives_everything_back(
    server: Server, admin: httpx.AsyncClient, leave: Any
) -> None:
    """Its work stops, its slot is free, and its key, which may have one request at a time, can ask again."""
    key = await make_key(admin, limits={"concurrency": 1})
    async with client(server, key) as http:
        for _ in range(SLOTS + 1):
            await leave(http)

            async def can_ask_again() -> bool:
                answer = await http.post(CHAT, json=SHORT)
                assert answer.status_code in (200, 429)
                return answer.status_code == 200

            await until(can_ask_again, 10, "the key can ask again")
    await at_rest(admin)


async def test_clients_that_leave_the_queue(server: Server, admin: httpx.AsyncClient) -> None:
    """A client that disconnects while it waits for a slot leaves the queue; the others get their turn."""
    async with client(server) as http:
        body = LONG | {"max_tokens": 900}
        working = [asyncio.create_task(http.post(CHAT, json=body)) for _ in range(SLOTS)]

        async def engine_is_full() -> bool:
            return await metric(admin, "metaalign_requests_in_flight") == SLOTS + 1

        await until(engine_is_full, 10, "all slots are taken")
        leaving = [leave_mid_request(http) for _ in range(WAITING - 1)]
        staying = asyncio.create_task(http.post(CHAT, json=SHORT))
        await asyncio.gather(*leaving)

        async def one_waits() -> bool:
            return await metric(admin, "metaalign_queue_waiting") <= 1

        await until(one_waits, 10, "who left is forgotten")
        assert (await staying).status_code == 200
        assert {answer.status_code for answer in await asyncio.gather(*working)} == {200}
    await at_rest(admin)


async def test_overload_is_refused_and_nothing_hangs(server: Server, admin: httpx.AsyncClient) -> None:
    """With many more requests than there is room for, some get a 503 at once, and all others are answered."""
    key = await make_key(admin)
    async with client(server, key) as http:
        body = LONG | {"max_tokens": 100}
        answers = await asyncio.wait_for(asyncio.gather(*(http.post(CHAT, json=body) for _ in range(60))), 60)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert SLOTS + WAITING <= len(answers) - len(refused) < len(answers)
    for answer in refused:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) > 0
    for answer in answers:
        if answer.status_code == 200:
            assert answer.json()["usage"]["completion_tokens"] == 100
    await at_rest(admin)


async def test_a_flood_does_not_starve_another_tenant(server: Server, admin: httpx.AsyncClient) -> None:
    """While one tenant fills the queue, another tenant's request gets the next free slot."""
    loud, quiet = await make_key(admin, "loud"), await make_key(admin, "quiet")
    async with client(server, loud) as flood, client(server, quiet) as other:
        body = LONG | {"max_tokens": 600}  # long enough to fill the queue meanwhile
        loud_asks = [asyncio.create_task(flood.post(CHAT, json=body)) for _ in range(SLOTS + WAITING)]

        async def queue_is_full() -> bool:
            return await metric(admin, "metaalign_queue_waiting") == WAITING

        await until(queue_is_full, 10, "the queue is full")
        for _ in range(3):
            assert (await asyncio.wait_for(other.post(CHAT, json=SHORT), 30)).status_code == 200
        statuses = [answer.status_code for answer in await asyncio.gather(*loud_asks)]
    # The queue was full when the quiet tenant came: it took its places from the loud one, which got a 503.
    assert statuses.count(200) >= SLOTS + WAITING - 3
    assert set(statuses) <= {200, 503}
    ended = [entry for entry in log(server) if entry.get("status") == 200 and entry.get("route") == CHAT]
    loud_ends = [time_of(entry) for entry in ended if entry["tenant"] == "loud"]
    quiet_ends = [entry for entry in ended if entry["tenant"] == "quiet"]
    assert len(quiet_ends) == 3
    assert time_of(quiet_ends[0]) < loud_ends[-1]
    for entry in quiet_ends:
        end = time_of(entry)
        # A slot had to become free, and others may have become free in the meantime.
        assert sum(end - entry["ms"] / 1000 < ended_at < end for ended_at in loud_ends) <= SLOTS
    await at_rest(admin)
