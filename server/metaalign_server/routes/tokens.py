"""`/tokenize` and `/detokenize`, as vLLM has them: the ids that a request would give the model, and their text."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, model_validator

from metaalign import Receipt, RefusedField
from metaalign_server.engine.cancellation import with_cancellation
from metaalign_server.platform.refusal import Refusal
from metaalign_server.routes.common import JSON_BODY, Body
from metaalign_server.routes.inference import engine_of, open_request, receipt_headers
from metaalign_server.routes.short_models import MESSAGE_SCHEMA, ShortRequest

__all__ = ["TokenizeRequest", "router"]

router = APIRouter(tags=["inference"])


class TokenizeRequest(ShortRequest):
    """A dialogue (`messages`), or one text (`prompt`) as `/v1/completions` takes it."""

    messages: (
        Annotated[list[dict[str, Any]], Field(min_length=1, json_schema_extra={"items": MESSAGE_SCHEMA})]
        | None
    ) = None
    prompt: str | None = None
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: Annotated[
        bool | None, Field(description="default: true for `prompt`, false for `messages`")
    ] = None
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _has_one_text(self) -> TokenizeRequest:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either `messages` or `prompt`")
        return self


class TokenizeAnswer(BaseModel):
    """The ids and how many the model could take; `metaalign` is null without preferences."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None
    metaalign: Receipt | None


class DetokenizeRequest(Body):
    """Token ids, at most as many as the model's context holds."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, le=2**31 - 1)]]


class DetokenizeAnswer(BaseModel):
    """Their text."""

    prompt: str


@router.post("/tokenize", dependencies=JSON_BODY, response_model=TokenizeAnswer)
@with_cancellation
async def tokenize(request: TokenizeRequest, raw_request: Request) -> Response:
    """Return the token ids that a request would give the model, those of its Meta-Prompt included."""
    if request.add_special_tokens is None:
        request.add_special_tokens = request.messages is None
    context = await open_request(request, raw_request, generates=False)
    if context.stored.confidential and not context.caller.may_read_profiles:
        raise Refusal(
            "missing_scope",
            "the ids of stored preferences take a key with the scope `profiles:read`;"
            " `/v1/messages/count_tokens` counts without it",
        )
    fields = request.model_dump(exclude={"preferences", "user"}, exclude_none=True)
    found = await engine_of(raw_request).tokenize(fields, raw_request)
    receipt = context.reported.receipt if context.reported is not None else None
    body = found.model_dump() | {"metaalign": receipt.model_dump() if receipt is not None else None}
    return JSONResponse(body, headers=receipt_headers(context))


@router.post("/detokenize", dependencies=JSON_BODY, response_model=DetokenizeAnswer)
@with_cancellation
async def detokenize(request: DetokenizeRequest, raw_request: Request) -> Response:
    """Return the text of token ids."""
    engine = engine_of(raw_request)
    if len(request.tokens) > engine.max_model_len:
        raise RefusedField(
            f"tokens: more than the model's context of {engine.max_model_len}; send them in parts",
            param="tokens",
        )
    found = await engine.detokenize(request.model_dump(), raw_request)
    return JSONResponse(found.model_dump())
