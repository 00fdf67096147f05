"""Arguments that several commands take, and what they stand for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from metaalign.cli.steering import add_steering, steering_of
from metaalign.client import MetaAlign
from metaalign.errors import InvalidPreferences, MetaAlignError

__all__ = ["add_preferences", "add_server", "attribute", "client", "preferences_of", "read_document"]


def add_server(parser: argparse.ArgumentParser) -> None:
    server = parser.add_argument_group("server")
    server.add_argument("--url", help="its address; default: METAALIGN_BASE_URL, or http://127.0.0.1:8000")
    server.add_argument("--key", help="default: METAALIGN_API_KEY, which other people's `ps` does not show")
    server.add_argument(
        "--timeout",
        type=_seconds,
        default=600,
        help="seconds to wait for an answer's next part; default: 600",
    )
    server.add_argument(
        "--json", action="store_true", help="print what the server answers, for other programs"
    )


def _seconds(text: str) -> float:
    """A time that the system can wait: neither none, nor longer than it can count."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text}: write seconds, such as 600")
    return seconds


def client(options: argparse.Namespace) -> MetaAlign:
    return MetaAlign(options.url, options.key, timeout=options.timeout)


def add_preferences(parser: argparse.ArgumentParser) -> None:
    tiers = parser.add_argument_group("preferences")
    tiers.add_argument("--system", metavar="TEXT", help="System Info")
    tiers.add_argument("--user", metavar="TEXT", help="User Info")
    tiers.add_argument(
        "--prefer", metavar="NAME=VALUE", action="append", default=[],
        help="an attribute of the user, such as format=bullets, or of the provider: system.tone=formal",
    )  # fmt: skip
    tiers.add_argument(
        "--profile", action="append", default=[], help="a profile: name, name@label or name:version"
    )
    tiers.add_argument(
        "--preferences", metavar="FILE", type=Path, help="JSON or YAML file with the whole field"
    )
    add_steering(parser)


def preferences_of(options: argparse.Namespace) -> Any:
    """The field that the options stand for; None if they stand for none.

    Raises:
        InvalidPreferences: options contradict each other, or the file cannot be read.
    """
    given: dict[str, Any] = {}
    for tier in ("system", "user"):
        if (text := getattr(options, tier)) is not None:
            given[tier] = {"info": text}
    for text in options.prefer:
        tier, name, value = attribute(text)
        if not value:
            raise InvalidPreferences(f"{text}: give a value, such as format=bullets")
        given.setdefault(tier, {}).setdefault("attributes", {})[name] = value
    if options.profile:
        given["profile"] = options.profile
    given |= steering_of(options)
    if options.preferences is None:
        return given or None
    if given:
        raise InvalidPreferences("--preferences already holds everything; leave out the other options")
    return read_document(options.preferences)


def attribute(text: str) -> tuple[str, str, str]:
    """Tier, name and value of `NAME=VALUE`, which is the user's, or of `system.NAME=VALUE`.

    Raises:
        InvalidPreferences: it is neither.
    """
    name, equals, value = text.partition("=")
    tier, dot, inner = name.partition(".")
    tier, name = (tier, inner) if dot and tier in ("system", "user") else ("user", name)
    if not equals or not name:
        raise InvalidPreferences(f"{text}: write NAME=VALUE, such as format=bullets")
    return tier, name, value


def read_document(path: Path) -> Any:
    """What a JSON or YAML file holds.

    Raises:
        InvalidPreferences: the file cannot be read as one of the two.
        MetaAlignError: reading YAML takes a package that is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidPreferences(f"{path}: not a readable JSON file") from error
    try:
        import yaml
    except ImportError:
        raise MetaAlignError(
            f"{path}: YAML takes `pip install 'metaalign[cli]'`; or name a .json file"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidPreferences(f"{path}: neither JSON nor YAML") from error
