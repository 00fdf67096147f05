"""The mixture of several branches' logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["mix"]


def mix(logits: torch.Tensor, rows: Sequence[int], coefficients: Sequence[float], floor: float = 0.0) -> None:
    """Write the mixture of some rows into each of them.

    A token that the leader's row excludes (a grammar's mask is minus infinity) stays excluded, whatever the others say.
    So is one that no row with a positive coefficient finds plausible: extrapolation would else raise tokens of which
    only their difference is known (contrastive decoding's constraint, arXiv 2210.15097, for several branches).

    Args:
        logits: Logits of the batch, of shape (rows, vocabulary); changed in place.
        rows: The group's rows, the leader's first.
        coefficients: One for each row; the leader's is positive.
        floor: A token is plausible in a row if its probability there is at least `floor` times the highest one; 0 if
            all are.
    """
    chosen = logits[list(rows)].float()
    excluded = chosen[0].isneginf()
    if floor:
        # log p - log p_max = l - l_max. The leader's likeliest token always stays.
        counted = chosen[[place for place, value in enumerate(coefficients) if value > 0]]
        excluded |= (counted < counted.amax(1, keepdim=True) + math.log(floor)).all(0)
    weights = chosen.new_tensor(list(coefficients)).unsqueeze(1)
    mixed = (chosen.masked_fill(excluded, 0.0) * weights).sum(0)
    logits[list(rows)] = mixed.masked_fill(excluded, float("-inf")).to(logits.dtype)
