"""Differences between versions, and profiles as one document that another server can import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, FailFast, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.callers import Caller
from metaalign_server.platform import labels, profiles
from metaalign_server.platform.profiles import Head, Version
from metaalign_server.platform.refusal import Refusal
from metaalign_server.store.tables import profiles as stored
from metaalign_server.store.tables import versions

__all__ = ["ImportReport", "ProfileDocument", "difference", "export_profiles", "import_profiles"]


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping) and tree:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found |= _leaves(value, f"{path}.{key}" if path else str(key))
        return found
    return {path: tree} if path else {}


def difference(old: Version, new: Version) -> list[dict[str, Any]]:
    """Return the changes by path; a list counts as one value. A side that lacks the path has null."""
    before, after = (_leaves(json.loads(version.text)) for version in (old, new))
    return [
        {"path": path, "from": before.get(path), "to": after.get(path)}
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VersionDocument(_Document):
    """One version of an exported profile."""

    number: Annotated[int, Field(ge=1, le=2**31 - 1)]
    preferences: Any
    note: Annotated[str, Field(max_length=500)] = ""


class TargetDocument(_Document):
    """One version that a label points to."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    weight: Annotated[int, Field(ge=1, le=100)] = 100


class LabelDocument(_Document):
    """A label of an exported profile."""

    versions: Annotated[list[TargetDocument], Field(min_length=1, max_length=8)]
    protected: bool = False


class ProfileDocument(_Document):
    """One exported profile."""

    name: str
    versions: Annotated[list[VersionDocument], FailFast(), Field(min_length=1)]
    labels: dict[str, LabelDocument] = Field(default_factory=dict)
    archived: bool = False
    learn_examples: Annotated[int, Field(ge=0, le=8)] = 0
    learn_scope: Literal["user", "profile"] = "user"


class ImportReport(BaseModel):
    """The result of an import, by profile name."""

    created: list[str] = Field(default_factory=list)
    extended: list[str] = Field(default_factory=list)
    unchanged: list[str] = Field(default_factory=list)


async def export_profiles(connection: AsyncConnection, tenant_id: str) -> list[dict[str, Any]]:
    """Return all profiles of a tenant, including archived ones."""
    heads = await profiles.list_heads(connection, tenant_id, archived=True)
    found: dict[int, list[VersionDocument]] = {head.id: [] for head in heads}
    query = (
        sa.select(versions.c.profile_id, versions.c.number, versions.c.preferences, versions.c.note)
        .join(stored, stored.c.id == versions.c.profile_id)
        .where(stored.c.tenant_id == tenant_id)
        .order_by(versions.c.profile_id, versions.c.number)
    )
    for profile_id, number, text, note in await connection.execute(query):
        found[profile_id].append(VersionDocument(number=number, preferences=json.loads(text), note=note))
    return [_document(head, found[head.id]) for head in heads]


def _document(head: Head, found: list[VersionDocument]) -> dict[str, Any]:
    document = ProfileDocument(
        name=head.name,
        versions=found,
        labels={
            name: LabelDocument(
                versions=[TargetDocument(version=number, weight=weight) for number, weight in label.targets],
                protected=label.protected,
            )
            for name, label in head.labels.items()
        },
        archived=head.archived,
        learn_examples=head.learn_examples,
        learn_scope=head.learn_scope,
    )
    return document.model_dump(mode="json")


async def import_profiles(
    connection: AsyncConnection, caller: Caller, documents: list[ProfileDocument]
) -> ImportReport:
    """Import profiles, all or none: new ones keep their numbers, existing ones get the versions that they lack.

    Raises:
        Refusal: an existing version has different content (versions never change), or a number is not the next one.
        MetaAlignError: preferences are invalid, or the caller may not store them.
    """
    report = ImportReport()
    for index, document in enumerate(documents):
        await _import(connection, caller, document, f"profiles[{index}]", report)
    return report


async def _import(
    connection: AsyncConnection, caller: Caller, document: ProfileDocument, param: str, report: ImportReport
) -> None:
    name = profiles.check_name(document.name, f"{param}.name")
    head = await profiles.find(connection, caller.tenant.id, name, lock=True)
    known: dict[int, str] = {}
    if head is not None:
        rows = await connection.execute(
            sa.select(versions.c.number, versions.c.preferences).where(versions.c.profile_id == head.id)
        )
        known = dict(iter(rows))
        if head.archived and not document.archived:  # an archived profile accepts no versions
            head = await profiles.update(connection, caller, name, archived=False)
    fresh = head is None
    added = 0
    for place, version in sorted(enumerate(document.versions), key=lambda placed: placed[1].number):
        where = f"{param}.versions[{place}]"
        preferences = profiles.validate(version.preferences, caller, f"{where}.preferences")
        if version.number in known:
            if known[version.number] != profiles.canonical(preferences):
                raise Refusal(
                    "version_conflict",
                    f"{where}: version {name}:{version.number} exists with other preferences, and versions never"
                    " change; give it a new number",
                    param=where,
                )
            continue
        if head is None:
            head = await profiles.create(
                connection, caller, name, preferences, note=version.note, first=version.number
            )
            number = head.latest
        else:
            made = await profiles.add_version(connection, caller, name, preferences, note=version.note)
            number = made.number
        added += 1
        if number != version.number:
            raise Refusal(
                "version_gap",
                f"{where}: its number is {version.number}, but the next version of `{name}` is {number}",
                param=f"{where}.number",
            )
    if head is None:
        raise AssertionError("a document has at least one version")
    await _import_settings(connection, caller, head, document)
    (report.created if fresh else report.extended if added else report.unchanged).append(name)


async def _import_settings(
    connection: AsyncConnection, caller: Caller, head: Head, document: ProfileDocument
) -> None:
    for label_name, label in document.labels.items():
        targets = tuple((target.version, target.weight) for target in label.versions)
        existing = head.labels.get(label_name)
        if existing is None or existing.targets != targets or existing.protected != label.protected:
            await labels.move_label(
                connection, caller, head.name, label_name, targets, protected=label.protected
            )
    learn = (document.learn_examples, document.learn_scope)
    if (head.archived, head.learn_examples, head.learn_scope) != (document.archived, *learn):
        await profiles.update(connection, caller, head.name, archived=document.archived, learn=learn)
