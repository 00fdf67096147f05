"""Other projects' clients at a real server: every recipe of docs/recipes.md, also steered, and what its client raises.

python -m tests.clients.run [--only NAME,NAME]    in an environment that `make clients-test` made
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from tests.clients.breaking import breaking
from tests.clients.recipes import (
    CONDITIONS,
    HURRIED,
    PAGE,
    STRENGTH,
    Recipe,
    agrees,
    expected,
    hurried,
    marked,
    raised,
    recipes,
    steered,
)
from tests.processes import ROOT, environment, free_port
from tests.security.world import TENANT_SCOPES, open_world

HERE = Path(__file__).parent
NODE = HERE / "node"
OLDER = ("LlamaIndex", "instructor", "LiteLLM proxy")
"""Clients that need an older `openai` than the rest, and therefore another environment."""
HEADERS = ("langchain-openai", "LangGraph", "pydantic-ai", "Haystack")
"""Clients whose receipt is that of the headers, which say nothing of steering but by the hash."""
CHECKS = ("preferences", "receipt", "stream", "tool", "profile", "steering", *CONDITIONS)
PIRATE = re.compile(r'\bsystem("?: "Answer like a pirate)')
TOLD = {
    "refused": ("preferences.sytem: unknown key", "no profile `pirat`"),
    "key": ("a valid key is needed",),
    "limit": ("limited to 1 tokens per day; try again in",),
    "failed": ("the answer broke off: the engine failed; send the request again",),
    "slow": ("timed out", "timeout", "Timeout"),
}
"""What the client's message must have of ours, or when nothing came, of its own: one of these."""
NOT_THEIRS = ("builtins.", "httpx.", "httpcore.", "metaalign.")
TIMEOUT = 180
PATIENCE = 3
"""Seconds that a client waits where it is to see that it has waited enough."""
MASTER_KEY = "sk-of-litellm-0123456789abcdef0123456789"


@dataclass(frozen=True)
class Place:
    """Where a recipe asks, in one of the conditions."""

    url: str
    key: str


@dataclass
class Result:
    """One client's checks: "ok", "-" for what it does not have, or what was wrong."""

    client: str
    checks: dict[str, str] = field(default_factory=dict)


def run(recipe: Recipe, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as the recipe's language and client want it."""
    bin_folder = ROOT / (".venv-clients-older" if recipe.client in OLDER else ".venv-clients") / "bin"
    command = {
        "python": [str(bin_folder / "python"), str(HERE / "launch.py")],
        "js": [
            str(NODE / "node_modules/.bin/node"),
            "--import",
            str(NODE / "launch.mjs"),
            "--input-type=module",
        ],
        "bash": ["bash", "-euo", "pipefail", "-c", program],
    }[recipe.language]
    variables = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network for prices
        "LLM_USER_PATH": str(folder),
        "DSPY_CACHEDIR": str(folder),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }
    try:
        return subprocess.run(
            command,
            input="" if recipe.language == "bash" else program,  # `llm` would read the rest of it
            cwd=NODE if recipe.language == "js" else folder,
            env=environment(variables),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"RAISED nothing within {TIMEOUT} s\n")


def placed(recipe: Recipe, text: str, place: Place, condition: str, proxy: str) -> str:
    """The text of a recipe, asking there."""
    if recipe.client == "LiteLLM proxy":  # it knows where each of its models is
        text = re.sub(r"metaalign-(?:demo|pirate)", rf"{condition}-\g<0>", text)
        return text.replace("http://127.0.0.1:4000", proxy).replace("unused", MASTER_KEY)
    return text.replace("http://127.0.0.1:8000", place.url).replace("unused", place.key)


