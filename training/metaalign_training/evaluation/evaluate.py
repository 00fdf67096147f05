"""Moved to `metaalign_training.inference.generation`. To go when `tests/server` imports it from there."""

from metaalign_training.inference.generation import EndpointGenerator

__all__ = ["EndpointGenerator"]
