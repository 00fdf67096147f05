"""Tenants, keys, and the directory that the request path asks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import ProfileNotFound, SystemPreferences, parse_preferences, user_token
from metaalign_server.callers import NO_KEY, OPEN_CALLER, SCOPES, Caller, Limits, StaticKeys, parse_api_keys
from metaalign_server.platform import audit, labels, profiles, tenants
from metaalign_server.platform.limits import buckets_of
from metaalign_server.platform.lookups import Lookups, choose
from metaalign_server.platform.refusal import Refusal
from metaalign_server.platform.server_secret import NewKey, Secret
from metaalign_server.platform.stale_cache import StaleCache
from metaalign_server.platform.tenants import KeyRow, TenantRow
from metaalign_server.store.database import Database, StoreUnavailable
from metaalign_server.store.migrate import migrate
from metaalign_server.store.tables import now_ms
from tests.databases import Postgres

T = TypeVar("T")

ADMIN = Caller(frozenset(SCOPES), key_id="admin")
SECRET = Secret("a secret of the tests")


async def write(database: Database, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async with database.write() as connection:
        return await work(connection)


async def make_key(database: Database, **options: Any) -> tuple[NewKey, KeyRow]:
    given = {"tenant": "default", "name": "test", "scopes": ["inference"]} | options
    return await write(database, lambda c: tenants.create_key(c, ADMIN, SECRET, "live", **given))


async def rotate(database: Database, key_id: str, grace: int) -> tuple[NewKey, KeyRow]:
    return await write(database, lambda c: tenants.rotate_key(c, ADMIN, SECRET, "live", key_id, grace))


async def revoke(database: Database, key_id: str) -> KeyRow:
    return await write(database, lambda c: tenants.revoke_key(c, ADMIN, key_id))


async def make_profile(database: Database, count: int = 1, name: str = "support") -> None:
    async with database.write() as connection:
        await profiles.create(connection, ADMIN, name, parse_preferences({"user": "1"}))
        for number in range(2, count + 1):
            await profiles.add_version(connection, ADMIN, name, parse_preferences({"user": str(number)}))


def directory(
    database: Database, *, ttl: float = 60.0, keys: str = "", open_allowed: bool = False, **more: Any
) -> Lookups:
    static = StaticKeys(parse_api_keys(keys))
    return Lookups(database, SECRET, static, open_allowed=open_allowed, ttl=ttl, **more)


async def refused(call: Awaitable[object], status: int, code: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await call
    assert (caught.value.status, caught.value.code) == (status, code)
    return caught.value


# Keys


async def test_a_key_is_stored_as_a_hash_and_listed_without_its_token(database: Database) -> None:
    limits = Limits(requests_per_minute=5)
    new, row = await make_key(database, name="ci", scopes=["system", "inference"], limits=limits)
    assert new.token.startswith(f"ma_live_{new.id}_")
    secret_part = new.token.removeprefix(f"ma_live_{new.id}_")  # it may hold a "_" itself
    async with database.read() as connection:
        (listed,) = await tenants.list_keys(connection, tenant_id="default")
        assert await tenants.find_key(connection, new.id) == listed == row
    assert (listed.name, listed.scopes, listed.limits) == ("ci", frozenset({"system", "inference"}), limits)
    assert secret_part not in str(listed)
    assert secret_part not in str(await audit.list_entries(database, tenant_id=None, before_id=None, limit=9))


async def test_keys_are_listed_in_pages(database: Database) -> None:
    made = sorted([(await make_key(database))[0].id for _ in range(5)])
    async with database.read() as connection:
        first = await tenants.list_keys(connection, limit=3)
        rest = await tenants.list_keys(connection, after=first[-1].id, limit=3)
        assert await tenants.list_keys(connection, tenant_id="nobody") == []
    assert [key.id for key in (*first, *rest)] == made


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"scopes": ["inference", "root"]}, 400, "unknown_scope"),
        ({"scopes": []}, 400, "unknown_scope"),
        ({"tenant": "nobody"}, 404, "tenant_not_found"),
        ({"expires_at": 1}, 400, "invalid_expiry"),
    ],
)
async def test_a_key_that_could_not_be_used_is_not_made(
    database: Database, options: dict[str, Any], status: int, code: str
) -> None:
    await refused(make_key(database, **options), status, code)


async def test_only_live_keys_count_against_their_number(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "MAX_KEYS", 2)
    old, _ = await make_key(database)
    await rotate(database, old.id, 0)
    last, _ = await make_key(database)
    await refused(make_key(database), 409, "too_many_keys")
    await revoke(database, last.id)
    await make_key(database)


async def test_a_revoked_key_stays_revoked(database: Database) -> None:
    new, _ = await make_key(database)
    first, again = await revoke(database, new.id), await revoke(database, new.id)
    assert first.revoked_at == again.revoked_at is not None
    await refused(rotate(database, new.id, 60), 409, "key_not_live")
    await refused(revoke(database, "nobody"), 404, "key_not_found")
    entries = await audit.list_entries(database, tenant_id="default", before_id=None, limit=9)
    assert [(entry["action"], entry["object"]) for entry in entries] == [
        ("key.revoke", new.id),
        ("key.create", new.id),
    ]


async def test_a_rotated_key_is_accepted_until_its_grace_is_over(database: Database) -> None:
    old, row = await make_key(database, name="ci", limits=Limits(concurrency=2))
    new, successor = await rotate(database, old.id, 1)
    assert (successor.name, successor.scopes, successor.limits) == (row.name, row.scopes, row.limits)
    asked = directory(database, ttl=0.05)
    for key in (old, new):
        caller = await asked.caller(key.token.encode())
        assert caller is not None
        assert caller.key_id == key.id
    await asyncio.sleep(1.1)
    assert await asked.caller(old.token.encode()) is None
    assert asked.peek_caller(old.token.encode()) is None
    assert await asked.caller(new.token.encode()) is not None


async def test_rotation_does_not_prolong_a_key(database: Database) -> None:
    end = now_ms() + 5_000
    old, _ = await make_key(database, expires_at=end)
    _, successor = await rotate(database, old.id, 3600)
    async with database.read() as connection:
        row = await tenants.find_key(connection, old.id)
    assert row is not None
    assert row.expires_at == successor.expires_at == end


async def test_an_expired_key_is_no_key(database: Database) -> None:
    new, _ = await make_key(database, expires_at=now_ms() + 2000)
    asked = directory(database)  # its answers are valid for a minute, but not beyond the key's expiry
    assert await asked.caller(new.token.encode()) is not None
    assert asked.peek_caller(new.token.encode()) is not None
    await asyncio.sleep(2.05)
    assert asked.peek_caller(new.token.encode()) is None
    assert await asked.caller(new.token.encode()) is None


def _tampered(token: str) -> list[str]:
    head, environment, key_id, part = token.split("_", 3)
    swap = {"a": "b"}.get(part[0], "a") + part[1:]
    other = SECRET.new_key("live").token.split("_", 3)
    return [
        "",
        token[:-1],
        token + "x",
        token + "\n",
        token.upper(),
        "_".join((head, environment, key_id, swap)),
        "_".join((head, environment, key_id[:-1] + ("a" if key_id[-1] != "a" else "b"), part)),
        "_".join((head, environment, other[2], part)),
        "_".join((head, environment, key_id, other[3])),
        Secret("another server's").new_key("live").token,
        SECRET.new_key("live").token,  # made by us and never stored
        "ma_live__",
        "Bearer",
        "\0" * 100,
    ]


async def test_nothing_but_the_token_itself_is_accepted(database: Database) -> None:
    new, _ = await make_key(database)
    asked = directory(database)
    assert await asked.caller(new.token.encode()) is not None
    for token in _tampered(new.token):
        assert await asked.caller(token.encode()) is None, token
        assert asked.peek_caller(token.encode()) is None, token
    assert await asked.caller(b"\xff" * 90) is None


def test_a_token_of_another_server_is_refused_without_asking_the_store() -> None:
    assert SECRET.read_key(Secret("another").new_key("live").token.encode()) is None
    new = SECRET.new_key("live")
    assert SECRET.read_key(new.token.encode()) == (new.id, new.digest)
    assert Secret("a secret of the tests").read_key(new.token.encode()) == (new.id, new.digest)


def test_what_is_derived_for_one_tenant_says_nothing_of_another() -> None:
    derived = {SECRET.user("a", "bc"), SECRET.user("ab", "c"), SECRET.cache_salt("a"), SECRET.cache_salt("b")}
    assert len(derived) == 4
    assert SECRET.user("a", "bc") == Secret("a secret of the tests").user("a", "bc")


# Tenants


async def test_a_tenant_is_made_changed_and_found(database: Database) -> None:
    policy = SystemPreferences(attributes={"tone": "formal"}, locked=("tone",))
    made = await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme", policy=policy))
    assert (made.tenant.name, made.tenant.policy, made.tenant.limits) == ("acme", policy, Limits())

    async def change(if_match: str | None = None, **changes: Any) -> TenantRow:
        return await write(database, lambda c: tenants.update_tenant(c, ADMIN, "acme", changes, if_match))

    changed = await change(made.etag, limits=Limits(concurrency=3), share_cache=True)
    assert (changed.tenant.policy, changed.tenant.limits.concurrency, changed.tenant.share_cache) == (
        policy,
        3,
        True,
    )
    await refused(change(made.etag, policy=None), 412, "precondition_failed")
    assert (await change("*", policy=None, limits=None)).tenant == replace(
        made.tenant, policy=None, share_cache=True
    )
    async with database.read() as connection:
        assert [row.tenant.name for row in await tenants.list_tenants(connection)] == ["acme", "default"]
        assert [row.tenant.name for row in await tenants.list_tenants(connection, after="acme")] == [
            "default"
        ]
    await refused(write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme")), 409, "tenant_exists")
    await refused(write(database, lambda c: tenants.create_tenant(c, ADMIN, "A")), 400, "invalid_name")
    for name, status, code in (("default", 409, "default_tenant"), ("nobody", 404, "tenant_not_found")):
        update = partial(tenants.update_tenant, caller=ADMIN, name=name, changes={"disabled": True})
        await refused(write(database, update), status, code)
    entries = await audit.list_entries(database, tenant_id=made.tenant.id, before_id=None, limit=9)
    assert [entry["action"] for entry in entries] == ["tenant.update", "tenant.update", "tenant.create"]
    assert "formal" not in str(entries)


async def test_the_default_tenant_is_made_once(database: Database) -> None:
    for _ in range(2):
        await write(database, tenants.ensure_default_tenant)
    async with database.read() as connection:
        assert len(await tenants.list_tenants(connection)) == 1


# Callers


async def test_a_caller_has_the_limits_of_its_key_its_tenant_and_the_settings(database: Database) -> None:
    await write(
        database, lambda c: tenants.create_tenant(c, ADMIN, "acme", limits=Limits(requests_per_minute=7))
    )
    new, _ = await make_key(database, tenant="acme", limits=Limits(concurrency=2))
    asked = directory(
        database,
        key_limits=Limits(concurrency=9, tokens_per_day=5),
        tenant_limits=Limits(tokens_per_minute=3),
    )
    caller = await asked.caller(new.token.encode())
    assert caller is not None
    assert (caller.key_id, caller.tenant.name, caller.scopes) == (new.id, "acme", frozenset({"inference"}))
    assert caller.limits == Limits(concurrency=2, tokens_per_day=5)
    assert caller.tenant.limits == Limits(requests_per_minute=7, tokens_per_minute=3)
    assert asked.peek_caller(new.token.encode()) == caller


@pytest.mark.parametrize("by", ["forget", "ttl"])
async def test_a_revoked_key_and_a_disabled_tenant_are_seen(database: Database, by: str) -> None:
    await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    new, other = (await make_key(database, tenant="acme"))[0], (await make_key(database, tenant="acme"))[0]
    asked = directory(database, ttl=60 if by == "forget" else 1.0)
    for key in (new, other):
        assert await asked.caller(key.token.encode()) is not None

    async def notice() -> None:
        asked.forget() if by == "forget" else await asyncio.sleep(1.05)

    await revoke(database, new.id)
    assert asked.peek_caller(new.token.encode()) is not None
    await notice()
    assert asked.peek_caller(new.token.encode()) is None
    assert await asked.caller(new.token.encode()) is None
    assert await asked.caller(other.token.encode()) is not None
    await write(database, lambda c: tenants.update_tenant(c, ADMIN, "acme", {"disabled": True}))
    await notice()
    assert await asked.caller(other.token.encode()) is None
    await write(database, lambda c: tenants.update_tenant(c, ADMIN, "acme", {"disabled": False}))
    await notice()
    assert await asked.caller(other.token.encode()) is not None


async def test_a_key_revoked_while_it_is_looked_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that was read before a change is not kept after it."""
    new, _ = await make_key(database)
    asked = directory(database)
    found, may_go_on, find_key = asyncio.Event(), asyncio.Event(), tenants.find_key

    async def slowly(*arguments: Any) -> KeyRow | None:
        key = await find_key(*arguments)
        found.set()
        await may_go_on.wait()
        return key

    with monkeypatch.context() as patched:
        patched.setattr(tenants, "find_key", slowly)
        looking = asyncio.create_task(asked.caller(new.token.encode()))
        await found.wait()
    await revoke(database, new.id)
    asked.forget()
    may_go_on.set()
    assert await looking is not None
    assert asked.peek_caller(new.token.encode()) is None
    assert await asked.caller(new.token.encode()) is None


