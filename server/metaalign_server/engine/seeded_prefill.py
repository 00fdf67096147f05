"""Seeded requests whose prompt is computed in parts, on a CPU.

After each part vLLM 0.32 draws a token that nobody gets, and turns the request's generator back by an offset. Those
on a CPU have none, so such a request ended the engine, and any client could send one. Here the generators of these rows
are out of reach while the token is drawn. They need no turning back, and a seed gives one answer however the
prompt is computed.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

__all__ = ["hook_runner"]

logger = logging.getLogger(__name__)


def hook_runner(runner: Any) -> None:
    """Wrap one runner's sampling; on a GPU, and in vLLM's second generation of runners, its own way works."""
    device = getattr(runner, "device", None)
    if getattr(device, "type", None) != "cpu" or hasattr(runner, "req_states"):
        return
    if not all(hasattr(runner, name) for name in ("sample_tokens", "input_batch", "discard_request_mask")):
        logger.warning("this vLLM draws tokens elsewhere: a long prompt with a seed may end the engine")
        return
    runner.sample_tokens = functools.partial(_sample_tokens, runner, runner.sample_tokens)


def _sample_tokens(runner: Any, stock: Any, grammar_output: Any) -> Any:
    generators = runner.input_batch.generators  # by row, and only of requests with a seed
    if not generators:
        return stock(grammar_output)
    discarded = runner.discard_request_mask.np
    kept = {row: generators.pop(row) for row in list(generators) if discarded[row]}
    try:
        return stock(grammar_output)
    finally:
        generators.update(kept)
