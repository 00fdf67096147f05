"""Moved to `metaalign_training.stages.data.synthetic`. To go when `tests/server` imports it from there."""

from metaalign_training.stages.data.synthetic import evaluation_rows

__all__ = ["evaluation_rows"]
