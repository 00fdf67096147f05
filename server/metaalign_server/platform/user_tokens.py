"""Reads the tokens that applications sign for single users; `metaalign.user_tokens` makes them and says what they are.

Reading is strict, so that one claim has one spelling: no other algorithm, no other claims, no padding, no bits that
base64 would ignore.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from metaalign.surrogates import has_surrogates
from metaalign.user_tokens import LONGEST_SECONDS, LONGEST_USER

__all__ = ["SKEW_SECONDS", "UserToken", "read_user_token"]

SKEW_SECONDS = 30
"""How far the application's clock may be from ours."""
_LONGEST_TOKEN = 8192
_LATEST = 2**53


@dataclass(frozen=True, slots=True)
class UserToken:
    """What a token says; nothing of it is true until `signed_by` and `seconds_left` say so."""

    key_id: str
    user: str
    issued_at: int
    expires_at: int
    signed: bytes
    signature: bytes

    def signed_by(self, public_key: bytes) -> bool:
        """Return whether the owner of this Ed25519 key has signed the token."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature, self.signed)
        except InvalidSignature:
            return False
        return True

    def seconds_left(self, now: float) -> float:
        """Return how long the token is still valid at `now` (seconds since 1970); 0 or less if it is not."""
        if self.issued_at > now + SKEW_SECONDS or self.expires_at - self.issued_at > LONGEST_SECONDS:
            return 0.0
        return self.expires_at + SKEW_SECONDS - now


def read_user_token(token: bytes) -> UserToken | None:
    """Return what a token says, or None if this is no token of ours, such as a key."""
    signed, _, signature = token.rpartition(b".")
    first, dot, second = signed.partition(b".")
    if not dot or len(token) > _LONGEST_TOKEN:
        return None
    try:
        header, claims = json.loads(_decoded(first)), json.loads(_decoded(second))
        signature = _decoded(signature)
    except (ValueError, RecursionError):
        return None
    if not (_has(header, "alg kid typ") and _has(claims, "sub iat exp")):
        return None
    key_id, user = header["kid"], claims["sub"]
    if (header["alg"], header["typ"]) != ("EdDSA", "JWT") or not isinstance(key_id, str):
        return None
    if not isinstance(user, str) or not 1 <= len(user) <= LONGEST_USER or has_surrogates(user):
        return None
    if any(type(claims[name]) is not int or not 0 <= claims[name] < _LATEST for name in ("iat", "exp")):
        return None
    return UserToken(key_id, user, claims["iat"], claims["exp"], signed, signature)


def _has(tree: Any, names: str) -> bool:
    return isinstance(tree, dict) and tree.keys() == set(names.split())


def _decoded(part: bytes) -> bytes:
    """Decode base64url, in its one canonical form.

    Raises:
        ValueError: it is anything else.
    """
    data = base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True)
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise binascii.Error("not canonical")
    return data
