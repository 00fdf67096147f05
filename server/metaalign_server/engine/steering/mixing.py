"""The mixture of several branches' logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["mix"]


def mix(logits: torch.Tensor, rows: Sequence[int], coefficients: Sequence[float], floor: float = 0.0) -> None:
    """Write the mixture of some rows into each of them.

    A token that the leader's row excludes (a grammar's mask is minus infinity) stays excluded, whatever the others say.

    Args:
        logits: Logits of the batch, of shape (rows, vocabulary); changed in place.
        rows: The group's rows, the leader's first.
        coefficients: One for each row.
        floor: Tokens whose probability in the leader's row is below `floor` times its highest one are excluded; see
            `Group`. (Contrastive decoding's plausibility constraint, arXiv 2210.15097.)
    """
    leader = logits[rows[0]]
    excluded = leader.isneginf()
    if floor:
        # log p - log p_max = l - l_max, and the bound is min(0, ...) so that the likeliest token always stays.
        excluded |= leader < leader.max() + _log(floor)
    chosen = logits[list(rows)].float()
    weights = chosen.new_tensor(list(coefficients)).unsqueeze(1)
    mixed = (chosen.masked_fill(excluded, 0.0) * weights).sum(0)
    logits[list(rows)] = mixed.masked_fill(excluded, float("-inf")).to(logits.dtype)


def _log(value: float) -> float:
    import math

    return min(0.0, math.log(value))
