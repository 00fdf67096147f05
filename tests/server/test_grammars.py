"""What the outcome of a trial means: a real socket to a helper that answers as told."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from metaalign_server.alignment.context import RequestContext
from metaalign_server.engine.grammars import GrammarTrials

FAST: dict[str, object] = {"read": 0.001, "mask": 0.001, "error": None}
SLOW_TO_READ = {**FAST, "read": 0.5}
SLOW_MASK = {**FAST, "mask": 0.5}
WRONG = {**FAST, "error": "no such rule"}


@contextmanager
def trials(*answers: dict[str, object] | None) -> Iterator[tuple[GrammarTrials, list[int]]]:
    """Trials whose helper gives these answers in turn (None: the child was killed), and what it was told, in bytes."""
    ours, theirs = socket.socketpair()
    told: list[int] = []

    def answer_all() -> None:
        for answer in answers:
            received, descriptors, *_ = socket.recv_fds(theirs, 1, 1)
            if not received:
                return
            with socket.socket(fileno=descriptors[0]) as client:
                told.append(len(client.recv(65_536)))
                if answer is not None:
                    client.sendall(json.dumps(answer).encode())

    helper = Thread(target=answer_all)
    helper.start()
    try:
        with ours:
            yield GrammarTrials(ours, 4), told
    finally:
        helper.join()
        theirs.close()


def constrained() -> SamplingParams:
    return SamplingParams(structured_outputs=StructuredOutputsParams(regex="[ab]+"))


async def test_a_constraint_that_is_slow_only_once_is_accepted() -> None:
    for slow in (SLOW_TO_READ, SLOW_MASK):
        with trials(slow, FAST) as (grammar_trials, told):
            await grammar_trials.check(constrained(), RequestContext())
            assert len(told) == 2


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([SLOW_TO_READ, SLOW_TO_READ], "too long to read"),
        ([SLOW_MASK, SLOW_MASK], "too long for each token"),
        ([SLOW_TO_READ, SLOW_MASK], "too long for each token"),
        ([WRONG], "no such rule"),
        ([None], "more than 4 s"),
    ],
)
async def test_the_outcome_of_a_trial_is_remembered(
    answers: list[dict[str, object] | None], problem: str
) -> None:
    with trials(*answers) as (grammar_trials, told):
        for _ in range(3):
            with pytest.raises(VLLMValidationError, match=problem) as refusal:
                await asyncio.wait_for(
                    grammar_trials.check(constrained(), RequestContext(constraint="response_format")), 10
                )
            assert refusal.value.parameter == "response_format"
        assert len(told) == len(answers)
