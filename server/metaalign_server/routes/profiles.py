"""`/v1/profiles`: named, versioned preferences of the caller's tenant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.callers import Caller
from metaalign_server.platform import labels, portability, profiles
from metaalign_server.platform.idempotency import Outcome, once
from metaalign_server.platform.portability import ImportReport
from metaalign_server.platform.profiles import Head
from metaalign_server.platform.refusal import Refusal, not_found
from metaalign_server.routes.common import (
    JSON_BODY,
    IfMatch,
    Name,
    error_documents,
    needs,
    platform_of,
)
from metaalign_server.routes.profile_models import (
    ChangeModel,
    DiffModel,
    LabelMove,
    NewProfile,
    NewVersion,
    ProfileChange,
    ProfileModel,
    ProfilePage,
    ProfilesDocument,
    Target,
    VersionModel,
    VersionPage,
    head_model,
    version_model,
)

router = APIRouter(prefix="/v1/profiles", tags=["profiles"])

Reader = Annotated[Caller, Depends(needs("profiles:read"))]
ProfileName = Annotated[Name, Path(description="name of a profile")]
LabelName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_.-]{0,62}$", description="name of a label")]

READING = error_documents(400, 401, 403, 404, 429, 503)
WRITING = error_documents(400, 401, 403, 404, 409, 412, 413, 422, 429, 503, 507)


_DOCUMENT = {"$ref": "#/components/schemas/ProfilesDocument"}


def _respond(outcome: Outcome) -> Response:
    headers = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    if outcome.etag is not None:
        headers["ETag"] = outcome.etag
    if outcome.status == 204:
        return Response(status_code=204, headers=headers)
    return Response(outcome.body, outcome.status, headers, media_type="application/json")


@dataclass(frozen=True, slots=True)
class _Write:
    """What every change needs from its request: the caller, the idempotency key and the expected state."""

    request: Request
    caller: Caller
    key: str | None
    if_match: str | None = None

    async def __call__(
        self,
        change: Callable[[AsyncConnection], Awaitable[tuple[BaseModel | None, str | None]]],
        status: int = 200,
        seconds: float | None = None,
    ) -> Response:
        """Make the change once per idempotency key, and let it take effect immediately."""

        async def write(connection: AsyncConnection) -> Outcome:
            model, etag = await change(connection)
            return Outcome(status, model.model_dump_json(by_alias=True) if model is not None else "", etag)

        request, platform = self.request, platform_of(self.request)
        body = (await request.body()).decode("utf-8", "surrogateescape")
        said = f"{request.method} {request.url.path} {request.headers.get('if-match', '')}\n{body}"
        outcome = await once(platform.database, self.caller.tenant.id, self.key, said, write, seconds)
        platform.forget()
        return _respond(outcome)


async def _write(
    request: Request,
    caller: Annotated[Caller, Depends(needs("profiles:write"))],
    idempotency_key: Annotated[
        str | None,
        Header(
            description="a repeated key gets the same response for a day",
            json_schema_extra={"pattern": r"^[\x21-\x7e]{1,255}$"},
        ),
    ] = None,
) -> _Write:
    return _Write(request, caller, idempotency_key)


Write = Annotated[_Write, Depends(_write)]


async def _change(write: Write, if_match: IfMatch = None) -> _Write:
    return replace(write, if_match=if_match)


Change = Annotated[_Write, Depends(_change)]


async def _find(connection: AsyncConnection, caller: Caller, name: str) -> Head:
    head = await profiles.find(connection, caller.tenant.id, name)
    if head is None:
        raise not_found("profile", name)
    return head


@router.post("", status_code=201, response_model=ProfileModel, responses=WRITING, dependencies=JSON_BODY)
async def create_profile(body: NewProfile, write: Write) -> Response:
    """Create a profile with its first version."""
    preferences = profiles.validate(body.preferences or {}, write.caller)

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        learn = (body.learn.examples, body.learn.scope)
        head = await profiles.create(
            connection, write.caller, body.name, preferences, note=body.note, learn=learn
        )
        return head_model(head), head.etag

    return await write(change, status=201)


@router.get("", response_model=ProfilePage, responses=READING)
async def list_profiles(
    request: Request,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=63, description="only names after this one")] = None,
    archived: Annotated[bool, Query(description="include archived profiles")] = False,
) -> Response:
    """List profiles by name."""
    async with platform_of(request).database.read() as connection:
        heads = await profiles.list_heads(
            connection, caller.tenant.id, after=after, limit=limit + 1, archived=archived
        )
    page = ProfilePage(data=[head_model(head) for head in heads[:limit]], has_more=len(heads) > limit)
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
    """Export all profiles with all versions and labels, as one document for `:import`."""
    async with platform_of(request).database.read() as connection:
        documents = await portability.export_profiles(connection, caller.tenant.id)
    tree = {"profiles": documents}
    if format_ == "yaml":
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        return Response(text, media_type="application/yaml")
    return Response(json.dumps(tree, ensure_ascii=False), media_type="application/json")


_IMPORT = TypeAdapter(ProfilesDocument)
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML_DEPTH = 32
_YAML_TAGS = 16
_YAML_EVENTS = 200_000
_YAML_SCALAR = 64_000  # characters; more than all texts of a version may have together
_IMPORT_SECONDS = 30.0
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
async def import_profiles(request: Request, write: Write) -> Response:
    """Import a document from `:export`, all or nothing; existing content is kept."""
    body = await request.body()
    read = await asyncio.to_thread(_read_import, request.headers.get("content-type", ""), body)
    documents = read.profiles

    async def change(connection: AsyncConnection) -> tuple[BaseModel, None]:
        return await portability.import_profiles(connection, write.caller, documents), None

    return await write(change, seconds=_IMPORT_SECONDS)


def _read_import(content_type: str, body: bytes) -> ProfilesDocument:
    media = content_type.split(";", 1)[0].strip().lower()
    if media != "application/json" and media not in _YAML_BODIES:  # browsers send others without a preflight
        raise Refusal(
            "invalid_document",
            "content-type: must be application/json or application/yaml",
            param="content-type",
        )
    try:
        tree = json.loads(body) if media == "application/json" else _read_yaml(body)
        return _IMPORT.validate_python(tree, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise Refusal("invalid_document", f"{where}: {first['msg']}", param=where) from None
    except (ValueError, RecursionError, yaml.YAMLError):
        raise Refusal(
            "invalid_document",
            "body: neither JSON nor YAML that can be read; aliases and deep nesting are not taken",
            param="body",
        ) from None


def _read_yaml(body: bytes) -> Any:
    """Return the value of a YAML document.

    Events arrive one by one, but building a value from them recurses in C. Without checking the events first, a deeply
    nested document crashes the process, and one with aliases takes unbounded time and memory.
    """
    # libyaml reads them before the first event, in time that grows with the square of their number.
    # In UTF-16 each letter has a NUL beside it.
    if body.replace(b"\0", b"").count(b"%TAG") > _YAML_TAGS:
        raise ValueError("too many directives")
    depth = 0
    for number, event in enumerate(yaml.parse(body, _YAML)):
        if number > _YAML_EVENTS or isinstance(event, yaml.AliasEvent):
            raise ValueError("too much, or an alias")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _YAML_DEPTH or len(getattr(event, "value", "")) > _YAML_SCALAR:
            raise ValueError("too much")
    return yaml.load(body, _YAML)  # noqa: S506  # a safe loader


@router.get("/{name}", response_model=ProfileModel, responses=READING)
async def get_profile(name: ProfileName, request: Request, caller: Reader) -> Response:
    """Get one profile; its ETag is for `If-Match`."""
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
    return Response(
        head_model(head).model_dump_json(), media_type="application/json", headers={"ETag": head.etag}
    )


@router.patch("/{name}", response_model=ProfileModel, responses=WRITING, dependencies=JSON_BODY)
async def change_profile(body: ProfileChange, name: ProfileName, write: Change) -> Response:
    """Archive or restore a profile, set what it learns, or share it. Requests do not find an archived profile."""

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        learn = (body.learn.examples, body.learn.scope) if body.learn is not None else None
        head = await profiles.update(
            connection,
            write.caller,
            name,
            archived=body.archived,
            learn=learn,
            shared=body.shared,
            if_match=write.if_match,
        )
        return head_model(head), head.etag

    return await write(change)


@router.delete("/{name}", status_code=204, responses=WRITING)
async def delete_profile(name: ProfileName, write: Change) -> Response:
    """Delete a profile with all versions and labels; its version numbers are not reused."""

    async def change(connection: AsyncConnection) -> tuple[None, None]:
        await profiles.delete(connection, write.caller, name, if_match=write.if_match)
        return None, None

    response = await write(change, status=204)
    await platform_of(write.request).database.shred()
    return response


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=VersionModel,
    responses=WRITING,
    dependencies=JSON_BODY,
)
async def create_version(body: NewVersion, name: ProfileName, write: Change) -> Response:
    """Add the next version; labels do not move."""
    preferences = profiles.validate(body.preferences or {}, write.caller)

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        version = await profiles.add_version(
            connection, write.caller, name, preferences, note=body.note, if_match=write.if_match
        )
        head = await _find(connection, write.caller, name)
        return version_model(head, version), head.etag

    return await write(change, status=201)


@router.get("/{name}/versions", response_model=VersionPage, responses=READING)
async def list_versions(
    name: ProfileName,
    request: Request,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """List versions, newest first."""
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
        found = await profiles.list_versions(connection, head, before=before, limit=limit + 1)
    page = VersionPage(data=[version_model(head, v) for v in found[:limit]], has_more=len(found) > limit)
    return Response(page.model_dump_json(), media_type="application/json")


@router.get("/{name}/versions/{number}", response_model=VersionModel, responses=READING)
async def get_version(
    name: ProfileName,
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    request: Request,
    caller: Reader,
) -> Response:
    """Get one version."""
    async with platform_of(request).database.read() as connection:
        head = await _find(connection, caller, name)
        version = await profiles.find_version(connection, head, number)
    if version is None:
        raise not_found("version", f"{name}:{number}")
    return Response(version_model(head, version).model_dump_json(), media_type="application/json")


@router.get("/{name}/diff", response_model=DiffModel, responses=READING)
async def diff_versions(
    name: ProfileName,
    request: Request,
    caller: Reader,
    from_: Annotated[int, Query(alias="from", ge=1, le=2**31 - 1)],
    to: Annotated[int, Query(ge=1, le=2**31 - 1)],
) -> Response:
    """Get the changes from one version to another."""
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
async def move_label(body: LabelMove, name: ProfileName, label: LabelName, write: Change) -> Response:
    """Point a label at a version, or at several by weight; a protected label requires the scope `admin`."""
    if (body.version is None) == (body.versions is None):
        raise Refusal("invalid_label", "version: give either `version` or `versions`", param="version")
    chosen = body.versions or [Target(version=body.version or 1)]
    if len({target.version for target in chosen}) != len(chosen):
        raise Refusal("invalid_label", "versions: each version once", param="versions")
    targets = tuple((target.version, target.weight) for target in chosen)

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        head = await labels.move_label(
            connection, write.caller, name, label, targets, protected=body.protected, if_match=write.if_match
        )
        return head_model(head), head.etag

    return await write(change)


@router.post("/{name}/labels/{label}/rollback", response_model=ProfileModel, responses=WRITING)
async def roll_back_label(name: ProfileName, label: LabelName, write: Change) -> Response:
    """Point a label back at its targets from before its last move."""

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        head = await labels.roll_back(connection, write.caller, name, label, if_match=write.if_match)
        return head_model(head), head.etag

    return await write(change)


@router.delete("/{name}/labels/{label}", response_model=ProfileModel, responses=WRITING)
async def delete_label(name: ProfileName, label: LabelName, write: Change) -> Response:
    """Delete a label."""

    async def change(connection: AsyncConnection) -> tuple[BaseModel, str]:
        head = await labels.delete_label(connection, write.caller, name, label, if_match=write.if_match)
        return head_model(head), head.etag

    return await write(change)
