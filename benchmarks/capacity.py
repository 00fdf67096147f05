"""Measures the inputs of the cost formula in docs/capacity.md on a running server, and checks the formula.

python -m benchmarks.capacity URL --model NAME [--price 2.5] [--concurrency 32] [--seconds 20] [--key KEY]

It measures prompt tokens per second (new preferences in every request, one token of answer), answer tokens per second
(the same preferences, long answers), and then requests that need both, which the formula must predict from these two.
The server needs `--enable-prompt-tokens-details`, and should serve nobody else meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

WORDS = "otter fox owl beaver bear wolf heron badger camel zebra seal goat".split()
ANSWER = 64
SHARE_OF_NEW = 0.5


@dataclass(frozen=True)
class Rates:
    """Tokens per second over all requests together."""

    requests: float
    prompt: float
    cached: float
    answer: float


def seconds_of_engine(prompt: float, answer: float, *, prefill: float, decode: float) -> float:
    """The formula: a share of one engine's time, for `prompt` tokens that are not cached and `answer` tokens."""
    return prompt / prefill + answer / decode


async def measure(options: argparse.Namespace, *, new: float, answer: int, words: int = 250) -> Rates:
    """Ask with new preferences in a share `new` of the requests, and with one of eight known ones in the others."""
    numbers = itertools.count(int(time.time() * 1000))
    chooser = random.Random(7)
    found: Counter[str] = Counter()
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}

    async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=300) as client:

        async def ask(number: int) -> None:
            text = f"Number {number}. " + " ".join(random.Random(number).choices(WORDS, k=words))
            request: dict[str, Any] = {
                "model": options.model,
                "messages": [{"role": "user", "content": "Tell me about the otter."}],
                "preferences": {"system": {"info": text}},
                "max_tokens": answer,
                "ignore_eos": True,
            }
            reply = await client.post("/v1/chat/completions", json=request)
            usage = reply.raise_for_status().json()["usage"]
            if time.monotonic() < stop:
                found["requests"] += 1
                found["prompt"] += usage["prompt_tokens"]
                found["cached"] += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                found["answer"] += usage["completion_tokens"]

        async def work() -> None:
            while time.monotonic() < stop:
                await ask(next(numbers) if chooser.random() < new else chooser.randrange(8))

        stop = time.monotonic()
        await asyncio.gather(*(ask(number) for number in range(8)))
        stop = time.monotonic() + options.seconds
        await asyncio.gather(*(work() for _ in range(options.concurrency)))
    return Rates(*(found[name] / options.seconds for name in ("requests", "prompt", "cached", "answer")))


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--price", type=float, default=1.0, help="of the machine, per hour")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    first = await measure(options, new=1.0, answer=1)
    prefill = first.prompt - first.cached
    second = await measure(options, new=0.0, answer=ANSWER)
    decode = second.answer
    print(f"P, prompt tokens/s that are not cached: {prefill:,.0f}\nD, answer tokens/s: {decode:,.0f}")
    for new in (0.0, SHARE_OF_NEW, 1.0):
        both = await measure(options, new=new, answer=ANSWER)
        uncached = (both.prompt - both.cached) / both.requests
        cached = both.cached / both.prompt
        predicted = 1 / seconds_of_engine(uncached, ANSWER, prefill=prefill, decode=decode)
        cost = options.price / 3600 / both.answer * 1e6
        print(
            f"| {new:.0%} | {cached:.2f} | {both.requests:.1f} | {predicted:.1f} | {both.answer:,.0f} | {cost:.2f} |"
        )


if __name__ == "__main__":
    asyncio.run(main())
