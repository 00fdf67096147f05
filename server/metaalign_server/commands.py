"""The commands other than `serve`: they manage the store, whether servers run or not, and never load the engine."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import URL

from metaalign import parse_preferences
from metaalign_server.callers import SCOPES, Limits
from metaalign_server.platform import audit, exchanges, retention, tenants
from metaalign_server.platform.refusal import Refusal, not_found
from metaalign_server.platform.startup import COMMAND_LINE, load_secret
from metaalign_server.platform.tenants import KeyRow, TenantRow
from metaalign_server.settings import Settings
from metaalign_server.store.database import UNHURRIED_SECONDS, Database
from metaalign_server.store.migrate import check_schema, current_revision, migrate, rows_at_risk

__all__ = ["add_parsers", "run"]


def add_parsers(commands: Any) -> None:
    """Add the commands to the parser of `metaalign-server`."""
    command = commands.add_parser("migrate", help="migrate the store's schema to this version, or to another")
    command.add_argument("revision", nargs="?", default="head", help="`head` (default), `base`, or a number")
    command.add_argument("--show", action="store_true", help="only print the store's schema version")
    command.add_argument("--yes", action="store_true", help="go back even if that deletes data")
    command.add_argument(
        "--dump", type=Path, metavar="FILE", help="copy an SQLite store to FILE, then go back"
    )

    command = commands.add_parser("backup", help="copy an SQLite store to a file while servers use it")
    command.add_argument("file", type=Path)

    command = commands.add_parser("keys", help="create, list, revoke and rotate API keys")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="create a key; it is printed once")
    create.add_argument("--tenant", default="default")
    create.add_argument("--name", default="", help="purpose of the key")
    create.add_argument("--scopes", default="inference", help=f"comma-separated: {', '.join(SCOPES)}")
    create.add_argument("--limits", help='JSON, for example {"requests_per_minute": 60}')
    create.add_argument("--expires-days", type=float)
    create.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the key to FILE, which only its owner can read, instead of printing it; if FILE exists, do nothing",
    )
    listing = actions.add_parser("list", help="list keys, including revoked ones")
    listing.add_argument("--tenant")
    listing.add_argument("--json", action="store_true", help="print one JSON object per line")
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("id")
    rotate = actions.add_parser("rotate", help="replace a key; the old one expires after a grace period")
    rotate.add_argument("id")
    rotate.add_argument("--grace-seconds", type=int, default=86_400, help="grace period; default: a day")

    command = commands.add_parser("tenants", help="create, list and change tenants")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list tenants")
    for name, text in (("create", "create a tenant"), ("update", "change a tenant")):
        action = actions.add_parser(name, help=text)
        action.add_argument("name")
        action.add_argument("--policy", type=Path, help="JSON file with System preferences; `-` removes them")
        action.add_argument("--limits", help='JSON, for example {"tokens_per_day": 1000000}')
        action.add_argument("--share-cache", choices=("yes", "no"), help="share the prefix cache with others")
        action.add_argument(
            "--share-policy",
            choices=("yes", "no"),
            help="share the policy's blocks with tenants that have the same",
        )
        if name == "update":
            action.add_argument("--disabled", choices=("yes", "no"), help="refuse all keys of the tenant")

    command = commands.add_parser(
        "export-feedback", help="export rated exchanges as pairs for metaalign-train"
    )
    command.add_argument("file", type=Path, help="JSON Lines file to write; it must not exist")
    command.add_argument("--tenant", help="only feedback of this tenant")
    command.add_argument("--since", type=datetime.fromisoformat, help="only feedback since then (ISO 8601)")

    command = commands.add_parser("erase", help="delete everything stored about a user")
    command.add_argument("user", help="the id that requests sent as `user`")
    command.add_argument("--tenant", default="default")


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Run a command and return the exit code.

    Raises:
        MetaAlignError: the store is unusable, or the command is refused.
    """
    return asyncio.run(_run(options, settings))


async def _run(options: argparse.Namespace, settings: Settings) -> int:
    url = settings.database_url.get_secret_value()
    database = Database(url, settings.database_max_bytes, deadline=UNHURRIED_SECONDS)
    try:
        if options.command == "migrate":
            return await _migrate(options, database)
        if options.command == "backup":
            return await _backup(options.file, database)
        await check_schema(database)
        async with database.write() as connection:
            await tenants.ensure_default_tenant(connection)
        commands = {"keys": _keys, "tenants": _tenants, "export-feedback": _export, "erase": _erase}
        return await commands[options.command](options, database, settings)
    finally:
        await database.close()


