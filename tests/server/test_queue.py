"""The fair queue: who is next, who is refused, that no place is lost, and how long a quiet tenant waits at most."""

from __future__ import annotations

import asyncio
import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaalign_server.platform.fair_queue import FairQueue, Places, Ticket
from metaalign_server.platform.refusal import Refusal


async def entering(queue: FairQueue, tenant: str) -> asyncio.Task[Ticket]:
    """A request that has asked for a place, and waits if it has to."""
    task = asyncio.create_task(queue.enter(tenant))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_free_place_goes_to_the_tenant_that_uses_the_fewest() -> None:
    queue = FairQueue(2, 0, 100)
    running = [await queue.enter("flood"), await queue.enter("flood")]
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


async def test_among_equals_the_one_served_longest_ago_is_next() -> None:
    queue = FairQueue(1, 0, 100)
    (await queue.enter("b"))()
    (await queue.enter("c"))()
    ticket = await queue.enter("a")
    served: list[str] = []

    async def ask(tenant: str) -> None:
        leave = await queue.enter(tenant)
        served.append(tenant)
        await asyncio.sleep(0)
        leave()

    tasks = [asyncio.create_task(ask(tenant)) for tenant in "aaacccbbbd"]
    await asyncio.sleep(0)
    ticket()
    await asyncio.gather(*tasks)
    assert served == list("dbcabcabca")


async def test_a_request_takes_its_places_one_by_one() -> None:
    """64 choices in 4 places: another tenant gets the first place that any of them gives back."""
    queue = FairQueue(4, 0, 100)
    large = Places(queue, "large")
    await large.enter()
    held = [await large.take() for _ in range(4)]
    further = asyncio.create_task(large.take())
    await asyncio.sleep(0)
    guest = await entering(queue, "guest")
    assert not further.done()
    held[0]()
    await asyncio.sleep(0)
    assert guest.done()
    assert not further.done()
    guest.result()()
    await further
    further.result()()
    for ticket in held:
        ticket()
        ticket()  # again: nothing happens
    assert queue.used("large") == queue.used("guest") == 0


async def test_places_are_reserved_once_there_are_several_tenants() -> None:
    queue = FairQueue(4, 1, 100)
    alone = [await queue.enter("flood") for _ in range(4)]
    for ticket in alone:
        ticket()
    (await queue.enter("guest"))()
    held = [await queue.enter("flood") for _ in range(3)]
    fourth = await entering(queue, "flood")
    assert not fourth.done()
    guest = await asyncio.wait_for(queue.enter("guest"), 1)  # at once, although another waits
    second = await entering(queue, "guest")
    assert not second.done()
    held.pop()()
    await asyncio.sleep(0)
    assert not fourth.done()  # three are in use and one is kept
    assert not second.done()
    guest()
    await asyncio.sleep(0)
    assert second.done()
    assert not fourth.done()
    for ticket in (*held, second.result()):
        ticket()
    (await asyncio.wait_for(fourth, 1))()


async def test_a_request_that_never_reaches_the_engine_gives_its_place_back() -> None:
    queue = FairQueue(1, 0, 100)
    places = Places(queue, "a")
    await places.enter()
    places.leave()
    places.leave()
    (await asyncio.wait_for(queue.enter("b"), 1))()


async def test_too_many_waiting_costs_the_one_with_the_longest_line() -> None:
    queue = FairQueue(1, 0, 3)
    ticket = await queue.enter("flood")
    flood = [await entering(queue, "flood") for _ in range(3)]
    guest = await entering(queue, "guest")
    await asyncio.sleep(0)
    assert [task.done() for task in (*flood, guest)] == [False, False, True, False]
    with pytest.raises(Refusal) as refused:
        await flood[2]
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    assert int(refused.value.headers["Retry-After"]) > 0
    ticket()
    for task in (guest, flood[0], flood[1]):  # the flood was served last
        (await task)()


async def test_no_place_is_lost_whoever_gives_up_and_when() -> None:
    """Clients come, wait, take further places, give up and leave at random; afterwards all places are free."""
    chance = random.Random(5)
    queue = FairQueue(3, 0, 20)

    async def client(tenant: str) -> None:
        places = Places(queue, tenant)
        held: list[Ticket] = []
        try:
            await places.enter()
            await _pause(chance)
            for _ in range(chance.randint(0, 4)):
                held.append(await places.take())
                await _pause(chance)
                if chance.random() < 0.7:
                    held.pop(0)()
                if len(held) == 2:
                    break
        finally:
            places.leave()
            for ticket in held:
                ticket()

    def spawn() -> asyncio.Task[None]:
        return asyncio.create_task(client(chance.choice("abcde")))

    tasks = []
    for _ in range(2000):
        tasks.append(spawn())
        await _pause(chance)
        if chance.random() < 0.3:
            chance.choice(tasks[-20:]).cancel()
    for task in tasks:
        if chance.random() < 0.5:
            task.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError, Refusal}
    for _ in range(2):
        tickets = [await asyncio.wait_for(queue.enter("last"), 1) for _ in range(3)]
        for ticket in tickets:
            ticket()


