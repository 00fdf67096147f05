"""Tenants and their keys: their rows, their changes, and the part that the request path uses."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import SystemPreferences
from metaalign_server.callers import SCOPES, Caller, Limits, Tenant, model_only
from metaalign_server.platform import audit
from metaalign_server.platform.profiles import check_name
from metaalign_server.platform.refusal import Refusal, not_found
from metaalign_server.platform.server_secret import NewKey, Secret
from metaalign_server.store.database import insert_if_absent
from metaalign_server.store.tables import api_keys, now_ms, tenants

__all__ = [
    "KeyRow",
    "TenantRow",
    "any_key",
    "create_key",
    "create_tenant",
    "ensure_default_tenant",
    "find_key",
    "find_tenant",
    "list_keys",
    "list_tenants",
    "revoke_key",
    "rotate_key",
    "update_tenant",
]

MAX_KEYS = 1000


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A stored tenant; `tenant` is what the request path sees."""

    tenant: Tenant
    revision: int
    created_at: int
    disabled: bool

    @property
    def etag(self) -> str:
        return f'"{self.tenant.id[:8]}-{self.revision}"'


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A stored key; times are milliseconds since 1970."""

    id: str
    tenant_id: str
    name: str
    digest: bytes
    public_key: bytes | None
    scopes: frozenset[str]
    limits: Limits
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    def live(self, now: int) -> bool:
        """Return whether the key is valid at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def _tenant(row: sa.RowMapping) -> TenantRow:
    policy = row["policy"]
    tenant = Tenant(
        id=row["id"],
        name=row["name"],
        policy=SystemPreferences.model_validate_json(policy) if policy is not None else None,
        limits=Limits.model_validate(row["limits"]),
        share_cache=row["share_cache"],
        share_policy=row["share_policy"],
    )
    return TenantRow(tenant, row["revision"], row["created_at"], row["disabled_at"] is not None)