async def _migrate(options: argparse.Namespace, database: Database) -> int:
    before = await current_revision(database)
    if not options.show:
        if options.dump is not None:
            await _backup(options.dump, database)
        elif not options.yes and (rows := await rows_at_risk(database, options.revision)):
            held = ", ".join(f"{name} {number}" for name, number in rows.items())
            again = f"metaalign-server migrate {options.revision}"
            dump = (
                f"`{again} --dump FILE`"
                if database.sqlite
                else f"`{_pg_dump(database)}`, then `{again} --yes`"
            )
            raise Refusal(
                "lossy_migration",
                f"migrate: going back from {before} to {options.revision} deletes what only the newer schema holds;"
                f" rows now: {held}; to keep a copy run {dump}; to go on without one repeat with --yes",
            )
        await migrate(database, options.revision)
    after = await current_revision(database)
    print(f"schema {before or 'none'}" + ("" if options.show else f" -> {after or 'none'}"))
    return 0


def _pg_dump(database: Database) -> str:
    """Return the command that copies this PostgreSQL database, without the password: `pg_dump` asks for it."""
    url = database.url
    where = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return f"pg_dump -Fc -f FILE {shlex.quote(where.render_as_string())}"


async def _backup(file: Path, database: Database) -> int:
    if not database.sqlite or not database.url.database:
        raise Refusal("not_sqlite", f"this copies SQLite files; run `{_pg_dump(database)}`")
    if file.exists():
        raise Refusal("file_exists", f"backup: {file} exists; name another file")

    def copy() -> None:
        partial = file.with_name(file.name + ".partial")
        partial.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(f"file:{database.url.database}?mode=ro", uri=True)) as source:
                # One file without a log, and without what deleted rows have left behind.
                source.execute("VACUUM INTO ?", (str(partial),))
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)

    try:
        await asyncio.to_thread(copy)
    except (sqlite3.Error, OSError) as error:
        raise Refusal("backup_failed", f"backup: {error}") from None
    print(f"{file}: {file.stat().st_size} bytes")
    return 0


def _limits(text: str | None) -> Limits | None:
    if text is None:
        return None
    try:
        return Limits.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, ("limits", *first["loc"])))
        raise Refusal("invalid_limits", f"{where}: {first['msg']}") from None


async def _keys(options: argparse.Namespace, database: Database, settings: Settings) -> int:
    if options.action == "list":
        return await _list_keys(options, database)
    output: Path | None = getattr(options, "output", None)
    if output is not None and output.exists():
        sys.stderr.write(f"{output} exists; no key was made\n")
        return 0
    secret = await load_secret(database, settings)
    environment = settings.key_environment
    async with database.write() as connection:
        closes = not settings.keys and not await tenants.any_key(connection)
        if options.action == "revoke":
            key = await tenants.revoke_key(connection, COMMAND_LINE, options.id)
            print(f"{key.id} revoked; running servers refuse it within {settings.refresh_seconds:g} s")
            return 0
        if options.action == "rotate":
            if options.grace_seconds < 0:
                raise Refusal("invalid_grace", "--grace-seconds: must not be negative")
            new, _ = await tenants.rotate_key(
                connection, COMMAND_LINE, secret, environment, options.id, options.grace_seconds
            )
        else:
            end = (
                datetime.now(UTC) + timedelta(days=options.expires_days)
                if options.expires_days is not None
                else None
            )
            new, _ = await tenants.create_key(
                connection,
                COMMAND_LINE,
                secret,
                environment,
                tenant=options.tenant,
                name=options.name,
                scopes=[scope.strip() for scope in options.scopes.split(",") if scope.strip()],
                limits=_limits(options.limits),
                expires_at=int(end.timestamp() * 1000) if end is not None else None,
            )
            if output is not None:
                _write_key(output, new.token)
    if output is None:
        print(new.token)
        sys.stderr.write(f"key {new.id}: shown this once, keep it safe\n")
    else:
        _unfinished(output).replace(
            output
        )  # only now the key exists, and nobody may find another one in the file
        sys.stderr.write(f"key {new.id}: written to {output}\n")
    if closes:
        sys.stderr.write(
            "It is the first key: from now on every request to a server of this store needs one.\n"
        )
    return 0


