"""The best of several sampled answers, by an implicit reward: how much likelier the tiers make an answer.

The score of an answer y to a dialogue x is the mean over its tokens of log p(y | tiers, x) - log p(y | x). The first
term comes with sampling. The second takes one pass of the engine over each answer, after the dialogue without tiers. No
other model judges. An answer that fails a check of the request, or is no JSON where that was asked for, loses to all
that do not.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams

from metaalign_server.alignment.context import RequestContext
from metaalign_server.alignment.verification import verdicts

__all__ = ["choose"]

Score = Callable[[list[int], SamplingParams, str], AsyncGenerator[Any, None]]
"""Runs a prompt of token ids on the engine under a request id."""

_LOWEST = -1e4
"""Stands for minus infinity, which JSON cannot write."""


@dataclass(slots=True)
class _Candidate:
    """One sampled answer: what the engine told of it, and in sum."""

    told: list[Any] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    log_probability: float = 0.0
    score: float = _LOWEST


async def choose(
    outputs: AsyncGenerator[Any, None],
    params: SamplingParams,
    bare: Sequence[int],
    context: RequestContext,
    run: Score,
    request_id: str,
    *,
    logprobs: bool,
) -> AsyncGenerator[Any, None]:
    """Read all candidates, then give out the best as if it had been the only one.

    Args:
        outputs: vLLM's outputs of the request, whose `n` is the number of candidates.
        params: Its sampling parameters.
        bare: The dialogue without tiers, as token ids.
        context: The request; its `score` is set.
        run: Runs the passes that score.
        request_id: vLLM's id of the request.
        logprobs: Whether the client asked for log probabilities.
    """
    candidates = [_Candidate() for _ in range(params.n)]
    deltas = params.output_kind is RequestOutputKind.DELTA
    last = None
    async with aclosing(outputs):
        async for last in outputs:
            for completion in last.outputs:
                _read(candidates[completion.index], completion, deltas)
    if last is None:
        return
    await asyncio.gather(
        *(_score(one, bare, run, f"{request_id}-score-{number}") for number, one in enumerate(candidates))
    )
    best = await _best(candidates, params, context)
    context.score = round(best.score, 4)
    for completion in best.told:
        completion.index = 0
        if not logprobs:
            completion.logprobs = completion.cumulative_logprob = None
        last.outputs, last.finished = [completion], completion is best.told[-1]
        yield last


def _read(candidate: _Candidate, completion: Any, deltas: bool) -> None:
    if deltas:
        candidate.told.append(completion)
        candidate.token_ids.extend(completion.token_ids)
        candidate.text += completion.text
    else:
        candidate.told = [completion]
        candidate.token_ids, candidate.text = list(completion.token_ids), completion.text
    if completion.cumulative_logprob is not None:
        candidate.log_probability = completion.cumulative_logprob


async def _score(candidate: _Candidate, bare: Sequence[int], run: Score, request_id: str) -> None:
    answer = candidate.token_ids
    if not answer:
        return
    ids = [*bare, *answer]
    params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    found: list[Any] = []
    async with aclosing(run(ids, params, request_id)) as outputs:
        async for output in outputs:
            found = output.prompt_logprobs or found
    without = sum(place[token].logprob for place, token in zip(found[len(bare) :], answer, strict=True))
    score = (candidate.log_probability - without) / len(answer)
    candidate.score = max(score, _LOWEST) if math.isfinite(score) else _LOWEST


async def _best(
    candidates: Sequence[_Candidate], params: SamplingParams, context: RequestContext
) -> _Candidate:
    """Return the candidate that passes its checks and has the highest score; the first of equals."""
    verified = await verdicts(context, [candidate.text for candidate in candidates])
    passed = [answer.passed is not False for answer in verified] or [True] * len(candidates)
    structure = params.structured_outputs
    if structure is not None and (structure.json is not None or structure.json_object):
        passed = [before and _is_json(one.text) for before, one in zip(passed, candidates, strict=True)]
    number = max(range(len(candidates)), key=lambda one: (passed[one], candidates[one].score, -one))
    return candidates[number]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
