"""What the routes share: the service behind them, and the check of the media type."""

from __future__ import annotations

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from metaalign_server.engine.service import Service

__all__ = ["JSON_BODY", "service_of"]


def service_of(request: Request) -> Service:
    """The service of the application that serves `request`."""
    service: Service = request.app.state.metaalign
    return service


async def _require_json(raw_request: Request) -> None:
    """Refuse bodies of another media type: browsers can send those without a preflight."""
    media_type = raw_request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/json":
        raise RequestValidationError([{"loc": ("header", "content-type"), "msg": "must be application/json"}])


JSON_BODY = [Depends(_require_json)]
"""Dependencies of every route that reads JSON."""