async def test_each_user_of_a_token_has_limits_of_its_own(database: Database) -> None:
    new, key = await make_key(database, limits=Limits(requests_per_minute=9))
    lookups = directory(database, user_limits=Limits(requests_per_minute=2))
    names = []
    for user in ("ada", "eve", "ada"):
        caller = await lookups.caller(user_token(new.token, user).encode())
        assert caller is not None
        own, shared = buckets_of(caller, inference=True)
        assert (own.limit, shared.limit, shared.name) == (2, 9, f"key:{key.id}:rpm")
        assert user not in own.name
        names.append(own.name)
    assert names[0] == names[2] != names[1]
    plain = await lookups.caller(new.token.encode())
    assert plain is not None
    assert [bucket.limit for bucket in buckets_of(plain, inference=True)] == [9]


async def test_a_user_token_of_another_server_is_refused_without_asking_the_store() -> None:
    """As a key is: nobody can keep the store busy with made-up ids."""
    other = Secret("another").new_key("live")
    lookups = directory(Database("sqlite:////nowhere/store.db"))
    assert await lookups.caller(user_token(other.token, "ada").encode()) is None


async def test_open_mode_ends_with_the_first_key(database: Database) -> None:
    asked, closed = directory(database, open_allowed=True), directory(database)
    caller = await asked.caller(NO_KEY)
    assert caller is not None
    assert (caller.scopes, caller.tenant.id) == (OPEN_CALLER.scopes, "default")
    assert await closed.caller(NO_KEY) is None
    new, _ = await make_key(database)
    asked.forget()
    assert await asked.caller(NO_KEY) is None
    assert await asked.caller(new.token.encode()) is not None
    await revoke(database, new.id)
    asked.forget()
    assert await asked.caller(NO_KEY) is None  # revoking a key does not make the server open again


