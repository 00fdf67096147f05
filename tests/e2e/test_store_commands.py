"""Keys, migrations and backups as an operator handles them: the commands, and what a server does at start."""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from metaalign_server.store.migrate import head_revision
from tests import preloaded
from tests.databases import Postgres, postgres_program
from tests.processes import command, environment, free_port, running

SERVE = ["-m", "metaalign_server.cli", "serve"]
PREFERENCES = {"user": {"attributes": {"format": "bullets"}}}


def test_migrate_up_and_down(database_url: str) -> None:
    sqlite = database_url.startswith("sqlite")
    assert command(database_url, "migrate", "--show")[1] == "schema none\n"
    assert command(database_url, "migrate")[1] == f"schema none -> {head_revision()}\n"
    assert command(database_url, "migrate")[1] == f"schema {head_revision()} -> {head_revision()}\n"
    assert command(database_url, "tenants", "list")[0] == 0
    code, printed, said = command(database_url, "migrate", "base")
    assert (code, printed) == (1, "")
    assert "tenants 1" in said
    assert "--yes" in said
    assert ("`metaalign-server migrate base --dump FILE`" if sqlite else "`pg_dump -Fc -f FILE ") in said
    assert command(database_url, "migrate", "--show")[1] == f"schema {head_revision()}\n"
    assert command(database_url, "migrate", "base", "--yes")[1] == f"schema {head_revision()} -> none\n"
    code, _, said = command(database_url, "migrate", "0099")
    assert code == 69
    assert "0001" in said


def test_a_way_back_keeps_a_copy(database_url: str, tmp_path: Path) -> None:
    """The copy that a lossy migration offers is made by what it says, and brings everything back."""
    sqlite = database_url.startswith("sqlite")
    copy = tmp_path / "copy"
    assert command(database_url, "migrate")[0] == 0
    assert command(database_url, "keys", "create", "--name", "kept")[0] == 0
    code, _, said = command(database_url, "migrate", "base")
    assert code == 1
    if sqlite:
        code, printed, said = command(database_url, "migrate", "base", "--dump", str(copy))
        assert (code, printed.splitlines()[-1]) == (0, f"schema {head_revision()} -> none"), said
        assert command(database_url, "migrate", "base", "--dump", str(copy))[0] == 1  # never written over
        restored = f"sqlite:///{copy}"
    else:
        code, _, refused = command(database_url, "migrate", "base", "--dump", str(copy))
        assert code == 1
        (offered,) = set(re.findall(r"`(pg_dump [^`]*)`", said + refused))
        words = [word if word != "FILE" else str(copy) for word in shlex.split(offered)]
        run(postgres_program(words[0]), *words[1:])
        assert command(database_url, "migrate", "base", "--yes")[0] == 0
        run(postgres_program("pg_restore"), "--clean", "--if-exists", "-d", plain(database_url), str(copy))
        restored = database_url
    (key,) = command(restored, "keys", "list", "--json")[1].splitlines()
    assert json.loads(key)["name"] == "kept"


def test_back_to_a_server_without_user_tokens(database_url: str) -> None:
    """Keys keep working across the migration in both directions."""
    assert command(database_url, "migrate")[0] == 0
    assert command(database_url, "keys", "create", "--name", "kept")[0] == 0
    code, _, said = command(database_url, "migrate", "0001")
    assert code == 1
    assert "api_keys 1" in said
    assert command(database_url, "migrate", "0001", "--yes")[1] == "schema 0005 -> 0001\n"
    assert command(database_url, "migrate")[1] == f"schema 0001 -> {head_revision()}\n"
    (key,) = command(database_url, "keys", "list", "--json")[1].splitlines()
    assert (json.loads(key)["name"], json.loads(key)["state"]) == ("kept", "live")


def test_a_password_is_not_in_the_offered_command(postgres_url: str, tmp_path: Path) -> None:
    secret = postgres_url.replace("postgres@", "postgres:sekrit-4471@")
    code, printed, said = command(secret, "backup", str(tmp_path / "copy"))
    assert code == 1
    assert "pg_dump" in said
    assert "postgres@" in said
    assert "sekrit" not in printed + said


