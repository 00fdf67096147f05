"""The only wrapper around the engine's `generate`; every prompt of ours passes through it.

On the way in it bounds the log probabilities, attaches the branches that steer the answer and adds the tenant's cache
salt; then each sequence takes its place (see `sequences`). On the way out it chooses among candidates, and records the
answer if it is to be stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any

from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind

from metaalign import RefusedField
from metaalign_server.alignment.context import Recording, RequestContext, current_request
from metaalign_server.engine.branches import Capacity, attach_group, refuse_unsteerable, steered_prompt
from metaalign_server.engine.candidates import choose
from metaalign_server.engine.defects import HookFailed, our_code
from metaalign_server.engine.grammars import GrammarTrials
from metaalign_server.engine.sequences import Sequences
from metaalign_server.engine.tiered_salt import tiered_salt

__all__ = ["wrap_generate"]


def wrap_generate(
    engine: Any, max_logprobs: int, trials: GrammarTrials | None, capacity: Capacity
) -> Sequences:
    """Wrap generation for our routes, and return what they have in the engine; its other users are not affected.

    Args:
        engine: vLLM's engine.
        max_logprobs: Maximum number of log probabilities that one request may produce.
        trials: Tries output constraints before the engine gets them.
        capacity: What the engine can run of what is steered.
    """
    stock = engine.generate
    sequences = Sequences(engine)
    vocabulary = engine.vllm_config.model_config.get_vocab_size()

    def generate(prompt: Any, sampling_params: Any, request_id: str, **options: Any) -> Any:
        context = current_request.get()
        if context is None:
            return stock(prompt, sampling_params, request_id, **options)
        with our_code():
            bound_logprobs(prompt, sampling_params, context, max_logprobs, vocabulary)
        if context.applied is not None and context.applied.steered:
            outputs = steered(prompt, sampling_params, request_id, context, options)
            outputs = _generate(outputs, None, context, sampling_params.output_kind, request_id)
        else:
            outputs = stock(salt(prompt, context), sampling_params, request_id, **options)
            outputs = _generate(outputs, sequences, context, sampling_params.output_kind, request_id)
        if trials is None or sampling_params.structured_outputs is None:
            return outputs
        return _after(trials.check(sampling_params, context), outputs)

    def steered(prompt: Any, params: Any, request_id: str, context: RequestContext, options: Any) -> Any:
        with our_code():
            refuse_unsteerable(params, context)
            own = steered_prompt(prompt, context)
            salted = [salt(tokens_input(list(ids)), context) for ids, _ in own.followers]
            branches = attach_group(
                prompt, params, context, capacity, [one.get("cache_salt") for one in salted]
            )
        candidates = context.applied.candidates if context.applied is not None else 1
        asked = params.logprobs is not None
        if candidates > 1:
            params.n, params.logprobs = candidates, params.logprobs or 0
        outputs = stock(salt(prompt, context), params, request_id, **options)
        further = sum(len(ids) for ids, _ in own.followers)
        outputs = _in_place(outputs, sequences, context, request_id, branches, further)
        if candidates == 1:
            return outputs

        def score(ids: list[int], scoring: Any, name: str) -> Any:
            passes = stock(salt(tokens_input(ids), context), scoring, name, **options)
            return _in_place(passes, sequences, context, name)

        return choose(outputs, params, own.bare, context, score, request_id, logprobs=asked)

    engine.generate = generate
    return sequences


async def _after(check: Awaitable[None], outputs: Any) -> AsyncGenerator[Any, None]:
    async with aclosing(outputs):
        await check
        async for output in outputs:
            yield output


async def _in_place(
    outputs: Any,
    sequences: Sequences,
    context: RequestContext,
    request_id: str,
    branches: int = 1,
    further_tokens: int = 0,
) -> AsyncGenerator[Any, None]:
    """Iterate while the sequences of what is steered take and leave their places; see `Sequences.expect`."""
    sequences.expect(request_id, context, branches, further_tokens)
    try:
        async with aclosing(outputs):
            async for output in outputs:
                yield output
    finally:
        sequences.forget(request_id)


async def _generate(
    outputs: Any,
    sequences: Sequences | None,
    context: RequestContext,
    kind: RequestOutputKind,
    request_id: str,
) -> AsyncGenerator[Any, None]:
    deltas = kind is RequestOutputKind.DELTA
    # Not by `_in_place`: another generator around this one would run for every token of every plain request.
    if sequences is not None:
        sequences.expect(request_id, context)
    try:
        async with aclosing(outputs):
            async for output in outputs:
                if context.recording is not None:
                    try:
                        record(output, context.recording, deltas)
                    except Exception as error:  # not `our_code`, because this runs for every token
                        raise HookFailed("a hook of the server failed") from error
                for completion in output.outputs:
                    if completion.finish_reason is not None:
                        context.finish_reasons[request_id, completion.index] = completion.finish_reason
                yield output
    finally:
        if sequences is not None:
            sequences.forget(request_id)
    if context.recording is not None:
        context.recording.keep(answer_id(request_id), context.recording)


def bound_logprobs(
    prompt: Any, sampling_params: Any, context: RequestContext, maximum: int, vocabulary: int
) -> None:
    """Bound the log probabilities of a request, which are built and written in one piece on the event loop.

    An answer whose length the client left open is made shorter instead of being refused.

    Raises:
        RefusedField: the request asks for more.
    """
    asked, of_prompt = sampling_params.logprobs, sampling_params.prompt_logprobs
    if not context.logprobs_asked:
        return  # beam search asks for its own, and returns none of them
    if of_prompt is not None and isinstance(prompt, dict):
        tokens = len(prompt.get("prompt_token_ids") or ())
        # Each choice repeats those of the prompt.
        context.logprobs += sampling_params.n * tokens * (1 + (vocabulary if of_prompt == -1 else of_prompt))
    each = 0
    if asked is not None:
        each = sampling_params.n * (1 + (vocabulary if asked == -1 else asked))
    left = maximum - context.logprobs - each * (sampling_params.max_tokens or 1)
    if left < 0 and each and not context.length_given:
        sampling_params.max_tokens = max(1, (maximum - context.logprobs) // each)
        left = maximum - context.logprobs - each * sampling_params.max_tokens
    if left < 0:
        name = "prompt_logprobs" if of_prompt is not None else "logprobs"
        raise RefusedField(
            f"{name}: choices x tokens x log probabilities are more than {maximum}; ask for fewer tokens"
            " (`max_tokens`), choices or log probabilities",
            param=name,
        )
    context.logprobs = maximum - left


def salt(prompt: Any, context: RequestContext) -> Any:
    """Return the prompt with its tenant's salt: no prefix-cache block is shared but those of the operator's texts."""
    if context.cache_salt is None or not isinstance(prompt, dict):
        return prompt
    # A client's own salt, if the operator allows it, partitions the tenant's blocks further.
    own = context.cache_salt + prompt.get("cache_salt", "")
    shared = context.applied.shared_ids if context.applied is not None else ()
    ids = prompt.get("prompt_token_ids")
    if shared and ids and context.operator_salt is not None:
        own = tiered_salt(equal_at_the_start(shared, ids), context.operator_salt, own)
    return {**prompt, "cache_salt": own}


def equal_at_the_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many leading ids are the same."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def record(output: Any, recording: Recording, deltas: bool) -> None:
    """Record the text of the first choice."""
    for completion in output.outputs:
        if completion.index == 0:
            recording.answer = recording.answer + completion.text if deltas else completion.text


def answer_id(engine_id: str) -> str:
    """Return the answer id that the client sees, from the engine's request id."""
    if engine_id.startswith("cmpl-"):
        return engine_id.removesuffix("-0")
    return engine_id.removesuffix("_0") if engine_id.startswith("resp_") else engine_id
