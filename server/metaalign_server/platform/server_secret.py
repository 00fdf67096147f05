"""The server's secret, the values derived from it, and the format of API keys.

A key has the form `ma_<environment>_<id>_<secret>`. Its id carries a tag made with the server's secret, so that a
guessed id is rejected without querying the store. The store holds the HMAC-SHA256 of the key's secret part: 256 random
bits need no slow hash, and a slow hash would let anyone keep the server busy.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from metaalign.user_tokens import signing_key
from metaalign_server.callers import NO_KEY

__all__ = ["NewKey", "Secret"]

_TOKEN = re.compile(rb"ma_[a-z0-9]{1,16}_([a-z2-7]{24})_([A-Za-z0-9_-]{43})")
_RANDOM, _TAG = 16, 8  # characters in a key's id


@dataclass(frozen=True, slots=True)
class NewKey:
    """A newly created key; `token` is shown once and never stored, `public_key` checks its user tokens."""

    id: str
    token: str
    digest: bytes
    public_key: bytes


def _parts(match: re.Match[bytes] | None) -> tuple[str, bytes]:
    if match is None:
        raise AssertionError("`NO_KEY` has the form of a key")
    return match[1].decode(), match[2]


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


class Secret:
    """Keyed hashes, with one key per purpose, all derived from the server's secret.

    Args:
        value: METAALIGN_SECRET, or the secret generated when the store was created.
    """

    def __init__(self, value: str) -> None:
        root = hashlib.sha256(value.encode()).digest()
        self._key_ids, self._keys, self._users, self._salts = (
            hmac.digest(root, purpose, "sha256") for purpose in (b"key id", b"key", b"user", b"cache salt")
        )

    @staticmethod
    def random() -> str:
        """Generate a secret of 256 bits."""
        return secrets.token_urlsafe(32)

    def new_key(self, environment: str) -> NewKey:
        """Create a key; `environment` is a word for humans and secret scanners, such as `live`."""
        random = _base32(secrets.token_bytes(10))
        part = secrets.token_urlsafe(32)
        key_id = random + self._tag(random)
        token = f"ma_{environment}_{key_id}_{part}"
        public_key = signing_key(token).public_key().public_bytes_raw()
        return NewKey(key_id, token, self._digest(key_id, part.encode()), public_key)

    def read_key(self, token: bytes) -> tuple[str, bytes] | None:
        """Return id and digest of a token whose id we issued, else None. Every path does the same work."""
        match = _TOKEN.fullmatch(token)
        other = _TOKEN.fullmatch(b"" if match else NO_KEY)  # one match and one failure for everybody
        key_id, part = _parts(match or other)
        digest = self._digest(key_id, part)
        return (key_id, digest) if self.issued(key_id) and match else None

    def issued(self, key_id: str) -> bool:
        """Return whether we made this id: others are not looked up in the store."""
        return key_id.isascii() and hmac.compare_digest(self._tag(key_id[:_RANDOM]), key_id[_RANDOM:])

    def user(self, tenant_id: str, user_id: str) -> str:
        """Return the hash that replaces a user's id in the store."""
        return hmac.new(self._users, f"{tenant_id}\0{user_id}".encode(), "sha256").hexdigest()

    def cache_salt(self, tenant_id: str) -> str:
        """Return the salt that separates a tenant's prefix-cache blocks from those of others."""
        return hmac.new(self._salts, tenant_id.encode(), "sha256").hexdigest()[:32]

    @property
    def operator_salt(self) -> str:
        """The salt of blocks that hold only what the operator wrote for all tenants; no tenant has an empty id."""
        return self.cache_salt("")

    def _tag(self, random: str) -> str:
        return _base32(hmac.digest(self._key_ids, random.encode(), "sha256"))[:_TAG]

    def _digest(self, key_id: str, part: bytes) -> bytes:
        return hmac.digest(self._keys, key_id.encode() + b"\0" + part, "sha256")
