"""What the request path reads from the store: callers by key and profiles by reference, nearly always from memory.

Inference survives an outage of the database: cached values stay in use (`stale_cache.py`). Versions of profiles never
change, so they are cached until they are evicted.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from metaalign import Preferences, ProfileNotFound
from metaalign_server.callers import OPEN_CALLER, ApiKey, Caller, Limits, SignedUser, StaticKeys, Tenant
from metaalign_server.platform import profiles, tenants
from metaalign_server.platform.changes import Changes
from metaalign_server.platform.profiles import DEFAULT_LABEL, Head
from metaalign_server.platform.server_secret import Secret
from metaalign_server.platform.stale_cache import StaleCache
from metaalign_server.platform.user_tokens import UserToken, read_user_token
from metaalign_server.store.database import Database
from metaalign_server.store.tables import now_ms

__all__ = ["Lookups", "StoredProfile", "choose"]


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """One version of a profile, ready to apply.

    Attributes:
        reference: For example `support:3`.
    """

    profile_id: int
    number: int
    reference: str
    preferences: Preferences
    learn_examples: int
    learn_scope: str
    shared: bool = False


def choose(targets: profiles.Targets, sticky: str) -> int:
    """Choose one of several weighted versions; equal `sticky` values (user, profile and label) get the same one.

    The last target takes the end of the range, so that a growing canary keeps its users.
    """
    if len(targets) == 1:
        return targets[0][0]
    total = sum(weight for _, weight in targets)
    point = int.from_bytes(hashlib.sha256(sticky.encode()).digest()[:8], "big") / 2**64 * total
    for number, weight in targets:
        if point < weight:
            return number
        point -= weight
    return targets[-1][0]


class Lookups:
    """Cached lookups of callers and profiles.

    Args:
        database: The store.
        secret: Parses keys.
        static_keys: Keys from the environment, accepted in addition to those in the store.
        open_allowed: Treat every caller as the operator if there is no key at all (development).
        ttl: Seconds after which a change made by another server takes effect at the latest.
        key_limits, tenant_limits: Defaults for keys and tenants that set none.
        user_limits: Limits of each user who holds a signed token.
    """

    def __init__(
        self,
        database: Database,
        secret: Secret,
        static_keys: StaticKeys,
        *,
        open_allowed: bool,
        ttl: float = 2.0,
        key_limits: Limits | None = None,
        tenant_limits: Limits | None = None,
        user_limits: Limits | None = None,
    ) -> None:
        self._database = database
        self._secret = secret
        self._static = static_keys
        self._open_allowed = open_allowed and not static_keys
        self._key_limits = key_limits or Limits()
        self._tenant_limits = tenant_limits or Limits()
        self._user_limits = user_limits or Limits()
        # A caller is kept on top of the key and the tenant that it was made of: each may be half as old.
        self._seconds = ttl / 2
        self.changes = Changes(database, self._seconds)
        self._keys = StaleCache(self._load_key, self._seconds, 10_000, "keys", self.changes)
        self._tenants = StaleCache(self._load_tenant, self._seconds, 10_000, "tenants", self.changes)
        self._any_key = StaleCache(self._load_any_key, self._seconds, 1, "any_key", self.changes)
        self._heads = StaleCache(self._load_head, ttl, 10_000, "profiles", self.changes)
        self._versions = StaleCache(self._load_version, float("inf"), 10_000, "profile_versions")
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._round = 0

    # Callers

    def peek_caller(self, token: bytes) -> Caller | None:
        """Return the caller if this key was seen recently; reads only memory."""
        known = self._callers.get(hashlib.sha256(token).digest())
        return known[0] if known is not None and known[1] > time.monotonic() else None

    async def caller(self, token: bytes) -> Caller | None:
        """Return the caller that sends `token` (`NO_KEY` if none was sent), or None if the key is not valid.

        Raises:
            StoreUnavailable: the key is not cached and the store is unavailable.
        """
        asked_in = self._round
        caller, seconds = await self._find_caller(token)
        if caller is not None and asked_in == self._round:  # a result from before `forget` may be stale
            name = hashlib.sha256(token).digest()
            self._callers[name] = (caller, time.monotonic() + seconds)
            self._callers.move_to_end(name)
            if len(self._callers) > 10_000:
                self._callers.popitem(last=False)
        return caller

    async def _find_caller(self, token: bytes) -> tuple[Caller | None, float]:
        """Return the caller, and the number of seconds for which the result is valid."""
        if (static := self._static.find(token)) is not None:
            return await self._static_caller(static), self._seconds
        if (signed := read_user_token(token)) is not None and not await self._is_open():
            return await self._user_caller(signed)
        read = self._secret.read_key(token)
        if read is None:
            if await self._is_open():
                tenant = await self._tenants.get("default")
                caller = OPEN_CALLER if tenant is None else replace(OPEN_CALLER, tenant=tenant)
                return caller, self._seconds
            return None, 0.0
        key_id, digest = read
        key = await self._keys.get(key_id)
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None, 0.0
        return await self._key_caller(key)

    async def _is_open(self) -> bool:
        return self._open_allowed and not await self._any_key.get("any")

    async def _key_caller(self, key: tenants.KeyRow) -> tuple[Caller | None, float]:
        now = now_ms()
        tenant = await self._tenants.get(key.tenant_id) if key.live(now) else None
        if tenant is None:
            return None, 0.0
        left = float("inf") if key.expires_at is None else (key.expires_at - now) / 1000
        seconds = min(self._seconds, left)
        return Caller(key.scopes, key.id, tenant, key.limits.or_default(self._key_limits)), seconds

    async def _user_caller(self, token: UserToken) -> tuple[Caller | None, float]:
        """Return a caller with no more than its key's right to inference, for one user."""
        left = token.seconds_left(time.time())
        key = await self._keys.get(token.key_id) if self._secret.issued(token.key_id) and left > 0 else None
        if key is None or key.public_key is None or not token.signed_by(key.public_key):
            return None, 0.0
        caller, seconds = await self._key_caller(key)
        if caller is None:
            return None, 0.0
        user = SignedUser(token.user, self._secret.user(caller.tenant.id, token.user), self._user_limits)
        return replace(caller, scopes=caller.scopes & {"inference"}, user=user), min(seconds, left)

    async def _static_caller(self, key: ApiKey) -> Caller:
        tenant = await self._tenants.get("default")
        return Caller(key.scopes, key.id, tenant or Tenant(), self._key_limits)

    async def _load_key(self, key_id: str) -> tenants.KeyRow | None:
        async with self._database.read() as connection:
            return await tenants.find_key(connection, key_id)

    async def _load_tenant(self, tenant_id: str) -> Tenant | None:
        async with self._database.read() as connection:
            row = await tenants.find_tenant(connection, tenant_id=tenant_id)
        if row is None or row.disabled:
            return None
        return replace(row.tenant, limits=row.tenant.limits.or_default(self._tenant_limits))

    async def _load_any_key(self, _: str) -> bool:
        async with self._database.read() as connection:
            return await tenants.any_key(connection)

    async def key_without_system(self) -> str | None:
        """Return the id of a key that may use the model but not write the System tier, or None.

        Raises:
            StoreUnavailable: the store is unavailable.
        """
        if (weak := self._static.first_without_system()) is not None:
            return weak
        async with self._database.read() as connection:
            return await tenants.key_without_system(connection)

    # Profiles

    async def find_profiles(
        self, tenant_id: str, references: Sequence[str], user: str | None
    ) -> tuple[StoredProfile, ...]:
        """Return the versions that `references` name, in the same order; `user` makes a weighted label sticky.

        Raises:
            ProfileNotFound: one does not exist for this tenant, or is archived.
            StoreUnavailable: one is not cached and the store is unavailable.
        """
        return tuple([await self._find_profile(tenant_id, reference, user) for reference in references])

    async def _find_profile(self, tenant_id: str, reference: str, user: str | None) -> StoredProfile:
        name, _, label = reference.partition("@")
        name, _, number_text = name.partition(":")
        head = await self._heads.get((tenant_id, name))
        if head is None or head.archived:
            raise _missing(reference)
        if number_text:
            number = int(number_text) if number_text.isdecimal() and len(number_text) < 10 else 0
        else:
            target = head.labels.get(label or DEFAULT_LABEL)
            if target is not None:
                sticky = user if user is not None else str(random.random())  # noqa: S311  # not a secret
                number = choose(target.targets, f"{head.id}\0{label or DEFAULT_LABEL}\0{sticky}")
            elif label:
                raise _missing(reference)
            else:
                number = head.latest
        try:
            preferences = await self._versions.get((head.id, head.created_at, number))
        except LookupError:
            raise _missing(reference) from None
        return StoredProfile(
            head.id,
            number,
            f"{name}:{number}",
            preferences,
            head.learn_examples,
            head.learn_scope,
            head.shares(number),
        )

    async def _load_head(self, key: tuple[str, str]) -> Head | None:
        async with self._database.read() as connection:
            return await profiles.find(connection, *key)

    async def _load_version(self, key: tuple[int, int, int]) -> Preferences:
        # The creation time is part of the key because a recreated profile has none of its old versions.
        profile_id, _, number = key
        async with self._database.read() as connection:
            text = await connection.scalar(profiles.version_text(profile_id, number))
        if text is None:
            raise LookupError(key)  # do not cache: the number may be assigned later
        return Preferences.model_validate_json(text)

    def forget(self) -> None:
        """Make changes made through this server take effect immediately."""
        self._callers.clear()
        self._round += 1
        for cache in (self._keys, self._tenants, self._any_key, self._heads):
            cache.forget()


def _missing(reference: str) -> ProfileNotFound:
    return ProfileNotFound(f"no profile `{reference}`")