def run(program: Path, *words: str) -> None:
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_keys_by_command(database_url: str) -> None:
    assert command(database_url, "migrate")[0] == 0
    code, token, said = command(
        database_url, "keys", "create", "--scopes", "inference, system", "--name", "app"
    )
    assert code == 0
    assert re.fullmatch(r"ma_live_[a-z2-7]{24}_[\w-]{43}\n", token)
    key_id = token.split("_")[2]
    assert key_id in said
    assert "from now on every request" in said
    listed = json.loads(command(database_url, "keys", "list", "--json")[1])
    assert (listed["id"], listed["state"], listed["scopes"]) == (key_id, "live", "inference,system")
    assert token.strip() not in command(database_url, "keys", "list")[1]
    other = command(database_url, "keys", "rotate", key_id, "--grace-seconds", "0")[1].split("_")[2]
    states = {
        row["id"]: row["state"]
        for row in map(json.loads, command(database_url, "keys", "list", "--json")[1].splitlines())
    }
    assert states == {key_id: "expired", other: "live"}
    assert command(database_url, "keys", "revoke", other)[0] == 0
    assert "from now on" not in command(database_url, "keys", "create", "--name", "second")[2]
    for words, part in [
        (["keys", "revoke", "nothing"], "nothing"),
        (["keys", "create", "--scopes", "root"], "root"),
        (["keys", "create", "--tenant", "nobody"], "nobody"),
        (["keys", "create", "--limits", '{"requests_per_minute": 0}'], "requests_per_minute"),
        (["tenants", "create", "Bad Name"], "name"),
        (["keys", "list", "--unknown"], "--unknown"),
    ]:
        code, _, said = command(database_url, *words)
        assert code in (1, 2), words
        assert part in said
        assert "Traceback" not in said


def test_a_key_for_a_file_is_shown_nowhere(database_url: str, tmp_path: Path) -> None:
    assert command(database_url, "migrate")[0] == 0
    file = tmp_path / "key"
    create = ("keys", "create", "--scopes", "metrics", "--output", str(file))
    (tmp_path / "key.part").write_text("of a command that was killed before its key existed")
    code, printed, said = command(database_url, *create)
    token = file.read_text().strip()
    assert (code, printed) == (0, "")
    assert re.fullmatch(r"ma_live_[a-z2-7]{24}_[\w-]{43}", token)
    assert token not in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("key*")] == ["key"]
    # Again, as a service that runs at each start does: the key stays.
    assert command(database_url, *create)[0] == 0
    assert file.read_text().strip() == token
    # A key that nobody would have is not made.
    code, _, said = command(database_url, "keys", "create", "--output", str(tmp_path / "no folder/key"))
    assert code == 1
    assert "no folder/key: No such file" in said
    (listed,) = command(database_url, "keys", "list", "--json")[1].splitlines()
    assert json.loads(listed)["scopes"] == "metrics"


