"""Labels: names within a profile that move between its versions, with a history for rollback."""

from __future__ import annotations

import re
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.callers import Caller
from metaalign_server.platform import audit
from metaalign_server.platform.profiles import (
    Head,
    Label,
    Targets,
    check_protection,
    label_trees,
    take,
    touch,
)
from metaalign_server.platform.refusal import Refusal, not_found
from metaalign_server.store.tables import labels, now_ms, versions

__all__ = ["delete_label", "move_label", "roll_back"]

LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
MAX_LABELS = 32
MAX_TARGETS = 8
_HISTORY = 20


async def move_label(
    connection: AsyncConnection,
    caller: Caller,
    name: str,
    label_name: str,
    targets: Targets,
    *,
    protected: bool | None = None,
    if_match: str | None = None,
) -> Head:
    """Point a label at a version, or at several by weight; create the label if it does not exist.

    Raises:
        Refusal: a version does not exist, the label is protected, or see `profiles.take`.
    """
    if not LABEL.fullmatch(label_name):
        raise Refusal("invalid_name", f"label: must match ^{LABEL.pattern}$", param="label")
    numbers = {number for number, _ in targets}
    if not 1 <= len(targets) == len(numbers) <= MAX_TARGETS or any(not 1 <= w <= 100 for _, w in targets):
        raise Refusal(
            "invalid_targets",
            f"versions: name 1 to {MAX_TARGETS} different ones with weights from 1 to 100",
            param="versions",
        )
    head = await take(connection, caller, name, if_match)
    label = head.labels.get(label_name)
    check_protection(caller, label_name, label)
    if (
        protected is not None
        and "admin" not in caller.scopes
        and protected != bool(label and label.protected)
    ):
        raise Refusal(
            "missing_scope", "protected: only a key with the scope `admin` can set it", param="protected"
        )
    stored = sa.select(versions.c.number).where(
        versions.c.profile_id == head.id, versions.c.number.in_(numbers)
    )
    if missing := sorted(numbers - set(await connection.scalars(stored))):
        raise not_found("version", f"{name}:{missing[0]}", "version")
    if label is None and len(head.labels) >= MAX_LABELS:
        raise Refusal(
            "too_many_labels", f"a profile has at most {MAX_LABELS} labels; remove one", param="label"
        )
    history = (*label.history, label.targets)[-_HISTORY:] if label is not None else ()
    keep = label.protected if label is not None else False
    moved = Label(targets, keep if protected is None else protected, history, now_ms())
    return await _write_label(connection, caller, head, label_name, moved, "profile.label.move")


async def roll_back(
    connection: AsyncConnection, caller: Caller, name: str, label_name: str, *, if_match: str | None = None
) -> Head:
    """Point a label back at its targets from before its last move.

    Raises:
        Refusal: the label was never moved, is protected, or see `profiles.take`.
    """
    head = await take(connection, caller, name, if_match)
    label = head.labels.get(label_name)
    if label is None:
        raise not_found("label", f"{name}@{label_name}")
    check_protection(caller, label_name, label)
    if not label.history:
        raise Refusal("nothing_to_roll_back", f"label `{label_name}` was not moved before")
    moved = Label(label.history[-1], label.protected, label.history[:-1], now_ms())
    return await _write_label(connection, caller, head, label_name, moved, "profile.label.rollback")


async def delete_label(
    connection: AsyncConnection, caller: Caller, name: str, label_name: str, *, if_match: str | None = None
) -> Head:
    """Delete a label.

    Raises:
        Refusal: the label does not exist, is protected, or see `profiles.take`.
    """
    head = await take(connection, caller, name, if_match)
    label = head.labels.get(label_name)
    if label is None:
        raise not_found("label", f"{name}@{label_name}")
    check_protection(caller, label_name, label)
    return await _write_label(connection, caller, head, label_name, None, "profile.label.delete")


async def _write_label(
    connection: AsyncConnection, caller: Caller, head: Head, name: str, label: Label | None, action: str
) -> Head:
    where = (labels.c.profile_id == head.id) & (labels.c.label == name)
    named = {known: other for known, other in head.labels.items() if known != name}
    if label is None:
        await connection.execute(sa.delete(labels).where(where))
    else:
        named[name] = label
        values = asdict(label)
        if name in head.labels:
            await connection.execute(sa.update(labels).where(where).values(values))
        else:
            await connection.execute(sa.insert(labels).values(profile_id=head.id, label=name, **values))
    after = await touch(connection, head, named)
    await audit.record(
        connection,
        caller,
        action,
        f"{head.name}@{name}",
        before=label_trees(head.labels),
        after=label_trees(after.labels),
    )
    return after
