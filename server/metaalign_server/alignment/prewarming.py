"""Prefills Meta-Prompts before anybody asks: a version that gets a label, and after a start what was used most.

A preference is known long before its first request, which would otherwise wait until its Meta-Prompt is computed. This
runs only while nothing else does, in pieces so small that a request that comes meanwhile hardly notices, and at the
engine's lowest priority.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from prometheus_client import Counter

from metaalign import MetaAlignError
from metaalign_server.alignment.context import RequestContext
from metaalign_server.alignment.service import Service
from metaalign_server.platform.hot_profiles import Use, moved_labels
from metaalign_server.platform.startup import Platform

__all__ = ["Prewarmer", "prewarm"]

logger = logging.getLogger(__name__)

PREWARMED = Counter(
    "metaalign_prewarmed_total",
    "Meta-Prompts that were prefilled ahead of requests: for a label that moved (`label`), or after a start (`start`).",
    ["reason"],
)
TOKENS = Counter("metaalign_prewarmed_tokens_total", "Tokens of these Meta-Prompts.")
_BY_LABEL, _BY_START = PREWARMED.labels("label"), PREWARMED.labels("start")

_PIECE = 256
"""Tokens at a time: the engine puts them into one step, and who comes meanwhile waits for the end of that step."""
_LOOK_SECONDS, _IDLE_SECONDS, _SAVE_SECONDS = 2.0, 0.05, 60.0
_MEMORY_SECONDS = 120.0
"""How far back moves of labels are looked for: longer than clocks of several servers differ."""
_MOVES = 200


class Prewarmer:
    """Prefills on one server; each server on the same store does it for itself.

    Args:
        service: The server.
        platform: Its store.
        most: How many Meta-Prompts at most after a start, and for the labels that move within two seconds.
    """

    def __init__(self, service: Service, platform: Platform, most: int) -> None:
        self._service = service
        self._platform = platform
        self._most = most
        self._seen: set[tuple[int, str, int]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        started = False
        next_save = clock() + _SAVE_SECONDS
        while True:
            try:
                if not started:
                    await self._look()  # labels that moved before the start are not news
                    async with self._platform.database.read() as connection:
                        hot = await self._platform.hot.load(connection, self._most)
                    started = True
                    await self._warm(hot, "start")
                await self._warm(await self._look(), "label")
                if clock() >= next_save:
                    next_save = clock() + _SAVE_SECONDS
                    async with self._platform.database.write() as connection:
                        await self._platform.hot.save(connection)
            except MetaAlignError:
                pass  # the store is away, which is logged elsewhere
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> list[Use]:
        """Return the versions whose labels have moved since the last look."""
        async with self._platform.database.read() as connection:
            moves = await moved_labels(connection, _MEMORY_SECONDS, _MOVES)
        new = [(move, uses) for move, uses in moves if move not in self._seen]
        self._seen = {move for move, _ in moves}
        return [use for _, uses in new for use in uses]

    async def _warm(self, uses: list[Use], reason: Literal["label", "start"]) -> None:
        for tenant_id, references in uses[: self._most]:
            context = await self._service.ahead(tenant_id, references)
            if context is None or context.applied is None:
                continue
            try:
                tokens = await self._prefill(context, context.applied.prefix_ids)
            except Exception as error:  # one that does not fit the model, say; the others are still worth it
                logger.warning("cannot prefill a Meta-Prompt", exc_info=error)
                continue
            if tokens:
                (_BY_LABEL if reason == "label" else _BY_START).inc()
                TOKENS.inc(tokens)

    async def _prefill(self, context: RequestContext, ids: Sequence[int]) -> int:
        """Prefill `ids` in pieces, each once the server is idle; return how many they are."""
        for end in (*range(_PIECE, len(ids), _PIECE), *([len(ids)] if ids else [])):
            while not self._service.idle:
                await asyncio.sleep(_IDLE_SECONDS)
            await self._service.engine.prefill(context, ids[:end])
        return len(ids)


async def prewarm(service: Service, most: int) -> None:
    """Run a prewarmer, unless there is no store, the server has no prefix to cut, or `most` is 0."""
    if most and service.platform is not None and service.aligner.assembler.cuttable:
        await Prewarmer(service, service.platform, most).run()
