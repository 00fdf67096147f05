"""How sure a share is."""

from __future__ import annotations

import math

__all__ = ["Z", "wilson"]

Z = 1.959964
"""Of a 95 % interval."""


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share in [0, 1] of `n` independent trials (Wilson 1927); good near 0 and 1 too."""
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    # Rounding may push a bound slightly beyond the share.
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)
