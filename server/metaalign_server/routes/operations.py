"""Operations routes: liveness, readiness, metrics, version."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import metaalign
from metaalign_server.engine.registry import prometheus_registry
from metaalign_server.engine.service import VLLM_VERSION
from metaalign_server.routes.common import service_of

router = APIRouter()


@router.get("/livez")
async def livez() -> Response:
    """200 as long as the process can answer."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
@router.get("/health")
async def readyz(request: Request) -> Response:
    """200 when new work is accepted; 503 while draining or after the engine has failed."""
    service = service_of(request)
    if service.ready:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "draining" if service.draining else "engine failed"}, status_code=503)


@router.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics of vLLM and of this server."""
    return Response(generate_latest(prometheus_registry()), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
async def version(request: Request) -> Response:
    """Versions of this server, of vLLM, and of the checkpoint's template."""
    template = service_of(request).aligner.assembler.template.reference
    return JSONResponse(
        {"version": metaalign.__version__, "vllm": VLLM_VERSION, "template": template.model_dump()}
    )
