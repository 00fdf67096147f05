"""vLLM's second model runner on a CPU: its Triton kernels run in Triton's interpreter.

vLLM has this runner for CPUs too, with a Triton that has a backend for them, which PyPI has not. The interpreter needs
no backend, but vLLM looks for one before it believes that Triton is there.
"""

from __future__ import annotations

import os
import types
from typing import Any

__all__ = ["use_second_runner"]


def use_second_runner() -> None:
    """Make vLLM take its second runner in this process and those forked from it; call it before vLLM is imported."""
    os.environ |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    from triton.backends import backends
    from triton.runtime.interpreter import InterpreterBuilder

    driver = types.SimpleNamespace(is_active=lambda: True)
    backends["cpu"] = types.SimpleNamespace(driver=driver, compiler=None)
    stock = InterpreterBuilder.create_masked_store

    def create_masked_store(self: Any, ptrs: Any, value: Any, mask: Any, cache_policy: Any) -> Any:
        mask.data = mask.data.astype(bool)  # vLLM's kernel of grammars has a mask that became an integer
        return stock(self, ptrs, value, mask, cache_policy)

    InterpreterBuilder.create_masked_store = create_masked_store
