"""A cache that is bounded by what its values take in memory, for rendered Meta-Prompts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge

__all__ = ["SpecCache"]

V = TypeVar("V")

BYTES = Gauge(
    "metaalign_meta_prompt_cache_bytes", "What the rendered Meta-Prompts in memory take, estimated."
)
EVICTIONS = Counter(
    "metaalign_meta_prompt_cache_evictions_total", "Rendered Meta-Prompts dropped to make place for others."
)


class SpecCache(Generic[V]):
    """Keeps the values used last, up to a number of bytes; safe to use from several threads.

    Args:
        most_bytes: How much all values may take together. A value that takes more alone is not kept.

    Attributes:
        round: How often it was cleared.
    """

    def __init__(self, most_bytes: int) -> None:
        self.round = 0
        self._most = most_bytes
        self._used = 0
        self._values: OrderedDict[bytes, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> V | None:
        """Return the value of a key, which is then the one used last."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: bytes, value: V, size: int, began: int) -> None:
        """Keep a value of `size` bytes, unless the cache was cleared since its `round` was `began`."""
        with self._lock:
            if began != self.round or size > self._most:
                return
            # Two threads may have made the same value.
            self._used += size - self._values.pop(key, (value, 0))[1]
            self._values[key] = (value, size)
            while self._used > self._most:
                self._used -= self._values.popitem(last=False)[1][1]
                EVICTIONS.inc()
            BYTES.set(self._used)

    def clear(self) -> None:
        """Drop all values, and those that are being made."""
        with self._lock:
            self._values.clear()
            self._used = 0
            self.round += 1
            BYTES.set(0)
