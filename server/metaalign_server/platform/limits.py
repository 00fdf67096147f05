"""Usage limits of a key and its tenant: requests and tokens per minute, tokens per day, concurrent requests.

Windows slide: usage in the previous window counts in proportion to the part of it that still overlaps the last 60
seconds (or 24 hours). A request is counted when it is admitted, its tokens once they are known, so the last requests
under a token limit may exceed it, by at most `concurrency` answers.

Counters are in memory for one server, or in Redis for several: one round trip checks all windows. While Redis is
unavailable, each server counts on its own and increments the metric below.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from metaalign_server.callers import Caller
from metaalign_server.outages import Dependency
from metaalign_server.platform.refusal import Refusal

__all__ = [
    "Admission",
    "Bucket",
    "LimitReached",
    "Limiter",
    "MemoryLimiter",
    "RedisLimiter",
    "Standing",
    "buckets_of",
]

MINUTE, DAY = 60, 86_400
LEASE_SECONDS = 900
"""TTL of a concurrency lease: it frees the slot of a request whose server died."""

FALLBACKS = Counter(
    "metaalign_limits_fallback_total",
    "Requests that were counted by this server alone because Redis was away.",
)
REFUSED = Counter(
    "metaalign_limits_refusals_total",
    "Requests that were refused because of a limit, by whose limit it is (`key`, `tenant` or `user`) and its kind.",
    ["owner", "limit"],
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit of one key or tenant.

    Attributes:
        name: Name of the counter.
        kind: `requests`, `tokens` or `concurrency`.
        window: Length in seconds; 0 for concurrency.
    """

    name: str
    kind: str
    limit: int
    window: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a bucket: how much of its limit is `used`, and the seconds until all of it is free again."""

    bucket: Bucket
    used: float
    reset: float

    @property
    def remaining(self) -> int:
        """How much of the limit is left, never below 0."""
        return max(0, math.floor(self.bucket.limit - self.used))


@dataclass(slots=True)
class Admission:
    """An admitted request; settle it when the request ends."""

    buckets: tuple[Bucket, ...]
    standings: tuple[Standing, ...]
    lease: str = ""
    in_redis: bool = False
    settled: bool = field(default=False)

    def headers(self) -> dict[str, str]:
        """Return `x-ratelimit-*` headers as OpenAI's clients expect them: per kind, the limit with the least left."""
        return _headers(self.standings)


