"""Operations routes: liveness, readiness, metrics, version.

`probes` and `monitoring` also serve under `vllm serve`, which has a `/health` and a `/version` of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from pydantic import BaseModel

import metaalign
from metaalign.receipt import TemplateReference
from metaalign_server.routes.common import needs, service_of

router = APIRouter(tags=["operations"])
probes = APIRouter()
monitoring = APIRouter()

TASKS = Gauge("metaalign_event_loop_tasks", "Tasks of the server's event loop; steady when nothing leaks.")
READY = Gauge("metaalign_ready", "1 if the server accepts new work, as /readyz says, else 0.")
DRAINING = Gauge("metaalign_draining", "1 once the server has been told to stop, else 0.")
SILENCE = Gauge(
    "metaalign_engine_silence_seconds",
    "Time since the engine last answered the watchdog; NaN if METAALIGN_STALL_SECONDS is 0.",
)
SILENCE_LIMIT = Gauge(
    "metaalign_engine_silence_limit_seconds",
    "METAALIGN_STALL_SECONDS: after this silence of the engine the server is not ready; 0 if nobody watches.",
)
WAITING = Gauge("metaalign_queue_waiting", "Requests that wait for a place in the engine.")
WAITING_LIMIT = Gauge(
    "metaalign_queue_waiting_limit", "METAALIGN_MAX_WAITING: how many may wait; one more is refused."
)
PLACES = Gauge("metaalign_queue_places", "Places for sequences in the engine.")
PLACES_USED = Gauge("metaalign_queue_places_used", "Places that sequences use.")
UNWRITTEN = Gauge("metaalign_exchanges_waiting", "Exchanges that are not yet written to the store.")
UNERASED = Gauge(
    "metaalign_erasure_pending",
    "1 while the files of an SQLite store may hold copies of deleted rows, else 0.",
)
BUILD = Gauge("metaalign_build_info", "Always 1; the labels are versions.", ["version", "vllm"])


class StateModel(BaseModel):
    """The state of the process."""

    status: str


class VersionsModel(BaseModel):
    """The versions of what is running."""

    version: str
    vllm: str
    template: TemplateReference


_READINESS: dict[int | str, dict[str, Any]] = {
    503: {"model": StateModel, "description": "New work is not accepted."}
}


@probes.get("/livez", response_model=StateModel)
async def livez() -> Response:
    """200 as long as the process can respond."""
    return JSONResponse({"status": "alive"})


@probes.get("/readyz", response_model=StateModel, responses=_READINESS)
@router.get("/health", response_model=StateModel, responses=_READINESS)
async def readyz(request: Request) -> Response:
    """200 if the server accepts new work; 503 while it drains or after the engine has failed."""
    service = service_of(request)
    if service.ready:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "draining" if service.draining else "engine failed"}, status_code=503)


@monitoring.get("/metrics", response_class=PlainTextResponse, dependencies=[Depends(needs("metrics"))])
async def metrics(request: Request) -> Response:
    """Prometheus metrics of vLLM and of this server."""
    service = service_of(request)
    TASKS.set(len(asyncio.all_tasks()))
    READY.set(service.ready)
    DRAINING.set(service.draining)
    SILENCE.set(math.nan if service.answered_at is None else time.monotonic() - service.answered_at)
    SILENCE_LIMIT.set(service.settings.stall_seconds)
    WAITING.set(service.queue.waiting)
    WAITING_LIMIT.set(service.queue.max_waiting)
    PLACES.set(service.queue.places)
    PLACES_USED.set(service.queue.taken)
    if service.platform is not None:
        UNWRITTEN.set(service.platform.recorder.waiting)
        UNERASED.set(service.platform.database.unshredded)
    BUILD.labels(metaalign.__version__, service.engine.version).set(1)
    registry = service.engine.registry
    text = await asyncio.to_thread(lambda: generate_latest(registry))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/version", response_model=VersionsModel)
async def version(request: Request) -> Response:
    """Versions of this server, of vLLM, and of the checkpoint's template."""
    service = service_of(request)
    template = service.aligner.assembler.template.reference
    return JSONResponse(
        {
            "version": metaalign.__version__,
            "vllm": service.engine.version,
            "template": template.model_dump(),
        }
    )


router.include_router(probes)
router.include_router(monitoring)
