"""The inference routes: preferences in, vLLM's own handlers, receipt out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from metaalign_server.alignment.context import RequestContext, current_request
from metaalign_server.alignment.verification import verify
from metaalign_server.engine.cancellation import with_cancellation
from metaalign_server.engine.constraints import constraint_of, refuse_heavy_constraints, refuse_huge_numbers
from metaalign_server.engine.dialects import (
    ANTHROPIC,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    Dialect,
)
from metaalign_server.engine.handlers import VllmEngine
from metaalign_server.engine.refusals import (
    refuse_fields,
    refuse_prompt_disclosure,
    refuse_truncation,
)
from metaalign_server.engine.requests import (
    ChatAnswer,
    ChatRequest,
    CompletionsAnswer,
    CompletionsRequest,
    CountTokensAnswer,
    CountTokensRequest,
    InferenceRequest,
    MessagesAnswer,
    MessagesRequest,
    ModelCard,
    ModelList,
    asks_for_logprobs,
    length_given,
    may_be_kept,
    rename_request,
    user_of,
)
from metaalign_server.engine.streaming import as_server_sent_events, open_stream
from metaalign_server.engine.texts import texts_of
from metaalign_server.platform import profiles
from metaalign_server.platform.fair_queue import Places
from metaalign_server.platform.refusal import Refusal
from metaalign_server.routes.common import JSON_BODY, caller_of, error_documents, service_of
from metaalign_server.routes.short_models import ShortRequest

__all__ = ["STREAMING", "engine_of", "infer", "open_request", "receipt_headers", "router"]

router = APIRouter(tags=["inference"])

Handler = Callable[[VllmEngine, Any, Request], Awaitable[Any]]

_EVENT = {
    "description": "One of the events; `data` is JSON, or `[DONE]` at the end of OpenAI's streams.",
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_LISTED_PROFILES = 1000
STREAMING: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream`, its events as they come.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


@router.post("/v1/chat/completions", dependencies=JSON_BODY, response_model=ChatAnswer, responses=STREAMING)
@with_cancellation
async def create_chat_completion(request: ChatRequest, raw_request: Request) -> Response:
    """OpenAI Chat Completions with `preferences`."""
    return await infer(OPENAI_CHAT, VllmEngine.chat, request, raw_request)


@router.post("/v1/completions", dependencies=JSON_BODY, response_model=CompletionsAnswer, responses=STREAMING)
@with_cancellation
async def create_completion(request: CompletionsRequest, raw_request: Request) -> Response:
    """OpenAI Completions; with `preferences` the prompt is the User Query."""
    return await infer(OPENAI_COMPLETIONS, VllmEngine.completions, request, raw_request)


@router.post("/v1/messages", dependencies=JSON_BODY, response_model=MessagesAnswer, responses=STREAMING)
@with_cancellation
async def create_message(request: MessagesRequest, raw_request: Request) -> Response:
    """Anthropic Messages with `preferences`."""
    return await infer(ANTHROPIC, VllmEngine.messages, request, raw_request)


@router.post("/v1/messages/count_tokens", dependencies=JSON_BODY, response_model=CountTokensAnswer)
@with_cancellation
async def count_tokens(request: CountTokensRequest, raw_request: Request) -> Response:
    """Anthropic's token count of a request, including its Meta-Prompt."""
    return await infer(ANTHROPIC, VllmEngine.count_tokens, request, raw_request, generates=False)


@router.get("/v1/models", response_model=ModelList)
async def list_models(raw_request: Request) -> Response:
    """List the served models, and each with the caller's profiles if the operator wants them listed."""
    models = await engine_of(raw_request).list_models()
    platform = service_of(raw_request).platform
    if platform is not None and platform.settings.list_profiles:
        async with platform.database.read() as connection:
            heads = await profiles.list_heads(
                connection, caller_of(raw_request).tenant.id, limit=_LISTED_PROFILES
            )
        models.data += [
            card.model_copy(update={"id": f"{card.id}@{head.name}"})
            for card in list(models.data)
            for head in heads
        ]
    return JSONResponse(models.model_dump())


@router.get(
    "/v1/models/{model:path}",
    response_model=ModelCard,
    responses=error_documents(400, 401, 403, 404, 429, 503),
)
async def get_model(model: str, raw_request: Request) -> Response:
    """One served model; `model@profile` is there if the profile is."""
    name, _, suffix = model.partition("@")
    served = (await engine_of(raw_request).list_models()).data
    card = next((card for card in served if card.id in (model, name)), None)
    if card is None:
        raise Refusal(
            "model_not_found", f"no model {name!r}; served: {', '.join(c.id for c in served)}", param="model"
        )
    if suffix and card.id != model:
        await service_of(raw_request).open_request(
            None, caller_of(raw_request), header=None, suffix=suffix, user=None
        )
    return JSONResponse(card.model_copy(update={"id": model}).model_dump())


