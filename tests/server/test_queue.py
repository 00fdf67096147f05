"""The fair queue: who is next, who is refused, and that no slot is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from metaalign_server.platform.fair_queue import FairQueue, Ticket
from metaalign_server.platform.refusal import Refusal


async def entering(queue: FairQueue, tenant: str, sequences: int = 1) -> asyncio.Task[Ticket]:
    """A request that has asked for a slot, and waits if it has to."""
    task = asyncio.create_task(queue.enter(tenant, sequences))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_free_slot_goes_to_the_tenant_that_uses_the_fewest() -> None:
    queue = FairQueue(2, 100)
    running = [await queue.enter("flood", 1), await queue.enter("flood", 1)]
    waiting = [await entering(queue, "flood") for _ in range(5)]
    guest = await entering(queue, "guest")
    running[0]()
    await asyncio.sleep(0)
    assert guest.done()
    assert not any(task.done() for task in waiting)
    running[1]()
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False, False, False, False]  # in their order
    guest.result()()
    waiting[0].result()()
    await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == 3
    for task in waiting:
        if not task.done():
            task.cancel()


async def test_tenants_that_use_equally_many_take_turns() -> None:
    queue = FairQueue(1, 100)
    ticket = await queue.enter("a", 1)
    served: list[str] = []

    async def ask(tenant: str) -> None:
        leave = await queue.enter(tenant, 1)
        served.append(tenant)
        await asyncio.sleep(0)
        leave()

    tasks = [asyncio.create_task(ask(tenant)) for tenant in "aaabbb"]
    await asyncio.sleep(0)
    ticket()
    await asyncio.gather(*tasks)
    assert served in (list("ababab"), list("bababa"))


async def test_one_that_needs_many_slots_is_not_passed_by() -> None:
    queue = FairQueue(4, 100)
    one = await queue.enter("a", 1)
    big = await entering(queue, "b", 64)  # more than there are: it gets all of them
    small = await entering(queue, "c")
    assert not big.done()
    assert not small.done()
    one()
    await asyncio.sleep(0)
    assert big.done()
    assert not small.done()
    big.result()()
    big.result()()  # again: nothing happens
    await asyncio.sleep(0)
    small.result()()
    all_free = await queue.enter("d", 4)
    all_free()


async def test_too_many_waiting_costs_the_one_with_the_longest_line() -> None:
    queue = FairQueue(1, 3)
    ticket = await queue.enter("flood", 1)
    flood = [await entering(queue, "flood") for _ in range(3)]
    guest = await entering(queue, "guest")
    await asyncio.sleep(0)
    assert [task.done() for task in (*flood, guest)] == [False, False, True, False]
    with pytest.raises(Refusal) as refused:
        await flood[2]
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    assert int(refused.value.headers["Retry-After"]) > 0
    ticket()
    for task in (flood[0], guest, flood[1]):
        (await task)()


async def test_no_slot_is_lost_whoever_gives_up_and_when() -> None:
    """Clients come, wait, give up and leave at random; afterwards all slots are free."""
    chance = random.Random(5)
    queue = FairQueue(3, 20)

    async def client(tenant: str) -> None:
        leave = await queue.enter(tenant, chance.randint(1, 4))
        try:
            await _pause(chance)
        finally:
            leave()

    def spawn() -> asyncio.Task[None]:
        return asyncio.create_task(client(chance.choice("abcde")))

    tasks = []
    for _ in range(2000):
        tasks.append(spawn())
        await _pause(chance)
        if chance.random() < 0.3:
            chance.choice(tasks[-20:]).cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError, Refusal}
    leave = await asyncio.wait_for(queue.enter("last", 3), 1)
    leave()


async def _pause(chance: random.Random) -> None:
    for _ in range(chance.randint(0, 3)):
        await asyncio.sleep(0)
