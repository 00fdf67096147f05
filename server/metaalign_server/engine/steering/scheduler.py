"""vLLM's scheduler with groups: all members of a group compute a token in the same step, or none does.

A group is in one of three states.

    gate      no member is in vLLM's queues. The group is let through when its slots and blocks are there.
    filling   vLLM schedules each member as it schedules any request, but sees one token less than there are. So every
              member ends one token before it would draw, and waits there for the others.
    drawing   each member computes its last token, always together; the runner draws one token for all.

A member that vLLM preempts while its group fills is filled again. Before a drawing group could lose a member, the whole
group goes back to the gate. Whatever ends the leader ends the group. vLLM's own code is called, not copied: what a step
must not do is arranged before it, by the order of the running requests and by what the members show.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable
from typing import Any, cast

from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from metaalign_server.engine.steering.groups import Group, unpack
from metaalign_server.engine.steering.runner import ANNOUNCED

__all__ = ["AsyncSteeringScheduler", "SteeringScheduler", "steering_scheduler"]

_PATIENCE = 64
"""After so many steps at the gate, a group no longer waits for all its blocks to be free at once."""
_NEVER_A_VICTIM = -(2**31)


class _State(enum.Enum):
    GATE = enum.auto()
    FILLING = enum.auto()
    DRAWING = enum.auto()


class _Member(Request):
    """A request of a group. Made of one of vLLM's by changing its class, so that nothing of it is lost."""

    group: _Running
    held: int
    follows: bool

    @property
    def num_tokens(self) -> int:
        return len(self._all_token_ids) - self.held

    @property
    def num_tokens_with_spec(self) -> int:
        return len(self._all_token_ids) + len(self.spec_token_ids) - self.held

    def update_block_hashes(self) -> None:
        # A token in flight can arrive while the last one is held; a block that it fills must still get its hash.
        held, self.held = self.held, 0
        super().update_block_hashes()
        self.held = held


