"""Named preferences of a tenant: immutable numbered versions, and labels that move between them.

Every change is one transaction. It locks the profile's row first, so that writers of one profile are serialised, and
increments its `revision`, which is the ETag. Version numbers are never reused: numbering continues after a deletion.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import InvalidPreferences, Preferences, SystemTierForbidden, parse_preferences
from metaalign_server.callers import Caller
from metaalign_server.platform import audit
from metaalign_server.platform.refusal import Refusal, not_found
from metaalign_server.store.erasure import mark_deletion
from metaalign_server.store.tables import labels, now_ms, profiles, versions

__all__ = [
    "DEFAULT_LABEL",
    "Head",
    "Label",
    "LearnScope",
    "Targets",
    "Version",
    "add_version",
    "canonical",
    "check_name",
    "check_protection",
    "create",
    "delete",
    "find",
    "find_version",
    "label_trees",
    "list_heads",
    "list_versions",
    "take",
    "touch",
    "update",
    "validate",
    "version_text",
]

DEFAULT_LABEL = "stable"
"""The label of a reference that names none, if the profile has it; otherwise the newest version is used."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

LearnScope = Literal["user", "profile"]
"""Whose feedback a profile learns from: that of the requesting user, or of all users."""
Targets = tuple[tuple[int, int], ...]
"""Versions with their weights; a single version has weight 100."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name that points to a version, or to several by weight."""

    targets: Targets
    protected: bool = False
    history: tuple[Targets, ...] = ()
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """A profile without its versions."""

    id: int
    name: str
    latest: int
    revision: int
    created_at: int
    updated_at: int
    archived: bool = False
    learn_examples: int = 0
    learn_scope: LearnScope = "user"
    shared_from: int | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)

    def shares(self, number: int) -> bool:
        """Whether a version is the operator's: one that this state of the profile has, added since it is shared."""
        return self.shared_from is not None and self.shared_from <= number <= self.latest

    @property
    def etag(self) -> str:
        """ETag; changes whenever the profile changes."""
        return f'"{self.id}-{self.revision}"'


@dataclass(frozen=True, slots=True)
class Version:
    """One version; `text` is its preferences as canonical JSON, `sha256` the hash of that text."""

    number: int
    text: str
    sha256: str
    note: str
    created_at: int
    created_by: str


def canonical(preferences: Preferences) -> str:
    """Return the same text for equal preferences; attributes keep their order because it is the rendering order."""
    tree = preferences.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def check_name(name: str, param: str = "name") -> str:
    """Return `name` if it is a valid name for a profile or tenant.

    Raises:
        Refusal: it is not.
    """
    if not NAME.fullmatch(name):
        raise Refusal("invalid_name", f"{param}: must match ^{NAME.pattern}$", param=param)
    return name


def validate(value: Any, caller: Caller, param: str = "preferences") -> Preferences:
    """Return `value` as preferences that `caller` may store.

    Raises:
        InvalidPreferences, SystemTierForbidden.
    """
    try:
        preferences = parse_preferences(value)
    except InvalidPreferences as error:
        where = (error.param or "preferences").removeprefix("preferences")
        message = error.message.removeprefix("preferences")
        raise InvalidPreferences(param + message, param=param + where) from None
    if preferences.profile:
        raise InvalidPreferences(
            f"{param}.profile: a profile cannot name others; name several in the request",
            param=f"{param}.profile",
        )
    if preferences.verify is not None:
        raise InvalidPreferences(
            f"{param}.verify: a profile checks no answers; ask for it in the request", param=f"{param}.verify"
        )
    for number, part in enumerate(preferences.blend):
        if part.profile is not None:
            path = f"{param}.blend[{number}].profile"
            raise InvalidPreferences(
                f"{path}: a profile cannot name others; give their `user` parts", param=path
            )
    of_system = preferences.strength.system if preferences.strength is not None else None
    if of_system is not None and of_system < 1 and not caller.may_write_system:
        path = f"{param}.strength.system"
        raise SystemTierForbidden(f"{path}: this key lacks the scope `system`", param=path)
    if preferences.system is not None and not caller.may_write_system:
        raise SystemTierForbidden(
            f"{param}.system: this key lacks the scope `system`", param=f"{param}.system"
        )
    return preferences


