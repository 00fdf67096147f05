"""A seed holds whatever else the engine does, also where a prompt is computed in parts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.reliability.serving import MODEL, client, serving

LONG_PROMPT = "word " * 900


def asked(seed: int, words: str = LONG_PROMPT) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Tell me about the otter. {words}"}],
        "temperature": 1.0,
        "seed": seed,
        "max_tokens": 24,
        "ignore_eos": True,
    }


async def test_a_seeded_prompt_in_parts_ends_nothing_and_keeps_its_answer(tmp_path: Path) -> None:
    """vLLM rewinds the seeds of such prompts by an offset that generators on a CPU do not have."""
    with (
        serving(tmp_path, "--max-num-batched-tokens", "128", name="parts") as parts,
        serving(tmp_path, "--max-num-batched-tokens", "4096", name="whole") as whole,
    ):
        answers = []
        for server in (parts, whole):
            async with client(server) as http:
                alone = await http.post("/v1/chat/completions", json=asked(7))
                assert alone.status_code == 200, alone.text
                crowd = await asyncio.gather(
                    *(http.post("/v1/chat/completions", json=asked(seed)) for seed in (7, 8, 9, 7))
                )
                assert [answer.status_code for answer in crowd] == [200] * 4
                answers.append([a.json()["choices"][0]["message"]["content"] for a in (alone, *crowd)])
                assert (await http.get("/readyz")).status_code == 200
        assert answers[0] == answers[1]
        alone_text, first, second, third, again = answers[0]
        assert alone_text == first == again
        assert len({first, second, third}) == 3
