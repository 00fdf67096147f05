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