# Reading


async def find(connection: AsyncConnection, tenant_id: str, name: str, *, lock: bool = False) -> Head | None:
    """Return the profile `name`, or None; `lock` locks its row until the transaction ends."""
    query = sa.select(profiles).where(
        profiles.c.tenant_id == tenant_id, profiles.c.name == name, profiles.c.deleted_at.is_(None)
    )
    row = (await connection.execute(query.with_for_update() if lock else query)).mappings().first()
    if row is None:
        return None
    mine = sa.select(labels).where(labels.c.profile_id == row["id"]).order_by(labels.c.label)
    found = await connection.execute(mine)
    return _head(row, {label["label"]: _label(label) for label in found.mappings()})


def _head(row: sa.RowMapping, named: Mapping[str, Label]) -> Head:
    return Head(
        id=row["id"],
        name=row["name"],
        latest=row["latest"],
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        archived=row["archived_at"] is not None,
        learn_examples=row["learn_examples"],
        learn_scope=row["learn_scope"],
        shared_from=row["shared_from"],
        labels=named,
    )


def _label(row: sa.RowMapping) -> Label:
    return Label(
        targets=_targets(row["targets"]),
        protected=row["protected"],
        history=tuple(_targets(entry) for entry in row["history"]),
        updated_at=row["updated_at"],
    )


def _targets(tree: Sequence[Sequence[int]]) -> Targets:
    return tuple((number, weight) for number, weight in tree)


async def take(
    connection: AsyncConnection, caller: Caller, name: str, if_match: str | None, *, live: bool = True
) -> Head:
    """Lock and return a profile for a change.

    Raises:
        Refusal: it does not exist, has changed since `if_match`, or is archived.
    """
    head = await find(connection, caller.tenant.id, name, lock=True)
    if head is None:
        raise not_found("profile", name)
    if if_match is not None and if_match.strip() not in ("*", head.etag):
        raise Refusal(
            "precondition_failed",
            f"profile `{name}` has changed since it was read; read it again",
            param="If-Match",
        )
    if live and head.archived:
        raise Refusal("profile_archived", f"profile `{name}` is archived; restore it first")
    return head


async def find_version(connection: AsyncConnection, head: Head, number: int) -> Version | None:
    """Return one version, or None."""
    query = sa.select(versions).where(versions.c.profile_id == head.id, versions.c.number == number)
    row = (await connection.execute(query)).mappings().first()
    return _version(row) if row is not None else None


def _version(row: sa.RowMapping) -> Version:
    return Version(
        row["number"], row["preferences"], row["sha256"], row["note"], row["created_at"], row["created_by"]
    )


def version_text(profile_id: int, number: int) -> sa.Select[str]:
    """Return the query for the preferences of one version, as text."""
    return sa.select(versions.c.preferences).where(
        versions.c.profile_id == profile_id, versions.c.number == number
    )


async def list_versions(
    connection: AsyncConnection, head: Head, *, before: int | None = None, limit: int | None = None
) -> list[Version]:
    """Return versions, newest first."""
    query = sa.select(versions).where(versions.c.profile_id == head.id).order_by(versions.c.number.desc())
    if before is not None:
        query = query.where(versions.c.number < before)
    rows = await connection.execute(query.limit(limit) if limit is not None else query)
    return [_version(row) for row in rows.mappings()]


