"""`/v1/profiles`: named, versioned preferences of the caller's tenant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import Preferences
from metaalign_server.auth import Caller
from metaalign_server.platform import labels, portability, profiles
from metaalign_server.platform.errors import Refusal, not_found
from metaalign_server.platform.idempotency import Outcome, once
from metaalign_server.platform.portability import ImportReport, ProfileDocument
from metaalign_server.platform.profiles import Head, Version
from metaalign_server.routes.common import (
    JSON_BODY,
    Body,
    error_documents,
    needs,
    platform_of,
)

router = APIRouter(prefix="/v1/profiles", tags=["profiles"])

Reader = Annotated[Caller, Depends(needs("profiles:read"))]
Writer = Annotated[Caller, Depends(needs("profiles:write"))]
ProfileName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of a profile")]
LabelName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_.-]{0,62}$", description="name of a label")]
VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
IfMatch = Annotated[str | None, Header(description="ETag of the state that the change is made to")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="the same key again gets the same answer, for a day",
        json_schema_extra={"pattern": r"^[\x21-\x7e]{1,255}$"},
    ),
]

READING = error_documents(400, 401, 403, 404, 429, 503)
WRITING = error_documents(400, 401, 403, 404, 409, 412, 413, 422, 429, 503, 507)


class TargetModel(BaseModel):
    """A version that a label points to."""

    version: int
    weight: int


class LabelModel(BaseModel):
    """A label: a name that moves between versions."""

    versions: list[TargetModel]
    protected: bool
    updated_at: datetime


class LearnModel(Body):
    """How many of the last liked exchanges become examples, and whose."""

    examples: Annotated[int, Field(ge=0, le=8)] = 0
    scope: Literal["user", "profile"] = "user"


class ProfileModel(BaseModel):
    """A profile without its versions."""

    name: str
    latest: int
    labels: dict[str, LabelModel]
    archived: bool
    learn: LearnModel
    etag: str
    created_at: datetime
    updated_at: datetime


class VersionModel(BaseModel):
    """One version; it never changes."""

    profile: str
    version: int
    preferences: Any
    sha256: str
    note: str
    created_at: datetime
    created_by: str


class ProfilePage(BaseModel):
    """Some profiles; `after` for the next ones is the name of the last."""

    data: list[ProfileModel]
    has_more: bool


class VersionPage(BaseModel):
    """Some versions, the newest first; `before` for the next ones is the number of the last."""

    data: list[VersionModel]
    has_more: bool


class ChangeModel(BaseModel):
    """One path that differs; a side that lacks it has null."""

    model_config = {"populate_by_name": True}

    path: str
    from_: Annotated[Any, Field(alias="from")] = None
    to: Any = None


class DiffModel(BaseModel):
    """What changed from one version to another."""

    model_config = {"populate_by_name": True}

    profile: str
    from_: Annotated[int, Field(alias="from")]
    to: int
    changes: list[ChangeModel]


class Note(Body):
    note: Annotated[str, Field(max_length=500, description="why; for people")] = ""


class NewVersion(Note):
    preferences: Annotated[
        Preferences | None,
        BeforeValidator(lambda value: value, json_schema_input_type=str | Preferences | None),
        Field(description="Preferences of provider (`system`) and user (`user`); a bare string is `system`."),
    ] = None


class NewProfile(NewVersion):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    learn: LearnModel = LearnModel()


class ProfileChange(Body):
    archived: bool | None = None
    learn: LearnModel | None = None


class Target(Body):
    version: VersionNumber
    weight: Annotated[int, Field(ge=1, le=100)] = 100


class LabelMove(Body):
    """One `version`, or several `versions` by weight."""

    version: VersionNumber | None = None
    versions: Annotated[list[Target], Field(min_length=1, max_length=8)] | None = None
    protected: bool | None = None


class ProfilesDocument(Body):
    """Profiles with their versions and labels, as JSON or YAML."""

    profiles: Annotated[list[ProfileDocument], Field(max_length=1000)]


_DOCUMENT = {"$ref": "#/components/schemas/ProfilesDocument"}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _head(head: Head) -> ProfileModel:
    return ProfileModel(
        name=head.name,
        latest=head.latest,
        labels={
            name: LabelModel(
                versions=[TargetModel(version=number, weight=weight) for number, weight in label.targets],
                protected=label.protected,
                updated_at=_time(label.updated_at),
            )
            for name, label in head.labels.items()
        },
        archived=head.archived,
        learn=LearnModel(examples=head.learn_examples, scope=head.learn_scope),
        etag=head.etag,
        created_at=_time(head.created_at),
        updated_at=_time(head.updated_at),
    )


def _version(head: Head, version: Version) -> VersionModel:
    return VersionModel(
        profile=head.name,
        version=version.number,
        preferences=json.loads(version.text),
        sha256=version.sha256,
        note=version.note,
        created_at=_time(version.created_at),
        created_by=version.created_by,
    )


def _respond(outcome: Outcome) -> Response:
    headers = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    if outcome.etag is not None:
        headers["ETag"] = outcome.etag
    if outcome.status == 204:
        return Response(status_code=204, headers=headers)
    return Response(outcome.body, outcome.status, headers, media_type="application/json")


async def _write(
    request: Request,
    caller: Caller,
    key: str | None,
    change: Callable[[AsyncConnection], Awaitable[tuple[BaseModel | None, str | None]]],
    status: int = 200,
) -> Response:
    """Make a change once for each idempotency key, and see it at once."""

    async def write(connection: AsyncConnection) -> Outcome:
        model, etag = await change(connection)
        return Outcome(status, model.model_dump_json(by_alias=True) if model is not None else "", etag)

    body = (await request.body()).decode("utf-8", "surrogateescape")
    said = f"{request.method} {request.url.path} {request.headers.get('if-match', '')}\n{body}"
    outcome = await once(platform_of(request).database, caller.tenant.id, key, said, write)
    platform_of(request).forget()
    return _respond(outcome)


async def _find(connection: AsyncConnection, caller: Caller, name: str) -> Head:
    head = await profiles.find(connection, caller.tenant.id, name)
    if head is None:
        raise not_found("profile", name)
    return head


@router.post("", status_code=201, response_model=ProfileModel, responses=WRITING, dependencies=JSON_BODY)
async def create_profile(
    body: NewProfile, request: Request, caller: Writer, idempotency_key: IdempotencyKey = None
) -> Response:
    """A new profile with its first version."""
    preferences = profiles.validate(body.preferences or {}, caller)

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        learn = (body.learn.examples, body.learn.scope)
        head = await profiles.create(connection, caller, body.name, preferences, note=body.note, learn=learn)
        return _head(head), head.etag

    return await _write(request, caller, idempotency_key, change, status=201)


@router.get("", response_model=ProfilePage, responses=READING)
async def list_profiles(
    request: Request,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=63, description="a name")] = None,
    archived: Annotated[bool, Query(description="archived ones too")] = False,
) -> Response:
    """Profiles by name."""
    async with platform_of(request).database.read() as connection:
        heads = await profiles.list_heads(
            connection, caller.tenant.id, after=after, limit=limit + 1, archived=archived
        )
    page = ProfilePage(data=[_head(head) for head in heads[:limit]], has_more=len(heads) > limit)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    ":export",
    response_model=ProfilesDocument,
    responses=READING
    | {200: {"content": {"application/yaml": {"schema": _DOCUMENT}}, "description": "All profiles."}},
)
async def export_profiles(
    request: Request,
    caller: Reader,
    format_: Annotated[Literal["json", "yaml"], Query(alias="format")] = "json",
) -> Response:
    """All profiles with all versions and labels, as one document that `:import` takes."""
    async with platform_of(request).database.read() as connection:
        documents = await portability.export_profiles(connection, caller.tenant.id)
    tree = {"profiles": documents}
    if format_ == "yaml":
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        return Response(text, media_type="application/yaml")
    return Response(json.dumps(tree, ensure_ascii=False), media_type="application/json")


_IMPORT = TypeAdapter(ProfilesDocument)
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_NODES = 500_000
_YAML_BODIES = {"application/yaml", "application/x-yaml", "text/yaml"}


@router.post(
    ":import",
    response_model=ImportReport,
    responses=WRITING,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {media: {"schema": _DOCUMENT} for media in ("application/json", "application/yaml")},
        }
    },
)
async def import_profiles(
    request: Request, caller: Writer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Take over what `:export` gave, all or nothing; what is there already stays."""
    body = await request.body()
    read = await asyncio.to_thread(_read_import, request.headers.get("content-type", ""), body)
    documents = read.profiles

    async def change(connection: AsyncConnection) -> tuple[BaseModel, None]:
        return await portability.import_profiles(connection, caller, documents), None

    return await _write(request, caller, idempotency_key, change)


