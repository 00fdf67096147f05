"""The same routes as an endpoint plugin of `vllm serve`: entry point `metaalign` of `vllm.endpoint_plugins`.

Activate with `VLLM_PLUGINS=metaalign`. vLLM's own authentication and middleware stay in effect there; they leave
`/metrics` open, which takes one of vLLM's keys here, if there are any.
"""

from __future__ import annotations

import hmac
import os
from argparse import Namespace
from typing import Any

from fastapi import Depends, FastAPI, Request
from starlette.routing import Mount

from metaalign_server.callers import token_of
from metaalign_server.engine.installation import IncompatibleEngine, install
from metaalign_server.platform.refusal import Refusal
from metaalign_server.routes import align, inference, operations, responses, tokens
from metaalign_server.serving.app import add_refusal_handlers
from metaalign_server.settings import read_settings

__all__ = ["MetaAlignPlugin"]


class MetaAlignPlugin:
    """Replaces the inference routes of vLLM with ours; adds our own, `/livez` and `/readyz`."""

    name = "metaalign"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Register the inference routes; vLLM removes its own routes with the same paths."""
        app.include_router(inference.router)
        app.include_router(align.router)
        app.include_router(responses.router)
        app.include_router(tokens.router)
        app.include_router(operations.probes)
        app.include_router(operations.monitoring, dependencies=[Depends(_needs_key)])
        # vLLM also mounts its metrics under every path that begins with /metrics.
        app.router.routes[:] = [
            route for route in app.routes if not (isinstance(route, Mount) and route.path == "/metrics")
        ]
        add_refusal_handlers(app)

    async def init_state(self, engine_client: object, state: Any, args: Namespace) -> None:
        """Install the hooks in vLLM's renderer and engine.

        Raises:
            SystemExit: the hooks do not work in this vLLM; the server must not start without them.
        """
        if engine_client is None:
            return
        # As vLLM reads them: the environment's counts if there is no flag.
        state.keys_for_metrics = [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
        try:
            await install(state, read_settings({}))
        except IncompatibleEngine as error:
            raise SystemExit(f"metaalign: {error}") from None


async def _needs_key(request: Request) -> None:
    """Refuse whoever has none of vLLM's keys, if there are any.

    Raises:
        Refusal: 401.
    """
    token, keys = token_of(dict(request.scope["headers"])), request.app.state.keys_for_metrics
    found = [hmac.compare_digest(token, key.encode()) for key in keys]
    if keys and not any(found):
        raise Refusal(
            "invalid_api_key",
            "a valid key is needed: send `Authorization: Bearer KEY` or `x-api-key: KEY`",
            headers={"WWW-Authenticate": "Bearer"},
        )