async def test_keys_of_the_environment_stand_beside_those_of_the_store(database: Database) -> None:
    new, _ = await make_key(database)
    asked = directory(database, keys="from-the-environment:inference", open_allowed=True)
    caller = await asked.caller(b"from-the-environment")
    assert caller is not None
    assert (caller.key_id, caller.scopes, caller.tenant.id) == (
        "environment-1",
        frozenset({"inference"}),
        "default",
    )
    assert await asked.caller(new.token.encode()) is not None
    assert await asked.caller(NO_KEY) is await asked.caller(b"else") is None


# Profiles


async def test_references_name_versions_and_labels(database: Database) -> None:
    await make_profile(database, 3)
    asked = directory(database)

    async def found(reference: str) -> str:
        (profile,) = await asked.find_profiles("default", [reference], None)
        assert profile.preferences.user is not None
        assert profile.reference == f"support:{profile.preferences.user.info}"
        return profile.reference

    assert [await found("support"), await found("support:2")] == ["support:3", "support:2"]
    async with database.write() as connection:
        await labels.move_label(connection, ADMIN, "support", "stable", ((1, 100),))
        await labels.move_label(connection, ADMIN, "support", "canary", ((2, 100),))
    asked.forget()
    assert [await found(r) for r in ("support", "support@stable", "support@canary", "support:3")] == [
        "support:1",
        "support:1",
        "support:2",
        "support:3",
    ]
    both = await asked.find_profiles("default", ["support:2", "support:1"], None)
    assert [profile.number for profile in both] == [2, 1]


