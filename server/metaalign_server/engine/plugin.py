"""What vLLM calls in each of its processes before it does anything: our hooks in the engine."""

from __future__ import annotations

from metaalign_server.engine import seeded_prefill, tiered_salt

__all__ = ["install"]


def install() -> None:
    """Install the hooks; each leaves a vLLM alone that has not what it hooks."""
    tiered_salt.install()
    seeded_prefill.install()
