"""Server-sent events: the receipt in the first event, failures in the form of the protocol, no false `[DONE]`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive

from metaalign_server.alignment.context import RequestContext
from metaalign_server.alignment.verification import verify
from metaalign_server.engine.dialects import CUT_OFF, Dialect, code_of_status
from metaalign_server.engine.handlers import ENGINE_ERRORS, HANDLER_ERRORS, EngineRefusal
from metaalign_server.engine.texts import StreamedTexts

__all__ = ["as_server_sent_events", "open_stream"]

logger = logging.getLogger(__name__)

_LARGE_EVENT = 16_384
"""Characters."""


def as_server_sent_events(
    events: AsyncIterator[Any], dialect: Dialect, keep_alive: float
) -> AsyncIterator[str]:
    """Format a vLLM handler's stream, with a comment after every `keep_alive` seconds of silence."""
    if dialect.formatted:
        return events
    formatted = _formatted(events)
    stream: AsyncIterator[str] = with_sse_keep_alive(formatted, keep_alive) if keep_alive else formatted
    return stream


async def _formatted(events: AsyncIterator[Any]) -> AsyncGenerator[str, None]:
    async for event in events:
        if isinstance(event, str):
            yield event
        else:
            yield f"event: {event.type}\ndata: {event.model_dump_json(by_alias=True)}\n\n"


def _error_of(event: str) -> dict[str, Any] | None:
    """Return the error document in `event`, or None."""
    if not (event.startswith('data: {"error"') or event.startswith("event: error")):
        return None
    data = json.loads(event[event.index("data: ") + 6 :])
    error = data.get("error", data)
    return error if isinstance(error, dict) else None


def _refusal(told: dict[str, Any]) -> EngineRefusal:
    """Return what the fields of the engine's own error event say."""
    status, param = told.get("code"), told.get("param")
    status = status if isinstance(status, int) and 400 <= status < 600 else 500
    message = str(told.get("message", "generation failed"))
    return EngineRefusal(code_of_status(status), message, param if isinstance(param, str) else None)


async def open_stream(
    events: AsyncIterator[str],
    dialect: Dialect,
    fingerprint: tuple[str, str] | None,
    context: RequestContext,
) -> AsyncIterator[bytes]:
    """Wait for the first event, then return the stream of encoded events.

    Args:
        events: Formatted events.
        dialect: Defines where the receipt goes and how a failure is reported.
        fingerprint: The engine's `system_fingerprint` and the one to send instead.
        context: The request. Its receipt goes into the first event, and it is told if the stream fails.

    Raises:
        EngineRefusal: there is no first event, or it is an error; an HTTP status can still be sent.
    """
    try:
        first = await anext(events, None)
    except HANDLER_ERRORS as error:
        raise EngineRefusal.of(error).for_request(context) from error
    if first is not None and (told := _error_of(first)) is not None:
        raise _refusal(told).for_request(context)
    return _stream(first, events, dialect, fingerprint, context)


async def _stream(
    first: str | None,
    events: AsyncIterator[str],
    dialect: Dialect,
    fingerprint: tuple[str, str] | None,
    context: RequestContext,
) -> AsyncIterator[bytes]:
    if first is None:
        return
    stock, ours = (f'"system_fingerprint":{json.dumps(name)}' for name in fingerprint or ("", ""))

    def mark_of() -> str:
        receipt = context.receipt_json
        if receipt is None:
            return dialect.anchor
        name = f"{ours}," if fingerprint is not None and dialect.fingerprinted else ""
        return f'{dialect.anchor}{name}"metaalign":{receipt.decode()},'

    mark, score = mark_of(), context.score
    reported = context.reported is not None
    unmarked = reported
    failed = False
    answer = StreamedTexts() if context.verify is not None and reported else None
    event: str | None = first
    last = ""
    while event is not None:
        if answer is not None and not failed:
            answer.read(event)
            if event.startswith(dialect.end):
                await verify(context, answer.texts)
                receipt = (context.receipt_json or b"null").decode()
                if dialect.every:
                    mark = f'{dialect.anchor}"metaalign":{receipt},'
                elif event.startswith("data: [DONE]"):
                    yield f'data: {json.dumps(answer.head | {"choices": []})[:-1]},"metaalign":{receipt}}}\n\n'.encode()
                else:
                    event = event.replace("data: {", f'data: {{"metaalign":{receipt},', 1)
        if score != context.score:  # of a stream whose first events come before its answer is chosen
            mark, score = mark_of(), context.score
        told = _error_of(event)
        # Not always the first event, which may be a keep-alive comment.
        if told is None and unmarked and dialect.anchor in event:
            event = event.replace(dialect.anchor, mark, 1)
            unmarked = dialect.every
        elif reported and fingerprint is not None and stock in event:
            event = event.replace(stock, ours, 1)
        if not failed:  # an answer that broke off gets no end event
            if told is not None:
                failed = True
                event = _broken(_refusal(told) if dialect.tells_why else None, last, dialect, context)
            yield event.encode()
        if len(event) > _LARGE_EVENT:
            await asyncio.sleep(0)  # vLLM may have many more at once, and others wait for the event loop
        last = event
        try:
            event = await anext(events, None)
        except Exception as error:  # the status is already sent; only an event can report the failure
            refusal = EngineRefusal.of(error) if isinstance(error, ENGINE_ERRORS) else None
            if refusal is None or refusal.status >= 500:
                logger.error("stream failed", exc_info=error)
                refusal = None  # its text may quote a request
            if not failed:
                yield _broken(refusal, last, dialect, context).encode()
            return


def _broken(refusal: EngineRefusal | None, last: str, dialect: Dialect, context: RequestContext) -> str:
    """Return the event that ends a stream, and tell the request; without a refusal the engine has failed.

    A server that stops has ended the stream itself, whatever the refusal.
    On `/v1/responses` a refusal can come late: vLLM sends its first events before the engine has seen the request.
    """
    if context.cut_off:
        context.refused_late = "unavailable"
        return dialect.error_event(last, "unavailable", CUT_OFF)
    if refusal is not None and refusal.status < 500:
        context.refused_late = refusal.code
    else:
        context.broke_off = True
    if refusal is None:
        return dialect.error_event(last)
    return dialect.error_event(last, refusal.code, refusal.message, refusal.param)