class _Running:
    """A group in the engine."""

    def __init__(self, leader: Request, group: Group) -> None:
        self.coefficients = [group.coefficient, *(branch.coefficient for branch in group.followers)]
        self.floor = group.floor
        self.state = _State.GATE
        self.waited = 0
        self.broken = False
        self.refused = False
        self.members: list[_Member] = [_member(leader, self, False)]
        for number, branch in enumerate(group.followers, 1):
            follower = Request(
                request_id=f"{leader.request_id}~{number}",
                prompt_token_ids=list(branch.token_ids),
                sampling_params=SamplingParams(
                    temperature=0, max_tokens=leader.max_tokens, ignore_eos=True, detokenize=False
                ),
                pooling_params=None,
                client_index=leader.client_index,
                arrival_time=leader.arrival_time,
                priority=leader.priority,
                lora_request=leader.lora_request,
                cache_salt=branch.cache_salt,
                block_hasher=leader._block_hasher,
            )
            self.members.append(_member(follower, self, True))

    @property
    def leader(self) -> _Member:
        return self.members[0]

    @property
    def followers(self) -> list[_Member]:
        return self.members[1:]

    @property
    def filled(self) -> bool:
        """Whether every member has computed all that it shows, and has nothing in flight that vLLM calls stale."""
        return all(
            member.status is RequestStatus.RUNNING
            and member.num_computed_tokens == member.num_tokens
            and not member.num_stale_output_tokens
            for member in self.members
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(member.num_prompt_tokens for member in self.members)

    def hold(self, tokens: int) -> None:
        for member in self.members:
            member.held = tokens

    def names(self) -> list[str]:
        return [member.request_id for member in self.members]


def _member(request: Request, group: _Running, follows: bool) -> _Member:
    request.__class__ = _Member
    member: Any = request
    member.group, member.held, member.follows = group, 1, follows
    return cast(_Member, member)


class SteeringScheduler(Scheduler):
    """vLLM's scheduler with groups; see the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups: dict[str, _Running] = {}  # by the leader's id

    # Arrival and end

    def add_request(self, request: Request) -> None:
        params = request.sampling_params
        packed = unpack(params.extra_args) if params is not None else None
        if packed is None or request.request_id in self.requests:
            super().add_request(request)
            return
        group = _Running(request, packed)
        self._groups[request.request_id] = group
        for member in group.members:
            # All reach their last token in the same step, so that no follower ends before its leader.
            member.max_tokens = min(member.max_tokens, self.max_model_len - group.longest)
            super().add_request(member)
        if not self._can_ever_run(group):
            # The API process refuses such a request with a reason; here it ends as one whose grammar is wrong.
            group.refused = True
            self.grammar_compile_error_reqs.add(request.request_id)

    def _can_ever_run(self, group: _Running) -> bool:
        """Return whether a group fits the engine when nothing else runs, and the engine is one that steers."""
        at_its_end = sum(
            -(-(member.num_prompt_tokens + member.max_tokens) // self.block_size) for member in group.members
        )
        return (
            len(self.kv_cache_config.kv_cache_groups) == 1
            and self.connector is None
            and not self.num_spec_tokens
            and min(member.max_tokens for member in group.members) > 0
            and min(member.num_prompt_tokens for member in group.members) > 1
            and len(group.members) <= self.max_num_running_reqs
            and at_its_end <= self.kv_cache_manager.block_pool.num_gpu_blocks - 1
        )

    def _enqueue_waiting_request(self, request: Request) -> None:
        if not (isinstance(request, _Member) and request.group.state is _State.GATE):
            super()._enqueue_waiting_request(request)

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        if request_ids is None:
            names = list(self.requests)
        else:
            names = [request_ids] if isinstance(request_ids, str) else list(request_ids)
        groups = [self._groups.pop(name) for name in names if name in self._groups] if self._groups else []
        followers = [member.request_id for group in groups for member in group.followers]
        ended = super().finish_requests([*names, *followers], finished_status)
        return [request for request in ended if not (isinstance(request, _Member) and request.follows)]

    def update_from_output(self, scheduler_output: SchedulerOutput, model_runner_output: Any) -> Any:
        if not self._groups:
            return super().update_from_output(scheduler_output, model_runner_output)
        followers = {member.request_id for group in self._groups.values() for member in group.followers}
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        for of_client in outputs.values():
            of_client.outputs = [one for one in of_client.outputs if one.request_id not in followers]
        # Whatever ended a leader ends its group.
        ended = [name for name, group in self._groups.items() if group.leader.is_finished()]
        for name in ended:
            names = [member.request_id for member in self._groups.pop(name).followers]
            super().finish_requests(names, RequestStatus.FINISHED_ABORTED)
        return outputs

    # A step

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        if not self._groups:
            return super().schedule(throttle_prefills)
        self._arrange()
        drawing = [group for group in self._groups.values() if group.state is _State.DRAWING]
        ranks = [(member, member.priority) for group in drawing for member in group.members]
        for member, _ in ranks:
            member.priority = _NEVER_A_VICTIM
        try:
            output = super().schedule(throttle_prefills)
        finally:
            for member, rank in ranks:
                member.priority = rank
        announced = []
        for group in drawing:
            scheduled = sum(name in output.num_scheduled_tokens for name in group.names())
            if group.broken or scheduled not in (0, len(group.members)):
                self._withdraw(group, drop_output=True)
            elif scheduled:
                announced.append((group.names(), group.coefficients, group.floor))
        if announced:
            setattr(output, ANNOUNCED, announced)
        return output

    def _update_after_schedule(self, scheduler_output: SchedulerOutput) -> None:
        # vLLM must see that a member which fills is not at its end, or it expects a token of it.
        held = [group for group in self._groups.values() if group.state is not _State.DRAWING]
        for group in held:
            group.hold(0)
        super()._update_after_schedule(scheduler_output)
        for group in held:
            group.hold(1)

    def _arrange(self) -> None:
        """Settle before a step what it will do with each group."""
        groups = list(self._groups.values())
        if self._pause_state is not PauseState.UNPAUSED:
            # Paused, vLLM admits no waiting request: a half-filled group would hold its blocks for ever.
            for group in groups:
                if group.state is _State.FILLING:
                    self._withdraw(group)
        for group in groups:
            if group.state is _State.FILLING and group.filled:
                group.state = _State.DRAWING
                group.hold(0)
        self._make_room()
        if self._pause_state is PauseState.UNPAUSED:
            self._open_gate()
        drawing = [member for group in groups if group.state is _State.DRAWING for member in group.members]
        if drawing:
            # First in line, so that no other request uses up the tokens of the step between two members.
            chosen = set(drawing)
            self.running = [*drawing, *(request for request in self.running if request not in chosen)]

    def _make_room(self) -> None:
        """Preempt before the step whatever would be preempted in it, so that it takes no member out of a group."""
        pool = self.kv_cache_manager.block_pool
        while any(group.state is _State.DRAWING for group in self._groups.values()):
            if pool.get_num_free_blocks() >= sum(
                self._blocks_for_a_step(request) for request in self.running
            ):
                return
            if self.policy == SchedulingPolicy.PRIORITY:
                victim = max(self.running, key=lambda request: (request.priority, request.arrival_time))
            else:
                victim = max(self.running, key=lambda request: request.arrival_time)
            if isinstance(victim, _Member):
                self._withdraw(victim.group)
            else:
                self.running.remove(victim)
                self._preempt(victim)

    def _blocks_for_a_step(self, request: Request) -> int:
        """Return how many blocks a running request needs at most for the next step."""
        tokens = request.num_tokens_with_spec + request.num_output_placeholders - request.num_computed_tokens
        end = request.num_computed_tokens + min(tokens, self.max_num_scheduled_tokens)
        held = len(self.kv_cache_manager.get_blocks(request.request_id).blocks[0])
        return max(0, -(-end // self.block_size) - held)

    def _open_gate(self) -> None:
        """Let groups through, the first in rank first; vLLM admits their members like any waiting request."""
        waiting = [
            group for group in self._groups.values() if group.state is _State.GATE and not group.refused
        ]
        if not waiting:
            return
        opened = [group for group in self._groups.values() if group.state is not _State.GATE]
        slots = sum(len(group.members) for group in opened)
        blocks = sum(map(self._blocks_for_all, opened))
        pool = self.kv_cache_manager.block_pool
        free = pool.get_num_free_blocks()
        for group in opened:
            if group.state is _State.FILLING:
                free -= self._blocks_for_all(group)
        for group in sorted(waiting, key=lambda group: (group.leader.priority, group.leader.arrival_time)):
            needed = self._blocks_for_all(group)
            fits = (
                slots + len(group.members) <= self.max_num_running_reqs
                and blocks + needed <= pool.num_gpu_blocks - 1
            )
            group.waited += 1
            if slots and not (fits and (needed <= free or group.waited > _PATIENCE)):
                return  # those behind it do not overtake it
            group.state, group.waited = _State.FILLING, 0
            slots, blocks, free = slots + len(group.members), blocks + needed, free - needed
            for member in group.members:
                self._enqueue_waiting_request(member)

    def _blocks_for_all(self, group: _Running) -> int:
        """Return how many blocks a group holds when it draws its next token."""
        return sum(-(-(len(member._all_token_ids) + 1) // self.block_size) for member in group.members)

    def _withdraw(self, group: _Running, drop_output: bool = False) -> None:
        """Take a whole group back to the gate; its members' blocks are free again.

        Args:
            group: The group.
            drop_output: Whether tokens that are being computed are dropped, because not all members compute them.
        """
        running = [member for member in group.members if member.status is RequestStatus.RUNNING]
        chosen = set(running)
        self.running = [request for request in self.running if request not in chosen]
        group.state, group.broken = _State.GATE, False
        group.hold(1)
        for member in running:
            self._preempt(member, drop_output)
        if drop_output:
            # vLLM may have preempted one of them before, and would deliver its token.
            for member in group.members:
                member.drop_stale_output |= member.num_stale_output_tokens > 0
        self.waiting.remove_requests(group.members)
        self.kv_holding_waiting.remove_requests(group.members)
        self.deferred_waiting.difference_update(group.members)

    def _preempt(self, request: Request, drop_output: bool = False) -> None:
        self._preempt_request(request, time.monotonic(), drop_output)
        # It may be resumed in this very step, and the runner must not take it for one that just went on.
        self.prev_step_scheduled_req_ids.discard(request.request_id)

    def _preempt_request(self, request: Request, timestamp: float, drop_stale_output: bool = False) -> None:
        super()._preempt_request(request, timestamp, drop_stale_output)
        if isinstance(request, _Member) and request.group.state is _State.DRAWING:
            request.group.broken = True

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        if reset_running_requests:
            for group in self._groups.values():
                if group.state is not _State.GATE:
                    self._withdraw(group, drop_output=True)
        return super().reset_prefix_cache(reset_running_requests, reset_connector)

    # Counts

    def get_request_counts(self) -> tuple[int, int]:
        running, waiting = super().get_request_counts()
        gated = sum(len(group.members) for group in self._groups.values() if group.state is _State.GATE)
        return running, waiting + gated


class AsyncSteeringScheduler(SteeringScheduler, AsyncScheduler):
    """The same, where vLLM prepares a step while the one before it runs."""


def steering_scheduler(vllm_config: VllmConfig, *args: Any, **kwargs: Any) -> Scheduler:
    """Return the scheduler for a configuration; vLLM calls this like the class that it would have used."""
    asynchronous = vllm_config.scheduler_config.async_scheduling
    return (AsyncSteeringScheduler if asynchronous else SteeringScheduler)(vllm_config, *args, **kwargs)
