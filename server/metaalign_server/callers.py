"""Who makes a request: scopes, tenants, callers, and the keys configured in the environment."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from metaalign import SystemPreferences

__all__ = [
    "DEFAULT_TENANT",
    "NO_KEY",
    "OPEN_CALLER",
    "SCOPES",
    "ApiKey",
    "Caller",
    "Limits",
    "SignedUser",
    "StaticKeys",
    "Tenant",
    "model_only",
    "parse_api_keys",
    "token_of",
]

SCOPES = ("inference", "system", "profiles:read", "profiles:write", "metrics", "admin")
"""
`inference`: use the model. `system`: write the System tier. `profiles:read`, `profiles:write`: the tenant's profiles.
`metrics`: read `/metrics`, which counts the requests of all tenants.
`admin`: the operator's scope, for tenants, keys, audit and erasure across all tenants, and for protected labels.
"""


_MOST = 2**53 - 1  # the largest integer that both JSON and Redis represent exactly


class Limits(BaseModel):
    """Usage limits of a key or a tenant; None means no limit. Tokens are those of prompts and answers together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(None, ge=1, le=_MOST)
    tokens_per_minute: int | None = Field(None, ge=1, le=_MOST)
    concurrency: int | None = Field(None, ge=1, le=_MOST, description="concurrent requests to the model")
    tokens_per_day: int | None = Field(None, ge=1, le=_MOST, description="token budget for 24 hours")

    def or_default(self, default: Limits) -> Limits:
        """Return these limits, with those that are not set taken from `default`."""
        return default.model_copy(update=self.model_dump(exclude_none=True))


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer of the provider.

    Attributes:
        policy: System preferences that no request can override.
        share_cache: Whether its prompts share prefix-cache blocks with those of other tenants that share.
        share_policy: Whether blocks that hold only its policy are shared with tenants that have the same policy.
    """

    id: str = "default"
    name: str = "default"
    policy: SystemPreferences | None = None
    limits: Limits = field(default_factory=Limits)
    share_cache: bool = False
    share_policy: bool = False


DEFAULT_TENANT = Tenant()


@dataclass(frozen=True, slots=True)
class SignedUser:
    """The one user for whom the holder of a signed token may ask.

    Attributes:
        id: As requests name it.
        ref: The keyed hash of `id` for the store and for counters.
        limits: This user's own limits, besides those of key and tenant.
    """

    id: str
    ref: str
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, as far as the request path needs to know; `user` if a token fixes it."""

    scopes: frozenset[str]
    key_id: str = "open"
    tenant: Tenant = DEFAULT_TENANT
    limits: Limits = field(default_factory=Limits)
    user: SignedUser | None = None

    @property
    def may_write_system(self) -> bool:
        """Whether this caller may put anything into the System tier."""
        return "system" in self.scopes

    @property
    def may_read_profiles(self) -> bool:
        """Whether this caller may see the tenant's stored System preferences."""
        return "profiles:read" in self.scopes


def model_only(scopes: Container[str]) -> bool:
    """Return whether a key with these scopes may use the model but not write the System tier."""
    return "inference" in scopes and "system" not in scopes


OPEN_CALLER = Caller(frozenset(SCOPES))
"""The caller on a server without keys (development on loopback)."""


NO_KEY = b"ma_none_" + b"a" * 24 + b"_" + b"A" * 43
"""Stands for a key that was not sent or is none: it has the form of one, so that refusing it takes as long."""


def token_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the key that a request sends, or `NO_KEY`.

    The key is in `Authorization: Bearer` (OpenAI's clients) or in `x-api-key` (Anthropic's).
    """
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    token = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
    return token or NO_KEY


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of METAALIGN_API_KEYS; `digest` is its SHA-256."""

    id: str
    digest: bytes
    scopes: frozenset[str]


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Parse `key,key:inference,key:inference+system`; a key without scopes has all of them.

    Raises:
        ValueError: a scope is unknown or a key is empty; the message does not repeat the key.
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
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        keys.append(ApiKey(f"environment-{number}", digest, scopes))
    return tuple(keys)


class StaticKeys:
    """The keys configured in the environment; all belong to the default tenant."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def first_without_system(self) -> str | None:
        """Return the id of the first key that may use the model but not write the System tier, or None."""
        return next((key.id for key in self._keys if model_only(key.scopes)), None)

    def find(self, token: bytes) -> ApiKey | None:
        """Return the key that matches `token`, or None."""
        digest = hashlib.sha256(token).digest()
        found: ApiKey | None = None
        for known in self._keys:  # no early exit: timing must not reveal which key was close
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found
