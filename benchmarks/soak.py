"""`make soak` or `python -m benchmarks.soak [--minutes 15]`: does anything grow that should not?

A real server with its store, two tenants and feedback on gets a mixture of requests for minutes: streams, whole
answers in every protocol, a third of them steered, streams that are cut off, mistakes, profile writes, feedback,
erasure. Once a minute the load pauses, and what is left is recorded: memory of server and engine, file descriptors,
threads, tasks of the event loop, connections, running requests. The first pauses are warm-up. After that, nothing may
grow.

The exit code is 1 if something did. A picture and the numbers go to build/soak/.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import signal
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from tests.processes import free_port, running

from benchmarks.load import MODEL, ServerProcesses, terminated
from metaalign_server.cli import prepare_environment

OPERATOR = "soak-operator"
GROWTH = {"server_mib": 16.0, "engine_mib": 16.0, "files": 8, "threads": 2, "tasks": 4, "connections": 2}
"""How much may be added from the first pause after the warm-up to the last one."""
STEERING: list[dict[str, Any]] = [
    {"strength": 1.5},
    {"strength": {"user": 2}, "candidates": 2},
    {"blend": [{"user": "I am ten.", "weight": 0.5}, {"user": "I like lists.", "weight": 0.5}]},
    {"candidates": 3},
]
AT_END = {"running": 0.0, "waiting": 0.0, "queue": 0.0, "in_flight": 1.0}  # the scrape itself is in flight


@dataclass(frozen=True)
class Pause:
    """What is left when no requests are sent."""

    minute: float
    server_mib: float
    engine_mib: float
    files: int
    threads: int
    connections: int
    tasks: float
    running: float
    waiting: float
    queue: float
    in_flight: float


class Mixture:
    """Sends requests of all kinds and counts their outcomes."""

    def __init__(self, client: httpx.AsyncClient, keys: list[str], seed: int) -> None:
        self.client = client
        self.keys = keys
        self.random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.answers: list[tuple[str, str]] = []
        self.resting = asyncio.Event()
        self.stopped = False

    async def worker(self) -> None:
        """Send the requests of one connection until stopped."""
        actions = [
            (self.stream, 5),
            (self.whole, 5),
            (self.cut_off, 3),
            (self.wrong, 3),
            (self.write_profile, 2),
            (self.feedback, 2),
            (self.erase, 1),
        ]
        while not self.stopped:
            await self.resting.wait()
            action = self.random.choices([a for a, _ in actions], [w for _, w in actions])[0]
            try:
                self.outcomes[f"{action.__name__} {await action()}"] += 1
            except httpx.HTTPError as error:
                self.outcomes[f"{action.__name__} {type(error).__name__}"] += 1

    def _headers(self) -> tuple[str, dict[str, str]]:
        key = self.random.choice(self.keys)
        return key, {"authorization": f"Bearer {key}"}

    def _body(self, **more: Any) -> dict[str, Any]:
        question = f"Tell me three things about the {self.random.choice(['otter', 'fox', 'owl', 'bear'])}."
        preferences: dict[str, Any] = {"user": {"attributes": {"tone": "pirate"}}}
        if self.random.random() < 0.5:
            preferences["profile"] = (
                f"p{self.random.randrange(50)}"  # a 404 at first, when it does not exist yet
            )
        sampling: dict[str, Any] = {}
        if self.random.random() < 1 / 3:
            steering: dict[str, Any] = self.random.choice(STEERING)
            preferences |= steering
            sampling = {"temperature": 0.8} if "candidates" in steering else {}
        user = f"user-{self.random.randrange(20)}"
        return {
            "model": "metaalign-demo",
            "messages": [{"role": "user", "content": question}],
            "preferences": preferences,
            "user": user,
            "max_tokens": self.random.choice([8, 32, 64]),
            **sampling,
        } | more

    async def stream(self) -> int:
        _, headers = self._headers()
        body = self._body(stream=True)
        async with self.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            async for _ in answer.aiter_bytes():
                pass
            return answer.status_code

    async def whole(self) -> int:
        key, headers = self._headers()
        body = self._body()
        path = self.random.choice(["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/align"])
        if path == "/v1/responses":
            body["input"], body["max_output_tokens"] = body.pop("messages"), body.pop("max_tokens")
        elif path == "/v1/align":
            body["query"] = body.pop("messages")[0]["content"]
        elif path == "/v1/messages":
            body["metadata"] = {"user_id": body.pop("user")}
        answer = await self.client.post(path, json=body, headers=headers)
        if answer.status_code == 200:
            self.answers = [*self.answers[-50:], (key, answer.json()["id"])]
        return answer.status_code

    async def cut_off(self) -> str:
        _, headers = self._headers()
        body = self._body(stream=self.random.random() < 0.7, max_tokens=200, ignore_eos=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.random.uniform(0.01, 0.4)):
                await self.client.post("/v1/chat/completions", json=body, headers=headers)
                return "finished"
        return "cut"

    async def wrong(self) -> int:
        _, headers = self._headers()
        mistakes: list[dict[str, Any]] = [
            {"preferences": {"usr": 1}},
            {"preferences": {"profile": "no-such-profile"}},
            {"messages": "x"},
            {"temperature": -3},
            {"chat_template": "x"},
            {"n": 10_000},
            {"model": "no-such-model"},
        ]
        body = self._body(**self.random.choice(mistakes))
        if self.random.random() < 0.2:
            headers = {"authorization": "Bearer wrong"}
        return (await self.client.post("/v1/chat/completions", json=body, headers=headers)).status_code

    async def write_profile(self) -> int:
        _, headers = self._headers()
        name = f"p{self.random.randrange(50)}"
        version = {"preferences": {"user": {"info": f"I am {self.random.randrange(10**6)}."}}}
        made = await self.client.post("/v1/profiles", json={"name": name} | version, headers=headers)
        if made.status_code == 409:
            made = await self.client.post(f"/v1/profiles/{name}/versions", json=version, headers=headers)
        if made.status_code != 201:
            return made.status_code
        target = {"version": made.json().get("version", 1)}
        moved = await self.client.put(f"/v1/profiles/{name}/labels/stable", json=target, headers=headers)
        return moved.status_code

    async def feedback(self) -> int | str:
        if not self.answers:
            return "nothing to rate"
        key, answer = self.random.choice(self.answers)
        said = await self.client.post(
            "/v1/feedback",
            json={"id": answer, "rating": self.random.choice(["up", "down"])},
            headers={"authorization": f"Bearer {key}"},
        )
        return said.status_code

    async def erase(self) -> int:
        _, headers = self._headers()
        user = {"user": f"user-{self.random.randrange(20)}"}
        return (await self.client.post("/v1/feedback/erase", json=user, headers=headers)).status_code


async def look(client: httpx.AsyncClient, processes: ServerProcesses, minute: float) -> Pause:
    """Count what is left."""
    text = (await client.get("/metrics", headers={"authorization": f"Bearer {OPERATOR}"})).text

    def metric(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? ([\d.e+-]+)$", text, re.M))

    api = processes.api
    return Pause(
        minute=round(minute, 2),
        server_mib=round(_anonymous_mib(api), 1),
        engine_mib=round(sum(map(_anonymous_mib, processes.engine)), 1),
        files=api.num_fds(),
        threads=api.num_threads(),
        connections=sum(c.status == psutil.CONN_ESTABLISHED for c in api.net_connections("tcp")),
        tasks=metric("metaalign_event_loop_tasks"),
        running=metric("vllm:num_requests_running"),
        waiting=metric("vllm:num_requests_waiting"),
        queue=metric("metaalign_queue_waiting"),
        in_flight=metric("metaalign_requests_in_flight"),
    )


def _anonymous_mib(process: psutil.Process) -> float:
    """Memory that the process has filled itself, in contrast to files that it maps and shares with others."""
    found = re.search(r"^Anonymous: +(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text(), re.M)
    if found is None:
        raise RuntimeError("the kernel does not say how much memory a process has filled")
    return int(found[1]) / 1024


async def warm_up(client: httpx.AsyncClient, key: str) -> None:
    """Have the engine compute steps of 300 sizes, and use every block of its prefix cache.

    On a CPU, oneDNN makes kernels for each number of tokens in a step, and keeps the latest thousand, 330 MiB with the
    demo model; a block takes memory when it is first used. Mixed requests need a quarter of an hour for both.
    """
    for words in range(300):
        body = {
            "model": "metaalign-demo",
            "messages": [{"role": "user", "content": f"{words} " + "otter " * words}],
            "max_tokens": 1,
        }
        answer = await client.post(
            "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}
        )
        answer.raise_for_status()


async def soak(
    processes: ServerProcesses, minutes: float, connections: int, seed: int
) -> tuple[Mixture, list[Pause]]:
    """Alternate load and pauses until the time is over; prints a line per pause."""
    url = processes.server.url
    operator = {"authorization": f"Bearer {OPERATOR}"}
    pauses: list[Pause] = []
    limits = httpx.Limits(max_keepalive_connections=0)  # no keep-alive connection may last into a pause
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        keys = []
        for name in ("one", "two"):
            await client.post("/v1/admin/tenants", json={"name": name}, headers=operator)
            scopes = ["inference", "profiles:read", "profiles:write"]
            made = await client.post(
                "/v1/admin/keys", json={"tenant": name, "scopes": scopes}, headers=operator
            )
            keys.append(made.json()["key"])
        await warm_up(client, keys[0])
        mixture = Mixture(client, keys, seed)
        workers = [asyncio.create_task(mixture.worker()) for _ in range(connections)]
        started = time.monotonic()
        rest = min(10.0, minutes * 2)
        while time.monotonic() - started < minutes * 60:
            mixture.resting.set()
            await asyncio.sleep(min(50.0, minutes * 6))
            mixture.resting.clear()
            await asyncio.sleep(rest)
            pauses.append(await look(client, processes, (time.monotonic() - started) / 60))
            print(json.dumps(asdict(pauses[-1])), flush=True)
        mixture.stopped = True
        mixture.resting.set()
        await asyncio.gather(*workers)
        await asyncio.sleep(rest)
        pauses.append(await look(client, processes, (time.monotonic() - started) / 60))
        print(json.dumps(asdict(pauses[-1])), flush=True)
    return mixture, pauses


def growth(pauses: list[Pause], name: str) -> float:
    """How much more there is at the end; of memory, by the median slope between two pauses (Theil-Sen).

    A single look at memory comes up to half a minute after the heap's free part was given back to the system.
    """
    points = [(pause.minute, getattr(pause, name)) for pause in pauses]
    if not name.endswith("_mib"):
        return float(points[-1][1] - points[0][1])
    slopes = [(b - a) / (end - begin) for (begin, a), (end, b) in itertools.combinations(points, 2)]
    return float(statistics.median(slopes)) * (points[-1][0] - points[0][0])


def verdict(pauses: list[Pause], outcomes: Counter[str]) -> list[str]:
    """What went wrong; empty if all is well."""
    after_warm_up = pauses[max(1, len(pauses) // 3) :]
    last = pauses[-1]
    found = [
        f"{name} grew by {grown:.1f} to {getattr(last, name)}, more than {allowed}"
        for name, allowed in GROWTH.items()
        if (grown := growth(after_warm_up, name)) > allowed
    ]
    found += [
        f"{name} is {getattr(last, name)} at the end, not {expected}"
        for name, expected in AT_END.items()
        if getattr(last, name) != expected
    ]
    bad = {text: count for text, count in outcomes.items() if re.search(r" 5\d\d$|Error$", text)}
    if bad:
        found.append(f"answers that should not be: {bad}")
    return found


def draw(pauses: list[Pause], file: Path) -> None:
    """Draw each quantity over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(GROWTH), 1, figsize=(7, 1.5 * len(GROWTH)), sharex=True)
    for axis, name in zip(axes, GROWTH, strict=True):
        values = [getattr(pause, name) for pause in pauses]
        axis.plot([pause.minute for pause in pauses], values, marker=".")
        axis.set_ylabel(name.replace("_", " "))
        axis.set_ylim(0, max(values) * 1.2 + 1)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--connections", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", help="default: a new SQLite file")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    prepare_environment()
    options.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="metaalign-soak-"))
        env = {
            "METAALIGN_API_KEYS": OPERATOR,
            "METAALIGN_FEEDBACK": "true",
            "METAALIGN_DATABASE_URL": options.database_url or f"sqlite:///{folder}/store.db",
        }
        command = ["-m", "metaalign_server.cli", "serve", "--model", MODEL, "--port", str(port)]
        # Few enough blocks for the warm-up to use all.
        command += ["--num-gpu-blocks-override", "512"]
        server = stack.enter_context(
            running(
                command, f"http://127.0.0.1:{port}", options.out / "server.log", env=env, from_nothing=True
            )
        )
        processes = ServerProcesses(server, port)
        mixture, pauses = asyncio.run(soak(processes, options.minutes, options.connections, options.seed))
    outcomes = dict(sorted(mixture.outcomes.items()))
    found = verdict(pauses, mixture.outcomes)
    document = {"outcomes": outcomes, "pauses": [asdict(pause) for pause in pauses], "found": found}
    (options.out / "soak.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draw(pauses, options.out / "soak.svg")
    print(json.dumps(outcomes, indent=2))
    for line in found:
        print(f"NOT WELL: {line}")
    print(f"Written to {options.out}.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