def _read_import(content_type: str, body: bytes) -> ProfilesDocument:
    media = content_type.split(";", 1)[0].strip().lower()
    try:
        tree = yaml.load(body, _YAML) if media in _YAML_BODIES else json.loads(body)  # noqa: S506  # a safe loader
        _check_size(tree)
        return _IMPORT.validate_python(tree, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise Refusal(400, "invalid_document", f"{where}: {first['msg']}", param=where) from None
    except (ValueError, RecursionError, yaml.YAMLError):
        raise Refusal(
            400, "invalid_document", "body: neither JSON nor YAML that can be read", param="body"
        ) from None


def _check_size(tree: Any) -> None:
    """Refuse a document that grows by aliases: few bytes of YAML can stand for a tree without end."""
    stack, nodes = [tree], 0
    while stack:
        node = stack.pop()
        nodes += 1
        if nodes > _MAX_NODES:
            raise ValueError("too many nodes")
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


@router.get("/{name}", response_model=ProfileModel, responses=READING)
async def get_profile(name: ProfileName, request: Request, caller: Reader) -> Response:
    """One profile; its ETag is for `If-Match`."""
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
    return Response(_head(head).model_dump_json(), media_type="application/json", headers={"ETag": head.etag})


@router.patch("/{name}", response_model=ProfileModel, responses=WRITING, dependencies=JSON_BODY)
async def change_profile(
    body: ProfileChange,
    name: ProfileName,
    request: Request,
    caller: Writer,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Archive, restore, or set what it learns. An archived profile is not found by requests."""

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        learn = (body.learn.examples, body.learn.scope) if body.learn is not None else None
        head = await profiles.update(
            connection, caller, name, archived=body.archived, learn=learn, if_match=if_match
        )
        return _head(head), head.etag

    return await _write(request, caller, idempotency_key, change)


@router.delete("/{name}", status_code=204, responses=WRITING)
async def delete_profile(
    name: ProfileName,
    request: Request,
    caller: Writer,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Remove a profile with all versions and labels; its numbers are not given again."""

    async def change(connection: AsyncConnection) -> tuple[None, None]:
        await profiles.delete(connection, caller, name, if_match=if_match)
        return None, None

    return await _write(request, caller, idempotency_key, change, status=204)


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=VersionModel,
    responses=WRITING,
    dependencies=JSON_BODY,
)
async def create_version(
    body: NewVersion,
    name: ProfileName,
    request: Request,
    caller: Writer,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The next version; labels stay where they are."""
    preferences = profiles.validate(body.preferences or {}, caller)

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        version = await profiles.add_version(
            connection, caller, name, preferences, note=body.note, if_match=if_match
        )
        head = await _find(connection, caller, name)
        return _version(head, version), head.etag

    return await _write(request, caller, idempotency_key, change, status=201)


@router.get("/{name}/versions", response_model=VersionPage, responses=READING)
async def list_versions(
    name: ProfileName,
    request: Request,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """Versions, the newest first."""
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
        found = await profiles.list_versions(connection, head, before=before, limit=limit + 1)
    page = VersionPage(data=[_version(head, v) for v in found[:limit]], has_more=len(found) > limit)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get("/{name}/versions/{number}", response_model=VersionModel, responses=READING)
async def get_version(
    name: ProfileName,
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    request: Request,
    caller: Reader,
) -> Response:
    """One version."""
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
        version = await profiles.find_version(connection, head, number)
    if version is None:
        raise not_found("version", f"{name}:{number}")
    return Response(_version(head, version).model_dump_json(), media_type="application/json")


@router.get("/{name}/diff", response_model=DiffModel, responses=READING)
async def diff_versions(
    name: ProfileName,
    request: Request,
    caller: Reader,
    from_: Annotated[int, Query(alias="from", ge=1, le=2**31 - 1)],
    to: Annotated[int, Query(ge=1, le=2**31 - 1)],
) -> Response:
    """What changed from one version to another."""
    found = []
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
        for number in (from_, to):
            version = await profiles.find_version(connection, head, number)
            if version is None:
                raise not_found("version", f"{name}:{number}")
            found.append(version)
    changes = [ChangeModel.model_validate(change) for change in portability.difference(*found)]
    diff = DiffModel(profile=name, from_=from_, to=to, changes=changes)
    return Response(diff.model_dump_json(by_alias=True), media_type="application/json")


@router.put("/{name}/labels/{label}", response_model=ProfileModel, responses=WRITING, dependencies=JSON_BODY)
async def move_label(
    body: LabelMove,
    name: ProfileName,
    label: LabelName,
    request: Request,
    caller: Writer,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Point a label at a version, or at several by weight; a protected one takes the scope `admin`."""
    if (body.version is None) == (body.versions is None):
        raise Refusal(400, "invalid_label", "version: give either `version` or `versions`", param="version")
    chosen = body.versions or [Target(version=body.version or 1)]
    if len({target.version for target in chosen}) != len(chosen):
        raise Refusal(400, "invalid_label", "versions: each version once", param="versions")
    targets = tuple((target.version, target.weight) for target in chosen)

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        head = await labels.move_label(
            connection, caller, name, label, targets, protected=body.protected, if_match=if_match
        )
        return _head(head), head.etag

    return await _write(request, caller, idempotency_key, change)


@router.post("/{name}/labels/{label}/rollback", response_model=ProfileModel, responses=WRITING)
async def roll_back_label(
    name: ProfileName,
    label: LabelName,
    request: Request,
    caller: Writer,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Point a label at what it pointed at before its last move."""

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        head = await labels.roll_back(connection, caller, name, label, if_match=if_match)
        return _head(head), head.etag

    return await _write(request, caller, idempotency_key, change)


@router.delete("/{name}/labels/{label}", response_model=ProfileModel, responses=WRITING)
async def delete_label(
    name: ProfileName,
    label: LabelName,
    request: Request,
    caller: Writer,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Remove a label."""

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        head = await labels.delete_label(connection, caller, name, label, if_match=if_match)
        return _head(head), head.etag

    return await _write(request, caller, idempotency_key, change)
