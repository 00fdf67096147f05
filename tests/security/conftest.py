"""One real server for all attacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.security.world import POLICY, World, open_world

TENANTS: list[dict[str, Any]] = [
    {"name": "acme"},
    {"name": "other"},
    {"name": "guarded", "policy": POLICY},
    {"name": "pool-a", "share_cache": True},
    {"name": "pool-b", "share_cache": True},
]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("security"), TENANTS) as made:
        yield made