def _key(row: sa.RowMapping) -> KeyRow:
    return KeyRow(
        id=row["id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        digest=bytes(row["digest"]),
        public_key=bytes(row["public_key"]) if row["public_key"] is not None else None,
        scopes=frozenset(row["scopes"]),
        limits=Limits.model_validate(row["limits"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


# Tenants


async def find_tenant(
    connection: AsyncConnection, *, name: str | None = None, tenant_id: str | None = None, lock: bool = False
) -> TenantRow | None:
    """Return a tenant by name or by id, or None."""
    query = sa.select(tenants)
    query = (
        query.where(tenants.c.name == name) if name is not None else query.where(tenants.c.id == tenant_id)
    )
    row = (await connection.execute(query.with_for_update() if lock else query)).mappings().first()
    return _tenant(row) if row is not None else None


async def list_tenants(
    connection: AsyncConnection, *, after: str | None = None, limit: int = 100
) -> list[TenantRow]:
    """Return tenants, ordered by name."""
    query = sa.select(tenants).order_by(tenants.c.name).limit(limit)
    if after is not None:
        query = query.where(tenants.c.name > after)
    return [_tenant(row) for row in (await connection.execute(query)).mappings()]


async def ensure_default_tenant(connection: AsyncConnection) -> None:
    """Create the tenant `default` if it is missing; keys from the environment and open mode belong to it."""
    values = {"id": "default", "name": "default", "limits": {}, "share_cache": False, "revision": 1}
    await connection.execute(insert_if_absent(connection, tenants, created_at=now_ms(), **values))


async def create_tenant(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    *,
    policy: SystemPreferences | None = None,
    limits: Limits | None = None,
    share_cache: bool = False,
    share_policy: bool = False,
) -> TenantRow:
    """Create a tenant.

    Raises:
        Refusal: the name is taken or invalid.
    """
    check_name(name)
    tenant_id = secrets.token_hex(16)
    values = {
        "policy": _policy_text(policy),
        "limits": (limits or Limits()).model_dump(exclude_none=True),
        "share_cache": share_cache,
        "share_policy": share_policy,
    }
    try:
        await connection.execute(
            sa.insert(tenants).values(id=tenant_id, name=name, revision=1, created_at=now_ms(), **values)
        )
    except IntegrityError:
        raise Refusal("tenant_exists", f"tenant `{name}` exists", param="name") from None
    await audit.record(connection, caller, "tenant.create", name, tenant_id=tenant_id, after=values)
    return await _refind(connection, tenant_id)


def _policy_text(policy: SystemPreferences | None) -> str | None:
    return policy.model_dump_json(exclude_none=True, exclude_defaults=True) if policy is not None else None


async def _refind(connection: AsyncConnection, tenant_id: str) -> TenantRow:
    row = await find_tenant(connection, tenant_id=tenant_id)
    if row is None:
        raise AssertionError("a tenant that was just written is found")
    return row


async def update_tenant(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    changes: Mapping[str, Any],
    if_match: str | None = None,
) -> TenantRow:
    """Change `policy`, `limits`, `share_cache`, `share_policy` or `disabled`; the other fields stay unchanged.

    Raises:
        Refusal: there is no such tenant, it has changed since `if_match`, or the default tenant would be disabled.
    """
    row = await find_tenant(connection, name=name, lock=True)
    if row is None:
        raise not_found("tenant", name)
    if if_match is not None and if_match.strip() not in ("*", row.etag):
        raise Refusal(
            "precondition_failed",
            f"tenant `{name}` has changed since it was read; read it again",
            param="If-Match",
        )
    values: dict[str, Any] = {}
    if "policy" in changes:
        values["policy"] = _policy_text(changes["policy"])
    if "limits" in changes:
        values["limits"] = (changes["limits"] or Limits()).model_dump(exclude_none=True)
    for field in ("share_cache", "share_policy"):
        if field in changes:
            values[field] = changes[field]
    if "disabled" in changes:
        if row.tenant.id == "default" and changes["disabled"]:
            raise Refusal(
                "default_tenant", "the default tenant cannot be disabled; revoke its keys", param="disabled"
            )
        values["disabled_at"] = now_ms() if changes["disabled"] else None
    await connection.execute(
        sa.update(tenants).where(tenants.c.id == row.tenant.id).values(revision=row.revision + 1, **values)
    )
    after = await _refind(connection, row.tenant.id)
    await audit.record(
        connection,
        caller,
        "tenant.update",
        name,
        tenant_id=row.tenant.id,
        before=_tree(row),
        after=_tree(after),
    )
    return after


def _tree(row: TenantRow) -> Any:
    tenant = row.tenant
    return [
        _policy_text(tenant.policy),
        tenant.limits.model_dump(),
        tenant.share_cache,
        tenant.share_policy,
        row.disabled,
    ]


# Keys


async def any_key(connection: AsyncConnection) -> bool:
    """Return whether a key was ever created; from then on, requests need a key."""
    return (await connection.scalar(sa.select(api_keys.c.id).limit(1))) is not None


async def key_without_system(connection: AsyncConnection) -> str | None:
    """Return the id of a live key that may use the model but not write the System tier, or None."""
    rows = (await connection.execute(sa.select(api_keys).where(api_keys.c.revoked_at.is_(None)))).mappings()
    now = now_ms()
    return next((key.id for row in rows if (key := _key(row)).live(now) and model_only(key.scopes)), None)


async def find_key(connection: AsyncConnection, key_id: str, *, lock: bool = False) -> KeyRow | None:
    """Return a key by its public part, or None."""
    query = sa.select(api_keys).where(api_keys.c.id == key_id)
    row = (await connection.execute(query.with_for_update() if lock else query)).mappings().first()
    return _key(row) if row is not None else None


async def list_keys(
    connection: AsyncConnection, *, tenant_id: str | None = None, after: str | None = None, limit: int = 100
) -> list[KeyRow]:
    """Return keys, ordered by id, including revoked ones."""
    query = sa.select(api_keys).order_by(api_keys.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(api_keys.c.tenant_id == tenant_id)
    if after is not None:
        query = query.where(api_keys.c.id > after)
    return [_key(row) for row in (await connection.execute(query)).mappings()]


async def create_key(
    connection: AsyncConnection,
    caller: Caller,
    secret: Secret,
    environment: str,
    *,
    tenant: str,
    name: str,
    scopes: Sequence[str],
    limits: Limits | None = None,
    expires_at: int | None = None,
) -> tuple[NewKey, KeyRow]:
    """Create a key; its token is in the first element of the result and nowhere else.

    Raises:
        Refusal: there is no such tenant, a scope is unknown, or the tenant has too many keys.
    """
    row = await find_tenant(connection, name=tenant, lock=True)
    if row is None:
        raise not_found("tenant", tenant, "tenant")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise Refusal(
            "unknown_scope",
            f"scopes: {', '.join(unknown)} is none of {', '.join(SCOPES)}",
            param="scopes",
        )
    if not scopes:
        raise Refusal("unknown_scope", f"scopes: name at least one of {', '.join(SCOPES)}", param="scopes")
    now = now_ms()
    if expires_at is not None and expires_at <= now:
        raise Refusal("invalid_expiry", "expires_at: must be in the future", param="expires_at")
    count = await connection.scalar(
        sa.select(sa.func.count()).where(
            api_keys.c.tenant_id == row.tenant.id,
            api_keys.c.revoked_at.is_(None),
            sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now),
        )
    )
    if (count or 0) >= MAX_KEYS:
        raise Refusal(
            "too_many_keys", f"tenant `{tenant}` has {MAX_KEYS} live keys; revoke one", param="tenant"
        )
    new = secret.new_key(environment)
    key = KeyRow(
        id=new.id,
        tenant_id=row.tenant.id,
        name=name,
        digest=new.digest,
        public_key=new.public_key,
        scopes=frozenset(scopes),
        limits=limits or Limits(),
        created_at=now,
        expires_at=expires_at,
        revoked_at=None,
    )
    await connection.execute(
        sa.insert(api_keys).values(
            id=key.id,
            tenant_id=key.tenant_id,
            name=name,
            digest=key.digest,
            public_key=key.public_key,
            scopes=sorted(key.scopes),
            limits=key.limits.model_dump(exclude_none=True),
            created_at=key.created_at,
            expires_at=expires_at,
        )
    )
    await audit.record(
        connection, caller, "key.create", key.id, tenant_id=key.tenant_id, after=sorted(key.scopes)
    )
    return new, key


async def revoke_key(connection: AsyncConnection, caller: Caller, key_id: str) -> KeyRow:
    """Revoke a key.

    Raises:
        Refusal: there is no such key.
    """
    key = await find_key(connection, key_id, lock=True)
    if key is None:
        raise not_found("key", key_id)
    if key.revoked_at is None:
        await connection.execute(
            sa.update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now_ms())
        )
        await audit.record(
            connection, caller, "key.revoke", key_id, tenant_id=key.tenant_id, before=sorted(key.scopes)
        )
        key = await find_key(connection, key_id) or key
    return key


async def rotate_key(
    connection: AsyncConnection,
    caller: Caller,
    secret: Secret,
    environment: str,
    key_id: str,
    grace_seconds: int,
) -> tuple[NewKey, KeyRow]:
    """Create a key with the settings of an old one; the old key expires after `grace_seconds`.

    Raises:
        Refusal: there is no such key, or it is revoked or expired.
    """
    old = await find_key(connection, key_id, lock=True)
    if old is None:
        raise not_found("key", key_id)
    now = now_ms()
    if not old.live(now):
        raise Refusal("key_not_live", f"key `{key_id}` is revoked or expired; make a new one")
    tenant = await _refind(connection, old.tenant_id)
    made = await create_key(
        connection,
        caller,
        secret,
        environment,
        tenant=tenant.tenant.name,
        name=old.name,
        scopes=sorted(old.scopes),
        limits=old.limits,
        expires_at=old.expires_at,
    )
    end = now + grace_seconds * 1000
    await connection.execute(
        sa.update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(expires_at=min(end, old.expires_at) if old.expires_at is not None else end)
    )
    await audit.record(
        connection, caller, "key.rotate", key_id, tenant_id=old.tenant_id, before=old.id, after=made[1].id
    )
    return made
