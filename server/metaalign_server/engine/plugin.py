"""The same routes as an endpoint plugin of `vllm serve`: entry point `metaalign` of `vllm.endpoint_plugins`.

Activate with `VLLM_PLUGINS=metaalign`. vLLM's own authentication and middleware stay in charge there.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from fastapi import FastAPI
from vllm.engine.protocol import EngineClient

from metaalign import MetaAlignError
from metaalign_server.app import on_metaalign_error
from metaalign_server.engine.service import attach_service
from metaalign_server.routes.inference import router
from metaalign_server.settings import Settings

__all__ = ["MetaAlignPlugin"]


class MetaAlignPlugin:
    """Replaces vLLM's inference routes by ours and adds `/v1/align` and `/v1/preferences/render`."""

    name = "metaalign"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Register the inference routes; vLLM removes its own of the same path."""
        app.include_router(router)
        app.add_exception_handler(MetaAlignError, on_metaalign_error)

    async def init_state(self, engine_client: EngineClient | None, state: Any, args: Namespace) -> None:
        """Hook into vLLM's renderer."""
        if engine_client is not None:
            attach_service(state, Settings())
