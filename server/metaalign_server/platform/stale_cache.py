"""In-memory cache of store values: refreshed after a TTL or a change, served stale while the store is away or slow."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from prometheus_client import Counter

from metaalign_server.platform.changes import Changes
from metaalign_server.store.database import StoreUnavailable

__all__ = ["StaleCache"]

_PATIENCE_SECONDS = 0.1
"""A value that is known waits for its refresh no longer than this; the refresh goes on behind it."""

K = TypeVar("K")
V = TypeVar("V")

STALE = Counter(
    "metaalign_store_stale_reads_total", "Values used past their time because the store was away or slow."
)
LOOKUPS = Counter(
    "metaalign_lookups_total",
    "Look-ups of what is kept in memory: `hit` if it was there, and `miss` if the store was asked.",
    ["cache", "result"],
)


_GONE = -1
"""Round of an entry whose last refresh failed for good: the next call waits for the store."""


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    fresh_until: float
    round: int
    read_at: float
    mark: int | None


class StaleCache(Generic[K, V]):
    """Reloads values after `ttl` seconds or `forget`, and serves stale ones if the store is unavailable.

    Args:
        load: Reads the value of a key from the store.
        ttl: Seconds; infinity for values that never change.
        entries: Maximum number of entries; the least recently used one is evicted first.
        name: What it keeps, for the metric.
        changes: If given, values that have not changed in the store are not reloaded.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        ttl: float,
        entries: int,
        name: str,
        changes: Changes | None = None,
    ) -> None:
        self._hits, self._misses = LOOKUPS.labels(name, "hit"), LOOKUPS.labels(name, "miss")
        self._load = load
        self._ttl = ttl
        self._size = entries
        self._changes = changes
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._loading: dict[tuple[K, int], asyncio.Task[V]] = {}
        self._round = 0

    async def get(self, key: K) -> V:
        """Return the value of `key`.

        Raises:
            StoreUnavailable: the store is unavailable and the value is not cached.
        """
        entry = self._entries.get(key)
        now = time.monotonic()
        if entry is not None:
            self._entries.move_to_end(key)
            if entry.round == self._round:
                if entry.fresh_until > now or self._unchanged(entry):
                    self._hits.inc()
                    return entry.value
                entry.fresh_until = now + self._ttl  # others use the old value while this call reloads it
        self._misses.inc()
        # After `forget`, this server has changed the store: the new value is worth the wait.
        patience = _PATIENCE_SECONDS if entry is not None and entry.round == self._round else None
        try:
            return await asyncio.wait_for(self._read(key), patience)
        except (StoreUnavailable, TimeoutError) as error:
            if entry is None:
                raise
            STALE.inc()
            if isinstance(error, StoreUnavailable):
                entry.fresh_until, entry.round = time.monotonic() + min(self._ttl, 1.0), self._round
            return entry.value
        except Exception:
            if entry is not None:
                entry.fresh_until, entry.mark = 0.0, None
            raise

    def _unchanged(self, entry: _Entry[V]) -> bool:
        return self._changes is not None and self._changes.vouch_for(entry.mark, entry.read_at)

    async def _read(self, key: K) -> V:
        """Load a value once for all concurrent callers; loading continues if one of them is cancelled."""
        asked = (key, self._round)  # a call after `forget` must not get a value read before it
        task = self._loading.get(asked)
        if task is None:
            task = self._loading[asked] = asyncio.create_task(self._keep(*asked))
            task.add_done_callback(partial(self._loaded, asked))
        return await asyncio.shield(task)

    def _loaded(self, asked: tuple[K, int], task: asyncio.Task[V]) -> None:
        del self._loading[asked]
        if task.cancelled():
            return
        error = task.exception()  # perhaps nobody waits for it any more
        entry = self._entries.get(asked[0])
        if entry is not None and error is not None and not isinstance(error, StoreUnavailable):
            entry.round = _GONE  # a deleted profile must not live on because the store is slow

    async def _keep(self, key: K, asked_in: int) -> V:
        mark = self._changes.mark() if self._changes is not None else None
        read_at = time.monotonic()
        value = await self._load(key)
        self._entries[key] = _Entry(value, time.monotonic() + self._ttl, asked_in, read_at, mark)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return value

    def forget(self) -> None:
        """Reload every value on its next use; old values are still served while the store is unavailable."""
        self._round += 1
