"""The same routes as an endpoint plugin of `vllm serve`: entry point `metaalign` of `vllm.endpoint_plugins`.

Activate with `VLLM_PLUGINS=metaalign`. vLLM's own authentication and middleware stay in effect there.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from fastapi import FastAPI

from metaalign_server.engine.installation import IncompatibleEngine, install
from metaalign_server.routes import align, inference
from metaalign_server.serving.app import add_refusal_handlers
from metaalign_server.settings import Settings

__all__ = ["MetaAlignPlugin"]


class MetaAlignPlugin:
    """Replaces vLLM's inference routes with ours and adds `/v1/align` and `/v1/preferences/render`."""

    name = "metaalign"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Register the inference routes; vLLM removes its own routes with the same paths."""
        app.include_router(inference.router)
        app.include_router(align.router)
        add_refusal_handlers(app)

    async def init_state(self, engine_client: object, state: Any, args: Namespace) -> None:
        """Install the hooks in vLLM's renderer and engine.

        Raises:
            SystemExit: the hooks do not work in this vLLM; the server must not start without them.
        """
        if engine_client is None:
            return
        try:
            await install(state, Settings())
        except IncompatibleEngine as error:
            raise SystemExit(f"metaalign: {error}") from None