def check(recipe: Recipe, places: dict[str, Place], proxy: str, faint: str) -> Result:
    """Run a recipe as it is, steered, and once in every condition.

    Args:
        faint: The hash of the receipt where the recipe is steered, as a dry run gives it.
    """
    result = Result(recipe.client)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def here(text: str, condition: str) -> str:
            if (
                condition == "refused"
            ):  # a key of the preferences misspelt, or a profile's name where there are none
                text = (
                    PIRATE.sub(r"sytem\1", text) if PIRATE.search(text) else text.replace("@pirate", "@pirat")
                )
            if condition == "steering":
                text = steered(text)
            if condition in HURRIED and recipe.client != "LiteLLM proxy":  # it is the one that waits
                text = hurried(text, recipe.client, PATIENCE)
            return placed(recipe, text, places[condition], condition, proxy)

        def run_in(condition: str, program: str) -> subprocess.CompletedProcess[str]:
            if "yaml" in recipe.files:
                file = folder / "extra-openai-models.yaml"
                file.write_text(here(recipe.files["yaml"], condition), encoding="utf-8")
            started = time.monotonic()
            done = run(recipe, here(program, condition), folder)
            print(f"{recipe.client}, {condition}: {time.monotonic() - started:.0f} s", flush=True)
            return done

        result.checks |= shown(recipe, run_in("good", marked(recipe.program, recipe.language)))
        result.checks["steering"] = faintly(recipe, run_in("steering", recipe.until("Tool")), faint)
        for condition in CONDITIONS:
            if raised()[recipe.client][condition] == "-":
                result.checks[condition] = "-"
                continue
            program = recipe.until("Tool" if condition in ("failed", "broken", "stalled") else "Stream")
            result.checks[condition] = told(recipe, condition, run_in(condition, program))
    return result


