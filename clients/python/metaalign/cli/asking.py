"""`metaalign ask` and `compare`: one query, under preferences or under several."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from metaalign.cli.arguments import add_preferences, client, preferences_of, read_document
from metaalign.cli.output import as_json, note, print_answer, print_json, receipt_lines, table
from metaalign.cli.replaying import check_writable, save
from metaalign.cli.steering import check_temperature
from metaalign.client import MetaAlign
from metaalign.errors import InvalidPreferences, MetaAlignError

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ask = commands.add_parser("ask", help="one query, one answer, as it is written")
    ask.add_argument("query", help="the question; - reads it from standard input")
    ask.add_argument("--receipt", action="store_true", help="say on standard error what was applied")
    ask.add_argument(
        "--save", type=Path, metavar="FILE", help="append query and answer to a file, for `metaalign replay`"
    )
    ask.set_defaults(run=_ask)
    add_preferences(ask)
    _sampling(ask)
    compare = commands.add_parser("compare", help="one query under several preferences, side by side")
    compare.add_argument("query")
    compare.add_argument(
        "preferences", nargs="+", metavar="PREFERENCES",
        help="a text for System Info, NAME=VALUE for the user, @PROFILE, or a JSON or YAML file; `-` is none",
    )  # fmt: skip
    _sampling(compare)
    compare.set_defaults(run=_compare)


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a served model, or model@profile")
    parser.add_argument("--temperature", type=float, default=0.0, help="default: 0")
    parser.add_argument("--max-tokens", type=int, help="of the answer")


def _options(options: argparse.Namespace) -> dict[str, Any]:
    chosen = {"model": options.model, "temperature": options.temperature, "max_tokens": options.max_tokens}
    return {name: value for name, value in chosen.items() if value is not None}


def _ask(options: argparse.Namespace) -> None:
    query = sys.stdin.read() if options.query == "-" else options.query
    preferences = preferences_of(options)
    check_temperature(preferences, options.temperature)
    if options.save is not None:
        check_writable(options.save)
    with client(options) as server:
        if options.json:
            answer = server.align(query, preferences=preferences, **_options(options))
            print_json(answer)
            _save(server, options, query, preferences, as_json(answer))
            return
        with server.align_stream(query, preferences=preferences, **_options(options)) as stream:
            print_answer(stream)
        if options.receipt:
            for line in receipt_lines(stream.receipt):
                note(line)
        streamed = {"id": stream.id, "text": stream.text, "finish_reason": stream.finish_reason}
        _save(server, options, query, preferences, streamed | {"metaalign": as_json(stream.receipt)})


def _save(
    server: MetaAlign, options: argparse.Namespace, query: str, preferences: Any, answer: dict[str, Any]
) -> None:
    if options.save is not None:
        request = {"query": query, "preferences": preferences} | _options(options)
        save(server, options.save, request, answer)


def _compare(options: argparse.Namespace) -> None:
    sides = [_side(text) for text in options.preferences]
    for side in sides:
        check_temperature(side, options.temperature)
    with client(options) as server:
        answers = [server.align(options.query, preferences=side, **_options(options)) for side in sides]
    if options.json:
        print_json(answers)
        return
    rows = [
        (given, answer.text, "\n".join(receipt_lines(answer.metaalign)[1:]))
        for given, answer in zip(options.preferences, answers, strict=True)
    ]
    table(("preferences", "answer", "receipt"), rows)


def _side(text: str) -> Any:
    """What one side's preferences stand for."""
    if text == "-":
        return None
    if text.startswith("@"):
        return {"profile": text[1:]}
    name, equals, value = text.partition("=")
    if equals and name.isidentifier():
        return {"user": {"attributes": {name: value}}}
    if text.endswith((".json", ".yaml", ".yml")):
        if not Path(text).exists():
            raise InvalidPreferences(f"{text}: no such file")
        return read_document(Path(text))
    if not text.strip():
        raise MetaAlignError("an empty text is no preference: write `-` for none")
    return text
