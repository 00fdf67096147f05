"""Writes `docs/reference/cli.md` from the programs' parsers: `python scripts/cli_page.py FILE`.

Not their `--help`, whose form differs between releases of Python.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from metaalign.cli.main import _parser as client_parser
from metaalign_server.cli import _parser as server_parser
from metaalign_training.cli import _parser as training_parser
from schema_words import table

__all__ = ["cli_page"]

_HEAD = """\
# Command line

Written by `make generated` from the parsers of the three programs. `--help` says the same. How they are used is told
in [clients](../clients.md#command-line), [the platform](../platform.md) and [training](../training.md); exit codes
are in [architecture](../architecture.md#process-and-exit-codes) for the server and in
[clients](../clients.md#command-line) for `metaalign`.
"""

_SETTINGS = """\
Every setting that holds no secret has a flag: [settings](settings.md). Flags of vLLM go into the same command line,
for example `--max-model-len 4096`.
"""

_RECIPES = """\
RECIPE is a YAML file or the name of a packaged recipe.
"""

_OF_SERVER = frozenset({"url", "key", "timeout", "json"})
"""Arguments of every command of `metaalign` that asks a server."""


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, help and parser of each command below `parser`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                yield name, helps.get(name, ""), sub


def _value(action: argparse.Action) -> str:
    if action.choices is not None and not isinstance(action, argparse._SubParsersAction):
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    shown = action.metavar or action.dest.upper()
    return " ".join(shown) if isinstance(shown, tuple) else shown


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        name = _value(action) if action.choices or action.metavar else action.dest.upper()
        return f"`{f'[{name}]' if action.nargs in ('?', '*') else name}`"
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "").replace("%%", "%")
    silent = (
        action.default in (None, False, "", argparse.SUPPRESS, [])
        or "default" in text
        or not action.option_strings
    )
    default = "" if silent else f"default: `{action.default}`"
    return "; ".join(part for part in (text, default) if part)


def _arguments(parser: argparse.ArgumentParser) -> str:
    actions = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    ]
    if {action.dest for action in actions} >= _OF_SERVER:
        actions = [action for action in actions if action.dest not in _OF_SERVER]
    return table(("argument", "meaning"), ((_name(action), _meaning(action)) for action in actions))


def _commands(program: str, parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    for name, text, sub in _subcommands(parser):
        yield f"\n{'#' * level} `{program} {name}`\n"
        if words := _sentence(text):
            yield f"\n{words}\n"
        if (program, name) == ("metaalign-server", "serve"):
            yield f"\n{_SETTINGS}"
            continue
        if rows := _arguments(sub):
            yield f"\n{rows}"
        yield from _commands(f"{program} {name}", sub, level + 1)


def _sentence(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _server_arguments() -> str:
    """What every command of `metaalign` that asks a server takes, told once."""
    (ask,) = (sub for name, _, sub in _subcommands(client_parser()) if name == "ask")
    rows = ((_name(action), _meaning(action)) for action in ask._actions if action.dest in _OF_SERVER)
    return table(("argument", "meaning"), rows)


def cli_page() -> str:
    """`docs/reference/cli.md`."""
    parts = [_HEAD]
    for program, parser, text in (
        ("metaalign", client_parser(), f"Commands that ask a server also take:\n\n{_server_arguments()}"),
        (
            "metaalign-server",
            server_parser(),
            "Commands other than `serve` work on the store that the settings name.\n",
        ),
        ("metaalign-train", training_parser(), _RECIPES),
    ):
        parts += [f"\n## `{program}`\n\n{text}", *_commands(program, parser, 3)]
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(cli_page(), encoding="utf-8")
