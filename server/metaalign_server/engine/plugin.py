"""What vLLM calls in each of its processes before it does anything: our hooks in the engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from metaalign_server.engine import seeded_prefill, tiered_salt
from metaalign_server.engine.steering import runner as steering

__all__ = ["install"]


def install() -> None:
    """Install the hooks; each leaves a vLLM alone that has not what it hooks."""
    tiered_salt.install()
    _hook_runners()


def _hook_runners() -> None:
    """Hook the model runner of each worker that this process makes."""
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    stock: Callable[[Any], None] = WorkerWrapperBase.init_device
    if getattr(stock, "hooked", False):
        return

    @functools.wraps(stock)
    def init_device(self: Any) -> None:
        stock(self)
        runner = getattr(self.worker, "model_runner", None)
        seeded_prefill.hook_runner(runner)
        steering.hook_runner(runner)

    init_device.hooked = True  # type: ignore[attr-defined]
    WorkerWrapperBase.init_device = init_device  # type: ignore[method-assign]
