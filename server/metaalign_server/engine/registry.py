"""vLLM's Prometheus registry, which our own metrics share."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from vllm.v1.metrics.prometheus import get_prometheus_registry

__all__ = ["prometheus_registry"]


def prometheus_registry() -> CollectorRegistry:
    """The registry to scrape: aggregated over processes when vLLM runs several."""
    registry: CollectorRegistry = get_prometheus_registry()
    return registry
