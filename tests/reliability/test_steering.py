"""Groups in the real engine: equal to plain transformers, whole in each step, and nothing of them left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "options",
    [
        {"requests": 200, "longest": 120, "tokens": 16},
        {"requests": 40, "longest": 120, "tokens": 120, "blocks": 40, "seed": 12},
        {"requests": 40, "longest": 120, "tokens": 120, "blocks": 40, "seed": 13, "asynchronous": True},
    ],
    ids=["many", "preempted", "asynchronous"],
)
def test_steered_answers_equal_plain_transformers(options: dict[str, Any]) -> None:
    """Mixed with plain requests, in parts, preempted and aborted; see `steered_engine`."""
    command = [sys.executable, "-m", "tests.reliability.steered_engine", json.dumps(options)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen["different"] == []
    assert seen["equal"] == seen["compared"] >= options["requests"] * 3 // 4
    assert seen["aborted"] > 0
    assert (seen["split"], seen["requests_left"], seen["groups_left"], seen["blocks_left"]) == (0, 0, 0, 0)
    if "blocks" in options:
        assert seen["preempted"]["steered"] > 0
