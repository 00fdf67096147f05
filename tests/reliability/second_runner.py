"""vLLM's second model runner on a CPU: its Triton kernels run in Triton's interpreter.

vLLM has this runner for CPUs too, with a Triton that has a backend for them, which PyPI has not. The interpreter needs
no backend, but vLLM looks for one before it believes that Triton is there.
"""

from __future__ import annotations

import os
import types

__all__ = ["use_second_runner"]


def use_second_runner() -> None:
    """Make vLLM take its second runner in this process and those forked from it; call it before vLLM is imported."""
    os.environ |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    from triton.backends import backends

    driver = types.SimpleNamespace(is_active=lambda: True)
    backends["cpu"] = types.SimpleNamespace(driver=driver, compiler=None)  # type: ignore[assignment]
