"""Groups in the real engine: equal to plain transformers, whole in each step, and nothing of them left over."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.serving import LONG, client, metric, serving, until

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "options",
    [
        {"requests": 200, "longest": 120, "tokens": 16, "floor": 0.1},
        {"requests": 40, "longest": 120, "tokens": 120, "blocks": 40, "seed": 12},
        {"requests": 40, "longest": 120, "tokens": 120, "blocks": 40, "seed": 13, "asynchronous": True},
        {"requests": 40, "longest": 120, "tokens": 16, "abort": 0.4, "floor": 0.1, "runner": 2},
        {
            "requests": 30,
            "longest": 120,
            "tokens": 60,
            "blocks": 40,
            "seed": 13,
            "asynchronous": True,
            "runner": 2,
        },
    ],
    ids=["many", "preempted", "asynchronous", "second-runner", "second-runner-preempted"],
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


async def test_clients_that_go_leave_nothing_of_a_group(tmp_path: Path) -> None:
    """Streams and whole answers are given up at random: while they wait, fill, draw, and are judged."""
    rng = random.Random(4)
    blend = [{"user": "I like lists.", "weight": 0.5}, {"user": "I am ten.", "weight": 0.5}]
    fields: list[dict[str, Any]] = [
        {"system": "Be kind.", "user": "I like otters.", "strength": {"system": 1.2, "user": 2}},
        {"system": "Be kind.", "blend": blend},
        {"user": "I like otters.", "candidates": 3},
        {"user": "I like otters.", "strength": 2, "candidates": 2},
    ]
    with serving(tmp_path, "--max-num-seqs", "8", "--num-gpu-blocks-override", "200") as server:
        async with client(server) as http:

            async def ask(**changes: Any) -> dict[str, Any]:
                body = LONG | {"max_tokens": 60, "temperature": 0, "preferences": fields[0]} | changes
                answer = await http.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                choices: dict[str, Any] = answer.json()["choices"][0]
                return choices

            before = await ask()

            async def give_up(number: int) -> str:
                long = rng.randrange(100, 900)
                body = LONG | {
                    "preferences": fields[number % 4],
                    "max_tokens": long,
                    "stream": number % 3 > 0,
                }
                body["messages"] = [{"role": "user", "content": f"{number} " * rng.randrange(1, 200)}]
                try:
                    async with asyncio.timeout(rng.uniform(0.02, 4)):
                        answer = await http.post("/v1/chat/completions", json=body)
                except TimeoutError:
                    return "gone"
                assert answer.status_code == 200, answer.text
                return "finished"

            seen = Counter(await asyncio.gather(*map(give_up, range(60))))
            assert seen["gone"] > 20

            async def rests() -> bool:
                names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "metaalign_queue_waiting")
                return [await metric(http, name) for name in names] == [0, 0, 0]

            await until(rests, 30, "nothing is left")
            assert await metric(http, "vllm:kv_cache_usage_perc") == 0
            assert await ask() == before
