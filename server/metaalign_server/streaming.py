"""Server-sent events: the receipt on the first event, failures as the protocol says them, no false `[DONE]`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from metaalign_server.alignment import AppliedSpec

__all__ = ["EarlyFailure", "Splice", "open_stream"]

logger = logging.getLogger(__name__)

_BROKE_OFF = "the answer broke off: the engine failed; send the request again"
_SEQUENCE_NUMBER = re.compile(r'"sequence_number":(\d+)')


@dataclass(frozen=True, slots=True)
class Splice:
    """Where one protocol carries the receipt in a stream.

    Attributes:
        anchor: JSON text behind which the receipt is put; every event that has it is marked, or only the first.
        every: Mark every event that has the anchor, not only the first.
    """

    anchor: str
    every: bool = False


OPENAI_STREAM = Splice("data: {")
ANTHROPIC_STREAM = Splice('"message":{')
RESPONSES_STREAM = Splice('"response":{', every=True)


class EarlyFailure(Exception):
    """The stream failed before its first event: it can still be answered with an HTTP status."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__("the stream failed before its first event")
        self.error = error


def _error_of(event: str) -> dict[str, Any] | None:
    """The error document that `event` carries, or None."""
    if not (event.startswith('data: {"error"') or event.startswith("event: error")):
        return None
    data = json.loads(event[event.index("data: ") + 6 :])
    error = data.get("error", data)
    return error if isinstance(error, dict) else None


async def open_stream(
    events: AsyncIterator[str],
    applied: AppliedSpec | None,
    splice: Splice,
    fingerprint: tuple[str, str] | None,
) -> AsyncIterator[bytes]:
    """Wait for the first event, then return the stream of encoded events.

    Args:
        events: Events as vLLM's handler formats them.
        applied: The spec whose receipt is put on the first event, if any.
        splice: Where this protocol carries it.
        fingerprint: The engine's `system_fingerprint` and the one to send instead.

    Raises:
        EarlyFailure: the first event is an error.
    """
    first = await anext(events, None)
    if first is not None and (error := _error_of(first)) is not None:
        raise EarlyFailure(error)
    return _stream(first, events, applied, splice, fingerprint)


async def _stream(
    first: str | None,
    events: AsyncIterator[str],
    applied: AppliedSpec | None,
    splice: Splice,
    fingerprint: tuple[str, str] | None,
) -> AsyncIterator[bytes]:
    if first is None:
        return
    mark = splice.anchor
    stock, ours = (f'"system_fingerprint":{json.dumps(name)}' for name in fingerprint or ("", ""))
    if applied is not None:
        if fingerprint is not None and splice is OPENAI_STREAM:
            mark += f"{ours},"
        mark += f'"metaalign":{applied.receipt_json.decode()},'
    unmarked = applied is not None
    failed = False
    event: str | None = first
    while event is not None:
        if (
            unmarked and splice.anchor in event
        ):  # not always the first event: that may be a keep-alive comment
            event = event.replace(splice.anchor, mark, 1)
            unmarked = splice.every
        elif applied is not None and fingerprint is not None and stock in event:
            event = event.replace(stock, ours, 1)
        if not failed:  # an answer that broke off has no end
            failed = _error_of(event) is not None
            if failed and splice is ANTHROPIC_STREAM:
                # vLLM's text is about its own parsing of the engine's error.
                event = _broken_off(splice, event)
            yield event.encode()
        last = event
        try:
            event = await anext(events, None)
        except Exception as error:  # the status is sent: only an event can still say that it failed
            logger.error("stream failed", exc_info=error)
            if not failed:
                yield _broken_off(splice, last).encode()
            return


def _broken_off(splice: Splice, last: str) -> str:
    """The protocol's event for an answer that will not be completed; `last` is the event before it."""
    if splice is ANTHROPIC_STREAM:
        data: dict[str, Any] = {"type": "error", "error": {"type": "api_error", "message": _BROKE_OFF}}
    elif splice is RESPONSES_STREAM:
        found = _SEQUENCE_NUMBER.search(last)
        number = int(found[1]) + 1 if found is not None else 0
        data = {"type": "error", "sequence_number": number, "code": "server_error", "param": None}
        data["message"] = _BROKE_OFF
    else:
        error = {"message": _BROKE_OFF, "type": "InternalServerError", "param": None, "code": 500}
        return f"data: {json.dumps({'error': error})}\n\n"
    return f"event: error\ndata: {json.dumps(data)}\n\n"
