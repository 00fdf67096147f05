"""One real server for all examples and for the documents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.world import World, open_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that keeps exchanges, and an operator's key."""
    with open_world(tmp_path_factory.mktemp("examples"), []) as made:
        yield made
