"""What the API process does for steering: it checks that a request can be steered here, and attaches its group.

The engine's side is in `steering`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from metaalign import RefusedField
from metaalign_server.alignment.context import RequestContext, SteeredPrompt
from metaalign_server.engine.steering.groups import GROUP, SCHEDULER, Branch, Group, pack

__all__ = ["UNSTEERABLE", "Capacity", "attach_group", "capacity_of", "refuse_unsteerable", "steered_prompt"]

PLAUSIBLE = 0.1
"""How likely a token must be in one of the branches that it is drawn for, compared with the likeliest one there."""

BRANCHES = Counter(
    "metaalign_steered_prompts_total",
    "Prompts that were steered, by how many branches drew each token and how many candidates were sampled.",
    ["branches", "candidates"],
)


@dataclass(frozen=True, slots=True)
class Unsteerable:
    """What steering does not go with.

    Attributes:
        flag: The flag of vLLM that turns it on.
        name: What it is called in a message.
    """

    flag: str
    name: str

    def is_on(self, options: Any) -> bool:
        """Whether vLLM's arguments, or a part of its configuration, turn it on."""
        value = getattr(options, self.flag[2:].replace("-", "_"), None)
        return value is True or value not in (None, False, 1)  # one stage is no pipeline


UNSTEERABLE = (
    Unsteerable("--speculative-config", "speculative decoding"),
    Unsteerable("--pipeline-parallel-size", "pipeline parallelism"),
    Unsteerable("--kv-transfer-config", "a KV connector"),
    Unsteerable("--watermark-config", "watermarking"),
    Unsteerable("--enable-batch-sharded-sampling", "sampling in shards of the batch"),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engine can run.

    Attributes:
        refusal: Why it steers nothing, with a remedy; empty if it does.
        max_model_len: Tokens of a prompt and its answer.
        block_size: Tokens of a block of the KV cache.
        blocks: How many blocks there are.
        sequences: How many sequences one group may be.
    """

    refusal: str
    max_model_len: int
    block_size: int
    blocks: int
    sequences: int


def capacity_of(config: Any) -> Capacity:
    """Return what an engine of this configuration (vLLM's `VllmConfig`) can run."""
    cache, scheduler, model = config.cache_config, config.scheduler_config, config.model_config
    refusal = ""
    if scheduler.scheduler_cls != SCHEDULER:
        refusal = "this server does not steer; the operator turns it on with METAALIGN_STEERING=true"
    else:
        kinds = {
            "a diffusion model": model.is_diffusion,
            "a model with a state besides its KV cache": model.is_hybrid or model.is_attention_free,
        }
        found = [
            *(one.name for one in UNSTEERABLE if one.is_on(config) or one.is_on(config.parallel_config)),
            *(name for name, there in kinds.items() if there),
        ]
        if found:
            refusal = f"this server runs {found[0]}, which does not go with it"
    return Capacity(
        refusal,
        model.max_model_len,
        cache.block_size,
        (cache.num_gpu_blocks or 1) - 1,  # one is vLLM's own
        max(1, scheduler.max_num_seqs - scheduler.max_num_seqs // 10),
    )


def refuse_unsteerable(params: Any, context: RequestContext) -> None:
    """Refuse what steering does not go with, instead of leaving out one of the two.

    Raises:
        RefusedField: the message names both.
    """
    applied = context.applied
    if applied is None or not applied.steered:
        return
    name = _steering_field(context)
    if context.beams:
        raise RefusedField(
            f"use_beam_search: does not go with `{name}`; leave out one of the two", param="use_beam_search"
        )
    if params.prompt_logprobs is not None:
        raise RefusedField(
            f"prompt_logprobs: does not go with `{name}`, which has no prompt of its own; leave out one of the two",
            param="prompt_logprobs",
        )
    if applied.candidates > 1:
        if not applied.receipt.applied:
            raise RefusedField(
                "preferences.candidates: there are no preferences to choose by; give some, or leave it out",
                param="preferences.candidates",
            )
        if params.n > 1:
            raise RefusedField(
                "n: `preferences.candidates` returns one answer; leave out one of the two", param="n"
            )
        if params.temperature == 0:
            raise RefusedField(
                "preferences.candidates: at temperature 0 all of them are the same; give a temperature, such as 0.8",
                param="preferences.candidates",
            )


def _steering_field(context: RequestContext) -> str:
    steering = context.applied.receipt.steering if context.applied is not None else None
    if steering is not None and steering.branches > 1:
        return "preferences.blend" if steering.blend else "preferences.strength"
    return "preferences.candidates"


def attach_group(
    prompt: Mapping[str, Any],
    params: Any,
    context: RequestContext,
    capacity: Capacity,
    salts: list[str | None],
) -> int:
    """Attach the branches of a prompt to its sampling parameters, and bound its answer so that all of them fit.

    Args:
        prompt: The leader's prompt.
        params: vLLM's sampling parameters; changed.
        context: The request, with what steers its prompts.
        capacity: What the engine can run.
        salts: The salts of the followers' prefix-cache blocks.

    Returns:
        How many branches draw each token.

    Raises:
        RefusedField: the engine cannot steer it, or not at this length.
    """
    steered = steered_prompt(prompt, context)
    applied = context.applied
    if applied is None:
        raise AssertionError("a steered prompt has a specification")
    size = 1 + len(steered.followers)
    BRANCHES.labels(str(size), str(applied.candidates)).inc()
    if size == 1:
        return size
    name = _steering_field(context)
    if capacity.refusal:
        raise RefusedField(f"{name}: {capacity.refusal}", param=name)
    if size > capacity.sequences:
        raise RefusedField(
            f"{name}: takes {size} sequences at a time, and this engine runs {capacity.sequences} for one answer"
            " (`--max-num-seqs`)",
            param=name,
        )
    lengths = [len(prompt["prompt_token_ids"]), *(len(ids) for ids, _ in steered.followers)]
    room = _longest_answer(lengths, capacity)
    if room < 1:
        raise RefusedField(
            f"{name}: its {size} branches hold {sum(lengths)} tokens, which do not fit the engine together; send less",
            param=name,
        )
    # As vLLM does with an answer that would be longer than the model's context: it ends with the reason `length`.
    params.max_tokens = min(params.max_tokens, room)
    params.extra_args = (params.extra_args or {}) | {
        GROUP: pack(
            Group(
                applied.coefficient,
                tuple(
                    Branch(ids, coefficient, salt)
                    for (ids, coefficient), salt in zip(steered.followers, salts, strict=True)
                ),
                PLAUSIBLE,
            )
        )
    }
    return size


def steered_prompt(prompt: Mapping[str, Any], context: RequestContext) -> SteeredPrompt:
    """Return what steers a prompt.

    Raises:
        RefusedField: the engine was given another prompt than was rendered.
    """
    found = context.steered.get(tuple(prompt.get("prompt_token_ids") or ()))
    if found is None:
        name = _steering_field(context)
        raise RefusedField(f"{name}: this request's prompt is changed after it is rendered", param=name)
    return found


def _longest_answer(lengths: list[int], capacity: Capacity) -> int:
    """Return how many tokens an answer may have so that all branches fit the model, and the engine at one time."""
    room = capacity.max_model_len - max(lengths)

    def blocks(tokens: int) -> int:
        return sum(-(-(length + tokens) // capacity.block_size) for length in lengths)

    if blocks(room) > capacity.blocks:
        low, high = 0, room  # blocks(low) may not fit either; then there is no room
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if blocks(middle) <= capacity.blocks else (low, middle - 1)
        room = low
    return room
