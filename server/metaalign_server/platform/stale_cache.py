"""Values of the store that are kept in memory, read again after a time, and used on while the store is away."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import Counter

from metaalign_server.store.database import StoreUnavailable

__all__ = ["StaleCache"]

K = TypeVar("K")
V = TypeVar("V")

STALE = Counter(
    "metaalign_store_stale_reads_total", "Values used past their time because the store was away."
)


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    fresh_until: float
    round: int


class StaleCache(Generic[K, V]):
    """Values that are loaded again after `ttl` seconds or a `forget`, and used on if that fails.

    Args:
        load: Reads the value of a key from the store.
        ttl: Seconds; infinity for what never changes.
        entries: How many to keep; the least recently used goes first.
    """

    def __init__(self, load: Callable[[K], Awaitable[V]], ttl: float, entries: int) -> None:
        self._load = load
        self._ttl = ttl
        self._size = entries
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._loading: dict[tuple[K, int], asyncio.Task[V]] = {}
        self._round = 0

    async def get(self, key: K) -> V:
        """The value of `key`.

        Raises:
            StoreUnavailable: the store is away and the value was never seen.
        """
        entry = self._entries.get(key)
        now = time.monotonic()
        if entry is not None:
            self._entries.move_to_end(key)
            if entry.round == self._round:
                if entry.fresh_until > now:
                    return entry.value
                entry.fresh_until = now + self._ttl  # others need not wait while this one asks
        try:
            return await self._read(key)
        except StoreUnavailable:
            if entry is None:
                raise
            STALE.inc()
            entry.fresh_until, entry.round = time.monotonic() + min(self._ttl, 1.0), self._round
            return entry.value
        except Exception:
            if entry is not None:
                entry.fresh_until = 0.0
            raise

    async def _read(self, key: K) -> V:
        """Load a value, once for all who ask at the same time; goes on when one of them leaves."""
        asked = (key, self._round)  # who asks after `forget` must not get what was read before it
        task = self._loading.get(asked)
        if task is None:
            task = self._loading[asked] = asyncio.create_task(self._keep(*asked))
            task.add_done_callback(lambda _: self._loading.pop(asked))
        return await asyncio.shield(task)

    async def _keep(self, key: K, asked_in: int) -> V:
        value = await self._load(key)
        self._entries[key] = _Entry(value, time.monotonic() + self._ttl, asked_in)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return value

    def forget(self) -> None:
        """Load everything again when it is asked for; what is kept still serves while the store is away."""
        self._round += 1
