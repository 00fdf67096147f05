"""`metaalign profiles`, `keys` and `feedback`: what a server keeps."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metaalign.cli.arguments import add_preferences, add_server, client, preferences_of, read_document
from metaalign.cli.output import note, print_json, table
from metaalign.client import MetaAlign
from metaalign.client.models import Key, Label, Profile
from metaalign.errors import InvalidPreferences, MetaAlignError

__all__ = ["add_commands"]

_Action = Callable[[MetaAlign, argparse.Namespace], None]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _add_profiles(commands)
    _add_keys(commands)
    feedback = commands.add_parser("feedback", help="rate an answer, or give a better one")
    feedback.add_argument("id", help="of the answer")
    feedback.add_argument("rating", nargs="?", choices=("up", "down"))
    feedback.add_argument("--chosen", metavar="TEXT", help="a better answer")
    feedback.add_argument("--rejected", metavar="TEXT", help="a worse answer")
    feedback.set_defaults(run=_with(_give_feedback))


def _with(action: _Action) -> Callable[[argparse.Namespace], None]:
    def run(options: argparse.Namespace) -> None:
        with client(options) as server:
            action(server, options)

    return run


def _sub(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    action: _Action,
    help: str,
    *words: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help)
    for word in words:
        parser.add_argument(word)
    add_server(parser)
    parser.set_defaults(run=_with(action))
    return parser


# --- profiles --------------------------------------------------------------------------------------------------


def _add_profiles(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    actions = commands.add_parser("profiles", help="named preferences: versions and labels").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    listed = _sub(actions, "list", _list_profiles, "all profiles")
    listed.add_argument("--archived", action="store_true", help="with those that are out of use")
    _sub(
        actions,
        "show",
        _show_profile,
        "a version's preferences; NAME is name, name@label or name:version",
        "name",
    )
    for name, action, help in (
        ("create", _create_profile, "a profile with its first version"),
        ("add", _add_version, "another version"),
    ):
        made = _sub(actions, name, action, help, "name")
        made.add_argument("--note", default="", help="the reason, for people")
        add_preferences(made)
    label = _sub(
        actions,
        "label",
        _move_label,
        "let a label point to a version, or to several by weight: 3=90 4=10",
        "name",
        "label",
    )
    label.add_argument("version", nargs="+", help="a number, or numbers with weights")
    _sub(actions, "rollback", _roll_back, "let a label point to where it pointed before", "name", "label")
    diff = _sub(actions, "diff", _diff, "what changed from one version to another", "name")
    diff.add_argument("old", type=int)
    diff.add_argument("new", type=int)
    _sub(actions, "export", _export, "all profiles as JSON on standard output")
    _sub(actions, "import", _import, "add what `export` gave", "file")
    _sub(actions, "delete", _delete_profile, "a profile with all its versions", "name")


def _list_profiles(server: MetaAlign, options: argparse.Namespace) -> None:
    profiles = list(server.profiles.list())
    if options.archived:
        profiles += server.profiles.list(archived=True)
    if options.json:
        print_json(profiles)
        return
    table(("name", "versions", "labels", "updated"), [_profile_row(profile) for profile in profiles])


def _profile_row(profile: Profile) -> tuple[object, ...]:
    labels = [f"{name} -> {_targets(label)}" for name, label in sorted(profile.labels.items())]
    name = f"{profile.name} (archived)" if profile.archived else profile.name
    return name, profile.latest, "\n".join(labels), f"{profile.updated_at:%Y-%m-%d %H:%M}"


def _targets(label: Label) -> str:
    if len(label.versions) == 1:
        return str(label.versions[0].version)
    return ", ".join(f"{target.version} ({target.weight})" for target in label.versions)


def _show_profile(server: MetaAlign, options: argparse.Namespace) -> None:
    name, at, label = options.name.partition("@")
    name, colon, number = name.partition(":")
    profile = server.profiles.get(name)
    if colon:
        if not number.isdecimal():
            raise MetaAlignError(f"{options.name}: the version is a number, as in {name}:1")
        chosen = int(number)
    elif at:
        if label not in profile.labels:
            raise MetaAlignError(
                f"{name} has no label {label!r}; its labels: {', '.join(profile.labels) or 'none'}"
            )
        chosen = profile.labels[label].versions[0].version
    else:
        chosen = profile.latest
    version = server.profiles.version(name, chosen)
    print_json(version if options.json else version.preferences)


def _create_profile(server: MetaAlign, options: argparse.Namespace) -> None:
    profile = server.profiles.create(options.name, _required(options), note=options.note)
    print_json(profile) if options.json else print(f"{profile.name}:{profile.latest}")


def _add_version(server: MetaAlign, options: argparse.Namespace) -> None:
    version = server.profiles.add_version(options.name, _required(options), note=options.note)
    print_json(version) if options.json else print(f"{version.profile}:{version.version}")


def _required(options: argparse.Namespace) -> Any:
    preferences = preferences_of(options)
    if preferences is None:
        raise InvalidPreferences("give preferences: --system, --user, --prefer or --preferences FILE")
    return preferences


def _move_label(server: MetaAlign, options: argparse.Namespace) -> None:
    weights: dict[int, int] = {}
    for text in options.version:
        number, equals, weight = text.partition("=")
        if not number.isdecimal() or (equals and not weight.isdecimal()):
            raise MetaAlignError(
                f"{text}: write a version, such as 3, or versions with weights, such as 3=90 4=10"
            )
        weights[int(number)] = int(weight) if equals else 100
    to = next(iter(weights)) if len(weights) == 1 else weights
    _tell(options, server.profiles.move_label(options.name, options.label, to))


def _roll_back(server: MetaAlign, options: argparse.Namespace) -> None:
    _tell(options, server.profiles.roll_back(options.name, options.label))


def _tell(options: argparse.Namespace, profile: Profile) -> None:
    if options.json:
        print_json(profile)
    else:
        print(f"{profile.name}@{options.label} -> {_targets(profile.labels[options.label])}")


def _diff(server: MetaAlign, options: argparse.Namespace) -> None:
    found = server.profiles.diff(options.name, options.old, options.new)
    if options.json:
        print_json(found)
        return
    rows = [
        (c.path, *(json.dumps(side, ensure_ascii=False) for side in (c.from_, c.to))) for c in found.changes
    ]
    table(("path", str(options.old), str(options.new)), rows)


def _export(server: MetaAlign, options: argparse.Namespace) -> None:
    print_json(server.profiles.export())


def _import(server: MetaAlign, options: argparse.Namespace) -> None:
    report = server.profiles.import_(read_document(Path(options.file)))
    if options.json:
        print_json(report)
        return
    print(
        f"{len(report.created)} new, {len(report.extended)} with new versions, {len(report.unchanged)} unchanged"
    )


def _delete_profile(server: MetaAlign, options: argparse.Namespace) -> None:
    server.profiles.delete(options.name)
    note(f"deleted {options.name}")


# --- keys and feedback -----------------------------------------------------------------------------------------


def _add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    actions = commands.add_parser("keys", help="keys of a server; takes an operator's key").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    created = _sub(actions, "create", _create_key, "a key; it is shown once, on standard output")
    created.add_argument("--scopes", required=True, help="with commas: inference,system")
    created.add_argument("--tenant", default="default")
    created.add_argument("--name", default="", help="what it is for")
    listed = _sub(actions, "list", _list_keys, "all keys, without their secrets")
    listed.add_argument("--tenant")
    _sub(actions, "revoke", _revoke_key, "end a key at once", "id")
    rotated = _sub(actions, "rotate", _rotate_key, "replace a key; the old one works for a while", "id")
    rotated.add_argument("--grace-seconds", type=int, help="for which the old one works; default: a day")


def _create_key(server: MetaAlign, options: argparse.Namespace) -> None:
    scopes = [scope.strip() for scope in options.scopes.split(",") if scope.strip()]
    key = server.admin.keys.create(scopes, tenant=options.tenant, name=options.name)
    print_json(key) if options.json else print(key.key)


def _list_keys(server: MetaAlign, options: argparse.Namespace) -> None:
    keys = list(server.admin.keys.list(tenant=options.tenant))
    if options.json:
        print_json(keys)
        return
    rows = [(key.id, key.tenant, key.name, " ".join(key.scopes), _state(key)) for key in keys]
    table(("id", "tenant", "name", "scopes", "state"), rows)


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    return f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at is not None else "live"


def _revoke_key(server: MetaAlign, options: argparse.Namespace) -> None:
    key = server.admin.keys.revoke(options.id)
    print_json(key) if options.json else note(f"revoked {key.id}")


def _rotate_key(server: MetaAlign, options: argparse.Namespace) -> None:
    key = server.admin.keys.rotate(options.id, grace_seconds=options.grace_seconds)
    print_json(key) if options.json else print(key.key)


def _give_feedback(server: MetaAlign, options: argparse.Namespace) -> None:
    stored = server.feedback.give(
        options.id, options.rating, chosen=options.chosen, rejected=options.rejected
    )
    print_json(stored) if options.json else note("noted")
