"""Request and answer models of `/v1/align` and `/v1/preferences/render`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from metaalign import Receipt
from metaalign_server.engine.request_schema import INT64
from metaalign_server.engine.requests import PreferencesInput
from metaalign_server.routes.common import Body

__all__ = [
    "MESSAGE_SCHEMA",
    "AlignAnswer",
    "AlignRequest",
    "RenderAnswer",
    "RenderRequest",
    "RenderedBranch",
    "ShortRequest",
]


StopText = Annotated[str, Field(min_length=1)]


class ShortRequest(Body):
    """The fields that both requests share."""

    preferences: PreferencesInput = None
    model: str | None = None
    user: str | None = None


class AlignRequest(ShortRequest):
    """The short form: one query, its preferences, a few sampling parameters."""

    query: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1, json_schema_extra=INT64)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    store: bool | None = None


class AlignAnswer(BaseModel):
    """The answer of `/v1/align`; `metaalign` is null without preferences."""

    id: str
    model: str
    text: str
    finish_reason: str | None
    metaalign: Receipt | None
    usage: dict[str, Any]


_PART_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"text": {"type": "string"}}}]}
MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string"},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART_SCHEMA}]},
    },
}


class RenderRequest(ShortRequest):
    """The dry run: preferences and a dialogue."""

    messages: list[dict[str, Any]] = Field(default_factory=list, json_schema_extra={"items": MESSAGE_SCHEMA})


class RenderedBranch(BaseModel):
    """One of the prompts that draw a steered answer; its logits are multiplied by `coefficient`."""

    coefficient: float
    system_info: str
    user_info: str
    prompt_token_ids: list[int]


class RenderAnswer(BaseModel):
    """The answer of `/v1/preferences/render`. `branches` is empty unless several prompts draw the answer."""

    system_info: str
    user_info: str
    prompt: str
    prompt_token_ids: list[int]
    tokens: int
    branches: list[RenderedBranch]
    metaalign: Receipt