def with_secrets(folder: Path, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a command that reads its settings from files."""
    env = environment({"METAALIGN_SECRETS_DIR": str(folder)} | variables)
    done = preloaded.finish(["metaalign_server.cli", "migrate", "--show"], folder.parent, env, timeout=120)
    return done.returncode, done.stderr


def test_secrets_come_from_files(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert with_secrets(folder) == (2, f"metaalign-server: METAALIGN_SECRETS_DIR: {folder}: no such folder\n")
    folder.mkdir()
    url = folder / "metaalign_database_url"
    url.write_text(f"sqlite:///{tmp_path}/from-file.db\n")
    (folder / "password").write_text("of another program")
    assert with_secrets(folder) == (0, "")
    assert (tmp_path / "from-file.db").exists()
    assert with_secrets(folder, METAALIGN_DATABASE_URL=f"sqlite:///{tmp_path}/from-variable.db")[0] == 0
    assert (tmp_path / "from-variable.db").exists()
    url.write_text("mysql://user:sekrit-9127@somewhere/db")
    code, said = with_secrets(folder)
    assert code == 2
    assert "METAALIGN_DATABASE_URL" in said
    assert "sekrit" not in said
    url.write_bytes(b"\xff\xfe")
    assert with_secrets(folder)[0] == 2
    url.rename(folder / "metaalign_databas_url")
    code, said = with_secrets(folder)
    assert code == 2
    assert "metaalign_databas_url: sets nothing; is it metaalign_database_url?" in said


def test_tenants_by_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    policy = tmp_path / "policy.json"
    policy.write_text('{"info": "Be kind.", "attributes": {"tone": "formal"}}')
    made = command(
        url, "tenants", "create", "acme", "--policy", str(policy), "--limits", '{"concurrency": 2}'
    )
    assert json.loads(made[1]) == {
        "name": "acme",
        "policy": True,
        "limits": {"concurrency": 2},
        "share_cache": False,
        "share_policy": False,
        "disabled": False,
    }
    changed = json.loads(command(url, "tenants", "update", "acme", "--policy", "-", "--disabled", "yes")[1])
    assert (changed["policy"], changed["disabled"], changed["limits"]) == (False, True, {"concurrency": 2})
    policy.write_text('{"attributes": {"tone": "formal"}, "lock": ["tone"]}')
    code, _, said = command(url, "tenants", "update", "acme", "--policy", str(policy))
    assert code == 1
    assert "lock" in said


def test_a_start_refuses_a_store_that_is_not_ready(postgres_url: str) -> None:
    """PostgreSQL is migrated only by command: a start changes nothing and exits with 69."""
    start = ["serve", "--port", str(free_port())]
    code, _, said = command(postgres_url, *start)
    assert code == 69
    assert "metaalign-server migrate" in said
    code, printed, said = command("postgresql://nobody:sekrit@127.0.0.1:9/x", *start)
    assert code == 69
    assert "store" in said
    assert "sekrit" not in said + printed


def test_first_key_backup_and_restore(tmp_path: Path) -> None:
    """A server that others can reach makes an administrator's key and shows it once; a backup restores it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    store, copy = tmp_path / "store.db", tmp_path / "copy.db"
    env = {"METAALIGN_DATABASE_URL": f"sqlite:///{store}"}
    serve = [*SERVE, "--host", "0.0.0.0", "--port", str(port)]
    with running(serve, url, tmp_path / "first.log", env=env) as server:
        keys = re.findall(r"ma_live_\w{24}_[\w-]{43}", server.log_text())
        assert len(keys) == 1
        admin = {"authorization": f"Bearer {keys[0]}"}
        assert httpx.get(f"{url}/v1/models", timeout=60).status_code == 401
        assert httpx.get(f"{url}/v1/models", headers=admin, timeout=60).status_code == 200
        body = {"name": "support", "preferences": PREFERENCES}
        assert httpx.post(f"{url}/v1/profiles", json=body, headers=admin, timeout=60).status_code == 201
        code, said, _ = command(env["METAALIGN_DATABASE_URL"], "backup", str(copy))
        assert code == 0, said
        assert command(env["METAALIGN_DATABASE_URL"], "backup", str(copy))[0] == 1  # never written over
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    copy.rename(store)
    with running(serve, url, tmp_path / "second.log", env=env) as server:
        assert not re.findall(r"ma_live_\w{24}_[\w-]{43}", server.log_text())
        answer = httpx.post(
            f"{url}/v1/align",
            headers=admin | {"x-metaalign-profile": "support"},
            json={"query": "Tell me three things about the otter.", "temperature": 0, "max_tokens": 100},
            timeout=60,
        ).json()
        assert answer["metaalign"]["profiles"] == ["support:1"]
        assert answer["text"].count("\n- ") == 2
        assert keys[0] not in server.log_text()


def test_backup_is_for_sqlite(postgres_url: str, tmp_path: Path) -> None:
    code, _, said = command(postgres_url, "backup", str(tmp_path / "copy.db"))
    assert code == 1
    assert "pg_dump" in said
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    """The server prints one line that says what is wrong with the store."""
    (tmp_path / "text.db").write_text("This is a letter, not a database. " * 100)
    for file, reason in (("text.db", "no SQLite database"), ("no/folder.db", "folder must exist")):
        code, _, said = command(f"sqlite:///{tmp_path}/{file}", "keys", "list")
        assert code == 69
        assert reason in said
        assert file in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["migrate"], ["keys", "list"], ["tenants", "list"]])
def test_commands_say_when_the_store_is_away(words: list[str]) -> None:
    code, _, said = command("postgresql://127.0.0.1:9/x", *words)
    assert code == 69
    assert "Traceback" not in said
    assert said.count("\n") == 1


def test_a_postgresql_backup_comes_back(postgres_url: str, postgres: Postgres, tmp_path: Path) -> None:
    """Backup and restore with PostgreSQL's own programs, as documented, including schema and keys."""
    assert command(postgres_url, "migrate")[0] == 0
    assert command(postgres_url, "keys", "create", "--name", "kept")[0] == 0
    dump = tmp_path / "store.dump"
    restored = postgres.create_database()
    try:
        for program, *words in (
            ["pg_dump", "-Fc", "-f", str(dump), plain(postgres_url)],
            ["pg_restore", "-d", plain(restored), str(dump)],
        ):
            run(postgres_program(program), *words)
        assert command(restored, "migrate", "--show")[1] == f"schema {head_revision()}\n"
        (key,) = command(restored, "keys", "list", "--json")[1].splitlines()
        assert json.loads(key)["name"] == "kept"
    finally:
        postgres.drop_database(restored)


def plain(url: str) -> str:
    """The URL in the form that PostgreSQL's programs read."""
    return url.replace("postgresql+asyncpg://", "postgresql://")
