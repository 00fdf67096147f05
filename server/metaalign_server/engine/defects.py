"""Failures of our own code that runs inside vLLM's handlers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.exceptions import VLLMError

from metaalign import MetaAlignError

__all__ = ["HookFailed", "our_code"]


class HookFailed(RuntimeError):
    """A defect of ours: a 500. The message says nothing, the cause is logged."""


@contextmanager
def our_code() -> Iterator[None]:
    """Within the block only what is meant as a refusal leaves as it is.

    vLLM's handlers answer a ValueError or TypeError as the client's mistake, with its text.

    Raises:
        HookFailed: anything else was raised.
    """
    try:
        yield
    except (MetaAlignError, VLLMError, RecursionError):  # the last: nested too deeply, also a refusal
        raise
    except Exception as error:
        raise HookFailed("a hook of the server failed") from error