def shown(recipe: Recipe, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Compare what a recipe printed with what the page shows."""
    pieces = done.stdout.split("\f")
    printed = {"Ask": pieces[0]} | {
        name: text for name, _, text in (piece.partition("\n") for piece in pieces[1:])
    }
    verdicts = dict.fromkeys(("preferences", "receipt", "stream", "tool", "profile"), "-")
    for part, text in recipe.parts().items():
        wanted = expected(text)
        lines = [line for line in printed.get(part, "").splitlines() if line.strip()]
        if part == "Ask":
            verdicts["preferences"] = compared(wanted[:1], lines[:1], done)
            if wanted[1:]:
                verdicts["receipt"] = compared(wanted[1:], lines[1:], done)
        else:
            verdicts[part.lower()] = compared(wanted, lines, done)
    return verdicts


def faintly(recipe: Recipe, done: subprocess.CompletedProcess[str], faint: str) -> str:
    """Look for two answers without a pirate, and between them for the receipt, if the client has one."""
    answer = "The fox eats mice. …"
    branches = None if recipe.client in HEADERS else 2
    receipt = [f"{faint} {branches}"] if expected(recipe.parts()["Ask"])[1:] else []
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return compared([answer, *receipt, answer], lines, done)


def compared(wanted: list[str], lines: list[str], done: subprocess.CompletedProcess[str]) -> str:
    """ "ok", or what came instead."""
    if wanted and len(wanted) == len(lines) and all(map(agrees, wanted, lines)):
        return "ok"
    return f"shown {wanted}, printed {lines}\n{done.stderr[-1500:]}"


def told(recipe: Recipe, condition: str, done: subprocess.CompletedProcess[str]) -> str:
    """Compare what a client raised with what the page says, and look for our message in it."""
    _, _, end = done.stderr.rpartition("RAISED ")
    name, _, message = end.partition("\n")
    if recipe.language == "bash":
        name, message = "Error", done.stderr
    if done.returncode == 0:
        name = "no error"
    says = raised().get(recipe.client, {}).get(condition)
    if name != says:
        return f"the page says {says}, it is {name}: {message[-1500:]}"
    if condition in TOLD:
        if not any(words in message for words in TOLD[condition]):
            return f"{name} without our message: {message[-1500:]}"
        if name.startswith(NOT_THEIRS):
            return f"{name} is not the client's own"
    return "ok"


@contextmanager
def litellm_proxy(recipe: Recipe, places: dict[str, Place], folder: Path) -> Iterator[str]:
    """LiteLLM's proxy with the page's configuration once for every condition; its URL."""
    models = []
    for condition, place in places.items():
        text = recipe.files["yaml"]
        if condition in HURRIED:
            text = hurried(text, recipe.client, PATIENCE)
        text = text.replace("http://127.0.0.1:8000", place.url).replace("unused", place.key)
        for model in yaml.safe_load(text)["model_list"]:
            models.append(model | {"model_name": f"{condition}-{model['model_name']}"})
    config, port = folder / "litellm.yaml", free_port()
    config.write_text(json.dumps({"model_list": models}), encoding="utf-8")
    program = ROOT / ".venv-clients-older/bin/litellm"
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    variables = {
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(variables), stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not alive(f"{url}/health/liveliness"):
            if process.poll() is not None or time.monotonic() > deadline:
                print((folder / "litellm.log").read_text(encoding="utf-8")[-4000:])
                break  # its own checks will fail, and the others go on
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def alive(url: str) -> bool:
    """Whether something answers there."""
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def print_table(results: list[Result]) -> None:
    """Client by check, and below what was wrong."""
    wide = max(len(result.client) for result in results)
    print(" " * wide, *CHECKS)
    for result in results:
        cells = (
            (value if value in ("ok", "-") else "FAIL").ljust(len(name))
            for name, value in ((name, result.checks[name]) for name in CHECKS)
        )
        print(result.client.ljust(wide), *cells)
    for result in results:
        for name, value in result.checks.items():
            if value not in ("ok", "-"):
                print(f"\n{result.client}, {name}: {value}")


def main() -> int:
    """Serve the demo, run every recipe, print the table; 1 if anything was not as the page says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    only = parser.parse_args().only
    chosen = [recipe for recipe in recipes() if not only or recipe.client in only]
    (profile,) = re.findall(r"curl -s http://127\.0\.0\.1:8000/v1/profiles .* -d '(.*?)'", PAGE, re.DOTALL)
    with tempfile.TemporaryDirectory() as name, open_world(Path(name), [{"name": "zoo"}]) as world:
        limited = world.make_key("zoo", *TENANT_SCOPES, limits={"tokens_per_day": 1})["key"]
        world.keys["limited"] = limited
        assert world.ask("limited").status_code == 200  # which uses up the day
        pirate = json.loads(profile)
        weak = pirate | {"name": "faint", "preferences": pirate["preferences"] | {"strength": STRENGTH}}
        for body in (pirate, weak):
            made = world.client("zoo").post("/v1/profiles", json=body)
            assert made.status_code == 201, made.text
        dry = world.client("zoo").post("/v1/preferences/render", json={"preferences": {"profile": "faint"}})
        applied = dry.json()["metaalign"]
        assert applied["steering"] == {"strength": {"system": 0.2, "user": 1.0}, "branches": 2}
        url, key = world.server.url, world.keys["zoo"]
        with (
            breaking(url, "failed") as failed,
            breaking(url, "broken") as broken,
            breaking(url, "slow") as slow,
            breaking(url, "stalled") as stalled,
        ):
            places = {
                "good": Place(url, key),
                "steering": Place(url, key),
                "refused": Place(url, key),
                "key": Place(url, "ma_wrong"),
                "limit": Place(url, limited),
                "stopped": Place(f"http://127.0.0.1:{free_port()}", key),
                "failed": Place(failed, key),
                "broken": Place(broken, key),
                "slow": Place(slow, key),
                "stalled": Place(stalled, key),
            }
            proxied = next((recipe for recipe in chosen if recipe.client == "LiteLLM proxy"), None)
            with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
                proxy = ""
                if proxied is not None:
                    proxy = stack.enter_context(litellm_proxy(proxied, places, Path(name)))
                results = list(
                    pool.map(lambda recipe: check(recipe, places, proxy, applied["spec_hash"]), chosen)
                )
    print_table(results)
    return int(any(value not in ("ok", "-") for result in results for value in result.checks.values()))


if __name__ == "__main__":
    sys.exit(main())
