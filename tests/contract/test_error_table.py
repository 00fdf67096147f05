"""One table of errors: every code that the code uses is in it, and every entry is used."""

from __future__ import annotations

import re
from collections.abc import Iterator

from metaalign import MetaAlignError
from metaalign.client import APIError, ConnectionFailed, StreamBroken, TimedOut
from metaalign.errors import ERRORS
from metaalign_server.engine.dialects import code_of_status
from metaalign_server.platform.limits import LimitReached
from metaalign_server.platform.refusal import Refusal
from metaalign_server.store.database import StoreUnavailable
from metaalign_server.store.migrate import WrongSchema
from metaalign_training.errors import StageError
from tests.processes import ROOT

FOLDERS = ("clients/python/metaalign", "server/metaalign_server", "training/metaalign_training")
CALLS = re.compile(r"(?:\bRefusal\(|error_response\(\s*[\w.\[\]\"]+,)\s*\"([a-z_]+)\"")
NOT_FOUND = re.compile(r"\bnot_found\(\s*\"([a-z]+)\"")
CODES = re.compile(r"^\s+code = \"([a-z_]+)\"", re.MULTILINE)
LIMITS = re.compile(r"\"([a-z_]+)\", \"(?:requests|tokens) ")


def used_codes() -> Iterator[str]:
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            if file == ROOT / "clients/python/metaalign/client/errors.py":
                continue  # made of the table
            text = file.read_text(encoding="utf-8")
            yield from CALLS.findall(text)
            yield from CODES.findall(text)
            yield from LIMITS.findall(text)
            yield from (f"{what}_not_found" for what in NOT_FOUND.findall(text))


def subclasses(kind: type[MetaAlignError]) -> Iterator[type[MetaAlignError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_the_table_and_the_code_agree() -> None:
    of_others = {code_of_status(status) for status in range(400, 600)}
    assert set(used_codes()) | of_others == set(ERRORS)


def test_a_status_of_the_engine_keeps_its_class() -> None:
    """Clients choose an exception by the status; ours is the engine's where the engine has one of its own for it."""
    for status in (400, 404, 422, 500, 501, 503):  # all that vLLM's exceptions have
        assert ERRORS[code_of_status(status)].status == status
    assert ERRORS[code_of_status(418)].status == 400
    assert ERRORS[code_of_status(599)].status == 500


def test_every_class_has_a_code_of_its_own_in_the_table() -> None:
    theirs = (
        Refusal,
        LimitReached,
        APIError,
        ConnectionFailed,
        TimedOut,
        StreamBroken,
    )  # of many codes, or of none
    own = [k for k in subclasses(MetaAlignError) if k not in theirs and not issubclass(k, APIError)]
    assert {StoreUnavailable, WrongSchema, StageError} <= set(own)
    codes = [kind.code for kind in own]
    assert len(set(codes)) == len(codes)
    assert set(codes) <= set(ERRORS)


def test_statuses_and_texts() -> None:
    assert len(ERRORS) > 50
    for code, kind in ERRORS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert kind.status is None or 400 <= kind.status < 600
        for text in (kind.when, kind.remedy):
            assert text.endswith(".")
            assert text[0].isupper() or text[0] == "`"
