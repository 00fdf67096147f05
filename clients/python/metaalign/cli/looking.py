"""`metaalign doctor`: whether a server can be used from here, and what to do if not."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from collections.abc import Callable
from typing import NamedTuple

import metaalign
from metaalign.cli.arguments import client
from metaalign.cli.output import print_json, table, told
from metaalign.client import MetaAlign
from metaalign.client.failures import APIError
from metaalign.errors import MetaAlignError

__all__ = ["add_commands"]


class Finding(NamedTuple):
    """What one look found: `ok`, and what it saw or what to do."""

    what: str
    ok: bool
    told: str


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor", help="check server, key, checkpoint and this machine, and say what to do"
    )
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    findings = [_here()]
    with client(options) as server:
        for what, look in _LOOKS.items():
            try:
                findings.append(Finding(what, True, look(server)))
            except MetaAlignError as error:
                findings.append(Finding(what, False, told(error)))
                if not isinstance(error, APIError):
                    break  # nothing answers: whatever else is asked would fail in the same way
    if options.json:
        print_json([finding._asdict() for finding in findings])
    else:
        table(("what", "", "found"), [(f.what, "ok" if f.ok else "FAILED", f.told) for f in findings])
    return int(not all(finding.ok for finding in findings))


def _here() -> Finding:
    optional = {"cli": "rich", "verifiers": "regex", "tokens": "cryptography"}
    missing = [extra for extra, module in optional.items() if importlib.util.find_spec(module) is None]
    told = f"metaalign {metaalign.__version__}, Python {platform.python_version()}"
    return Finding("this machine", True, told + (f"; not installed: {', '.join(missing)}" if missing else ""))


def _ready(server: MetaAlign) -> str:
    return f"{server.settings.base_url} is {server.ready().status}"


def _version(server: MetaAlign) -> str:
    theirs = server.version()
    if theirs.version != metaalign.__version__:
        raise MetaAlignError(
            f"the server has version {theirs.version} and this client {metaalign.__version__}: install the same"
        )
    return f"metaalign {theirs.version} on vLLM {theirs.vllm}"


def _models(server: MetaAlign) -> str:
    return ", ".join(str(model["id"]) for model in server.models().data)


def _preferences(server: MetaAlign) -> str:
    """The User tier alone: any key for inference may write it."""
    answer = server.align("Hello", preferences={"user": "I like short answers."}, max_tokens=8, temperature=0)
    if answer.metaalign is None or not answer.metaalign.applied:
        raise MetaAlignError(
            "an answer came, and no preference was applied: is a MetaAlign server behind this address"
        )
    template = answer.metaalign.template
    return f"applied by the template {template.name}/{template.version}"


_LOOKS: dict[str, Callable[[MetaAlign], str]] = {
    "server": _ready,
    "version": _version,
    "key and models": _models,
    "preferences": _preferences,
}
