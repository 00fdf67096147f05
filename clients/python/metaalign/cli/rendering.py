"""`metaalign render`: what the model would be told, and by which prompts an answer would be drawn."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from metaalign.cli.arguments import add_preferences, client, preferences_of
from metaalign.cli.output import print_json, steering_line, table
from metaalign.client.models import RenderedBranch
from metaalign.preferences import parse_preferences
from metaalign.prompt.resolution import request_layers
from metaalign.prompt.steering import steer
from metaalign.receipt import SteeringApplied

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    dry = commands.add_parser(
        "render",
        help="show preferences as the two tiers, and the branches of steering; needs no server unless one is named",
    )
    dry.set_defaults(run=_render)
    add_preferences(dry)


def _render(options: argparse.Namespace) -> None:
    preferences = preferences_of(options) or {}
    asks = bool(options.url) or _names_profiles(preferences)
    if asks:
        with client(options) as server:
            rendered = server.render(preferences)
        if options.json:
            print_json(rendered)
            return
        lost, steering = rendered.metaalign.overridden, rendered.metaalign.steering
        # A server lists branches if there are several; one is the prompt itself.
        branches = rendered.branches or [
            RenderedBranch(
                coefficient=1,
                system_info=rendered.system_info,
                user_info=rendered.user_info,
                prompt_token_ids=rendered.prompt_token_ids,
            )
        ]
    else:
        steered = steer(request_layers(parse_preferences(preferences)))
        branches = [
            RenderedBranch(
                coefficient=branch.coefficient,
                system_info=branch.meta_prompt.system_info,
                user_info=branch.meta_prompt.user_info,
                prompt_token_ids=[],
            )
            for branch in steered.branches
        ]
        if options.json:
            tiers = [branch.model_dump(exclude={"prompt_token_ids"}) for branch in branches]
            leading = {name: tiers[0][name] for name in ("system_info", "user_info")}
            print_json(leading | {"branches": tiers if len(tiers) > 1 else []})
            return
        lost = steered.resolution.overridden  # type: ignore[assignment]  # the same fields
        steering = steered.applied
    _show_branches(branches, steering, counted=asks)
    for one in lost:
        print(f"\n{one.tier} {one.dimension} = {one.value!r} lost to {one.kept!r} ({one.by})")


def _show_branches(
    branches: Sequence[RenderedBranch], steering: SteeringApplied | None, *, counted: bool
) -> None:
    """Print each text once, and where something is steered, what every prompt counts; tokens if they are `counted`."""
    names = _names(branches, (steering.blend if steering is not None else None) or ())
    print("\n".join(["# System Info", branches[0].system_info]))
    users = {branch.user_info: name for branch, name in zip(branches, names, strict=True) if branch.user_info}
    for text, name in users.items() or [("", "")]:
        print(f"\n# User Info{f', {name}' if len(users) > 1 else ''}\n{text}")
    if steering is None:
        return
    print(f"\n{steering_line(steering)}\n")
    rows = [
        (name, f"{one.coefficient:g}", len(one.prompt_token_ids))
        for name, one in zip(names, branches, strict=True)
    ]
    shown = 3 if counted else 2
    table(("branch", "coefficient", "tokens")[:shown], [row[:shown] for row in rows])


def _names(branches: Sequence[RenderedBranch], blend: Sequence[float]) -> list[str]:
    """What each branch is; parts of a blend are counted from 1, as they were given.

    Branches come by weight. Where two parts came to the same prompt, nothing tells which, and none has a number.
    """
    by_weight = sorted(range(len(blend)), key=lambda part: -blend[part])
    parts = [f"blend part {part + 1}" for part in by_weight]
    if sum(bool(branch.user_info) for branch in branches) != len(blend):
        parts = ["part of the blend"] * len(branches)
    numbered = iter(parts)
    names = []
    for branch in branches:
        if blend and branch.user_info:
            names.append(next(numbered))
        elif branch.user_info:
            names.append("both tiers" if branch.system_info else "User only")
        else:
            names.append("System only" if branch.system_info else "no tier")
    return names


def _names_profiles(preferences: Any) -> bool:
    """Whether preferences are a server's in part."""
    if not isinstance(preferences, dict):
        return False
    parts = preferences.get("blend") or ()
    return bool(preferences.get("profile")) or any(
        isinstance(one, dict) and "profile" in one for one in parts
    )
