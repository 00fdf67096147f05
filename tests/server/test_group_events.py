"""vLLM's scheduler with groups, through random events: no group is ever split, left over, or kept from its end.

The model is left out: a step's tokens are drawn here. What each prompt and answer holds is kept here, too, so that the
scheduler is not asked whether it is right.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from metaalign_server.engine.steering.groups import GROUP, SCHEDULER, Branch, Group, pack
from metaalign_server.engine.steering.scheduler import (
    AsyncSteeringScheduler,
    SteeringScheduler,
    steering_scheduler,
)
from tests.processes import ROOT

BLOCK, BLOCKS, SEQUENCES, BUDGET, LONGEST = 16, 36, 12, 96, 256
EOS = 2
EVENTS = 2_000
"""In each of five runs."""


@dataclass
class Asked:
    """What this test knows of a request: its members' lengths, and the answer that was told."""

    prompts: list[int]
    most: int
    answer: list[int] = field(default_factory=list)
    ended: str | None = None

    def names(self, name: str) -> list[str]:
        return [name, *(f"{name}~{number}" for number in range(1, len(self.prompts)))]


class Engine:
    """The scheduler, and what stands for a model: one step at a time, or one ahead as vLLM's asynchronous core does."""

    def __init__(self, seed: int, policy: str, asynchronous: bool) -> None:
        self.rng = random.Random(seed)
        config = EngineArgs(
            model=str(ROOT / "checkpoints/metaalign-demo"),
            dtype="float32",
            enforce_eager=True,
            block_size=BLOCK,
            max_num_seqs=SEQUENCES,
            max_num_batched_tokens=BUDGET,
            max_model_len=LONGEST,
            scheduling_policy=policy,  # type: ignore[arg-type]
            scheduler_cls=SCHEDULER,
        ).create_engine_config()
        # vLLM puts it off on a CPU, whatever is asked for.
        config.scheduler_config.async_scheduling = asynchronous
        config.cache_config.num_gpu_blocks = BLOCKS
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
        cache = KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)])
        scheduler = steering_scheduler(config, cache, StructuredOutputManager(config), BLOCK)
        assert isinstance(scheduler, SteeringScheduler)
        assert isinstance(scheduler, AsyncSteeringScheduler) is asynchronous
        self.scheduler = scheduler
        self.ahead = 2 if asynchronous else 1
        self.in_flight: deque[tuple[SchedulerOutput, dict[str, int]]] = deque()
        self.free = self.pool.get_num_free_blocks()
        hash_of = get_hash_fn_by_name("sha256")
        init_none_hash(hash_of)
        self.hasher = get_request_block_hasher(BLOCK, hash_of)
        self.asked: dict[str, Asked] = {}
        self.seen: Counter[str] = Counter()
        preempt = scheduler._preempt_request

        def counted(request: Request, *args: Any, **kwargs: Any) -> None:
            self.seen["member preempted" if "+" in request.request_id else "plain preempted"] += 1
            preempt(request, *args, **kwargs)

        scheduler._preempt_request = counted  # type: ignore[method-assign]

    @property
    def pool(self) -> Any:
        return self.scheduler.kv_cache_manager.block_pool

    @property
    def open(self) -> list[str]:
        return [name for name, asked in self.asked.items() if asked.ended is None]

    def ids(self, most: int) -> list[int]:
        return [self.rng.randrange(300, 3000) for _ in range(self.rng.randrange(2, most))]

    def add(self) -> None:
        rng = self.rng
        size = rng.choice((1, 1, 2, 3, 4, 5))
        shared, own = self.ids(40), [self.ids(rng.choice((8, 60))) for _ in range(size)]
        prompts = [shared + tail if rng.random() < 0.7 else tail for tail in own]
        name = f"{len(self.asked)}" + ("+" if size > 1 else "")
        most = rng.choice((1, 5, 30, 90))
        group = Group(1.0, tuple(Branch(tuple(prompt), 0.5) for prompt in prompts[1:]))
        params = SamplingParams(
            temperature=0, max_tokens=most, extra_args={GROUP: pack(group)} if size > 1 else None
        )
        params.update_from_generation_config({}, EOS)
        request = Request(
            request_id=name,
            prompt_token_ids=prompts[0],
            sampling_params=params,
            pooling_params=None,
            arrival_time=float(len(self.asked)),
            priority=rng.randrange(3),
            block_hasher=self.hasher,
        )
        self.asked[name] = Asked([len(prompt) for prompt in prompts], most)
        self.scheduler.add_request(request)

    def abort(self) -> None:
        if names := self.open:
            name = self.rng.choice(names)
            self.asked[name].ended = "aborted"
            self.scheduler.finish_requests([name], RequestStatus.FINISHED_ABORTED)
            self.seen["aborted"] += 1

    def pause(self) -> None:
        states = (PauseState.PAUSED_NEW, PauseState.PAUSED_ALL, PauseState.UNPAUSED)
        self.scheduler.set_pause_state(self.rng.choice(states))

    def resume(self) -> None:
        self.scheduler.set_pause_state(PauseState.UNPAUSED)

    def forget(self) -> None:
        """As when weights are changed under running requests."""
        while self.in_flight:
            self.finish()
        self.scheduler.reset_prefix_cache(reset_running_requests=True)

    def step(self) -> None:
        """Begin a step, and finish the oldest once as many run as may."""
        # How long each request is for the scheduler, tokens in flight included.
        lengths = {
            name: len(request._all_token_ids) + request.num_output_placeholders
            for name, request in self.scheduler.requests.items()
        }
        output = self.scheduler.schedule()
        starts = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        cached = output.scheduled_cached_reqs
        starts |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        assert set(starts) == set(output.num_scheduled_tokens)
        drawn = {}
        for name, start in starts.items():
            end = start + output.num_scheduled_tokens[name]
            assert end <= lengths[name]
            # A request that is taken up again within the step has no token in flight any more.
            if end >= len(self.scheduler.requests[name]._all_token_ids) and end == lengths[name]:
                drawn[name] = EOS if self.rng.random() < 0.02 else self.rng.randrange(300, 3000)
        self.check_groups(output, drawn)
        self.in_flight.append((output, drawn))
        while len(self.in_flight) >= self.ahead or (self.in_flight and not output.num_scheduled_tokens):
            self.finish()

    def check_groups(self, output: SchedulerOutput, drawn: dict[str, int]) -> None:
        announced = {names[0]: names for names, _, _ in getattr(output, "metaalign_groups", ())}
        for name, asked in self.asked.items():
            names = asked.names(name)
            if len(names) == 1:
                continue
            drawing = [member for member in names if member in drawn]
            assert drawing in ([], names), "a group was split"
            assert announced.get(name) == (names if drawing else None), (
                "the runner would not mix it, or mix wrongly"
            )
            if drawing:
                self.seen["drawn together"] += 1
                for member in names:
                    drawn[member] = drawn[name]

    def finish(self) -> None:
        output, drawn = self.in_flight.popleft()
        names = list(output.num_scheduled_tokens)
        tokens = [[drawn[name]] if name in drawn else [] for name in names]
        outputs = self.scheduler.update_from_output(
            output,
            ModelRunnerOutput(names, {name: row for row, name in enumerate(names)}, tokens),
        )
        for of_client in outputs.values():
            for told in of_client.outputs:
                asked = self.asked[told.request_id]  # a follower's name is none of these
                assert asked.ended is None, "an answer goes on after its end"
                asked.answer.extend(told.new_token_ids)
                if told.finish_reason is not None:
                    asked.ended = str(told.finish_reason)
        for name in output.finished_req_ids:
            self.seen["finished"] += name in self.asked


