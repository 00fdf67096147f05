"""Each sequence takes a place of the fair queue before the engine gets it, and gives it back when the engine is done.

Whether anybody reads the answer makes no difference: a client that never reads a stream holds no place of the engine's,
and its tokens are counted all the same. A request with several choices or prompts gets its places one by one, and those
of the branches of one answer at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from vllm.exceptions import GracefulHTTPError

from metaalign_server.alignment.context import RequestContext
from metaalign_server.platform.fair_queue import Ticket

__all__ = ["Sequences"]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One sequence in the engine: whose it is, how many branches draw it, vLLM's state of it, and its places."""

    context: RequestContext
    branches: int
    state: Any
    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class _Expected:
    """A request that is about to begin: see `Sequences.expect`."""

    context: RequestContext
    branches: int
    further_tokens: int
    begun: list[str] = field(default_factory=list)


class Sequences:
    """The sequences that our requests have in the engine.

    Args:
        engine: vLLM's engine, whose methods that add, finish and abort a sequence are wrapped.
    """

    def __init__(self, engine: Any) -> None:
        core, self._processor = engine.engine_core, engine.output_processor
        self._ranked = engine.vllm_config.scheduler_config.policy == "priority"
        self._expected: dict[str, _Expected] = {}
        self._running: dict[str, _Sequence] = {}
        self._over = False
        self._stock_add, core.add_request_async = core.add_request_async, self._add
        self._stock_finish, self._processor._finish_request = self._processor._finish_request, self._finish
        self._stock_abort, self._processor.abort_requests = self._processor.abort_requests, self._abort

    def expect(
        self, request_id: str, context: RequestContext, branches: int = 1, further_tokens: int = 0
    ) -> None:
        """Announce that the sequences of `request_id` belong to `context`, until `forget`.

        Args:
            request_id: vLLM's name for the request.
            context: Whose they are.
            branches: How many branches draw each of them.
            further_tokens: Prompt tokens of all branches but the first.
        """
        self._expected[request_id] = _Expected(context, branches, further_tokens)

    def forget(self, request_id: str) -> None:
        """Undo `expect`; what the engine has not finished, because it has failed, ends."""
        expected = self._expected.pop(request_id, None)
        for sequence in expected.begun if expected is not None else ():
            self._ended(sequence)

    def cut_off(self) -> None:
        """End what runs and whatever comes with an error, because the server stops."""
        self._over = True
        for sequence in self._running.values():
            sequence.context.cut_off = True
        for expected in self._expected.values():
            expected.context.cut_off = True
        self._processor.propagate_error(_stops())

    async def _add(self, request: Any) -> None:
        expected = self._expected.get(request.external_req_id)
        if expected is None:
            await self._stock_add(request)
            return
        context = expected.context
        ticket = None
        try:
            if context.places is not None:
                ticket = await context.places.take(expected.branches)
                if self._over:
                    context.cut_off = True
                    raise _stops()
                if self._ranked:
                    request.priority = context.places.rank
            state = self._processor.request_states.get(request.request_id)
            if state is None:  # aborted while it waited
                if ticket is not None:
                    ticket()
                return
            if state.request_index == 0:
                context.usage.prompt += state.prompt_len + expected.further_tokens
            self._running[request.request_id] = _Sequence(context, expected.branches, state, ticket)
            expected.begun.append(request.request_id)
            await self._stock_add(request)
        except BaseException:
            if ticket is not None:
                ticket()
            # vLLM has registered the sequence, and does not expect this call to fail or to be cancelled.
            self._processor.abort_requests([request.request_id], internal=True)
            raise

    def _finish(self, state: Any) -> None:
        self._stock_finish(state)
        self._ended(state.request_id)

    def _abort(self, request_ids: Iterable[str], internal: bool) -> list[str]:
        aborted: list[str] = self._stock_abort(request_ids, internal)
        for request_id in aborted:
            self._ended(request_id)
        return aborted

    def _ended(self, request_id: str) -> None:
        sequence = self._running.pop(request_id, None)
        if sequence is not None:
            usage, state = sequence.context.usage, sequence.state
            usage.output += state.detokenizer.num_output_tokens() * sequence.branches
            if state.request_index == 0:  # as for the prompt: its further choices share it
                usage.cached += state.num_cached_tokens
            if sequence.ticket is not None:
                sequence.ticket()


def _stops() -> GracefulHTTPError:
    return GracefulHTTPError("the server stops", HTTPStatus.SERVICE_UNAVAILABLE)
