"""`/v1/admin`: tenants, keys, the audit log, erasure. Only for the operator's keys, which have the scope `admin`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import SystemPreferences, parse_preferences
from metaalign_server.callers import SCOPES, Caller, Limits
from metaalign_server.platform import audit, tenants
from metaalign_server.platform.refusal import not_found
from metaalign_server.platform.tenants import KeyRow, TenantRow
from metaalign_server.routes.common import (
    JSON_BODY,
    Body,
    IfMatch,
    Name,
    error_documents,
    needs,
    platform_of,
    service_of,
)
from metaalign_server.routes.feedback import ErasureModel, UserId, erase

router = APIRouter(prefix="/v1/admin", tags=["admin"])

Admin = Annotated[Caller, Depends(needs("admin"))]
TenantName = Annotated[Name, Path(description="name of a tenant")]
KeyId = Annotated[str, Path(pattern=r"^[a-z2-7]{24}$", description="the public part of a key")]
MAX_TIME = 253_402_300_799  # the year 9999

READING = error_documents(400, 401, 403, 404, 429, 503)
WRITING = error_documents(400, 401, 403, 404, 409, 412, 413, 429, 503, 507)


class TenantModel(BaseModel):
    """One tenant."""

    id: str
    name: str
    policy: Any = Field(None, description="System preferences that no request of the tenant can override")
    limits: Limits
    share_cache: bool
    share_policy: bool
    disabled: bool
    etag: str
    created_at: datetime


class TenantPage(BaseModel):
    """A page of tenants; for the next page, `after` is the name of the last one."""

    data: list[TenantModel]
    has_more: bool


class KeyModel(BaseModel):
    """One key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKeyModel(KeyModel):
    """A newly created key; `key` is shown only once."""

    key: str


class KeyPage(BaseModel):
    """A page of keys; for the next page, `after` is the id of the last one."""

    data: list[KeyModel]
    has_more: bool


class AuditEntry(BaseModel):
    """One change, with hashes of the state before and after; never the content."""

    id: int
    at: datetime
    tenant_id: str
    actor: str
    action: str
    object: str
    before: str | None
    after: str | None


class AuditPage(BaseModel):
    """A page of entries, newest first; for the next page, `before` is the id of the last one."""

    data: list[AuditEntry]
    has_more: bool


ShareCache = Annotated[
    bool, Field(description="share prefix-cache blocks of whole prompts with other tenants that do")
]
SharePolicy = Annotated[
    bool, Field(description="share prefix-cache blocks of the policy with tenants that have the same one")
]


class LimitsBody(Limits, Body):
    """Limits in a request."""


class NewTenant(Body):
    name: Name
    policy: SystemPreferences | None = None
    limits: LimitsBody | None = None
    share_cache: ShareCache = False
    share_policy: SharePolicy = False


class TenantChange(Body):
    policy: SystemPreferences | None = None
    limits: LimitsBody | None = None
    share_cache: ShareCache | None = None
    share_policy: SharePolicy | None = None
    disabled: bool | None = None


class NewKeyBody(Body):
    tenant: Name = "default"
    name: Annotated[str, Field(max_length=100)] = ""
    scopes: Annotated[
        list[str],
        Field(min_length=1, max_length=len(SCOPES), json_schema_extra={"items": {"enum": list(SCOPES)}}),
    ]
    limits: LimitsBody | None = None
    expires_at: Annotated[int, Field(ge=0, le=MAX_TIME, description="seconds since 1970")] | None = None


class Rotation(Body):
    grace_seconds: Annotated[int, Field(ge=0, le=90 * 86_400)] = 86_400


class AdminErase(Body):
    tenant: Name
    user: UserId


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _maybe_time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _time(milliseconds)


