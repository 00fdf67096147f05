"""API keys and their scopes. A key is compared as a digest in constant time and never logged."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["OPEN_CALLER", "SCOPES", "ApiKey", "Authenticator", "Caller", "parse_api_keys"]

SCOPES = ("inference", "system")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One configured key; `digest` is its SHA-256."""

    digest: bytes
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, as far as the request path needs to know."""

    scopes: frozenset[str]

    @property
    def may_write_system(self) -> bool:
        """Whether this caller may put anything into the System tier."""
        return "system" in self.scopes


OPEN_CALLER = Caller(frozenset(SCOPES))
"""The caller of a server without keys: development on loopback."""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Parse `key,key:inference,key:inference+system`; a key without scopes has all of them.

    Raises:
        ValueError: a scope is unknown or a key is empty. The key itself is not repeated.
    """
    keys: list[ApiKey] = []
    for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        key, _, scopes_text = entry.partition(":")
        scopes = frozenset(filter(None, scopes_text.split("+"))) or frozenset(SCOPES)
        if not key or scopes - set(SCOPES):
            raise ValueError(
                f"METAALIGN_API_KEYS: entry {number} must be `key` or `key:scope+scope` with scopes of"
                f" {', '.join(SCOPES)}"
            )
        keys.append(ApiKey(_digest(key), scopes | {"inference"}))
    return tuple(keys)


class Authenticator:
    """Finds the caller of a request by its headers."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    def caller(self, headers: dict[bytes, bytes]) -> Caller | None:
        """The caller, or None if a key is needed and none, or a wrong one, was sent.

        Both `Authorization: Bearer` (OpenAI clients) and `x-api-key` (Anthropic clients) are read.
        """
        if not self._keys:
            return OPEN_CALLER
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        key = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        digest = hashlib.sha256(key).digest()
        found: Caller | None = None
        for known in self._keys:  # no early exit: the time must not tell which key was close
            if hmac.compare_digest(known.digest, digest):
                found = Caller(known.scopes)
        return found
