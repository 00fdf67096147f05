"""Failures of our own code that runs inside vLLM's handlers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.exceptions import VLLMError

from metaalign import MetaAlignError

__all__ = ["HookFailed", "our_code"]


class HookFailed(RuntimeError):
    """A defect of ours, answered with 500. The message is generic; the cause is logged."""


@contextmanager
def our_code() -> Iterator[None]:
    """Let intended refusals out of the block unchanged, and turn any other error into HookFailed.

    vLLM's handlers report a ValueError or TypeError as the client's mistake, including its text.

    Raises:
        HookFailed: the block raised anything but a refusal.
    """
    try:
        yield
    except (MetaAlignError, VLLMError, RecursionError):  # RecursionError: nested too deeply, also a refusal
        raise
    except Exception as error:
        raise HookFailed("a hook of the server failed") from error
