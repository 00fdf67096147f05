"""Which profiles are used most, kept across restarts, and which labels have moved: what is worth prefilling ahead."""

from __future__ import annotations

import json
from collections import Counter

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign_server.store.database import insert_if_absent
from metaalign_server.store.tables import labels, now_ms, profiles, server_state

__all__ = ["HotProfiles", "Use", "moved_labels"]

Use = tuple[str, tuple[str, ...]]
"""A tenant's id, and the versions of its profiles that a request used, such as `support:3`; none if it has a policy."""

_NAME = "hot_profiles"
_KEPT, _COUNTED = 64, 4096


class HotProfiles:
    """Counts the uses; old ones fade, so that what was hot last week is not hot for ever."""

    def __init__(self) -> None:
        self._uses: Counter[Use] = Counter()
        self._saved: list[Use] = []

    def note(self, tenant_id: str, used: tuple[str, ...]) -> None:
        """Count one use."""
        self._uses[tenant_id, used] += 1
        if len(self._uses) > _COUNTED:
            self._uses = Counter({use: count // 2 for use, count in self._uses.most_common(_COUNTED // 4)})

    def hottest(self, most: int) -> list[Use]:
        """Return the most frequent uses, most frequent first."""
        return [use for use, _ in self._uses.most_common(most)]

    async def save(self, connection: AsyncConnection) -> None:
        """Store the hottest, for the next start of any server."""
        top = self.hottest(_KEPT)
        if not top or top == self._saved:
            return
        value = json.dumps(top)
        await connection.execute(insert_if_absent(connection, server_state, name=_NAME, value=value))
        change = sa.update(server_state).where(server_state.c.name == _NAME).values(value=value)
        await connection.execute(change)
        self._saved = top

    async def load(self, connection: AsyncConnection, most: int) -> list[Use]:
        """Return what was hottest when a server last saved it."""
        stored = await connection.scalar(sa.select(server_state.c.value).where(server_state.c.name == _NAME))
        found = json.loads(stored) if stored is not None else []
        return [(tenant_id, tuple(used)) for tenant_id, used in found[:most]]


async def moved_labels(
    connection: AsyncConnection, seconds: float, most: int
) -> list[tuple[tuple[int, str, int], list[Use]]]:
    """Return the labels that moved within the last `seconds`, newest first: the key of each move, and its versions."""
    query = (
        sa.select(labels, profiles.c.name, profiles.c.tenant_id)
        .join(profiles, profiles.c.id == labels.c.profile_id)
        .where(labels.c.updated_at > now_ms() - int(seconds * 1000))
        .where(profiles.c.deleted_at.is_(None), profiles.c.archived_at.is_(None))
        .order_by(labels.c.updated_at.desc())
        .limit(most)
    )
    return [
        (
            (row["profile_id"], row["label"], row["updated_at"]),
            [(row["tenant_id"], (f"{row['name']}:{number}",)) for number, _ in row["targets"]],
        )
        for row in (await connection.execute(query)).mappings()
    ]
