"""Watches the engine's progress: a process that is alive but does not respond is as bad as a dead one."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time

from metaalign_server.alignment.service import Service

__all__ = ["watch_engine"]

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25


async def watch_engine(service: Service, stall_seconds: float) -> None:
    """Return when the engine has failed permanently: it died, or was silent for twice `stall_seconds`.

    The engine answers a ping between two steps: a busy engine must finish its step, and an idle one must answer too.
    After `stall_seconds` of silence the server is not ready; when the engine answers again, it is.

    Args:
        service: Its `stalled` and `answered_at` are set here.
        stall_seconds: 0 checks only whether the engine is dead.
    """
    clock = time.monotonic
    question: asyncio.Task[None] | None = None
    asked = clock()
    if stall_seconds:
        service.answered_at = asked
    try:
        while not service.engine.dead:
            await asyncio.sleep(_POLL_SECONDS)
            if not stall_seconds:
                continue
            if question is None:
                question, asked = asyncio.create_task(service.engine.ping()), clock()
            elif question.done():
                if question.exception() is None:  # the loop condition detects a dead engine
                    service.answered_at = clock()
                if service.stalled:
                    seconds = round(clock() - asked, 1)
                    logger.warning("the engine answers again", extra={"fields": {"seconds": seconds}})
                question, service.stalled = None, False
            elif clock() - asked > 2 * stall_seconds:
                logger.error(
                    "the engine does not answer; exiting so that a supervisor can restart the server"
                )
                for process in multiprocessing.active_children():
                    process.kill()  # so that whatever waits for the engine fails now
                return
            elif clock() - asked > stall_seconds and not service.stalled:
                service.stalled = True
                logger.error("the engine does not answer; not ready")
    finally:
        if question is not None:
            question.cancel()
    logger.error("the engine has failed; exiting so that a supervisor can restart the server")