@pytest.mark.parametrize(
    "reference",
    ["nobody", "support@nobody", "support:9", "support:0", "support:x", "support:²", "old", "gone:1"],
)
async def test_what_does_not_exist_is_not_found_in_the_words_of_the_reference(
    database: Database, reference: str
) -> None:
    for name in ("support", "old", "gone"):
        await make_profile(database, name=name)
    await write(database, lambda c: profiles.update(c, ADMIN, "old", archived=True))
    await write(database, lambda c: profiles.delete(c, ADMIN, "gone"))
    asked = directory(database)
    for tenant, wanted in (("default", reference), ("another", "support")):
        with pytest.raises(ProfileNotFound, match=f"no profile `{wanted}`"):
            await asked.find_profiles(tenant, [wanted], None)


async def test_a_deleted_version_is_not_served_from_memory_when_its_name_is_used_again(
    database: Database,
) -> None:
    await make_profile(database)
    asked = directory(database)
    await asked.find_profiles("default", ["support:1"], None)
    await write(database, lambda c: profiles.delete(c, ADMIN, "support"))
    await make_profile(database)
    asked.forget()
    (profile,) = await asked.find_profiles("default", ["support"], None)
    assert profile.number == 2
    with pytest.raises(ProfileNotFound):
        await asked.find_profiles("default", ["support:1"], None)