def _tenant(row: TenantRow) -> TenantModel:
    tenant = row.tenant
    policy = tenant.policy
    return TenantModel(
        id=tenant.id,
        name=tenant.name,
        policy=None if policy is None else policy.model_dump(mode="json", exclude_defaults=True),
        limits=tenant.limits,
        share_cache=tenant.share_cache,
        share_policy=tenant.share_policy,
        disabled=row.disabled,
        etag=row.etag,
        created_at=_time(row.created_at),
    )


def _key_fields(key: KeyRow, tenant: str) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": tenant,
        "name": key.name,
        "scopes": [scope for scope in SCOPES if scope in key.scopes],
        "limits": key.limits,
        "created_at": _time(key.created_at),
        "expires_at": _maybe_time(key.expires_at),
        "revoked_at": _maybe_time(key.revoked_at),
    }


def _respond(model: BaseModel, status: int = 200, etag: str | None = None) -> Response:
    headers = {"ETag": etag} if etag is not None else None
    return Response(model.model_dump_json(), status, headers, media_type="application/json")


def _policy(value: SystemPreferences | None) -> SystemPreferences | None:
    """Return the policy, checked against the bounds of a whole `preferences` field."""
    if value is None:
        return None
    return parse_preferences({"system": value.model_dump(exclude_none=True)}).system


async def _tenant_named(connection: AsyncConnection, name: str) -> TenantRow:
    row = await tenants.find_tenant(connection, name=name)
    if row is None:
        raise not_found("tenant", name, "tenant")
    return row


async def _names(connection: AsyncConnection, keys: list[KeyRow]) -> dict[str, str]:
    found = {}
    for tenant_id in {key.tenant_id for key in keys}:
        row = await tenants.find_tenant(connection, tenant_id=tenant_id)
        found[tenant_id] = row.tenant.name if row is not None else tenant_id
    return found


# Tenants


@router.post(
    "/tenants", status_code=201, response_model=TenantModel, responses=WRITING, dependencies=JSON_BODY
)
async def create_tenant(body: NewTenant, request: Request, caller: Admin) -> Response:
    """Create a tenant."""
    policy = _policy(body.policy)
    async with platform_of(request).database.write() as connection:
        row = await tenants.create_tenant(
            connection,
            caller,
            body.name,
            policy=policy,
            limits=body.limits,
            share_cache=body.share_cache,
            share_policy=body.share_policy,
        )
    return _respond(_tenant(row), 201, row.etag)


@router.get("/tenants", response_model=TenantPage, responses=READING)
async def list_tenants(
    request: Request,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=63, description="only names after this one")] = None,
) -> Response:
    """List tenants by name."""
    async with platform_of(request).database.read() as connection:
        rows = await tenants.list_tenants(connection, after=after, limit=limit + 1)
    return _respond(TenantPage(data=[_tenant(row) for row in rows[:limit]], has_more=len(rows) > limit))


@router.get("/tenants/{name}", response_model=TenantModel, responses=READING)
async def get_tenant(name: TenantName, request: Request, caller: Admin) -> Response:
    """Get one tenant."""
    async with platform_of(request).database.read() as connection:
        row = await _tenant_named(connection, name)
    return _respond(_tenant(row), etag=row.etag)


@router.patch("/tenants/{name}", response_model=TenantModel, responses=WRITING, dependencies=JSON_BODY)
async def change_tenant(
    body: TenantChange, name: TenantName, request: Request, caller: Admin, if_match: IfMatch = None
) -> Response:
    """Change the fields in the body; `policy` and `limits` are replaced as a whole, and null removes them."""
    changes: dict[str, Any] = {field: getattr(body, field) for field in body.model_fields_set}
    if "policy" in changes:
        changes["policy"] = _policy(body.policy)
    for field in ("share_cache", "share_policy", "disabled"):
        if changes.get(field, False) is None:
            del changes[field]
    platform = platform_of(request)
    async with platform.database.write() as connection:
        row = await tenants.update_tenant(connection, caller, name, changes, if_match)
    platform.forget()
    return _respond(_tenant(row), etag=row.etag)


# Keys


