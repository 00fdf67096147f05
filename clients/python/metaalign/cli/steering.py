"""Steering as options of commands and as lines of a talk: `--strength 1.5`, `/blend formal=0.7 tone=pirate=0.3`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from metaalign.errors import InvalidPreferences
from metaalign.preferences import LIMITS, MAX_STRENGTH, parse_preferences

__all__ = ["DIALS", "add_steering", "check_temperature", "check_together", "dial", "steering_of"]

DIALS = ("strength", "blend", "candidates")
"""The fields of preferences that are read here."""


def add_steering(parser: argparse.ArgumentParser) -> None:
    steering = parser.add_argument_group("steering")
    steering.add_argument(
        "--strength", metavar="NUMBER",
        help="how strongly the tiers act: 1 as trained, 0 not at all, 4 at most; each of them: system=1.2,user=2",
    )  # fmt: skip
    steering.add_argument(
        "--blend", metavar="PART=WEIGHT", action="append", default=[],
        help="mix User tiers, an option for each: a profile, such as formal=0.7, or an attribute, such as"
        " tone=pirate=0.3; the weights sum to 1",
    )  # fmt: skip
    steering.add_argument(
        "--candidates", metavar="COUNT",
        help="sample so many answers, at most 16, and take the one that fits best; needs a temperature above 0",
    )  # fmt: skip


def steering_of(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that the options stand for.

    Raises:
        InvalidPreferences: the message names the option, and says what it takes.
    """
    given: dict[str, Any] = {}
    if options.strength is not None:
        given["strength"] = _strength("--strength", options.strength)
    if options.blend:
        given["blend"] = _blend("--blend", options.blend)
    if options.candidates is not None:
        given["candidates"] = _candidates("--candidates", options.candidates)
    check_together("--blend", given)
    return given


def dial(name: str, text: str) -> Any:
    """The field `name` from the rest of a talk's line.

    Raises:
        InvalidPreferences: the message names the command, and says what it takes.
    """
    command = f"/{name}"
    if name == "strength":
        return _strength(command, text)
    if name == "candidates":
        return _candidates(command, text)
    try:
        parts = shlex.split(text)
    except ValueError:
        raise InvalidPreferences(f"{command} {text}: a quotation mark has no other one; add it") from None
    return _blend(command, parts)


def check_together(name: str, preferences: dict[str, Any]) -> None:
    """Refuse a blend with a strength of the User tier, before a server does.

    Raises:
        InvalidPreferences: the message begins with `name`.
    """
    strength = preferences.get("strength")
    of_user = strength.get("user", 1) if isinstance(strength, dict) else strength
    if preferences.get("blend") and of_user not in (None, 1):
        raise InvalidPreferences(
            f"{name}: a blend takes the place of the User tier's strength: give that of the System tier alone, as in"
            " system=1.5, or leave out one of the two"
        )


def check_temperature(preferences: Any, temperature: float) -> None:
    """Refuse candidates that would all be the same, before a server does.

    Raises:
        InvalidPreferences: the message names the option.
    """
    candidates = preferences.get("candidates") if isinstance(preferences, dict) else None
    if temperature == 0 and isinstance(candidates, int) and candidates > 1:
        raise InvalidPreferences(
            f"--temperature 0 makes all {candidates} candidates the same: give one above it, such as 0.8"
        )


def _strength(name: str, text: str) -> float | dict[str, float]:
    wrong = InvalidPreferences(
        f"{name} {text}: write a number from 0 to {MAX_STRENGTH:g}, such as 1.5, or one for each tier, such as"
        " system=1.2,user=2"
    )
    if "=" not in text:
        return _number(text, MAX_STRENGTH, wrong)
    found: dict[str, float] = {}
    for part in text.split(","):
        tier, _, value = part.strip().partition("=")
        if tier not in ("system", "user") or tier in found:
            raise wrong
        found[tier] = _number(value, MAX_STRENGTH, wrong)
    return found


def _blend(name: str, parts: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in parts:
        # The weight is behind the last `=`: no profile's name holds one, and an attribute's value may.
        what, _, weight = part.rpartition("=")
        wrong = InvalidPreferences(
            f"{name} {part}: write a profile and its weight, such as formal=0.7, or an attribute and its weight, such"
            " as tone=pirate=0.3; weights are above 0"
        )
        attribute, equals, value = what.partition("=")
        if not attribute or (equals and not (attribute.isidentifier() and value)):
            raise wrong
        share = _number(weight, 1, wrong)
        if not share:
            raise wrong
        source = {"user": {"attributes": {attribute: value}}} if equals else {"profile": attribute}
        found.append(source | {"weight": share})
    if len(found) > LIMITS["blend"]:
        raise InvalidPreferences(
            f"{name}: mixes at most {LIMITS['blend']} parts, not {len(found)}; leave some out"
        )
    try:
        parse_preferences({"blend": found})
    except InvalidPreferences as error:
        # Without its path, which is the field's and not the command line's.
        raise InvalidPreferences(f"{name}: {error.message.partition(': ')[2]}") from None
    return found


def _candidates(name: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LIMITS["candidates"]:
        raise InvalidPreferences(
            f"{name} {text}: write a whole number from 1 to {LIMITS['candidates']}, such as 4"
        )
    return int(text)


def _number(text: str, highest: float, wrong: InvalidPreferences) -> float:
    try:
        number = float(text)
    except ValueError:
        raise wrong from None
    if not 0 <= number <= highest:  # neither is "nan"
        raise wrong
    return number
