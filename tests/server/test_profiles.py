"""Profiles: versions, labels, documents, replays, and many writers at once, on both databases."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import InvalidPreferences, MetaAlignError, Preferences, SystemTierForbidden, parse_preferences
from metaalign_server.callers import SCOPES, Caller
from metaalign_server.platform import audit, labels, portability, profiles, tenants
from metaalign_server.platform.idempotency import Outcome, once
from metaalign_server.platform.portability import ProfileDocument
from metaalign_server.platform.profiles import Head, Targets, Version
from metaalign_server.platform.refusal import Refusal
from metaalign_server.store.database import Database
from metaalign_server.store.tables import idempotency, versions
from tests.databases import PATIENCE

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

ADMIN = Caller(frozenset(SCOPES), key_id="admin")
WRITER = Caller(frozenset({"profiles:read", "profiles:write", "system"}), key_id="writer")
SECRET = "the canary sings"


def pirate(note: str = "") -> Preferences:
    return parse_preferences({"system": {"info": f"{SECRET} {note}", "attributes": {"tone": "pirate"}}})


async def write(database: Database, work: Work[T]) -> T:
    async with database.write() as connection:
        return await work(connection)


async def read(database: Database, work: Work[T]) -> T:
    async with database.read() as connection:
        return await work(connection)


async def make(database: Database, name: str = "support", count: int = 1, caller: Caller = WRITER) -> Head:
    await write(database, lambda c: profiles.create(c, caller, name, pirate("1")))
    for number in range(2, count + 1):
        await add(database, name, caller, note=str(number))
    head = await find(database, name, caller)
    assert head is not None
    return head


async def add(
    database: Database,
    name: str = "support",
    caller: Caller = WRITER,
    *,
    note: str,
    if_match: str | None = None,
) -> Version:
    return await write(
        database, lambda c: profiles.add_version(c, caller, name, pirate(note), note=note, if_match=if_match)
    )


async def find(database: Database, name: str = "support", caller: Caller = WRITER) -> Head | None:
    return await read(database, lambda c: profiles.find(c, caller.tenant.id, name))


async def numbers(database: Database, name: str = "support") -> list[int]:
    head = await find(database, name)
    assert head is not None
    return [version.number for version in await read(database, lambda c: profiles.list_versions(c, head))]


async def move(
    database: Database,
    targets: Sequence[tuple[int, int]],
    label: str = "stable",
    caller: Caller = WRITER,
    **more: Any,
) -> Head:
    return await write(
        database, lambda c: labels.move_label(c, caller, "support", label, tuple(targets), **more)
    )


async def refused(call: Awaitable[object], status: int, code: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await call
    assert (caught.value.status, caught.value.code) == (status, code)
    return caught.value


# Versions


async def test_versions_are_numbered_and_keep_what_they_were_given(database: Database) -> None:
    head = await make(database)
    assert (head.name, head.latest, head.revision, head.labels) == ("support", 1, 1, {})
    second = await add(database, note="second")
    assert (second.number, second.note, second.created_by) == (2, "second", "writer")
    assert second.sha256 == hashlib.sha256(second.text.encode()).hexdigest()
    assert Preferences.model_validate_json(second.text) == pirate("second")
    assert await numbers(database) == [2, 1]
    after = await find(database)
    assert after is not None
    assert (after.latest, after.revision) == (2, 2)
    assert after.etag != head.etag
    assert await read(database, lambda c: profiles.find_version(c, after, 2)) == second
    assert await read(database, lambda c: profiles.find_version(c, after, 3)) is None


def test_the_canonical_text_says_the_same_and_keeps_the_order_of_attributes() -> None:
    given = {
        "user": {"attributes": {"tone": "pirate", "format": "bullets"}, "info": "nul \0, é"},
        "version": "1",
    }
    text = profiles.canonical(parse_preferences(given))
    assert text == profiles.canonical(parse_preferences(json.loads(text)))
    assert Preferences.model_validate_json(text) == parse_preferences(given)
    assert list(json.loads(text)["user"]["attributes"]) == ["tone", "format"]
    assert "\0" not in text


@pytest.mark.parametrize("name", ["", "Support", "-a", "a b", "a@b", "a:1", "a\n", "x" * 64, "ä", "a\0"])
async def test_names_that_no_reference_could_say_are_refused(database: Database, name: str) -> None:
    await refused(make(database, name), 400, "invalid_name")


async def test_a_name_is_taken_once(database: Database) -> None:
    await make(database)
    error = await refused(make(database), 409, "profile_exists")
    assert error.param == "name"
    results = await asyncio.gather(*(make(database, "other") for _ in range(8)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Head"] + ["Refusal"] * 7


async def test_a_change_of_what_was_read_before_another_change_is_refused(database: Database) -> None:
    head = await make(database)
    await add(database, note="mine", if_match=head.etag)
    for call in (
        add(database, note="late", if_match=head.etag),
        move(database, [(1, 100)], if_match=head.etag),
        write(database, lambda c: profiles.update(c, WRITER, "support", archived=True, if_match=head.etag)),
        write(database, lambda c: profiles.delete(c, WRITER, "support", if_match=head.etag)),
    ):
        error = await refused(call, 412, "precondition_failed")
        assert error.param == "If-Match"
    await add(database, note="any", if_match="*")
    assert await numbers(database) == [3, 2, 1]


async def test_an_archived_profile_is_read_and_not_changed_until_it_is_restored(database: Database) -> None:
    await make(database)
    head = await write(
        database, lambda c: profiles.update(c, WRITER, "support", archived=True, learn=(4, "profile"))
    )
    assert (head.archived, head.learn_examples, head.learn_scope) == (True, 4, "profile")
    await refused(add(database, note="late"), 409, "profile_archived")
    await refused(move(database, [(1, 100)]), 409, "profile_archived")
    assert await read(database, lambda c: profiles.list_heads(c, "default")) == []
    assert [
        h.name for h in await read(database, lambda c: profiles.list_heads(c, "default", archived=True))
    ] == ["support"]
    await write(database, lambda c: profiles.update(c, WRITER, "support", archived=False))
    assert (await add(database, note="again")).number == 2


async def test_numbers_go_on_after_a_deletion(database: Database) -> None:
    old = await make(database, count=3)
    await move(database, [(2, 100)])
    assert await write(database, lambda c: profiles.delete(c, WRITER, "support")) == 3
    assert await find(database) is None
    await refused(add(database, note="late"), 404, "profile_not_found")
    left = await read(database, lambda c: c.scalar(sa.select(sa.func.count()).select_from(versions)))
    assert left == 0
    new = await make(database)
    assert (new.latest, new.labels, await numbers(database)) == (4, {}, [4])
    assert new.etag != old.etag
    assert new.created_at > old.created_at


async def test_lists_go_on_where_they_ended(database: Database) -> None:
    for number in range(7):
        await make(database, f"p{number}", count=2)
    pages: list[list[str]] = []
    after: str | None = None
    while True:
        async with database.read() as connection:
            page = await profiles.list_heads(connection, "default", after=after, limit=3)
        if not page:
            break
        pages.append([head.name for head in page])
        after = page[-1].name
    assert pages == [["p0", "p1", "p2"], ["p3", "p4", "p5"], ["p6"]]
    head = await make(database, "long", count=5)
    newest = await read(database, lambda c: profiles.list_versions(c, head, limit=2))
    older = await read(database, lambda c: profiles.list_versions(c, head, before=newest[-1].number, limit=9))
    assert [version.number for version in (*newest, *older)] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("value", "error", "param"),
    [
        ({"sytem": "x"}, InvalidPreferences, "body.preferences.sytem"),
        ({"profile": "other"}, InvalidPreferences, "body.preferences.profile"),
        (3, InvalidPreferences, "body.preferences"),
        ({"system": "x"}, SystemTierForbidden, "body.preferences.system"),
    ],
)
def test_what_may_not_be_stored_is_refused_where_it_stands(
    value: object, error: type[MetaAlignError], param: str
) -> None:
    with pytest.raises(error) as caught:
        profiles.validate(value, Caller(frozenset({"profiles:write"})), "body.preferences")
    assert caught.value.param == param
    assert str(caught.value).startswith(param)


def test_what_changed_between_versions() -> None:
    old, new = (
        Version(number, text, "", "", 0, "")
        for number, text in (
            (1, '{"user":{"info":"a","attributes":{"tone":"pirate","format":"bullets"},"examples":[1]}}'),
            (2, '{"user":{"info":"b","attributes":{"tone":"pirate"},"examples":[1,2]},"system":{}}'),
        )
    )
    assert portability.difference(old, new) == [
        {"path": "system", "from": None, "to": {}},
        {"path": "user.attributes.format", "from": "bullets", "to": None},
        {"path": "user.examples", "from": [1], "to": [1, 2]},
        {"path": "user.info", "from": "a", "to": "b"},
    ]
    assert portability.difference(new, new) == []


# Labels


async def test_a_label_moves_and_goes_back_the_way_it_came(database: Database) -> None:
    async def roll_back() -> Targets:
        head = await write(database, lambda c: labels.roll_back(c, WRITER, "support", "stable"))
        return head.labels["stable"].targets

    async def remove() -> Head:
        return await write(database, lambda c: labels.delete_label(c, WRITER, "support", "stable"))

    await make(database, count=3)
    await refused(roll_back(), 404, "label_not_found")
    await refused(remove(), 404, "label_not_found")
    for targets in ([(1, 100)], [(1, 90), (2, 10)], [(3, 100)]):
        head = await move(database, targets)
        assert head.labels["stable"].targets == tuple(targets)
    assert [await roll_back(), await roll_back()] == [((1, 90), (2, 10)), ((1, 100),)]
    await refused(roll_back(), 409, "nothing_to_roll_back")
    assert (await remove()).labels == {}


@pytest.mark.parametrize(
    ("label", "targets", "status", "code"),
    [
        ("stable", (), 400, "invalid_targets"),
        ("stable", ((1, 0),), 400, "invalid_targets"),
        ("stable", ((1, 101),), 400, "invalid_targets"),
        ("stable", ((1, 50), (1, 50)), 400, "invalid_targets"),
        ("stable", tuple((n, 1) for n in range(1, 10)), 400, "invalid_targets"),
        ("stable", ((1, 50), (9, 50)), 404, "version_not_found"),
        ("1st", ((1, 100),), 400, "invalid_name"),
    ],
)
async def test_labels_point_at_versions_that_exist(
    database: Database, label: str, targets: Targets, status: int, code: str
) -> None:
    await make(database)
    await refused(move(database, targets, label), status, code)


async def test_a_profile_has_so_many_labels(database: Database) -> None:
    await make(database)
    for number in range(labels.MAX_LABELS):
        await move(database, [(1, 100)], f"l{number}")
    await refused(move(database, [(1, 100)], "one-more"), 409, "too_many_labels")
    await move(database, [(1, 50)], "l0")


async def test_a_protected_label_is_the_administrators(database: Database) -> None:
    await make(database, count=2)
    await refused(move(database, [(1, 100)], protected=True), 403, "missing_scope")
    await move(database, [(1, 100)], caller=ADMIN, protected=True)
    for call in (
        move(database, [(2, 100)]),
        move(database, [(1, 100)], protected=False),
        write(database, lambda c: labels.roll_back(c, WRITER, "support", "stable")),
        write(database, lambda c: labels.delete_label(c, WRITER, "support", "stable")),
        write(database, lambda c: profiles.delete(c, WRITER, "support")),
        write(database, lambda c: profiles.update(c, WRITER, "support", archived=True)),
    ):
        await refused(call, 403, "label_protected")
    head = await move(database, [(2, 100)], caller=ADMIN)
    assert (head.labels["stable"].targets, head.labels["stable"].protected) == (((2, 100),), True)
    await move(database, [(2, 100)], "canary")  # nobody has another label
    await add(database, note="versions too")
    assert not (await move(database, [(2, 100)], caller=ADMIN, protected=False)).labels["stable"].protected


# Many at once


@pytest.fixture
async def other_database(database: Database) -> AsyncIterator[Database]:
    """A second server on the same database."""
    other = Database(database.url.render_as_string(hide_password=False), deadline=PATIENCE)
    yield other
    await other.close()


async def test_no_version_is_lost_between_two_servers(database: Database, other_database: Database) -> None:
    await make(database)
    made = await asyncio.gather(
        *(add(each, note=str(number)) for number in range(10) for each in (database, other_database))
    )
    assert sorted(version.number for version in made) == list(range(2, 22))
    head = await find(database)
    assert head is not None
    assert (head.latest, head.revision) == (21, 21)
    stored = await read(database, lambda c: profiles.list_versions(c, head))
    assert {version.number: version.text for version in stored[:-1]} == {v.number: v.text for v in made}


async def test_of_changes_to_the_same_state_one_is_made(database: Database, other_database: Database) -> None:
    head = await make(database)
    results = await asyncio.gather(
        *(add(each, note="x", if_match=head.etag) for each in (database, other_database) for _ in range(4)),
        return_exceptions=True,
    )
    assert sorted(getattr(result, "status", 200) for result in results) == [200] + [412] * 7
    assert await numbers(database) == [2, 1]


async def test_a_label_is_seen_before_or_after_its_move_and_never_between(
    database: Database, other_database: Database
) -> None:
    await make(database, count=2)
    states: tuple[Targets, Targets] = (((1, 100),), ((1, 30), (2, 70)))
    await move(database, states[0])
    moving = True
    seen: set[Targets] = set()

    async def watch() -> None:
        last = 0
        while moving:
            head = await find(other_database)
            assert head is not None
            assert head.revision >= last
            assert head.labels["stable"].targets == states[(head.revision - 3) % 2]
            last = head.revision
            seen.add(head.labels["stable"].targets)

    watchers = [asyncio.create_task(watch()) for _ in range(3)]
    for turn in range(1, 31):
        await move(database, states[turn % 2])
    moving = False
    await asyncio.gather(*watchers)
    assert seen == set(states)


# Tenants and audit


async def test_another_tenant_sees_and_changes_nothing(database: Database) -> None:
    row = await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    stranger = replace(WRITER, tenant=row.tenant)
    await make(database)
    assert await find(database, caller=stranger) is None
    assert await read(database, lambda c: profiles.list_heads(c, stranger.tenant.id, archived=True)) == []
    assert await read(database, lambda c: portability.export_profiles(c, stranger.tenant.id)) == []
    for call in (
        add(database, caller=stranger, note="x"),
        move(database, [(1, 100)], caller=stranger),
        write(database, lambda c: profiles.update(c, stranger, "support", archived=True)),
        write(database, lambda c: profiles.delete(c, stranger, "support")),
    ):
        await refused(call, 404, "profile_not_found")
    mine = await make(database, caller=stranger)  # the same name is another profile
    theirs = await find(database)
    assert theirs is not None
    assert mine.id != theirs.id
    assert await read(
        database, lambda c: audit.list_entries(database, tenant_id=row.tenant.id, before_id=None, limit=9)
    ) != await audit.list_entries(database, tenant_id="default", before_id=None, limit=9)


async def test_the_audit_log_says_who_and_what_and_repeats_no_content(database: Database) -> None:
    await make(database, count=2)
    await move(database, [(1, 100)], caller=ADMIN)
    await write(database, lambda c: profiles.update(c, WRITER, "support", archived=True))
    head = await find(database)
    assert head is not None
    first, second = reversed(await read(database, lambda c: profiles.list_versions(c, head)))
    await write(database, lambda c: profiles.delete(c, WRITER, "support"))
    entries = await audit.list_entries(database, tenant_id="default", before_id=None, limit=99)
    assert [(entry["actor"], entry["action"], entry["object"]) for entry in reversed(entries)] == [
        ("writer", "profile.create", "support:1"),
        ("writer", "profile.version.create", "support:2"),
        ("admin", "profile.label.move", "support@stable"),
        ("writer", "profile.update", "support"),
        ("writer", "profile.delete", "support"),
    ]
    assert entries[-1]["before"] is None
    assert (entries[-2]["before"], entries[-2]["after"]) == (first.sha256, second.sha256)
    assert SECRET not in str(entries)
    older = await audit.list_entries(database, tenant_id="default", before_id=entries[1]["id"], limit=2)
    assert older == entries[2:4]


async def test_what_is_undone_leaves_no_audit_entry(database: Database) -> None:
    await make(database)
    await refused(add(database, note="late", if_match='"no"'), 412, "precondition_failed")
    assert len(await audit.list_entries(database, tenant_id=None, before_id=None, limit=9)) == 1


# Documents


def documents(exported: list[dict[str, Any]]) -> list[ProfileDocument]:
    return [ProfileDocument.model_validate(document) for document in json.loads(json.dumps(exported))]


async def export(database: Database, tenant_id: str = "default") -> list[dict[str, Any]]:
    return await read(database, lambda c: portability.export_profiles(c, tenant_id))


async def test_what_was_exported_is_imported_as_it_was_and_a_second_time_changes_nothing(
    database: Database,
) -> None:
    await make(database, count=3)
    await move(database, [(1, 90), (3, 10)], caller=ADMIN, protected=True)
    await make(database, "old")
    await write(database, lambda c: profiles.update(c, WRITER, "old", archived=True, learn=(2, "profile")))
    await make(database, "again")
    await write(database, lambda c: profiles.delete(c, WRITER, "again"))
    await make(database, "again", count=2)  # its versions are 2 and 3
    exported = await export(database)
    assert [(d["name"], [v["number"] for v in d["versions"]]) for d in exported] == [
        ("again", [2, 3]),
        ("old", [1]),
        ("support", [1, 2, 3]),
    ]
    row = await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    importer = replace(ADMIN, tenant=row.tenant)
    given = documents(exported)
    report = await write(database, lambda c: portability.import_profiles(c, importer, given))
    assert report.created == ["again", "old", "support"]
    assert await export(database, row.tenant.id) == exported
    report = await write(database, lambda c: portability.import_profiles(c, importer, given))
    assert (report.created, report.extended, report.unchanged) == ([], [], ["again", "old", "support"])
    entries = await audit.list_entries(database, tenant_id=row.tenant.id, before_id=None, limit=99)
    assert len(entries) == 9  # the tenant, 2 + 1 + 3 versions, a label, an archived profile


async def test_an_import_adds_what_is_missing(database: Database) -> None:
    await make(database, count=2)
    exported = await export(database)
    await write(database, lambda c: profiles.update(c, WRITER, "support", archived=True))
    exported[0]["versions"].append({"number": 3, "preferences": {"user": "new"}, "note": "third"})
    exported[0]["versions"].reverse()  # the order in a file does not matter
    exported[0]["labels"]["stable"] = {"versions": [{"version": 3}]}
    report = await write(database, lambda c: portability.import_profiles(c, WRITER, documents(exported)))
    assert report.extended == ["support"]
    head = await find(database)
    assert head is not None
    assert (head.archived, head.latest, head.labels["stable"].targets) == (False, 3, ((3, 100),))


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"number": 1, "preferences": {"user": "other"}}, "version_conflict", "profiles[1].versions[0]"),
        ({"number": 4, "preferences": {"user": "x"}}, "version_gap", "profiles[1].versions[0].number"),
        (
            {"number": 2, "preferences": {"usr": 1}},
            "invalid_preferences",
            "profiles[1].versions[0].preferences.usr",
        ),
    ],
)
async def test_an_import_is_done_as_a_whole_or_not_at_all(
    database: Database, change: dict[str, Any], code: str, param: str
) -> None:
    await make(database)
    before = await export(database)
    given = [
        {"name": "fresh", "versions": [{"number": 1, "preferences": {"user": "x"}}]},
        {"name": "support", "versions": [change]},
    ]
    with pytest.raises(MetaAlignError) as caught:
        await write(database, lambda c: portability.import_profiles(c, WRITER, documents(given)))
    assert (caught.value.code, caught.value.param) == (code, param)
    assert await export(database) == before


# Replays


async def test_a_write_that_is_sent_again_is_done_once(database: Database) -> None:
    await make(database)

    async def work(connection: AsyncConnection) -> Outcome:
        version = await profiles.add_version(connection, WRITER, "support", pirate())
        return Outcome(201, json.dumps({"number": version.number}), '"tag"')

    first = await once(database, "default", "key", "POST /v1/x {}", work)
    again = await once(database, "default", "key", "POST /v1/x {}", work)
    assert (first.replayed, again) == (False, replace(first, replayed=True))
    assert (again.status, again.body, again.etag) == (201, '{"number": 2}', '"tag"')
    await refused(once(database, "default", "key", "POST /v1/x {1}", work), 422, "idempotency_key_reused")
    assert await numbers(database) == [2, 1]
    for key in (None, None, "another"):
        assert not (await once(database, "default", key, "POST /v1/x {}", work)).replayed
    row = await write(database, lambda c: tenants.create_tenant(c, ADMIN, "acme"))
    assert not (await once(database, row.tenant.id, "key", "POST /v1/x {}", work)).replayed
    assert await numbers(database) == [6, 5, 4, 3, 2, 1]


async def test_the_same_key_twice_at_once_writes_once(database: Database, other_database: Database) -> None:
    await make(database)

    async def work(connection: AsyncConnection) -> Outcome:
        return Outcome(201, str((await profiles.add_version(connection, WRITER, "support", pirate())).number))

    outcomes = await asyncio.gather(
        *(once(each, "default", "key", "same", work) for each in (database, other_database) for _ in range(4))
    )
    assert {outcome.body for outcome in outcomes} == {"2"}
    assert sorted(outcome.replayed for outcome in outcomes) == [False] + [True] * 7
    assert await numbers(database) == [2, 1]


async def test_a_key_is_free_again_when_its_write_failed_and_after_a_day(database: Database) -> None:
    async def fail(_: AsyncConnection) -> Outcome:
        raise Refusal("profile_exists", "no")

    async def work(_: AsyncConnection) -> Outcome:
        return Outcome(200, "{}")

    await refused(once(database, "default", "key", "a", fail), 409, "profile_exists")
    assert not (await once(database, "default", "key", "b", work)).replayed
    await write(
        database,
        lambda c: c.execute(sa.update(idempotency).values(created_at=sa.text("created_at - 86400001"))),
    )
    assert not (await once(database, "default", "key", "c", work)).replayed


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "a\n"])
async def test_keys_are_visible_ascii(database: Database, key: str) -> None:
    async def work(_: AsyncConnection) -> Outcome:
        return Outcome(200, "{}")

    await refused(once(database, "default", key, "r", work), 400, "invalid_idempotency_key")
