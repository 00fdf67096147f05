"""Checks answers as a request's `verify` asks: in threads of its own and within a time, never on the event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from metaalign import InvalidPreferences
from metaalign.preferences import NamedCheck
from metaalign.receipt import VerifiedAnswer, VerifiedCheck
from metaalign.verifiers import Check, InvalidCheck, check_all, checks_for, parse_checks, prepare
from metaalign_server.alignment.context import RequestContext

__all__ = ["parse_verify", "verdicts", "verify"]

T = TypeVar("T")

_BYTES = 32_768
_SECONDS = 1.0
"""For all answers of one request; what is not decided by then is reported so."""
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="verify")
_TURNS: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
"""One per tenant with checks to run, so that a tenant waits for one check of each other tenant at most."""


async def _beside(tenant: str, work: Callable[[], T]) -> T:
    async with _TURNS.setdefault(tenant, asyncio.Lock()):
        return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


async def parse_verify(named: Sequence[NamedCheck], tenant: str) -> tuple[Check, ...]:
    """Return the checks that a tenant's request names.

    Raises:
        InvalidPreferences: one has an unknown name or wrong arguments, or they are too large together.
    """
    return await _beside(tenant, lambda: _parse(named))


def _parse(named: Sequence[NamedCheck]) -> tuple[Check, ...]:
    items = [{"name": item.name, "arguments": item.arguments} for item in named]
    try:
        size = len(json.dumps(items))
    except RecursionError:
        size = _BYTES + 1
    if size > _BYTES:
        raise InvalidPreferences(
            f"preferences.verify: at most {_BYTES} bytes of JSON", param="preferences.verify"
        )
    try:
        return parse_checks(items)
    except InvalidCheck as error:
        raise InvalidPreferences(
            f"preferences.verify{error.message}", param=f"preferences.verify{error.param}"
        ) from None


async def verify(context: RequestContext, texts: Sequence[str]) -> None:
    """Write into a request's context what its checks say of the texts of an answer's choices."""
    context.verified = await verdicts(context, texts)


async def verdicts(context: RequestContext, texts: Sequence[str]) -> tuple[VerifiedAnswer, ...]:
    """Return what a request's checks say of some texts; nothing if it asks for none."""
    applied = context.reported
    if applied is None or context.verify is None:
        return ()
    checks = checks_for(dict(applied.attributes)) if context.verify is True else context.verify
    return await _beside(context.caller.tenant.id, lambda: _verify(checks, texts))


def _verify(checks: Sequence[Check], texts: Sequence[str]) -> tuple[VerifiedAnswer, ...]:
    prepare(checks)  # loading a model is no check's fault
    deadline = time.monotonic() + _SECONDS
    answers = []
    for index, text in enumerate(texts):
        verdicts = check_all(checks, text, seconds=deadline - time.monotonic())
        answers.append(
            VerifiedAnswer(
                index=index,
                passed=all(verdict.passed for verdict in verdicts) if verdicts else None,
                checks=tuple(VerifiedCheck(name=v.name, passed=v.passed, why=v.why) for v in verdicts),
            )
        )
    return tuple(answers)
