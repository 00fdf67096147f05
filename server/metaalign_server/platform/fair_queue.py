"""A fair queue across tenants in front of vLLM's own queue, which is first come, first served.

A free slot goes to the tenant that uses the fewest slots. A tenant that floods the server therefore queues behind its
own requests, and another tenant's request waits at most until the next slot becomes free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from prometheus_client import Gauge, Histogram

from metaalign_server.platform.refusal import Refusal

__all__ = ["FairQueue", "Ticket"]

WAITING = Gauge("metaalign_queue_waiting", "Requests that wait for a slot of the engine.")
WAITED = Histogram(
    "metaalign_queue_wait_seconds",
    "Time that a request waited for a slot of the engine.",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60),
)

Ticket = Callable[[], None]
"""Releases the slots; further calls do nothing."""


class FairQueue:
    """A queue for the engine's slots.

    Args:
        slots: Maximum number of sequences in the engine at one time.
        max_waiting: Maximum number of waiting requests. If one more arrives, the newest request of the tenant with the
            most waiting requests is refused.
    """

    def __init__(self, slots: int, max_waiting: int) -> None:
        self.slots = slots
        self._free = slots
        self._max_waiting = max_waiting
        self._used: dict[str, int] = {}
        self._waiting: dict[str, deque[tuple[asyncio.Future[None], int]]] = {}
        self._count = 0

    async def enter(self, tenant_id: str, sequences: int) -> Ticket:
        """Wait for one slot per sequence (at most all slots).

        Raises:
            Refusal: 503; too many requests wait, and this tenant has the most of them.
        """
        cost = min(sequences, self.slots)
        if not self._count and cost <= self._free:
            return self._take(tenant_id, cost)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant_id, deque()).append((place, cost))
        self._change(1)
        if self._count > self._max_waiting:
            self._drop_one()
        started = asyncio.get_running_loop().time()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._give_back(tenant_id, cost)  # the slot was granted at the same time as the cancellation
            else:
                self._forget(tenant_id, place, cost)
                self._admit()
            raise
        WAITED.observe(asyncio.get_running_loop().time() - started)
        return self._ticket(tenant_id, cost)

    def _take(self, tenant_id: str, cost: int) -> Ticket:
        self._free -= cost
        self._used[tenant_id] = self._used.get(tenant_id, 0) + cost
        return self._ticket(tenant_id, cost)

    def _ticket(self, tenant_id: str, cost: int) -> Ticket:
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._give_back(tenant_id, cost)

        return give_back

    def _give_back(self, tenant_id: str, cost: int) -> None:
        self._free += cost
        left = self._used[tenant_id] - cost
        if left:
            self._used[tenant_id] = left
        else:
            del self._used[tenant_id]
        self._admit()

    def _admit(self) -> None:
        """Admit the next requests while slots are free; a request that needs many slots is never overtaken."""
        while self._waiting:
            tenant_id = min(self._waiting, key=lambda name: self._used.get(name, 0))
            place, cost = self._waiting[tenant_id][0]
            if place.cancelled():  # cancelled, but its task has not resumed yet
                self._pop(tenant_id, first=True)
                continue
            if cost > self._free:
                return
            self._pop(tenant_id, first=True)
            self._free -= cost
            self._used[tenant_id] = self._used.get(tenant_id, 0) + cost
            place.set_result(None)
            if tenant_id in self._waiting:  # round robin among tenants that use equally many slots
                self._waiting[tenant_id] = self._waiting.pop(tenant_id)

    def _drop_one(self) -> None:
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        place, _ = self._pop(longest, first=False)
        if not place.cancelled():
            place.set_exception(
                Refusal("overloaded", "too many requests wait; try again in a moment", retry_after=2.0)
            )

    def _pop(self, tenant_id: str, *, first: bool) -> tuple[asyncio.Future[None], int]:
        line = self._waiting[tenant_id]
        popped = line.popleft() if first else line.pop()
        if not line:
            del self._waiting[tenant_id]
        self._change(-1)
        return popped

    def _forget(self, tenant_id: str, place: asyncio.Future[None], cost: int) -> None:
        line = self._waiting.get(tenant_id)
        if line is not None and (place, cost) in line:
            line.remove((place, cost))
            if not line:
                del self._waiting[tenant_id]
            self._change(-1)

    def _change(self, by: int) -> None:
        self._count += by
        WAITING.set(self._count)
