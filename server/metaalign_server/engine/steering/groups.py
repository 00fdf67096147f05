"""A group: the branches of one answer, in the form in which a request carries them to the engine's process.

The request itself is the leader: the client gets its tokens, and it has the client's sampling parameters. A follower is
another prompt for the same answer. It exists in the engine alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GROUP", "SCHEDULER", "Branch", "Group", "pack", "unpack"]

GROUP = "metaalign_group"
"""The key in vLLM's `extra_args`. Only our own code writes it; no client's field reaches it."""

SCHEDULER = "metaalign_server.engine.steering.scheduler.steering_scheduler"
"""The value of vLLM's `--scheduler-cls`."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A follower.

    Attributes:
        token_ids: Its prompt, of at least two tokens.
        coefficient: What its logits are multiplied by.
        cache_salt: The salt of its prefix-cache blocks.
    """

    token_ids: tuple[int, ...]
    coefficient: float
    cache_salt: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """How an answer's tokens are drawn.

    Attributes:
        coefficient: What the leader's logits are multiplied by.
        followers: The other branches; at least one.
        floor: See `mix`; from 0 to 1.
    """

    coefficient: float
    followers: tuple[Branch, ...]
    floor: float = 0.0


def pack(group: Group) -> dict[str, Any]:
    """Return a group as plain data."""
    return {
        "coefficient": group.coefficient,
        "floor": group.floor,
        "followers": [
            [list(branch.token_ids), branch.coefficient, branch.cache_salt] for branch in group.followers
        ],
    }


def unpack(extra_args: Mapping[str, Any] | None) -> Group | None:
    """Return the group that a request's `extra_args` name, if any."""
    packed = (extra_args or {}).get(GROUP)
    if packed is None:
        return None
    followers = tuple(Branch(tuple(ids), weight, salt) for ids, weight, salt in packed["followers"])
    return Group(packed["coefficient"], followers, packed["floor"])