async def list_heads(
    connection: AsyncConnection,
    tenant_id: str,
    *,
    after: str | None = None,
    limit: int | None = None,
    archived: bool = False,
) -> list[Head]:
    """Return profiles, ordered by name; archived ones only if `archived` is set."""
    query = (
        sa.select(profiles)
        .where(profiles.c.tenant_id == tenant_id, profiles.c.deleted_at.is_(None))
        .order_by(profiles.c.name)
    )
    if not archived:
        query = query.where(profiles.c.archived_at.is_(None))
    if after is not None:
        query = query.where(profiles.c.name > after)
    rows = (await connection.execute(query.limit(limit) if limit is not None else query)).mappings().all()
    named: dict[int, dict[str, Label]] = {row["id"]: {} for row in rows}
    ids = list(named)
    for start in range(0, len(ids), 500):
        some = labels.c.profile_id.in_(ids[start : start + 500])
        found = await connection.execute(sa.select(labels).where(some).order_by(labels.c.label))
        for label in found.mappings():
            named[label["profile_id"]][label["label"]] = _label(label)
    return [_head(row, named[row["id"]]) for row in rows]


# Changing


async def create(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    preferences: Preferences,
    *,
    note: str = "",
    learn: tuple[int, str] = (0, "user"),
    first: int = 1,
) -> Head:
    """Create a profile with its first version.

    Args:
        connection: A write transaction.
        caller: The profile belongs to its tenant.
        name: The name that references use.
        preferences: Preferences of the first version.
        note: The reason for this version.
        learn: How many examples it takes from feedback, and whose: `user` or `profile`.
        first: Minimum number of the first version; a recreated profile continues after its old numbers.

    Raises:
        Refusal: the name is taken or invalid.
    """
    check_name(name)
    mine = (profiles.c.tenant_id == caller.tenant.id) & (profiles.c.name == name)
    earlier = (await connection.execute(sa.select(profiles).where(mine).with_for_update())).mappings().first()
    taken = Refusal("profile_exists", f"profile `{name}` exists; add a version to it", param="name")
    if earlier is not None and earlier["deleted_at"] is None:
        raise taken
    now = now_ms()
    values: dict[str, Any] = {
        "latest": first, "revision": 1, "learn_examples": learn[0], "learn_scope": learn[1], "shared_from": None,
        "created_at": now, "updated_at": now, "archived_at": None, "deleted_at": None,
    }  # fmt: skip
    if earlier is None:
        new = sa.insert(profiles).values(tenant_id=caller.tenant.id, name=name, **values)
        try:
            row = await connection.execute(new.returning(profiles))
        except IntegrityError:
            raise taken from None
    else:
        values["latest"] = max(first, earlier["latest"] + 1)
        values["revision"] = earlier["revision"] + 1
        # Lets caches tell it from the deleted profile.
        values["created_at"] = max(now, earlier["deleted_at"] + 1)
        row = await connection.execute(sa.update(profiles).where(mine).values(values).returning(profiles))
    head = _head(row.mappings().one(), {})
    text = canonical(preferences)
    await _insert_version(connection, caller, head.id, head.latest, text, note)
    await audit.record(connection, caller, "profile.create", f"{name}:{head.latest}", after=text)
    return head


async def _insert_version(
    connection: AsyncConnection, caller: Caller, profile_id: int, number: int, text: str, note: str
) -> Version:
    made = Version(number, text, hashlib.sha256(text.encode()).hexdigest(), note, now_ms(), caller.key_id)
    await connection.execute(
        sa.insert(versions).values(
            profile_id=profile_id,
            number=number,
            preferences=text,
            sha256=made.sha256,
            note=note,
            created_at=made.created_at,
            created_by=made.created_by,
        )
    )
    return made


async def touch(
    connection: AsyncConnection, head: Head, named: Mapping[str, Label] | None = None, **values: Any
) -> Head:
    """Update the columns `values` and return the profile; `named` are its labels, if they changed."""
    values |= {"revision": head.revision + 1, "updated_at": now_ms()}
    change = sa.update(profiles).where(profiles.c.id == head.id).values(values)
    row = await connection.execute(change.returning(profiles))
    return _head(row.mappings().one(), head.labels if named is None else named)


