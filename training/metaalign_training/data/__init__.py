"""Moved to `metaalign_training.stages`. To go when `tests/server` imports it from there."""
