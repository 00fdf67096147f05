"""Moved to `metaalign_training.inference.endpoint`. To go when `tests/server` imports it from there."""

from metaalign_training.inference.endpoint import open_endpoint as HttpEndpoint

__all__ = ["HttpEndpoint"]