class Limiter(Protocol):
    """Counts usage against limits."""

    async def admit(self, buckets: tuple[Bucket, ...]) -> Admission:
        """Count one request.

        Raises:
            Refusal: 429; a limit is reached and nothing was counted.
        """
        ...

    async def settle(self, admission: Admission, tokens: int) -> None:
        """Count the tokens of a finished request and free its concurrency slot."""
        ...

    async def look(self) -> None:
        """Ask whether shared counters are up, though no request may need them now."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def buckets_of(caller: Caller, *, inference: bool) -> tuple[Bucket, ...]:
    """Return the limits on a request of `caller`; only inference is subject to token and concurrency limits."""
    found: list[Bucket] = []
    owners = [(f"key:{caller.key_id}", caller.limits), (f"tenant:{caller.tenant.id}", caller.tenant.limits)]
    if caller.user is not None:
        owners.insert(0, (f"user:{caller.user.ref}", caller.user.limits))
    for owner, limits in owners:
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


_LIMITS = {
    ("requests", MINUTE): "requests_per_minute",
    ("tokens", MINUTE): "tokens_per_minute",
    ("tokens", DAY): "tokens_per_day",
    ("concurrency", 0): "concurrency",
}
_WORDS = {
    ("requests", MINUTE): ("rate_limit_exceeded", "requests per minute"),
    ("tokens", MINUTE): ("rate_limit_exceeded", "tokens per minute"),
    ("tokens", DAY): ("budget_exhausted", "tokens per day"),
    ("concurrency", 0): ("concurrency_limit_exceeded", "requests at one time"),
}


class LimitReached(Refusal):
    """A limit is reached; the headers report the state of the limits."""

    def __init__(self, full: Bucket, standings: Iterable[Standing], retry_after: float) -> None:
        code, what = _WORDS[full.kind, full.window]
        whose = full.name.partition(":")[0]
        super().__init__(
            code,
            f"this {whose} is limited to {full.limit} {what}; try again in {_seconds(retry_after)} s",
            retry_after=retry_after,
        )
        self.headers |= _headers(tuple(standings))


def _seconds(value: float) -> int:
    return max(1, math.ceil(value))


def _duration(seconds: float) -> str:
    """Format a duration as OpenAI does: `950ms`, `12s`, `6m0s`."""
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


@dataclass(frozen=True, slots=True)
class _Use:
    """What a bucket has counted.

    Attributes:
        before, current: Usage in the previous and in the current window; for concurrency, `current` is what runs now.
        elapsed: Seconds since the current window began.
    """

    bucket: Bucket
    before: float
    current: float
    elapsed: float

    @property
    def used(self) -> float:
        window = self.bucket.window
        return self.before * (1 - self.elapsed / window) + self.current if window else self.current

    def wait(self) -> float:
        """Return the seconds until one more fits; 0 if it fits now."""
        window, room = self.bucket.window, self.bucket.limit - 1
        if self.used <= room:
            return 0.0
        if not window:
            return 1.0  # the end of an answer cannot be predicted
        if self.current <= room:  # enough of the previous window will slide out
            return window * (1 - (room - self.current) / self.before) - self.elapsed
        return (window - self.elapsed) + window * (1 - room / self.current)

    def standing(self, *, counted: int = 0) -> Standing:
        """Return the state of the bucket after counting `counted` more."""
        current = self.current + counted
        left = self.bucket.window - self.elapsed
        reset = left + self.bucket.window if current else left if self.before else 0.0
        return Standing(self.bucket, self.used + counted, reset)


def _admitted(uses: list[_Use]) -> tuple[Standing, ...]:
    return tuple(use.standing(counted=int(use.bucket.kind == "requests")) for use in uses)


def _refused(uses: list[_Use]) -> LimitReached:
    longest = max(uses, key=_Use.wait)
    REFUSED.labels(
        longest.bucket.name.partition(":")[0], _LIMITS[longest.bucket.kind, longest.bucket.window]
    ).inc()
    return LimitReached(longest.bucket, [use.standing() for use in uses], longest.wait())


@dataclass(slots=True)
class _Window:
    seconds: int
    number: int = 0
    before: float = 0.0
    current: float = 0.0

    def at(self, now: float) -> float:
        """Advance to the window of `now` and return the seconds since it began."""
        number = int(now // self.seconds)
        if number != self.number:
            self.before = self.current if number == self.number + 1 else 0.0
            self.number, self.current = number, 0.0
        return now - number * self.seconds


class MemoryLimiter:
    """Keeps the counters in this process."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}
        self._running: dict[str, int] = {}
        self._swept_at = 0.0

    async def admit(self, buckets: tuple[Bucket, ...]) -> Admission:
        """See `Limiter.admit`."""
        now = time.time()
        self._sweep(now)
        uses = [self._use(bucket, now) for bucket in buckets]
        if any(use.wait() for use in uses):
            raise _refused(uses)
        for bucket in buckets:
            if bucket.kind == "requests":
                self._windows[bucket.name].current += 1
            elif not bucket.window:
                self._running[bucket.name] = self._running.get(bucket.name, 0) + 1
        return Admission(buckets, _admitted(uses))

    def _use(self, bucket: Bucket, now: float) -> _Use:
        if not bucket.window:
            return _Use(bucket, 0.0, self._running.get(bucket.name, 0), 0.0)
        window = self._windows.setdefault(bucket.name, _Window(bucket.window))
        elapsed = window.at(now)
        return _Use(bucket, window.before, window.current, elapsed)

    async def settle(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.settle`."""
        if admission.settled:
            return
        admission.settled = True
        now = time.time()
        for bucket in admission.buckets:
            if bucket.kind == "tokens":
                window = self._windows.setdefault(bucket.name, _Window(bucket.window))
                window.at(now)
                window.current += tokens
            elif not bucket.window:
                left = self._running.get(bucket.name, 0) - 1
                if left > 0:
                    self._running[bucket.name] = left
                else:
                    self._running.pop(bucket.name, None)

    def _sweep(self, now: float) -> None:
        """Drop expired windows, at most once a minute."""
        if abs(now - self._swept_at) < MINUTE:
            return
        self._swept_at = now
        for name, window in list(self._windows.items()):
            if int(now // window.seconds) > window.number + 1:
                del self._windows[name]

    async def look(self) -> None:
        """Nothing to ask."""

    async def close(self) -> None:
        """Nothing to close."""


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
            _Use(bucket, *(float(text) for text in row)) for bucket, row in zip(buckets, rows, strict=True)
        ]
        if full:
            raise _refused(uses)
        return Admission(buckets, _admitted(uses), lease, in_redis=True)

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