@router.post("/keys", status_code=201, response_model=NewKeyModel, responses=WRITING, dependencies=JSON_BODY)
async def create_key(body: NewKeyBody, request: Request, caller: Admin) -> Response:
    """Create a key; it is shown in this response and never again."""
    platform = platform_of(request)
    async with platform.database.write() as connection:
        new, key = await tenants.create_key(
            connection,
            caller,
            platform.secret,
            platform.settings.key_environment,
            tenant=body.tenant,
            name=body.name,
            scopes=body.scopes,
            limits=body.limits,
            expires_at=None if body.expires_at is None else body.expires_at * 1000,
        )
    platform.forget()  # the first key ends open mode
    return _respond(NewKeyModel(key=new.token, **_key_fields(key, body.tenant)), 201)


@router.get("/keys", response_model=KeyPage, responses=READING)
async def list_keys(
    request: Request,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=24, description="only ids after this one")] = None,
    tenant: Name | None = None,
) -> Response:
    """List keys by id, including revoked and expired ones."""
    async with platform_of(request).database.read() as connection:
        owner = None if tenant is None else (await _tenant_named(connection, tenant)).tenant.id
        keys = await tenants.list_keys(connection, tenant_id=owner, after=after, limit=limit + 1)
        names = await _names(connection, keys)
    data = [KeyModel(**_key_fields(key, names[key.tenant_id])) for key in keys[:limit]]
    return _respond(KeyPage(data=data, has_more=len(keys) > limit))


@router.post("/keys/{key_id}/revoke", response_model=KeyModel, responses=WRITING)
async def revoke_key(key_id: KeyId, request: Request, caller: Admin) -> Response:
    """Revoke a key; other servers apply the change within METAALIGN_REFRESH_SECONDS."""
    platform = platform_of(request)
    async with platform.database.write() as connection:
        key = await tenants.revoke_key(connection, caller, key_id)
        names = await _names(connection, [key])
    platform.forget()
    return _respond(KeyModel(**_key_fields(key, names[key.tenant_id])))


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    response_model=NewKeyModel,
    responses=WRITING,
    dependencies=JSON_BODY,
)
async def rotate_key(body: Rotation, key_id: KeyId, request: Request, caller: Admin) -> Response:
    """Create a key with the settings of an old one; the old key expires after `grace_seconds`."""
    platform = platform_of(request)
    async with platform.database.write() as connection:
        new, key = await tenants.rotate_key(
            connection,
            caller,
            platform.secret,
            platform.settings.key_environment,
            key_id,
            body.grace_seconds,
        )
        names = await _names(connection, [key])
    platform.forget()
    return _respond(NewKeyModel(key=new.token, **_key_fields(key, names[key.tenant_id])), 201)


# Audit and erasure


@router.get("/audit", response_model=AuditPage, responses=READING)
async def list_audit(
    request: Request,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="only ids below this one")] = None,
    tenant: Name | None = None,
) -> Response:
    """List who changed what and when, newest first."""
    database = platform_of(request).database
    async with database.read() as connection:
        owner = None if tenant is None else (await _tenant_named(connection, tenant)).tenant.id
    rows = await audit.list_entries(database, tenant_id=owner, before_id=before, limit=limit + 1)
    entries = [AuditEntry(**{**row, "at": _time(row["at"])}) for row in rows[:limit]]
    return _respond(AuditPage(data=entries, has_more=len(rows) > limit))


@router.post(
    "/users/erase",
    response_model=ErasureModel,
    responses=error_documents(400, 401, 403, 404, 413, 429, 503, 507),
    dependencies=JSON_BODY,
)
async def erase_user(body: AdminErase, request: Request, caller: Admin) -> Response:
    """Delete everything stored about a user of any tenant; return what was deleted."""
    async with platform_of(request).database.read() as connection:
        row = await _tenant_named(connection, body.tenant)
    return _respond(await erase(service_of(request), caller, row.tenant.id, body.user))