def _unfinished(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _write_key(file: Path, token: str) -> None:
    """Write the key beside `file` before the transaction ends, so that no key exists which nobody has."""
    unfinished = _unfinished(file)
    try:
        unfinished.unlink(missing_ok=True)  # of a command that was killed
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            output.write(f"{token}\n")
    except OSError as error:
        raise Refusal("key_not_written", f"--output: {file}: {error.strerror}") from None


async def _list_keys(options: argparse.Namespace, database: Database) -> int:
    async with database.read() as connection:
        rows = await tenants.list_tenants(connection, limit=10_000)
        names = {row.tenant.id: row.tenant.name for row in rows}
        owner = None
        if options.tenant is not None:
            owner = next((i for i, name in names.items() if name == options.tenant), None)
            if owner is None:
                raise not_found("tenant", options.tenant)
        keys = await tenants.list_keys(connection, tenant_id=owner, limit=10_000)
    for key in keys:
        fields = _key_fields(key, names.get(key.tenant_id, key.tenant_id))
        print(
            json.dumps(fields) if options.json else "  ".join(str(value or "-") for value in fields.values())
        )
    return 0


def _key_fields(key: KeyRow, tenant: str) -> dict[str, Any]:
    now = datetime.now(UTC).timestamp() * 1000
    if key.revoked_at is not None:
        state = "revoked"
    else:
        state = "live" if key.expires_at is None or key.expires_at > now else "expired"
    return {
        "id": key.id,
        "tenant": tenant,
        "state": state,
        "scopes": ",".join(scope for scope in SCOPES if scope in key.scopes),
        "created": _date(key.created_at),
        "expires": _date(key.expires_at) if key.expires_at is not None else None,
        "name": key.name,
    }


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


async def _tenants(options: argparse.Namespace, database: Database, _: Settings) -> int:
    if options.action == "list":
        async with database.read() as connection:
            rows = await tenants.list_tenants(connection, limit=10_000)
        for row in rows:
            _print_tenant(row)
        return 0
    changes: dict[str, Any] = {}
    if options.policy is not None:
        changes["policy"] = None if str(options.policy) == "-" else _read_policy(options.policy)
    if options.limits is not None:
        changes["limits"] = _limits(options.limits)
    if options.share_cache is not None:
        changes["share_cache"] = options.share_cache == "yes"
    if options.share_policy is not None:
        changes["share_policy"] = options.share_policy == "yes"
    if getattr(options, "disabled", None) is not None:
        changes["disabled"] = options.disabled == "yes"
    async with database.write() as connection:
        if options.action == "create":
            row = await tenants.create_tenant(connection, COMMAND_LINE, options.name, **changes)
        else:
            row = await tenants.update_tenant(connection, COMMAND_LINE, options.name, changes)
    _print_tenant(row)
    return 0


def _read_policy(path: Path) -> Any:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal("invalid_policy", f"--policy: {path}: {error}") from None
    return parse_preferences({"system": tree}).system


def _print_tenant(row: TenantRow) -> None:
    tenant = row.tenant
    fields = {
        "name": tenant.name,
        "policy": tenant.policy is not None,
        "limits": tenant.limits.model_dump(exclude_none=True),
        "share_cache": tenant.share_cache,
        "share_policy": tenant.share_policy,
        "disabled": row.disabled,
    }
    print(json.dumps(fields))


async def _tenant_id(database: Database, name: str) -> str:
    async with database.read() as connection:
        row = await tenants.find_tenant(connection, name=name)
    if row is None:
        raise not_found("tenant", name)
    return row.tenant.id


async def _export(options: argparse.Namespace, database: Database, _: Settings) -> int:
    if options.file.exists():
        raise Refusal("file_exists", f"export-feedback: {options.file} exists; name another file")
    tenant_id = None if options.tenant is None else await _tenant_id(database, options.tenant)
    since = int(options.since.timestamp() * 1000) if options.since is not None else 0
    pairs = 0
    partial = options.file.with_name(options.file.name + ".partial")
    with partial.open("w", encoding="utf-8") as output:  # nothing else runs in this process
        async for pair in exchanges.export_pairs(database, tenant_id, since):
            output.write(json.dumps(pair, ensure_ascii=False) + "\n")
            pairs += 1
            if pairs % 10_000 == 0:
                sys.stderr.write(f"{pairs} pairs\n")
    os.replace(partial, options.file)
    print(f"{options.file}: {pairs} pairs")
    return 0


async def _erase(options: argparse.Namespace, database: Database, settings: Settings) -> int:
    secret = await load_secret(database, settings)
    tenant_id = await _tenant_id(database, options.tenant)
    user_ref = secret.user(tenant_id, options.user)
    async with database.write() as connection:
        removed = await retention.erase_user(connection, tenant_id, user_ref)
        await audit.record(
            connection, COMMAND_LINE, "user.erase", user_ref[:16], tenant_id=tenant_id, before=removed
        )
    await database.shred()
    print(json.dumps(removed))
    if not database.sqlite:
        sys.stderr.write(
            "PostgreSQL keeps deleted rows in its files until `VACUUM FULL exchanges, feedback, responses`.\n"
        )
    return 0