async def add_version(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    preferences: Preferences,
    *,
    note: str = "",
    if_match: str | None = None,
) -> Version:
    """Add the next version; labels do not move.

    Raises:
        Refusal: see `take`; or the profile is shared and the caller is not an administrator.
    """
    head = await take(connection, caller, name, if_match)
    if head.shared_from is not None:
        _check_sharing(
            caller, f"profile `{name}` is shared between tenants, so only an administrator adds to it"
        )
    before = await find_version(connection, head, head.latest)
    text = canonical(preferences)
    made = await _insert_version(connection, caller, head.id, head.latest + 1, text, note)
    await touch(connection, head, latest=made.number)
    await audit.record(
        connection,
        caller,
        "profile.version.create",
        f"{name}:{made.number}",
        before=before.text if before else None,
        after=text,
    )
    return made


async def update(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    *,
    archived: bool | None = None,
    learn: tuple[int, str] | None = None,
    shared: bool | None = None,
    if_match: str | None = None,
) -> Head:
    """Archive or restore a profile, set what it learns from feedback, or share the System texts that come from now on.

    Raises:
        Refusal: see `take`; or the caller is not an administrator and `shared` changes, or `archived` does and a
            label is protected.
    """
    head = await take(connection, caller, name, if_match, live=False)
    values: dict[str, Any] = {}
    if archived is not None and archived != head.archived:
        for label_name, label in head.labels.items():
            check_protection(caller, label_name, label)
        values["archived_at"] = now_ms() if archived else None
    if learn is not None:
        values |= {"learn_examples": learn[0], "learn_scope": learn[1]}
    if shared is not None and shared != (head.shared_from is not None):
        _check_sharing(caller, "shared: takes a key with the scope `admin`", "shared")
        values["shared_from"] = head.latest + 1 if shared else None
    after = await touch(connection, head, **values)
    await audit.record(
        connection, caller, "profile.update", name, before=_settings(head), after=_settings(after)
    )
    return after


def _settings(head: Head) -> list[Any]:
    return [head.archived, head.learn_examples, head.learn_scope, head.shared_from]


def _check_sharing(caller: Caller, message: str, param: str | None = None) -> None:
    """Only the operator's texts are shared: whoever may add one could probe for those of other tenants."""
    if "admin" not in caller.scopes:
        raise Refusal("profile_shared", message, param=param)


def check_protection(caller: Caller, name: str, label: Label | None) -> None:
    """Refuse to change a protected label without the scope `admin`.

    Raises:
        Refusal: 403.
    """
    if label is not None and label.protected and "admin" not in caller.scopes:
        raise Refusal(
            "label_protected", f"label `{name}` is protected; a key with the scope `admin` can move it"
        )


def label_trees(named: Mapping[str, Label]) -> Any:
    """Return what the audit log hashes of labels."""
    return {name: [label.targets, label.protected] for name, label in named.items()}


async def delete(
    connection: AsyncConnection, caller: Caller, name: str, *, if_match: str | None = None
) -> int:
    """Delete a profile with all its versions and labels; return how many versions there were.

    `Database.shred` completes it.

    Raises:
        Refusal: see `take`; or a label is protected and the caller is not an administrator.
    """
    head = await take(connection, caller, name, if_match, live=False)
    if head.shared_from is not None:
        _check_sharing(
            caller, f"profile `{name}` is shared between tenants, so only an administrator deletes it"
        )
    for label_name, label in head.labels.items():
        check_protection(caller, label_name, label)
    await connection.execute(sa.delete(labels).where(labels.c.profile_id == head.id))
    removed = await connection.execute(sa.delete(versions).where(versions.c.profile_id == head.id))
    await mark_deletion(connection)
    await touch(connection, head, deleted_at=now_ms())
    await audit.record(connection, caller, "profile.delete", name, before=label_trees(head.labels))
    return removed.rowcount
