"""Counters of usage limits in Redis, shared by several servers: one round trip checks all windows.

While Redis is unavailable, each server counts on its own and increments the metric below.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from metaalign_server.outages import Dependency
from metaalign_server.platform.limits import Admission, Bucket, MemoryLimiter, Use, admitted, refused

__all__ = ["RedisLimiter"]

LEASE_SECONDS = 900
"""TTL of a concurrency lease: it frees the slot of a request whose server died."""

FALLBACKS = Counter(
    "metaalign_limits_fallback_total",
    "Requests that were counted by this server alone because Redis was away.",
)

# Checks all buckets in one round trip. KEYS: their names. ARGV: the lease, its TTL in seconds, then kind, limit and
# window of each bucket. Redis's own clock is used because all servers share it. 17 digits carry a number unchanged.
_ADMIT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lease, keep = ARGV[1], tonumber(ARGV[2])
local out, full, at = {}, 0, 3
local current_keys = {}
for i, name in ipairs(KEYS) do
  local kind, limit, window = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local before, current, elapsed, used = 0, 0, 0, 0
  if window == 0 then
    redis.call('ZREMRANGEBYSCORE', name, '-inf', now)
    current = redis.call('ZCARD', name)
    used = current
  else
    local number = math.floor(now / window)
    elapsed = now - number * window
    current_keys[i] = name .. ':' .. string.format('%d', number)
    current = tonumber(redis.call('GET', current_keys[i]) or '0')
    before = tonumber(redis.call('GET', name .. ':' .. string.format('%d', number - 1)) or '0')
    used = before * (1 - elapsed / window) + current
  end
  if used + 1 > limit then full = 1 end
  out[i] = {string.format('%.17g', before), string.format('%.17g', current), string.format('%.17g', elapsed)}
end
if full == 0 then
  at = 3
  for i, name in ipairs(KEYS) do
    local kind, window = ARGV[at], tonumber(ARGV[at + 2])
    at = at + 3
    if kind == 'requests' then
      redis.call('INCRBY', current_keys[i], 1)
      redis.call('EXPIRE', current_keys[i], 2 * window)
    elseif window == 0 then
      redis.call('ZADD', name, now + keep, lease)
      redis.call('EXPIRE', name, keep)
    end
  end
end
return {full, out}
"""
_SETTLE = """
local now = redis.call('TIME')[1]
for i, name in ipairs(KEYS) do
  local kind, window = ARGV[2 * i + 1], tonumber(ARGV[2 * i + 2])
  if kind == 'tokens' then
    local key = name .. ':' .. string.format('%d', math.floor(now / window))
    redis.call('INCRBY', key, ARGV[2])
    redis.call('EXPIRE', key, 2 * window)
  elseif window == 0 then
    redis.call('ZREM', name, ARGV[1])
  end
end
"""


class RedisLimiter:
    """Keeps the counters in Redis, shared by all servers that use it; falls back to memory while it is unavailable.

    Args:
        url: `redis://HOST:PORT/DATABASE` of a single Redis server; clusters are not supported.
        timeout: Seconds after which Redis counts as unavailable; a request waits at most twice that.
    """

    _PAUSE = 1.0  # after a failure, skip Redis for this long so that requests do not wait for it

    def __init__(self, url: str, timeout: float = 0.2) -> None:
        self._timeout = timeout
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Retry on a connection that Redis closed, but not after a timeout: Redis may have counted the request.
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        )
        self._admit = self._redis.register_script(_ADMIT)
        self._settle = self._redis.register_script(_SETTLE)
        self._memory = MemoryLimiter()
        self._away_until = 0.0
        self._dependency = Dependency("redis", "this server counts its requests on its own")
        # Leases that Redis may still hold for finished requests, or for calls that it did not answer: (key, lease).
        self._lost: deque[tuple[str, str]] = deque(maxlen=10_000)

    async def admit(self, buckets: tuple[Bucket, ...]) -> Admission:
        """See `Limiter.admit`."""
        if not buckets:
            return Admission((), ())
        lease = secrets.token_hex(12)
        arguments: list[str | int] = [lease, LEASE_SECONDS]
        for bucket in buckets:
            arguments += [bucket.kind, bucket.limit, bucket.window]
        answer = await self._ask(self._admit, buckets, arguments) if self._may_ask() else None
        if answer is None:
            FALLBACKS.inc()
            self._dependency.missed()
            return await self._memory.admit(buckets)
        full, rows = answer
        uses = [
            Use(bucket, *(float(text) for text in row)) for bucket, row in zip(buckets, rows, strict=True)
        ]
        if full:
            raise refused(uses)
        return Admission(buckets, admitted(uses), lease, in_redis=True)

    async def settle(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.settle`."""
        if not admission.in_redis:
            await self._memory.settle(admission, tokens)
            return
        later = tuple(bucket for bucket in admission.buckets if bucket.kind != "requests")
        if admission.settled or not later:
            return
        admission.settled = True
        arguments: list[str | int] = [admission.lease, tokens]
        for bucket in later:
            arguments += [bucket.kind, bucket.window]
        if self._may_ask():
            await self._ask(self._settle, later, arguments)
        else:
            self._lose(later, admission.lease)

    def _may_ask(self) -> bool:
        now = time.monotonic()
        if now < self._away_until:
            return False
        if self._away_until:  # this request probes whether Redis is back; the others skip it meanwhile
            self._away_until = now + self._PAUSE
        return True

    async def _ask(
        self, script: AsyncScript, buckets: tuple[Bucket, ...], arguments: list[str | int]
    ) -> list[Any] | None:
        """Return the result of `script`, or None if Redis is unavailable; the first argument is the lease."""
        answer: list[Any] | None = None
        try:
            async with self._reached():
                answer = await script(keys=[_key(bucket) for bucket in buckets], args=arguments) or []
                await self._free_lost()
        except (RedisError, OSError, TimeoutError):
            answer = None
        finally:  # including when the request is cancelled
            if answer is None:
                self._lose(buckets, str(arguments[0]))
        return answer

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        """Give Redis its time to do what the block asks, and note whether it has."""
        try:
            async with asyncio.timeout(2 * self._timeout):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + self._PAUSE
            self._dependency.away(type(error).__name__)
            raise
        self._away_until = 0.0
        self._dependency.answered()

    async def look(self) -> None:
        """See `Limiter.look`."""
        if self._may_ask():
            with suppress(RedisError, OSError, TimeoutError):
                async with self._reached():
                    await self._redis.ping()

    def _lose(self, buckets: tuple[Bucket, ...], lease: str) -> None:
        self._lost.extend((_key(bucket), lease) for bucket in buckets if not bucket.window)

    async def _free_lost(self) -> None:
        if not self._lost:
            return
        lost = list(self._lost)
        self._lost.clear()
        leases: dict[str, list[str]] = {}
        for key, lease in lost:
            leases.setdefault(key, []).append(lease)
        try:
            for key, held in leases.items():
                await self._redis.zrem(key, *held)
        except BaseException:
            self._lost.extend(lost)
            raise

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _key(bucket: Bucket) -> str:
    return f"metaalign:{bucket.name}"