# Weighted labels


def _shares(targets: profiles.Targets, users: int = 20_000) -> dict[int, float]:
    counts = Counter(choose(targets, f"user {number}") for number in range(users))
    return {number: count / users for number, count in counts.items()}


@pytest.mark.parametrize(
    ("targets", "shares"),
    [
        (((1, 100),), {1: 1.0}),
        (((1, 90), (2, 10)), {1: 0.9, 2: 0.1}),
        (((1, 1), (2, 1), (3, 2)), {1: 0.25, 2: 0.25, 3: 0.5}),
    ],
)
def test_users_are_shared_out_by_weight(targets: profiles.Targets, shares: dict[int, float]) -> None:
    assert _shares(targets) == pytest.approx(shares, abs=0.01)  # 3.5 standard deviations of a half


def test_a_canary_that_grows_keeps_its_users() -> None:
    users = [f"user {number}" for number in range(2000)]
    before: set[str] = set()
    for weight in (1, 5, 10, 25, 50, 99):
        chosen = {user for user in users if choose(((1, 100 - weight), (2, weight)), user) == 2}
        assert before < chosen
        before = chosen


async def test_a_user_stays_with_a_version_and_others_are_shared_out(database: Database) -> None:
    await make_profile(database, 2)
    await write(database, lambda c: labels.move_label(c, ADMIN, "support", "stable", ((1, 50), (2, 50))))
    asked, another_server = directory(database), directory(database)

    async def number(where: Lookups, reference: str, user: str | None) -> int:
        return (await where.find_profiles("default", [reference], user))[0].number

    for user in (f"user {n}" for n in range(20)):
        first = await number(asked, "support", user)
        assert {
            await number(w, r, user) for w in (asked, another_server) for r in ("support", "support@stable")
        } == {first}
    assert {await number(asked, "support", f"user {n}") for n in range(20)} == {1, 2}
    assert {await number(asked, "support", None) for _ in range(40)} == {1, 2}


# The cache


async def test_what_is_asked_for_at_the_same_time_is_loaded_once() -> None:
    loads = 0
    gate = asyncio.Event()

    async def load(key: str) -> int:
        nonlocal loads
        loads += 1
        await gate.wait()
        return loads

    cache = StaleCache(load, 60, 10, "test")
    asking = [asyncio.create_task(cache.get("a")) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the first to ask leaves, and the others get their answer
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*asking[1:]) == [1] * 9
    assert loads == 1