EVENTS_BY_WEIGHT = {"add": 12, "abort": 3, "pause": 1, "resume": 4, "forget": 0.3, "step": 80}


@pytest.mark.parametrize(
    ("seed", "policy", "asynchronous"),
    [
        (1, "priority", False),
        (2, "fcfs", False),
        (3, "priority", True),
        (4, "fcfs", True),
        (5, "priority", True),
    ],
)
def test_no_event_splits_or_leaves_a_group(seed: int, policy: str, asynchronous: bool) -> None:
    engine = Engine(seed, policy, asynchronous)
    for _ in range(EVENTS):
        event = engine.rng.choices(list(EVENTS_BY_WEIGHT), list(EVENTS_BY_WEIGHT.values()))[0]
        getattr(engine, event)()
    engine.resume()
    steps = 0
    while engine.open or engine.in_flight:
        engine.step()
        steps += 1
        assert steps < 20_000, f"{engine.open} do not come to an end"
    for _ in range(3):
        engine.step()
    scheduler = engine.scheduler
    assert (scheduler.requests, scheduler._groups) == ({}, {})
    assert scheduler.get_request_counts() == (0, 0)
    assert engine.pool.get_num_free_blocks() == engine.free
    for name, asked in engine.asked.items():
        if asked.ended == "aborted":
            continue
        most = min(asked.most, LONGEST - max(asked.prompts))
        blocks = sum(-(-(prompt + most) // BLOCK) for prompt in asked.prompts)
        if len(asked.prompts) > 1 and blocks > BLOCKS - 1:  # the API process refuses it before
            assert (asked.ended, asked.answer) == ("error", [])
            engine.seen["too large"] += 1
            continue
        assert EOS not in asked.answer[:-1]
        assert asked.ended == ("stop" if asked.answer[-1:] == [EOS] else "length"), name
        assert len(asked.answer) == most or asked.answer[-1] == EOS
    assert engine.seen["too large"] > 0
    assert engine.seen["member preempted"] > 20
    assert engine.seen["drawn together"] > 500
    assert engine.seen["aborted"] > 20
