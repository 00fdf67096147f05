"""How much a key and its tenant may use: requests and tokens a minute, tokens a day, requests at one time.

Windows slide: what was used in the window before counts in proportion to the part of it that still lies within the
last 60 seconds (or 24 hours). A request is counted when it is admitted, its tokens when they are known, so the last
requests within a token limit may go over it, by at most `concurrency` answers.

In memory for one server, or in Redis for several: one round trip asks all windows at once. While Redis is away each
server counts for itself, and the metric below says so.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metaalign_server.auth import Caller
from metaalign_server.platform.errors import Refusal

__all__ = ["Admission", "Bucket", "Limiter", "MemoryLimiter", "RedisLimiter", "Standing", "buckets_of"]

logger = logging.getLogger(__name__)

MINUTE, DAY = 60, 86_400
LEASE_SECONDS = 900
"""After this time the place of a request whose server died is free again."""

FALLBACKS = Counter(
    "metaalign_limits_fallback_total", "Requests that were counted by this server alone because Redis was away."
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit of one key or tenant.

    Attributes:
        name: Where it is counted.
        kind: `requests`, `tokens` or `concurrency`.
        window: Seconds; 0 for concurrency.
    """

    name: str
    kind: str
    limit: int
    window: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a bucket stands: `used` of its limit, and the seconds until all of it is free again."""

    bucket: Bucket
    used: float
    reset: float

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, math.floor(self.bucket.limit - self.used))


@dataclass(slots=True)
class Admission:
    """A request that was let in; to be settled when it is over."""

    buckets: tuple[Bucket, ...]
    standings: tuple[Standing, ...]
    lease: str = ""
    in_redis: bool = False
    settled: bool = field(default=False)

    def headers(self) -> dict[str, str]:
        """`x-ratelimit-*` as OpenAI's clients know them: of each kind the limit that is nearest."""
        return _headers(self.standings)