async def test_what_was_read_before_a_change_is_not_kept_as_new() -> None:
    stored, gate = ["old"], asyncio.Event()

    async def load(key: str) -> str:
        value = stored[0]
        await gate.wait()
        return value

    cache = StaleCache(load, 60, 10, "test")
    early = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.01)
    stored[0] = "new"
    cache.forget()
    late = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.01)
    gate.set()
    assert (await early, await late, await cache.get("a")) == ("old", "new", "new")


async def test_the_least_recently_used_goes_first() -> None:
    loaded: list[str] = []

    async def load(key: str) -> str:
        loaded.append(key)
        return key

    cache = StaleCache(load, float("inf"), 2, "test")
    for key in ("a", "b", "a", "c", "a", "b"):
        await cache.get(key)
    assert loaded == ["a", "b", "c", "b"]


async def test_a_known_value_does_not_wait_for_a_slow_store() -> None:
    """It is used as it is, and the refresh takes place behind it; what this server has changed is waited for."""
    values, slow = iter(range(100)), asyncio.Event()
    slow.set()

    async def load(key: str) -> int:
        await slow.wait()
        return next(values)

    cache: StaleCache[str, int] = StaleCache(load, 0.05, 10, "test")
    assert await cache.get("a") == 0
    slow.clear()
    await asyncio.sleep(0.06)
    began = time.monotonic()
    assert await cache.get("a") == 0
    assert time.monotonic() - began < 1
    unknown = asyncio.create_task(cache.get("b"))
    cache.forget()
    changed = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.3)
    assert not unknown.done()
    assert not changed.done()
    slow.set()
    assert {await unknown, await changed} <= {1, 2, 3}


async def test_a_deleted_value_does_not_live_on_because_the_store_is_slow() -> None:
    deleted = False

    async def load(key: str) -> int:
        if deleted:
            await asyncio.sleep(0.3)
            raise ProfileNotFound("gone")
        return 1

    cache: StaleCache[str, int] = StaleCache(load, 0.05, 10, "test")
    assert await cache.get("a") == 1
    deleted = True
    await asyncio.sleep(0.06)
    assert await cache.get("a") == 1  # the refresh behind it finds out
    await asyncio.sleep(0.4)
    for _ in range(2):
        with pytest.raises(ProfileNotFound):
            await cache.get("a")


async def test_inference_outlives_the_store(breakable_postgres: Postgres) -> None:
    daemon = breakable_postgres.daemon
    assert daemon is not None
    database = Database(breakable_postgres.create_database())
    await migrate(database)
    await write(database, tenants.ensure_default_tenant)
    await make_profile(database, 2)
    new, _ = await make_key(database)
    unseen, _ = await make_key(database)
    asked = directory(database, ttl=0.1)
    assert await asked.caller(new.token.encode()) is not None
    for reference in ("support", "support:1"):
        await asked.find_profiles("default", [reference], None)

    daemon.freeze()
    await asyncio.sleep(0.15)  # after everything in memory has expired
    stale = REGISTRY.get_sample_value("metaalign_store_stale_reads_total") or 0.0
    began = time.monotonic()
    caller = await asked.caller(new.token.encode())
    assert caller is not None
    assert caller.key_id == new.id
    assert time.monotonic() - began < 2
    daemon.kill()
    for reference, number in (("support", 2), ("support:1", 1)):
        assert (await asked.find_profiles("default", [reference], None))[0].number == number
    assert (REGISTRY.get_sample_value("metaalign_store_stale_reads_total") or 0.0) > stale
    for call in (
        asked.caller(unseen.token.encode()),
        asked.find_profiles("default", ["unseen"], None),
        asked.find_profiles("default", ["support:9"], None),
    ):
        with pytest.raises(StoreUnavailable):
            await call

    daemon.start()
    await asyncio.sleep(1.1)
    assert await asked.caller(unseen.token.encode()) is not None
    await revoke(database, new.id)
    asked.forget()
    assert await asked.caller(new.token.encode()) is None
    await database.close()
