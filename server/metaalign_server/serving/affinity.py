"""Which of several servers a request should go to, so that equal Meta-Prompts meet a warm prefix cache. Knows no Ray.

The engine caches the start of a prompt, salted by tenant. Requests of one caller with the same preferences start alike,
so their key is the same, and rendezvous hashing gives each key an order of the servers that changes little when one
comes or goes. A server that has more than its share of the load passes requests on to the next of the order
("Consistent Hashing with Bounded Loads", Mirrokni et al. 2018).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

__all__ = ["affinity_key", "bound", "ranked"]

_DIRECT = ("model", "preferences", "system", "instructions")
"""Fields in front of the dialogue. Not `user`: what comes before a user's own examples is shared with others."""
_LEADING_ROLES = ("system", "developer")
_MOST_BYTES = 4 * 1024 * 1024
"""Larger bodies are refused by default; whoever allows them pays with balance, not with a slow ingress."""


def affinity_key(token: bytes, profile: bytes, body: bytes) -> bytes | None:
    """Return the key of a request's prefix: 16 bytes that say nothing about it; None if any server will do.

    Servers know the tenant of an API key, the ingress does not, so two keys of one tenant are two prefixes here.

    Args:
        token: The API key, as the client sent it.
        profile: The header `x-metaalign-profile`, which names a profile where the body cannot.
        body: The request's body. Without preferences and instructions, its first message stands for the dialogue.
    """
    if not body or len(body) > _MOST_BYTES:
        return None
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None  # any server answers it with the same 400
    if not isinstance(request, dict):
        return None
    messages = request.get("messages", request.get("input"))
    turns = messages if isinstance(messages, list) else []
    leading = []
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in _LEADING_ROLES:
            break
        leading.append(turn)
    parts: list[object] = [profile.decode("latin-1"), [request.get(name) for name in _DIRECT], leading]
    if not profile and not leading and not any(request.get(name) for name in _DIRECT[1:]):
        parts.append(turns[:1] or messages or request.get("prompt", request.get("query")))
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    # Whoever sees keys of requests cannot try preferences against them.
    secret = hashlib.sha256(token).digest()
    return hashlib.blake2b(text.encode(), digest_size=16, key=secret).digest()


def bound(total: int, servers: int, *, slack: float, floor: int) -> int:
    """Return how many requests one server may have before others are asked.

    Args:
        total: Requests that all servers have, with the one that is being placed.
        servers: How many servers there are.
        slack: The share of the average load that is allowed, at least 1; more keeps prefixes together, less balances.
        floor: What a server may have in any case: few requests do not make it slow, and a cold cache does.
    """
    return max(floor, math.ceil(slack * total / servers))


def ranked(key: bytes | None, loads: Mapping[str, int], *, slack: float, floor: int) -> Sequence[str]:
    """Return all servers, the best one for this request first.

    Args:
        key: The request's key, or None to go by load alone.
        loads: How many requests each server has now.
        slack, floor: As in `bound`.
    """
    if not loads:
        return []
    if key is None:
        return sorted(loads, key=lambda name: (loads[name], name))
    allowed = bound(sum(loads.values()) + 1, len(loads), slack=slack, floor=floor)
    order = sorted(loads, key=lambda name: _score(key, name), reverse=True)
    within = [name for name in order if loads[name] < allowed]
    return within + sorted((name for name in order if loads[name] >= allowed), key=lambda name: loads[name])


def _score(key: bytes, name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8, key=key).digest()
