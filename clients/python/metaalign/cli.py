"""`metaalign ask QUERY` asks a running server; `metaalign render FILE` shows a Meta-Prompt offline."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from metaalign.errors import InvalidPreferences, MetaAlignError
from metaalign.preferences import parse_preferences
from metaalign.prompt.rendering import render
from metaalign.prompt.resolution import request_layers, resolve

__all__ = ["main"]

DEFAULT_URL = "http://127.0.0.1:8000"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metaalign", description="Query a MetaAlign server, or inspect a Meta-Prompt."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="send one query to a running server")
    ask.add_argument("query")
    ask.add_argument(
        "--url", default=os.environ.get("METAALIGN_BASE_URL", DEFAULT_URL), help="default: METAALIGN_BASE_URL"
    )
    ask.add_argument("--json", action="store_true", help="print the whole answer, including its receipt")
    dry = commands.add_parser("render", help="show preferences as the two tiers; needs no server")
    for command in (ask, dry):
        command.add_argument("--system", help="text for System Info")
        command.add_argument("--user", help="text for User Info")
        command.add_argument("--preferences", type=Path, help="JSON file with the whole `preferences` field")
    return parser


def _preferences(options: argparse.Namespace) -> Any:
    if options.preferences is None:
        return {tier: text for tier in ("system", "user") if (text := getattr(options, tier)) is not None}
    if options.system is not None or options.user is not None:
        raise InvalidPreferences("--preferences already holds both tiers; leave out --system and --user")
    try:
        return json.loads(options.preferences.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidPreferences(f"{options.preferences}: not a readable JSON file") from error


def _ask(options: argparse.Namespace, preferences: Any) -> str:
    key = os.environ.get("METAALIGN_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = options.url.rstrip("/").removesuffix("/v1") + "/v1/align"
    try:
        response = httpx.post(
            url, json={"query": options.query, "preferences": preferences}, headers=headers, timeout=300
        )
        body = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise MetaAlignError(f"{url}: no MetaAlign server answers there ({type(error).__name__})") from error
    if response.status_code != 200:
        raise MetaAlignError(body.get("error", {}).get("message", f"status {response.status_code}"))
    return json.dumps(body, indent=2, ensure_ascii=False) if options.json else str(body["text"])


def _render(preferences: Any) -> str:
    resolution = resolve(request_layers(parse_preferences(preferences)))
    meta_prompt = render(resolution)
    lines = ["# System Info", meta_prompt.system_info, "", "# User Info", meta_prompt.user_info]
    lines += [
        f"\n{lost.tier} {lost.dimension} = {lost.value!r} lost to {lost.kept!r} ({lost.by})"
        for lost in resolution.overridden
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; return the exit code: 0 answered, 1 refused with one line on standard error."""
    options = _parser().parse_args(argv)
    try:
        preferences = _preferences(options)
        text = _ask(options, preferences) if options.command == "ask" else _render(preferences)
    except MetaAlignError as error:
        sys.stderr.write(f"metaalign: {error.message}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
