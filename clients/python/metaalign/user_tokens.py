"""Tokens with which a browser or an app may ask for one user only, signed by the application without asking the server.

A token is a JSON Web Token (RFC 7519) with the signature EdDSA over Ed25519 (RFC 8037). The header names the key's
public part (`kid`), the claims are `sub` (the user), `iat` and `exp`. The private key is derived from the API key, and
the server keeps only the public one: whoever reads its store can check tokens, and make none.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaalign.errors import MetaAlignError
from metaalign.surrogates import has_surrogates

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["LONGEST_SECONDS", "LONGEST_USER", "signing_key", "user_token"]

LONGEST_SECONDS = 86_400
"""The longest that a token may be valid."""
LONGEST_USER = 512
"""Characters of a user's id."""

_API_KEY = re.compile(r"ma_[a-z0-9]{1,16}_([a-z2-7]{24})_[A-Za-z0-9_-]{43}")
_PURPOSE = b"metaalign user token"


def signing_key(api_key: str) -> Ed25519PrivateKey:
    """Return the private key that signs the tokens of an API key: its seed is HMAC-SHA256(key, purpose).

    Raises:
        MetaAlignError: the package `cryptography` is missing.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise MetaAlignError("signing needs a package more: pip install 'metaalign[tokens]'") from None
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(api_key.encode(), _PURPOSE, "sha256"))


def user_token(api_key: str, user: str, seconds: int = 3600) -> str:
    """Make a token that is valid as a key, for one user and for inference only.

    Args:
        api_key: A key of the server's store (`ma_…`), which must have the scope `inference`. It stays secret; the
            token ends with it.
        user: The user's id, 1 to 512 characters. It is compared character by character.
        seconds: How long the token is valid, up to a day.

    Raises:
        MetaAlignError: an argument is out of bounds; or the package `cryptography` is missing.
    """
    parts = _API_KEY.fullmatch(api_key)
    if parts is None:
        raise MetaAlignError(
            "api_key: only a key that the server made (`ma_…`) signs tokens; others may be guessed from one",
            param="api_key",
        )
    if not 1 <= len(user) <= LONGEST_USER or has_surrogates(user):
        raise MetaAlignError(
            f"user: must be 1 to {LONGEST_USER} characters without lone surrogates", param="user"
        )
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise MetaAlignError(f"seconds: must be 1 to {LONGEST_SECONDS}", param="seconds")
    now = int(time.time())
    header = {"alg": "EdDSA", "kid": parts[1], "typ": "JWT"}
    claims = {"sub": user, "iat": now, "exp": now + seconds}
    signed = f"{_part(header)}.{_part(claims)}"
    return f"{signed}.{_encoded(signing_key(api_key).sign(signed.encode()))}"


def _part(fields: Mapping[str, object]) -> str:
    return _encoded(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