class Limiter(Protocol):
    """Counts use."""

    async def admit(self, buckets: tuple[Bucket, ...]) -> Admission:
        """Count one request.

        Raises:
            Refusal: 429; a limit is reached, and nothing was counted.
        """
        ...

    async def settle(self, admission: Admission, tokens: int) -> None:
        """Count the tokens of a request that is over, and free its place."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def buckets_of(caller: Caller, *, inference: bool) -> tuple[Bucket, ...]:
    """The limits that a request of `caller` meets; only requests to the model meet those of tokens and concurrency."""
    found: list[Bucket] = []
    for owner, limits in ((f"key:{caller.key_id}", caller.limits), (f"tenant:{caller.tenant.id}", caller.tenant.limits)):
        if limits.requests_per_minute is not None:
            found.append(Bucket(f"{owner}:rpm", "requests", limits.requests_per_minute, MINUTE))
        if not inference:
            continue
        if limits.tokens_per_minute is not None:
            found.append(Bucket(f"{owner}:tpm", "tokens", limits.tokens_per_minute, MINUTE))
        if limits.tokens_per_day is not None:
            found.append(Bucket(f"{owner}:tpd", "tokens", limits.tokens_per_day, DAY))
        if limits.concurrency is not None:
            found.append(Bucket(f"{owner}:now", "concurrency", limits.concurrency))
    return tuple(found)


_WORDS = {
    ("requests", MINUTE): ("rate_limit_exceeded", "requests per minute"),
    ("tokens", MINUTE): ("rate_limit_exceeded", "tokens per minute"),
    ("tokens", DAY): ("budget_exhausted", "tokens per day"),
    ("concurrency", 0): ("concurrency_limit_exceeded", "requests at one time"),
}


class LimitReached(Refusal):
    """A limit is reached; carries the headers that say how things stand."""

    def __init__(self, full: Bucket, standings: Iterable[Standing], retry_after: float) -> None:
        code, what = _WORDS[full.kind, full.window]
        whose = full.name.partition(":")[0]
        super().__init__(
            429,
            code,
            f"this {whose} is limited to {full.limit} {what}; try again in {_seconds(retry_after)} s",
            retry_after=retry_after,
        )
        self.headers = _headers(tuple(standings))


def _seconds(value: float) -> int:
    return max(1, math.ceil(value))


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `950ms`, `12s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def _headers(standings: Iterable[Standing]) -> dict[str, str]:
    nearest: dict[str, Standing] = {}
    for standing in standings:
        kind = standing.bucket.kind
        if kind not in nearest or standing.remaining < nearest[kind].remaining:
            nearest[kind] = standing
    headers: dict[str, str] = {}
    for kind, standing in nearest.items():
        if kind != "concurrency":
            headers[f"x-ratelimit-limit-{kind}"] = str(standing.bucket.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(standing.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = _duration(standing.reset)
    return headers


def _wait(bucket: Bucket, before: float, current: float, elapsed: float) -> float:
    """Seconds until one more fits into a sliding window.

    Args:
        bucket: The full one.
        before, current: What was used in the window before and in this one.
        elapsed: Seconds since this window began.
    """
    if bucket.kind == "concurrency":
        return 1.0
    window, room = bucket.window, bucket.limit - 1
    if current <= room:  # enough of the window before will slide out of sight
        return max(0.0, window * (1 - (room - current) / before) - elapsed)
    return (window - elapsed) + window * (1 - room / current)


@dataclass(slots=True)
class _Window:
    number: int = 0
    before: float = 0.0
    current: float = 0.0

    def at(self, now: float, seconds: int) -> float:
        """Move to the window of `now`; returns the seconds since it began."""
        number = int(now // seconds)
        if number != self.number:
            self.before = self.current if number == self.number + 1 else 0.0
            self.number, self.current = number, 0.0
        return now - number * seconds


class MemoryLimiter:
    """Counts in this process."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}
        self._running: dict[str, int] = {}

    async def admit(self, buckets: tuple[Bucket, ...]) -> Admission:
        """See `Limiter.admit`."""
        now = time.time()
        standings, full = [], None
        for bucket in buckets:
            if not bucket.window:
                used = float(self._running.get(bucket.name, 0))
                before, elapsed, current = 0.0, 0.0, used
            else:
                window = self._windows.get(bucket.name) or self._windows.setdefault(bucket.name, _Window())
                elapsed = window.at(now, bucket.window)
                before, current = window.before, window.current
                used = before * (1 - elapsed / bucket.window) + current
            if used + 1 > bucket.limit and full is None:
                full = (bucket, _wait(bucket, before, current, elapsed))
            counted = used + (bucket.kind == "requests")
            standings.append(Standing(bucket, counted, bucket.window - elapsed if used else 0.0))
        if full is not None:
            raise LimitReached(full[0], standings, full[1])
        for bucket in buckets:
            if bucket.kind == "requests":
                self._windows[bucket.name].current += 1
            elif not bucket.window:
                self._running[bucket.name] = self._running.get(bucket.name, 0) + 1
        return Admission(buckets, tuple(standings))

    async def settle(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.settle`."""
        if admission.settled:
            return
        admission.settled = True
        now = time.time()
        for bucket in admission.buckets:
            if bucket.kind == "tokens":
                window = self._windows.setdefault(bucket.name, _Window())
                window.at(now, bucket.window)
                window.current += tokens
            elif not bucket.window:
                left = self._running.get(bucket.name, 0) - 1
                if left > 0:
                    self._running[bucket.name] = left
                else:
                    self._running.pop(bucket.name, None)
        if len(self._windows) > 20_000:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop windows in which nothing counts any more."""
        for name, window in list(self._windows.items()):
            seconds = DAY if name.endswith(":tpd") else MINUTE
            if int(now // seconds) > window.number + 1:
                del self._windows[name]

    async def close(self) -> None:
        """Nothing to close."""


# All buckets in one round trip. KEYS: two for a window (the one before, the current), one for concurrency.
# ARGV: now, lease, its seconds, then kind, limit and window of each bucket. Redis's own clock would differ from the
# servers' by less than a window matters, but is the one that they share.
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
  if used + 1 > limit and full == 0 then full = i end
  out[i] = {tostring(before), tostring(current), tostring(elapsed), tostring(used)}
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
    """Counts in Redis, together with all servers that use it; in memory while it is away.

    Args:
        url: `redis://HOST:PORT/DATABASE`.
    """

    _TIMEOUT = 0.2
    _PAUSE = 1.0  # after a failure Redis is left alone this long, so that requests do not wait for it

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=self._TIMEOUT, socket_connect_timeout=self._TIMEOUT)
        self._admit = self._redis.register_script(_ADMIT)
        self._settle = self._redis.register_script(_SETTLE)
        self._memory = MemoryLimiter()
        self._away_until = 0.0

    async def admit(self, buckets: tuple[Bucket, ...]) -> Admission:
        """See `Limiter.admit`."""
        if not buckets:
            return Admission((), ())
        lease = secrets.token_hex(12)
        arguments: list[str | int] = [lease, LEASE_SECONDS]
        for bucket in buckets:
            arguments += [bucket.kind, bucket.limit, bucket.window]
        answer = await self._try(self._admit, [f"metaalign:{b.name}" for b in buckets], arguments)
        if answer is None:
            FALLBACKS.inc()
            return await self._memory.admit(buckets)
        full, rows = answer
        standings = []
        for bucket, row in zip(buckets, rows, strict=True):
            used, elapsed = float(row[3]), float(row[2])
            standings.append(
                Standing(bucket, used + (bucket.kind == "requests"), bucket.window - elapsed if used else 0.0)
            )
        if full:
            before, current, elapsed = (float(text) for text in rows[full - 1][:3])
            bucket = buckets[full - 1]
            raise LimitReached(bucket, standings, _wait(bucket, before, current, elapsed))
        return Admission(buckets, tuple(standings), lease, in_redis=True)

    async def settle(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.settle`."""
        if not admission.in_redis:
            await self._memory.settle(admission, tokens)
            return
        later = [b for b in admission.buckets if b.kind != "requests"]
        if admission.settled or not later:
            return
        admission.settled = True
        arguments: list[str | int] = [admission.lease, tokens]
        for bucket in later:
            arguments += [bucket.kind, bucket.window]
        await self._try(self._settle, [f"metaalign:{b.name}" for b in later], arguments)

    async def _try(self, script: object, keys: list[str], arguments: list[str | int]) -> list[object] | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(2 * self._TIMEOUT):
                return await script(keys=keys, args=arguments) or []  # type: ignore[operator]
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + self._PAUSE
            logger.warning(
                "limits are counted by this server alone", extra={"fields": {"cause": type(error).__name__}}
            )
            return None

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
