"""A fair queue across tenants in front of vLLM's own queue, which is first come, first served.

A place is for one sequence, so a request that asks for many choices or prompts takes many turns. An answer that several
branches draw takes all its places in one turn, since with some of them it could not begin. A free place goes to
the tenant that uses the fewest, and among equals to the one that was served longest ago. A tenant that floods the
server therefore queues behind its own requests. A few places are reserved for tenants that use none, so that they
rarely wait at all. If those are taken too, such a tenant waits until one sequence of anybody ends, and where several
tenants use none, they take turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import Histogram

from metaalign_server.platform.refusal import Refusal

__all__ = ["WAITED", "FairQueue", "Places", "Ticket"]

WAITED = Histogram(
    "metaalign_queue_wait_seconds",
    "Time that a request waited for its first place in the engine.",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60),
)

Ticket = Callable[[], None]
"""Gives a place back; further calls do nothing."""


def _new_future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class _Turn:
    """Somebody who waits for so many places at once."""

    places: int = 1
    granted: asyncio.Future[None] = field(default_factory=_new_future)


class FairQueue:
    """A queue for the engine's places.

    Args:
        places: Maximum number of sequences in the engine at one time.
        reserved: How many of them only tenants that use no other place can have, once there are several tenants.
        max_waiting: Maximum number of requests that wait for their first place. If one more arrives, the newest request
            of the tenant with the most waiting requests is refused.
        waits: Counts the seconds that a request waited for its first place.

    Attributes:
        places: As given.
        max_waiting: As given.
    """

    def __init__(self, places: int, reserved: int, max_waiting: int, waits: Histogram | None = None) -> None:
        self.places = places
        self.max_waiting = max_waiting
        self._waits = waits
        self._free = places
        self._reserved = reserved
        self._used: dict[str, int] = {}
        # Requests that wait for their first place, and sequences of requests that have one already. The latter are not
        # refused any more, and come first, because the former's tenants can only wait for them anyway.
        self._requests: dict[str, deque[_Turn]] = {}
        self._further: dict[str, deque[_Turn]] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._count = 0

    @property
    def taken(self) -> int:
        """How many places are in use."""
        return self.places - self._free

    @property
    def waiting(self) -> int:
        """How many requests wait for their first place."""
        return self._count

    def used(self, tenant_id: str) -> int:
        """Return how many places a tenant uses."""
        return self._used.get(tenant_id, 0)

    async def enter(self, tenant_id: str) -> Ticket:
        """Wait for a request's first place.

        Raises:
            Refusal: 503; too many requests wait, and this tenant has the most of them.
        """
        if self._may_pass(tenant_id, 1):
            return self._take(tenant_id, 1)
        turn = _Turn()
        self._requests.setdefault(tenant_id, deque()).append(turn)
        self._count += 1
        if self._count > self.max_waiting:
            self._drop_one()
        started = asyncio.get_running_loop().time()
        await self._wait(turn, tenant_id, self._requests)
        if self._waits is not None:
            self._waits.observe(asyncio.get_running_loop().time() - started)
        return self._ticket(tenant_id, 1)

    async def enter_again(self, tenant_id: str, places: int = 1) -> Ticket:
        """Wait for the place of a further sequence, or for those of several at once; it is never refused.

        Args:
            tenant_id: Whose they are.
            places: How many, at most `most_at_once`.
        """
        if self._may_pass(tenant_id, places):
            return self._take(tenant_id, places)
        turn = _Turn(places)
        self._further.setdefault(tenant_id, deque()).append(turn)
        await self._wait(turn, tenant_id, self._further)
        return self._ticket(tenant_id, places)

    @property
    def most_at_once(self) -> int:
        """How many places one turn can ever get."""
        return self.places - self._reserved

    def _may_pass(self, tenant_id: str, places: int) -> bool:
        """Return whether places are free for this tenant, and nobody waits who would come first."""
        if not self._used.get(tenant_id) and not self._blocked:
            return (
                self._free >= places
            )  # whoever waits uses places already, or `_admit` would have admitted it
        return self._free - places >= self._kept and not self._requests and not self._further

    @property
    def _blocked(self) -> bool:
        """Whether somebody waits for more places than are free, and would never get them if others passed."""
        return any(line[0].places > 1 for line in self._further.values())

    @property
    def _kept(self) -> int:
        """How many places to keep free; none on a server that has only ever seen one tenant."""
        return self._reserved if len(self._served) > 1 else 0

    async def _wait(self, turn: _Turn, tenant_id: str, lines: dict[str, deque[_Turn]]) -> None:
        try:
            await turn.granted
        except asyncio.CancelledError:
            granted = turn.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._give_back(
                    tenant_id, turn.places
                )  # the place was granted at the same time as the cancellation
            else:
                self._forget(tenant_id, turn, lines)
                self._admit()
            raise

    def _take(self, tenant_id: str, places: int) -> Ticket:
        self._grant(tenant_id, places)
        return self._ticket(tenant_id, places)

    def _grant(self, tenant_id: str, places: int) -> None:
        self._free -= places
        self._used[tenant_id] = self._used.get(tenant_id, 0) + places
        self._turn += 1
        self._served[tenant_id] = self._turn

    def _ticket(self, tenant_id: str, places: int) -> Ticket:
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._give_back(tenant_id, places)

        return give_back

    def _give_back(self, tenant_id: str, places: int) -> None:
        self._free += places
        left = self._used[tenant_id] - places
        if left:
            self._used[tenant_id] = left
        else:
            del self._used[tenant_id]
        self._admit()

    def _admit(self) -> None:
        """Give free places to whom they are due."""
        while self._free > 0 and (self._requests or self._further):
            tenant_id = min(
                (*self._further, *self._requests),
                key=lambda name: (self._used.get(name, 0), self._served.get(name, 0)),
            )
            lines = self._further if tenant_id in self._further else self._requests
            needed = lines[tenant_id][0].places
            if self._free - needed < (self._kept if self._used.get(tenant_id) else 0):
                return
            turn = self._pop(tenant_id, lines, first=True)
            if not turn.granted.cancelled():  # cancelled, but its task has not resumed yet
                self._grant(tenant_id, turn.places)
                turn.granted.set_result(None)

    def _drop_one(self) -> None:
        longest = max(self._requests, key=lambda name: len(self._requests[name]))
        turn = self._pop(longest, self._requests, first=False)
        if not turn.granted.cancelled():
            turn.granted.set_exception(
                Refusal("overloaded", "too many requests wait; try again in a moment", retry_after=2.0)
            )

    def _pop(self, tenant_id: str, lines: dict[str, deque[_Turn]], *, first: bool) -> _Turn:
        line = lines[tenant_id]
        popped = line.popleft() if first else line.pop()
        self._shortened(tenant_id, lines)
        return popped

    def _forget(self, tenant_id: str, turn: _Turn, lines: dict[str, deque[_Turn]]) -> None:
        line = lines.get(tenant_id)
        if line is not None and turn in line:
            line.remove(turn)
            self._shortened(tenant_id, lines)

    def _shortened(self, tenant_id: str, lines: dict[str, deque[_Turn]]) -> None:
        if not lines[tenant_id]:
            del lines[tenant_id]
        if lines is self._requests:
            self._count -= 1


class Places:
    """The places of one request, one for each sequence that it generates.

    The first is taken before the request is rendered, so that a flood of requests waits before it costs anything.
    """

    def __init__(self, queue: FairQueue, tenant_id: str) -> None:
        self._queue = queue
        self._tenant_id = tenant_id
        self._first: Ticket | None = None

    async def enter(self) -> None:
        """Wait for the first place.

        Raises:
            Refusal: see `FairQueue.enter`.
        """
        self._first = await self._queue.enter(self._tenant_id)

    async def take(self, places: int = 1) -> Ticket:
        """Wait for the next sequence's place, or for as many places as its branches take."""
        first, self._first = self._first, None
        if first is not None:
            if places == 1:
                return first
            # Held while its request waits for others, it could be the one that somebody else waits for.
            first()
        return await self._queue.enter_again(self._tenant_id, places)

    def leave(self) -> None:
        """Give the first place back if no sequence took it; further calls do nothing."""
        if self._first is not None:
            self._first()
            self._first = None

    @property
    def rank(self) -> int:
        """How many places the tenant uses besides one; the engine serves a lower rank first."""
        return max(0, self._queue.used(self._tenant_id) - 1)
