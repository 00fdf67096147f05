"""Operations routes: liveness, readiness, metrics, version."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from pydantic import BaseModel

import metaalign
from metaalign.receipt import TemplateReference
from metaalign_server.routes.common import needs, service_of

router = APIRouter(tags=["operations"])

TASKS = Gauge("metaalign_event_loop_tasks", "Tasks of the server's event loop; steady when nothing leaks.")


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


@router.get("/livez", response_model=StateModel)
async def livez() -> Response:
    """200 as long as the process can respond."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", response_model=StateModel, responses=_READINESS)
@router.get("/health", response_model=StateModel, responses=_READINESS)
async def readyz(request: Request) -> Response:
    """200 if the server accepts new work; 503 while it drains or after the engine has failed."""
    service = service_of(request)
    if service.ready:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "draining" if service.draining else "engine failed"}, status_code=503)


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[Depends(needs("metrics"))])
async def metrics(request: Request) -> Response:
    """Prometheus metrics of vLLM and of this server."""
    TASKS.set(len(asyncio.all_tasks()))
    registry = service_of(request).engine.registry
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
