"""A cache salt that begins at a tier boundary: what the operator wrote for all is shared, what follows is the tenant's.

vLLM adds a request's salt to the hash of its first block, and each block's hash to the next one's, so that no block is
shared between tenants. Here a salt may say how many leading tokens are the operator's own text. Blocks of nothing else
carry the operator's salt, and the first block with any other token carries the tenant's. A shared block can be probed
by timing, so whoever writes such a salt must count no other tokens.

`install` runs in the engine's process, as a general plugin of vLLM's. Where it does not run, vLLM takes such a salt as
it takes any other: nothing is shared that should not be.
"""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Any

__all__ = ["block_salt", "install", "tiered_salt"]

logger = logging.getLogger(__name__)

_MARK = "metaalign-tiers"
_DIGITS = 9
_NAME = "generate_block_hash_extra_keys"
_PARAMETERS = ("request", "start_token_idx", "end_token_idx", "start_mm_idx")


def tiered_salt(shared: int, operator: str, tenant: str) -> str:
    """Return the salt of a prompt whose first `shared` tokens are the operator's."""
    return f"{_MARK}:{shared}:{operator}:{tenant}"


def block_salt(salt: str, start: int, end: int) -> str | None:
    """Return what a salt adds to the hash of the block of the tokens from `start` to `end`."""
    parts = salt.split(":", 3)
    if len(parts) != 4 or parts[0] != _MARK or not parts[1].isdecimal() or len(parts[1]) > _DIGITS:
        return salt if start == 0 else None
    shared, operator, tenant = int(parts[1]), parts[2], parts[3]
    if end <= shared:
        return operator if start == 0 else None
    return tenant if start <= shared else None


def install() -> None:
    """Let vLLM hash blocks with such salts; a vLLM that does it elsewhere keeps tenants apart as before."""
    from vllm.v1.core import kv_cache_utils

    stock = getattr(kv_cache_utils, _NAME, None)
    if getattr(stock, "tiered", False):
        return
    if stock is None or tuple(inspect.signature(stock).parameters) != _PARAMETERS:
        logger.warning(
            "this vLLM salts its prefix cache elsewhere: tenants share no blocks of the operator's texts"
        )
        return

    def keys(
        request: Any, start_token_idx: int, end_token_idx: int, start_mm_idx: int
    ) -> tuple[tuple[Any, ...] | None, int]:
        found, next_mm = stock(request, start_token_idx, end_token_idx, start_mm_idx)
        salt = request.cache_salt
        if not salt or not salt.startswith(_MARK):
            return found, next_mm
        own = block_salt(salt, start_token_idx, end_token_idx)
        others = [key for key in found or () if not (isinstance(key, tuple) and key[0] == "cache_salt")]
        if own is not None:
            others.append(("cache_salt", own))
        return tuple(others) or None, next_mm

    keys.tiered = True  # type: ignore[attr-defined]
    # Modules of vLLM's that were loaded before have the function under their own name.
    for name, module in list(sys.modules.items()):
        if name.startswith("vllm.v1.") and getattr(module, _NAME, None) is stock:
            setattr(module, _NAME, keys)
