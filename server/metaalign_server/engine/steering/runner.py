"""The hook in vLLM's model runner: it mixes the logits of each group before the sampler, and shares the drawn token.

vLLM's sampler then treats the leader's row like any other: penalties, temperature, top-p, seed and log probabilities
are those of the mixture. The followers' rows get the token that was drawn for the leader.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from metaalign_server.engine.steering.mixing import mix

__all__ = ["ANNOUNCED", "hook_runner"]

logger = logging.getLogger(__name__)

ANNOUNCED = "metaalign_groups"
"""The attribute of a step's `SchedulerOutput`: for each group (ids, coefficients, floor), the leader first."""


def hook_runner(runner: Any) -> None:
    """Wrap the sampling of one runner of vLLM's first generation (V1)."""
    if not all(hasattr(runner, name) for name in ("sample_tokens", "_sample", "input_batch")):
        return
    hook = _Hook(runner)
    runner.sample_tokens = functools.partial(hook.sample_tokens, runner.sample_tokens)
    runner._sample = functools.partial(hook.sample, runner._sample)


class _Hook:
    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._groups: list[tuple[list[str], list[float], float]] = []

    def sample_tokens(self, stock: Any, grammar_output: Any) -> Any:
        state = self._runner.execute_model_state
        self._groups = getattr(state[0], ANNOUNCED, []) if state is not None else []
        return stock(grammar_output)

    def sample(self, stock: Any, logits: Any, spec_decode_metadata: Any) -> Any:
        if not self._groups:
            return stock(logits, spec_decode_metadata)
        row_of = self._runner.input_batch.req_id_to_index
        rows = [([row_of[name] for name in names], weights, floor) for names, weights, floor in self._groups]
        for members, weights, floor in rows:
            mix(logits, members, weights, floor)
        sampled = stock(logits, spec_decode_metadata)
        for members, _, _ in rows:
            drawn = sampled.sampled_token_ids
            drawn[members[1:]] = drawn[members[0]].clone()
        return sampled