async def test_branches_get_all_their_places_at_once() -> None:
    queue = FairQueue(4, 0, 100)
    running = [await queue.enter("many") for _ in range(3)]
    steered = Places(queue, "steered")
    await steered.enter()
    waiting = asyncio.create_task(steered.take(3))
    await asyncio.sleep(0)
    assert queue.used("steered") == 0, "a place that it held meanwhile would be of no use to it"
    later = await entering(queue, "many")
    running[0]()
    await asyncio.sleep(0)
    assert not later.done(), "those who need less would else keep it waiting for ever"
    running[1]()
    await asyncio.sleep(0)
    assert queue.used("steered") == 3
    (await waiting)()
    await asyncio.sleep(0)
    (await later)()
    running[2]()
    assert queue.taken == 0


@pytest.mark.parametrize("seed", range(20))
async def test_answers_of_one_branch_and_of_several_all_get_their_turn(seed: int) -> None:
    """Tenants, branches, lengths and cancellations are drawn; all who stay are served, and no place is lost."""
    chance = random.Random(seed)
    queue = FairQueue(6, 1, 1000)
    served = 0

    async def client(tenant: str, branches: int) -> None:
        nonlocal served
        places = Places(queue, tenant)
        await places.enter()
        try:
            await _pause(chance)
            ticket = await places.take(branches)
        finally:
            places.leave()
        try:
            served += 1
            assert queue.taken <= queue.places
            await _pause(chance)
        finally:
            ticket()

    tasks = []
    for _ in range(200):
        branches = chance.randint(1, queue.most_at_once) if chance.random() < 0.4 else 1
        tasks.append(asyncio.create_task(client(chance.choice("abcd"), branches)))
        await _pause(chance)
        if chance.random() < 0.1:
            chance.choice(tasks[-10:]).cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert served >= sum(result is None for result in results) > 100
    assert (queue.taken, queue.waiting) == (0, 0)


async def _pause(chance: random.Random) -> None:
    for _ in range(chance.randint(0, 3)):
        await asyncio.sleep(0)


ARRIVAL = st.tuples(
    st.integers(0, 60),  # when, in ticks
    st.sampled_from(["h1", "h2", "h3"]),  # hostile tenants
    st.lists(st.integers(1, 20), min_size=1, max_size=12),  # ticks that each sequence of the request takes
)


@settings(max_examples=300, deadline=None)
@given(places=st.integers(1, 6), arrivals=st.lists(ARRIVAL, max_size=40), came=st.integers(0, 60))
def test_a_quiet_tenant_waits_for_one_sequence_at_most(
    places: int, arrivals: list[tuple[int, str, list[int]]], came: int
) -> None:
    """Whatever others send and when: who uses nothing gets the first place that becomes free.

    If several use nothing, they take turns, so that each other tenant comes before the quiet one once at most. The
    engine is simulated tick by tick: a sequence holds its place for a number of ticks that its tenant chose.
    """
    others = {tenant for _, tenant, _ in arrivals}
    assert asyncio.run(_simulate(places, arrivals, came)) <= len(others)
    one = [(when, "h1", sequences) for when, _, sequences in arrivals]
    assert asyncio.run(_simulate(places, one, came)) <= 1


async def _simulate(size: int, arrivals: list[tuple[int, str, list[int]]], came: int) -> int:
    """Return how many places became free between the quiet tenant's arrival and its turn."""
    queue = FairQueue(size, 0, 10_000)
    now = freed = 0
    ends: list[tuple[int, int, Ticket]] = []

    async def hostile(tenant: str, sequences: list[int]) -> None:
        request = Places(queue, tenant)
        await request.enter()
        for number, ticks in enumerate(sequences):
            ticket = await request.take()
            heapq.heappush(ends, (now + ticks, id(sequences) + number, ticket))

    tasks: list[asyncio.Task[None]] = []
    quiet: asyncio.Task[Ticket] | None = None
    left = sorted(arrivals, key=lambda arrival: arrival[0])
    while True:
        while left and left[0][0] <= now:
            _, tenant, sequences = left.pop(0)
            tasks.append(asyncio.create_task(hostile(tenant, sequences)))
            await _settle()
        if now == came:
            quiet = asyncio.create_task(queue.enter("quiet"))
            await _settle()
        while ends and ends[0][0] <= now:
            if quiet is not None and quiet.done():
                break
            heapq.heappop(ends)[2]()
            freed += quiet is not None
            await _settle()
        if quiet is not None and quiet.done():
            break
        assert now < 10_000
        now += 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return freed


async def _settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)
