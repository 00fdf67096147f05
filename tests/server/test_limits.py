"""Limits: both limiters against the same expectations, and Redis going down."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from metaalign_server.callers import Caller, Limits, Tenant
from metaalign_server.platform import limits
from metaalign_server.platform.limits import (
    DAY,
    MINUTE,
    Admission,
    Bucket,
    Limiter,
    LimitReached,
    MemoryLimiter,
    buckets_of,
)
from metaalign_server.platform.redis_limits import RedisLimiter
from tests.databases import PATIENCE, RedisServer

_serial = itertools.count()


def bucket(kind: str, limit: int, window: int = 0) -> tuple[Bucket, ...]:
    """A bucket that no other test uses."""
    return (Bucket(f"key:{next(_serial)}", kind, limit, window),)


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest) -> AsyncIterator[Limiter]:
    made: Limiter
    if request.param == "memory":
        made = MemoryLimiter()
    else:
        redis: RedisServer = request.getfixturevalue("redis_server")
        made = RedisLimiter(redis.url, PATIENCE)
    yield made
    await made.close()


@pytest.fixture
async def redis_limiter(breakable_redis: RedisServer) -> AsyncIterator[RedisLimiter]:
    made = RedisLimiter(breakable_redis.url)
    await made.admit(bucket("requests", 9, MINUTE))
    yield made
    await made.close()


async def refused(limiter: Limiter, buckets: tuple[Bucket, ...]) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await limiter.admit(buckets)
    return caught.value


def fallbacks() -> float:
    return REGISTRY.get_sample_value("metaalign_limits_fallback_total") or 0.0


# Both


async def test_requests_per_minute(limiter: Limiter) -> None:
    buckets = bucket("requests", 3, MINUTE)
    left = [(await limiter.admit(buckets)).headers()["x-ratelimit-remaining-requests"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    error = await refused(limiter, buckets)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert "3 requests per minute" in error.message
    assert 1 <= int(error.headers["Retry-After"]) <= 120
    assert "x-should-retry" not in error.headers
    assert error.headers["x-ratelimit-limit-requests"] == "3"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    ("window", "code"), [(MINUTE, "rate_limit_exceeded"), (DAY, "budget_exhausted")], ids=["minute", "day"]
)
async def test_tokens_are_counted_when_they_are_known(limiter: Limiter, window: int, code: str) -> None:
    buckets = bucket("tokens", 100, window)
    first = await limiter.admit(buckets)
    second = await limiter.admit(buckets)
    await limiter.settle(first, 60)
    third = await limiter.admit(buckets)
    assert third.headers()["x-ratelimit-remaining-tokens"] == "40"
    await limiter.settle(second, 60)
    error = await refused(limiter, buckets)
    assert error.code == code
    assert error.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_a_place_is_free_again_when_its_request_is_settled(limiter: Limiter) -> None:
    buckets = bucket("concurrency", 2)
    first = await limiter.admit(buckets)
    second = await limiter.admit(buckets)
    error = await refused(limiter, buckets)
    assert (error.code, error.headers) == ("concurrency_limit_exceeded", {"Retry-After": "1"})
    await limiter.settle(first, 0)
    third = await limiter.admit(buckets)
    for admission in (second, third):
        await limiter.settle(admission, 0)
    assert [await limiter.admit(buckets) for _ in range(2)]


async def test_settling_twice_counts_once(limiter: Limiter) -> None:
    buckets = (*bucket("tokens", 100, MINUTE), *bucket("concurrency", 2))
    first, _second = await limiter.admit(buckets), await limiter.admit(buckets)
    for _ in range(2):
        await limiter.settle(first, 30)
    third = await limiter.admit(buckets)
    assert third.headers()["x-ratelimit-remaining-tokens"] == "70"
    await refused(limiter, buckets)


async def test_a_refused_request_counts_nowhere(limiter: Limiter) -> None:
    minute, place = bucket("requests", 5, MINUTE), bucket("concurrency", 1)
    running = await limiter.admit((*minute, *place))
    for _ in range(9):
        error = await refused(limiter, (*minute, *place))
        assert error.headers["x-ratelimit-remaining-requests"] == "4"
    await limiter.settle(running, 0)
    again = await limiter.admit((*minute, *place))
    assert again.headers()["x-ratelimit-remaining-requests"] == "3"


async def test_of_several_full_limits_the_longest_wait_is_told(limiter: Limiter) -> None:
    buckets = (*bucket("concurrency", 1), *bucket("tokens", 10, DAY))
    first = await limiter.admit(buckets)
    await limiter.settle(first, 20)
    await limiter.admit(buckets[:1])
    error = await refused(limiter, buckets)
    assert error.code == "budget_exhausted"
    assert int(error.headers["Retry-After"]) > DAY // 2 - 1  # 20 must shrink to 9: most of the next day
    assert error.headers["x-should-retry"] == "false"


async def test_of_each_kind_the_nearest_limit_is_told(limiter: Limiter) -> None:
    buckets = (
        *bucket("requests", 100, MINUTE),
        *bucket("requests", 7, MINUTE),
        *bucket("tokens", 50, MINUTE),
    )
    headers = (await limiter.admit(buckets)).headers()
    assert headers["x-ratelimit-limit-requests"] == "7"
    assert headers["x-ratelimit-remaining-requests"] == "6"
    assert headers["x-ratelimit-limit-tokens"] == headers["x-ratelimit-remaining-tokens"] == "50"
    assert headers["x-ratelimit-reset-tokens"] == "0ms"
    assert headers["x-ratelimit-reset-requests"][:2] in ("1m", "2m")  # until the end of the next window


async def test_requests_at_one_time_do_not_slip_through(limiter: Limiter) -> None:
    buckets = bucket("requests", 10, MINUTE)
    answers = await asyncio.gather(*(limiter.admit(buckets) for _ in range(40)), return_exceptions=True)
    assert sum(isinstance(answer, Admission) for answer in answers) == 10
    assert all(isinstance(answer, Admission | LimitReached) for answer in answers)


async def test_without_limits_nothing_is_counted(limiter: Limiter) -> None:
    admission = await limiter.admit(())
    assert admission.headers() == {}
    await limiter.settle(admission, 10)


def test_what_is_asked_of_whom() -> None:
    mine = Limits(requests_per_minute=1, tokens_per_minute=2, tokens_per_day=3, concurrency=4)
    tenant = Tenant(id="t", limits=Limits(requests_per_minute=9))
    caller = Caller(frozenset(), key_id="k", tenant=tenant, limits=mine)
    assert [(b.name, b.kind, b.limit, b.window) for b in buckets_of(caller, inference=True)] == [
        ("key:k:rpm", "requests", 1, 60),
        ("key:k:tpm", "tokens", 2, 60),
        ("key:k:tpd", "tokens", 3, 86_400),
        ("key:k:now", "concurrency", 4, 0),
        ("tenant:t:rpm", "requests", 9, 60),
    ]
    assert [b.name for b in buckets_of(caller, inference=False)] == ["key:k:rpm", "tenant:t:rpm"]


# Sliding windows, with a clock that the test sets


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    clock = [0.0]
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=lambda: clock[0]))

    def set_to(seconds: float) -> None:
        clock[0] = 1_000_000 * DAY + seconds  # where a minute and a day begin

    set_to(0)
    return set_to


async def test_the_window_before_counts_for_its_part(set_clock: Callable[[float], None]) -> None:
    limiter, buckets = MemoryLimiter(), bucket("requests", 10, MINUTE)
    set_clock(50)
    for _ in range(10):
        await limiter.admit(buckets)
    error = await refused(limiter, buckets)
    assert error.headers["Retry-After"] == "16"  # 10 s to the next window, and a tenth of that
    assert error.headers["x-ratelimit-reset-requests"] == "1m10s"
    set_clock(65.9)
    assert (await refused(limiter, buckets)).headers["Retry-After"] == "1"
    set_clock(66)
    await limiter.admit(buckets)
    await refused(limiter, buckets)
    set_clock(90)  # half of ten, and one
    headers = (await limiter.admit(buckets)).headers()
    assert headers["x-ratelimit-remaining-requests"] == "3"
    set_clock(300)
    assert (await limiter.admit(buckets)).headers()["x-ratelimit-remaining-requests"] == "9"


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
@pytest.mark.parametrize("at", [0.0, 13.7, 59.9])
async def test_after_the_wait_that_was_told_one_more_fits(
    set_clock: Callable[[float], None], limit: int, at: float
) -> None:
    limiter, buckets = MemoryLimiter(), bucket("requests", limit, MINUTE)
    set_clock(at)
    for _ in range(limit):
        await limiter.admit(buckets)
    error = await refused(limiter, buckets)
    set_clock(at + int(error.headers["Retry-After"]))
    await limiter.admit(buckets)


async def test_a_day_is_a_budget_of_24_hours(set_clock: Callable[[float], None]) -> None:
    limiter, buckets = MemoryLimiter(), bucket("tokens", 1000, DAY)
    await limiter.settle(await limiter.admit(buckets), 1000)
    set_clock(DAY - 1)
    await refused(limiter, buckets)
    set_clock(DAY * 1.5)
    assert (await limiter.admit(buckets)).headers()["x-ratelimit-remaining-tokens"] == "500"


async def test_windows_that_are_over_are_forgotten(set_clock: Callable[[float], None]) -> None:
    limiter = MemoryLimiter()
    for _ in range(100):
        await limiter.admit(bucket("requests", 5, MINUTE))
    set_clock(3 * MINUTE)
    await limiter.admit(bucket("requests", 5, MINUTE))
    assert len(limiter._windows) == 1


# Redis


async def test_servers_that_share_a_redis_share_the_counts(redis_server: RedisServer) -> None:
    one, other = (RedisLimiter(redis_server.url, PATIENCE) for _ in range(2))
    buckets = (*bucket("requests", 2, MINUTE), *bucket("concurrency", 2))
    first = await one.admit(buckets)
    await other.admit(buckets)
    for limiter in (one, other):
        await refused(limiter, buckets)
    await one.settle(first, 0)
    assert (await refused(other, buckets)).code == "rate_limit_exceeded"
    for limiter in (one, other):
        await limiter.close()


async def test_both_limiters_tell_the_same_wait(redis_server: RedisServer) -> None:
    shared, alone = RedisLimiter(redis_server.url, PATIENCE), MemoryLimiter()
    buckets = bucket("tokens", 100, DAY)
    waits = []
    for limiter in (shared, alone):
        await limiter.settle(await limiter.admit(buckets), 250)
        waits.append(int((await refused(limiter, buckets)).headers["Retry-After"]))
    assert abs(waits[0] - waits[1]) <= 1
    await shared.close()


@pytest.mark.parametrize("fault", ["freeze", "stop", "kill"])
async def test_without_redis_each_server_counts_for_itself_until_it_is_back(
    breakable_redis: RedisServer, redis_limiter: RedisLimiter, fault: str
) -> None:
    buckets = bucket("requests", 2, MINUTE)
    getattr(breakable_redis.daemon, fault)()
    before = fallbacks()
    began = time.monotonic()
    admission = await redis_limiter.admit(buckets)
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    await redis_limiter.settle(admission, 1)
    await redis_limiter.admit(buckets)
    await refused(redis_limiter, buckets)
    assert time.monotonic() - began < 0.1  # it is not asked again so soon
    assert fallbacks() - before == 3
    breakable_redis.daemon.thaw()
    breakable_redis.daemon.start()
    await _wait_until_back(redis_limiter)
    before = fallbacks()
    for _ in range(2):
        await redis_limiter.admit(bucket("requests", 9, MINUTE))
    assert fallbacks() == before


async def test_places_that_could_not_be_freed_are_freed_when_redis_is_back(
    breakable_redis: RedisServer, redis_limiter: RedisLimiter
) -> None:
    buckets = bucket("concurrency", 2)
    ended = await redis_limiter.admit(buckets)
    breakable_redis.daemon.freeze()
    unanswered = await redis_limiter.admit(buckets)  # Redis will count it when it continues
    await redis_limiter.settle(ended, 5)
    await redis_limiter.settle(unanswered, 5)
    breakable_redis.daemon.thaw()
    await _wait_until_back(redis_limiter)
    assert [(await redis_limiter.admit(buckets)).in_redis for _ in range(2)] == [True, True]
    await refused(redis_limiter, buckets)


async def test_a_cancelled_request_keeps_no_place(
    breakable_redis: RedisServer, redis_limiter: RedisLimiter
) -> None:
    buckets = bucket("concurrency", 1)
    breakable_redis.daemon.freeze()
    asking = asyncio.create_task(redis_limiter.admit(buckets))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    breakable_redis.daemon.thaw()
    await _wait_until_back(redis_limiter)
    assert (await redis_limiter.admit(buckets)).in_redis


async def _wait_until_back(limiter: RedisLimiter) -> None:
    deadline = time.monotonic() + 5
    while not (await limiter.admit(bucket("requests", 9, MINUTE))).in_redis:
        assert time.monotonic() < deadline, "Redis is not used again"
        await asyncio.sleep(0.05)
