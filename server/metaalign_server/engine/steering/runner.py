"""The hook in vLLM's model runners: it mixes the logits of each group before the sampler, and shares the drawn token.

vLLM's sampler then treats the leader's row like any other: penalties, temperature, top-p, seed and log probabilities
are those of the mixture. The followers' rows get the token that was drawn for the leader.

vLLM 0.32 has two generations of runners. The first (V1) is a CPU's, the second (V2) is a GPU's unless it is set aside.
They differ in where a step's groups are read and in where the sampler is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metaalign_server.engine.steering.mixing import mix

__all__ = ["ANNOUNCED", "hook_runner"]

ANNOUNCED = "metaalign_groups"
"""The attribute of a step's `SchedulerOutput`: for each group (ids, coefficients, floor), the leader first."""

_Groups = Sequence[tuple[list[str], list[float], float]]


def hook_runner(runner: Any) -> None:
    """Wrap the sampling of one runner; one that is neither V1 nor V2 (of pooling models, say) is left alone."""
    if all(hasattr(runner, name) for name in ("sample_tokens", "_sample", "input_batch")):
        first = _First(runner)
        runner.sample_tokens = functools.partial(first.sample_tokens, runner.sample_tokens)
        runner._sample = functools.partial(first.sample, runner._sample)
    elif all(hasattr(runner, name) for name in ("execute_model", "req_states", "sampler")):
        second = _Second(runner)
        runner.execute_model = functools.partial(second.execute_model, runner.execute_model)


def _draw(groups: _Groups, row_of: Mapping[str, int], logits: Any, stock: Callable[[Any], Any]) -> Any:
    """Let the stock sampler draw from the mixtures, and give all members of a group the leader's token.

    Args:
        groups: Those of this step, as `ANNOUNCED` has them.
        row_of: Each request's row, by its id.
        logits: Of shape (rows, vocabulary).
        stock: vLLM's sampler, of the logits.

    Returns:
        vLLM's `SamplerOutput`.
    """
    logits = logits.float()  # the sampler would do that; a mixture must not be rounded before
    rows = [([row_of[name] for name in names], weights, floor) for names, weights, floor in groups]
    for members, weights, floor in rows:
        mix(logits, members, weights, floor)
    sampled = stock(logits)
    drawn = sampled.sampled_token_ids
    for members, _, _ in rows:
        drawn[members[1:]] = drawn[members[0]].clone()
    return sampled


class _First:
    """The hook in a runner of the first generation."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._groups: _Groups = []

    def sample_tokens(self, stock: Any, grammar_output: Any) -> Any:
        state = self._runner.execute_model_state
        self._groups = getattr(state[0], ANNOUNCED, []) if state is not None else []
        return stock(grammar_output)

    def sample(self, stock: Any, logits: Any, spec_decode_metadata: Any) -> Any:
        if not self._groups:
            return stock(logits, spec_decode_metadata)
        row_of = self._runner.input_batch.req_id_to_index
        return _draw(self._groups, row_of, logits, lambda mixed: stock(mixed, spec_decode_metadata))


class _Second:
    """The hook in a runner of the second generation."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def execute_model(self, stock: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        groups = getattr(scheduler_output, ANNOUNCED, [])
        # vLLM makes its sampler with the model, after this hook is installed.
        if groups and not isinstance(self._runner.sampler, _MixingSampler):
            self._runner.sampler = _MixingSampler(self._runner.sampler)
        if isinstance(self._runner.sampler, _MixingSampler):
            self._runner.sampler.groups = groups
        return stock(scheduler_output, *args, **kwargs)


class _MixingSampler:
    """vLLM's sampler of the second generation, called with mixed logits.

    Attributes:
        groups: Those of the step that is computed; the next call takes them.
    """

    def __init__(self, stock: Any) -> None:
        self._stock = stock
        self.groups: _Groups = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    def __call__(self, logits: Any, input_batch: Any) -> Any:
        groups, self.groups = self.groups, []
        if not groups:
            return self._stock(logits, input_batch)
        row_of = {name: row for row, name in enumerate(input_batch.req_ids)}
        return _draw(groups, row_of, logits, lambda mixed: self._stock(mixed, input_batch))