async def infer(
    dialect: Dialect,
    handler: Handler,
    request: Any,
    raw_request: Request,
    *,
    generates: bool = True,
    user_ref: str | None = None,
) -> Response:
    """Handle a request: open it, call vLLM's handler, and add the receipt to the result.

    Args:
        dialect: The protocol.
        handler: Which call of the engine's answers it.
        request: The parsed body.
        raw_request: The HTTP request.
        generates: Whether the engine will generate for it.
        user_ref: Whose it is if it names no user itself.

    Raises:
        metaalign.MetaAlignError, EngineRefusal: the application turns both into responses.
    """
    asked = request.model
    context = await open_request(request, raw_request, generates=generates, user_ref=user_ref)
    engine = engine_of(raw_request)
    result = await handler(engine, request, raw_request)
    named = (request.model, asked) if asked is not None and asked != request.model else None
    applied, stock = context.reported, engine.fingerprint
    fingerprint = (stock, applied.receipt.fingerprint(stock)) if applied is not None and stock else None
    if isinstance(result, BaseModel):
        if named is not None and hasattr(result, "model"):
            result.model = asked
        if fingerprint is not None and dialect.fingerprinted:
            result.system_fingerprint = fingerprint[1]  # type: ignore[attr-defined]
        body = result.model_dump_json(exclude_none=dialect.drops_nulls, by_alias=True).encode()
        if applied is not None:
            if context.verify is not None and generates:
                await verify(context, texts_of(json.loads(body)))
            body = body[:-1] + b',"metaalign":' + (context.receipt_json or b"null") + b"}"
        return Response(body, media_type="application/json", headers=receipt_headers(context))
    events = as_server_sent_events(result, dialect, engine.keep_alive_seconds)
    if named is not None:
        events = _renamed(events, *named)
    stream = await open_stream(_within(context, events), dialect, fingerprint, context)
    return StreamingResponse(stream, media_type="text/event-stream", headers=receipt_headers(context))


async def _renamed(events: AsyncIterator[str], served: str, asked: str) -> AsyncIterator[str]:
    """Iterate with the model's name as the client gave it, with its profile; clients compare the two."""
    old, new = (f'"model":{json.dumps(name)}' for name in (served, asked))
    async for event in events:
        yield event.replace(old, new, 1)


async def _within(context: RequestContext, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Iterate in the request's context, because another task reads the stream and may render further prompts."""
    current_request.set(context)
    async for event in events:
        yield event


def receipt_headers(context: RequestContext) -> dict[str, str]:
    """Return the receipt as response headers; none without preferences."""
    return context.receipt.headers() if context.receipt is not None else {}


async def open_request(
    request: InferenceRequest | ShortRequest,
    raw_request: Request,
    *,
    generates: bool = True,
    user_ref: str | None = None,
) -> RequestContext:
    """Check the request, set its context for the renderer, and wait for a place in the engine.

    Args:
        request: The parsed body; a profile is removed from its model name.
        raw_request: The HTTP request.
        generates: Whether the engine will generate for it.
        user_ref: Whose it is if it names no user itself.

    Raises:
        metaalign.MetaAlignError: the request is refused.
    """
    service, engine = service_of(raw_request), engine_of(raw_request)
    rename_request(request)
    refuse_fields(request, engine.allowances)
    refuse_huge_numbers(request)
    refuse_heavy_constraints(request)
    model, separator, suffix = (request.model or "").partition("@")
    if separator and model in engine.model_names:
        request.model = model
    else:
        suffix = ""
    caller = caller_of(raw_request)
    user = user_of(request, caller.user.id if caller.user is not None else None)
    context = await service.open_request(
        request.preferences,
        caller,
        header=raw_request.headers.get("x-metaalign-profile"),
        suffix=suffix,
        user=user,
    )
    context.add_special_tokens = bool(getattr(request, "add_special_tokens", False))
    context.beams = bool(getattr(request, "use_beam_search", False))
    context.logprobs_asked = asks_for_logprobs(request)
    context.constraint = constraint_of(request)
    context.length_given = length_given(request)
    if context.stored.confidential and not context.caller.may_read_profiles:
        refuse_prompt_disclosure(request)
        if context.verify is True:
            raise Refusal(
                "missing_scope",
                "preferences.verify: true would show what the provider's stored preferences ask for; name checks, or"
                " use a key with the scope `profiles:read`",
                param="preferences.verify",
            )
    if may_be_kept(request):
        service.record(context, user, user_ref)
    if context.aligned:
        refuse_truncation(request)
    current_request.set(context)
    raw_request.state.metaalign_context = context
    if generates and service.platform is not None:
        context.places = Places(service.queue, context.caller.tenant.id)
        await context.places.enter()
    return context


def engine_of(raw_request: Request) -> VllmEngine:
    """Return the vLLM engine behind the service."""
    engine = service_of(raw_request).engine
    if not isinstance(engine, VllmEngine):
        raise AssertionError("inference routes are served with vLLM's handlers")
    return engine
