"""Request and response models of the profile routes, as documented in OpenAPI."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

from metaalign import Preferences
from metaalign_server.platform.portability import ProfileDocument
from metaalign_server.platform.profiles import Head, Version
from metaalign_server.routes.common import Body, Name

VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]


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
    """How many of the most recently liked exchanges become examples, and whose."""

    examples: Annotated[int, Field(ge=0, le=8)] = 0
    scope: Literal["user", "profile"] = "user"


class ProfileModel(BaseModel):
    """A profile without its versions."""

    name: str
    latest: int
    labels: dict[str, LabelModel]
    archived: bool
    learn: LearnModel
    shared: bool
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
    """A page of profiles; for the next page, `after` is the name of the last one."""

    data: list[ProfileModel]
    has_more: bool


class VersionPage(BaseModel):
    """A page of versions, newest first; for the next page, `before` is the number of the last one."""

    data: list[VersionModel]
    has_more: bool


class ChangeModel(BaseModel):
    """One path that differs; a side that lacks the path has null."""

    model_config = {"populate_by_name": True}

    path: str
    from_: Annotated[Any, Field(alias="from")] = None
    to: Any = None


class DiffModel(BaseModel):
    """The changes from one version to another."""

    model_config = {"populate_by_name": True}

    profile: str
    from_: Annotated[int, Field(alias="from")]
    to: int
    changes: list[ChangeModel]


class Note(Body):
    note: Annotated[str, Field(max_length=500, description="the reason, for people")] = ""


class NewVersion(Note):
    preferences: Annotated[
        Preferences | None,
        BeforeValidator(lambda value: value, json_schema_input_type=str | Preferences | None),
        Field(description="Preferences of provider (`system`) and user (`user`); a bare string is `system`."),
    ] = None


class NewProfile(NewVersion):
    name: Name
    learn: LearnModel = LearnModel()


class ProfileChange(Body):
    archived: bool | None = None
    learn: LearnModel | None = None
    shared: Annotated[
        bool | None,
        Field(
            description="share the prefix-cache blocks of its further versions between tenants; takes `admin`"
        ),
    ] = None


class Target(Body):
    version: VersionNumber
    weight: Annotated[int, Field(ge=1, le=100)] = 100


class LabelMove(Body):
    """One `version`, or several `versions` by weight."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": [given],
                    "properties": {given: {"not": {"type": "null"}}, other: {"type": "null"}},
                }
                for given, other in (("version", "versions"), ("versions", "version"))
            ]
        }
    )

    version: VersionNumber | None = None
    versions: Annotated[list[Target], Field(min_length=1, max_length=8)] | None = None
    protected: bool | None = None


class ProfilesDocument(Body):
    """Profiles with their versions and labels, as JSON or YAML."""

    most_values: ClassVar[int] = 200_000
    profiles: Annotated[list[ProfileDocument], FailFast(), Field(max_length=1000)]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def head_model(head: Head) -> ProfileModel:
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
        shared=head.shared_from is not None,
        etag=head.etag,
        created_at=_time(head.created_at),
        updated_at=_time(head.updated_at),
    )


def version_model(head: Head, version: Version) -> VersionModel:
    return VersionModel(
        profile=head.name,
        version=version.number,
        preferences=json.loads(version.text),
        sha256=version.sha256,
        note=version.note,
        created_at=_time(version.created_at),
        created_by=version.created_by,
    )
