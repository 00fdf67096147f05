"""Usage limits of a key and its tenant: requests and tokens per minute, tokens per day, concurrent requests.

Windows slide: usage in the previous window counts in proportion to the part of it that still overlaps the last 60
seconds (or 24 hours). A request is counted when it is admitted, its tokens once they are known, so the last requests
under a token limit may exceed it, by at most `concurrency` answers.

Counters are in memory for one server, or in Redis for several (`redis_limits.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import Counter

from metaalign_server.callers import Caller
from metaalign_server.platform.refusal import Refusal

__all__ = [
    "Admission",
    "Bucket",
    "LimitReached",
    "Limiter",
    "MemoryLimiter",
    "Standing",
    "Use",
    "admitted",
    "buckets_of",
    "refused",
]

MINUTE, DAY = 60, 86_400

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


# By kind and window: the field of `Limits`, the code of the refusal, and the words in it.
_LIMITS = {
    ("requests", MINUTE): ("requests_per_minute", "rate_limit_exceeded", "requests per minute"),
    ("tokens", MINUTE): ("tokens_per_minute", "rate_limit_exceeded", "tokens per minute"),
    ("tokens", DAY): ("tokens_per_day", "budget_exhausted", "tokens per day"),
    ("concurrency", 0): ("concurrency", "concurrency_limit_exceeded", "requests at one time"),
}


class LimitReached(Refusal):
    """A limit is reached; the headers report the state of the limits."""

    def __init__(self, full: Bucket, standings: Iterable[Standing], retry_after: float) -> None:
        limit, code, what = _LIMITS[full.kind, full.window]
        whose = full.name.partition(":")[0]
        REFUSED.labels(whose, limit).inc()
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
class Use:
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
        """How much of the limit is used now."""
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


def admitted(uses: list[Use]) -> tuple[Standing, ...]:
    """Return the state of the buckets after counting a request."""
    return tuple(use.standing(counted=int(use.bucket.kind == "requests")) for use in uses)


def refused(uses: list[Use]) -> LimitReached:
    """Return the refusal of a request for which a bucket has no room."""
    longest = max(uses, key=Use.wait)
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
            raise refused(uses)
        for bucket in buckets:
            if bucket.kind == "requests":
                self._windows[bucket.name].current += 1
            elif not bucket.window:
                self._running[bucket.name] = self._running.get(bucket.name, 0) + 1
        return Admission(buckets, admitted(uses))

    def _use(self, bucket: Bucket, now: float) -> Use:
        if not bucket.window:
            return Use(bucket, 0.0, self._running.get(bucket.name, 0), 0.0)
        window = self._windows.setdefault(bucket.name, _Window(bucket.window))
        elapsed = window.at(now)
        return Use(bucket, window.before, window.current, elapsed)

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
