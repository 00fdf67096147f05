"""The inference routes: preferences in, vLLM's own handlers, receipt out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from metaalign import InvalidPrompt
from metaalign_server.alignment import RequestScope, current_scope, request_preferences
from metaalign_server.auth import OPEN_CALLER
from metaalign_server.engine.cancellation import with_cancellation
from metaalign_server.engine.protocol import (
    ChatRequest,
    CompletionsRequest,
    CountTokensRequest,
    InferenceRequest,
    MessagesRequest,
    PreferencesInput,
    ResponsesApiRequest,
    refuse_fields,
)
from metaalign_server.engine.rendering import render_conversation
from metaalign_server.engine.service import EngineError
from metaalign_server.engine.streams import as_server_sent_events, is_error, sse_interval
from metaalign_server.errors import error_response
from metaalign_server.routes.common import JSON_BODY, service_of
from metaalign_server.streaming import (
    ANTHROPIC_STREAM,
    OPENAI_STREAM,
    RESPONSES_STREAM,
    EarlyFailure,
    Splice,
    open_stream,
)

router = APIRouter()


def _open_scope(
    request: InferenceRequest | AlignRequest | RenderRequest, raw_request: Request
) -> RequestScope:
    """Check the request, and make what the renderer needs to know known to it."""
    service = service_of(raw_request)
    settings = service.settings
    refuse_fields(request, allowed=frozenset(settings.allow_fields), max_choices=settings.max_choices)
    model, separator, profile = (request.model or "").partition("@")
    caller = getattr(raw_request.state, "caller", OPEN_CALLER)  # none under `vllm serve`
    scope = RequestScope(
        preferences=request_preferences(
            request.preferences,
            caller=caller,
            header_profile=raw_request.headers.get("x-metaalign-profile"),
            model_profile=profile if separator and model in service.model_names else None,
        ),
        caller=caller,
        add_special_tokens=bool(getattr(request, "add_special_tokens", False)),
    )
    current_scope.set(scope)
    raw_request.state.metaalign_scope = scope
    return scope


def _engine_error(path: str, error: EngineError) -> JSONResponse:
    return error_response(
        path, error.status, error.message, code=error.status, param=error.param, type_=error.type
    )


def _headers(scope: RequestScope) -> dict[str, str]:
    return scope.receipt.receipt.headers() if scope.receipt is not None else {}


async def _within(scope: RequestScope, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Iterate in the request's scope: a stream is read by another task, and may render further prompts."""
    current_scope.set(scope)
    async for event in events:
        yield event


async def _answer(
    raw_request: Request, scope: RequestScope, handler: Any, result: Any, splice: Splice
) -> Response:
    """Turn what a vLLM handler returned into a response that carries the receipt."""
    path = raw_request.url.path
    if is_error(result):
        return _engine_error(path, EngineError.of(result))
    applied = scope.receipt
    stock = handler.system_fingerprint
    fingerprint = (stock, applied.receipt.fingerprint(stock)) if applied is not None and stock else None
    if isinstance(result, BaseModel):
        if fingerprint is not None and splice is OPENAI_STREAM:
            result.system_fingerprint = fingerprint[1]  # type: ignore[attr-defined]
        exclude_none = splice is ANTHROPIC_STREAM  # as vLLM's own routes do
        body = result.model_dump_json(exclude_none=exclude_none, by_alias=True).encode()
        if applied is not None:
            body = body[:-1] + b',"metaalign":' + applied.receipt_json + b"}"
        return Response(body, media_type="application/json", headers=_headers(scope))
    events = (
        as_server_sent_events(result, sse_interval(raw_request.app.state))
        if splice is not ANTHROPIC_STREAM
        else result
    )
    try:
        stream = await open_stream(_within(scope, events), applied, splice, fingerprint)
    except EarlyFailure as failure:
        error = failure.error
        status = error.get("code")
        status = status if isinstance(status, int) and 400 <= status < 600 else 500
        return error_response(
            path,
            status,
            str(error.get("message", "generation failed")),
            code=status,
            param=error.get("param"),
            type_=error.get("type"),
        )
    return StreamingResponse(stream, media_type="text/event-stream", headers=_headers(scope))


@router.post("/v1/chat/completions", dependencies=JSON_BODY)
@with_cancellation
async def create_chat_completion(request: ChatRequest, raw_request: Request) -> Response:
    """OpenAI Chat Completions with `preferences`."""
    scope = _open_scope(request, raw_request)
    handler = service_of(raw_request).chat
    return await _answer(
        raw_request, scope, handler, await handler.create_chat_completion(request, raw_request), OPENAI_STREAM
    )


@router.post("/v1/completions", dependencies=JSON_BODY)
@with_cancellation
async def create_completion(request: CompletionsRequest, raw_request: Request) -> Response:
    """OpenAI Completions; with `preferences` the prompt is the User Query."""
    scope = _open_scope(request, raw_request)
    handler = service_of(raw_request).completions
    return await _answer(
        raw_request, scope, handler, await handler.create_completion(request, raw_request), OPENAI_STREAM
    )


@router.post("/v1/responses", dependencies=JSON_BODY)
@with_cancellation
async def create_response(request: ResponsesApiRequest, raw_request: Request) -> Response:
    """OpenAI Responses with `preferences`."""
    scope = _open_scope(request, raw_request)
    handler = service_of(raw_request).responses
    return await _answer(
        raw_request, scope, handler, await handler.create_responses(request, raw_request), RESPONSES_STREAM
    )


@router.post("/v1/messages", dependencies=JSON_BODY)
@with_cancellation
async def create_message(request: MessagesRequest, raw_request: Request) -> Response:
    """Anthropic Messages with `preferences`."""
    scope = _open_scope(request, raw_request)
    handler = service_of(raw_request).messages
    return await _answer(
        raw_request, scope, handler, await handler.create_messages(request, raw_request), ANTHROPIC_STREAM
    )


@router.post("/v1/messages/count_tokens", dependencies=JSON_BODY)
@with_cancellation
async def count_tokens(request: CountTokensRequest, raw_request: Request) -> Response:
    """Anthropic's token count of a request, its Meta-Prompt included."""
    scope = _open_scope(request, raw_request)
    handler = service_of(raw_request).messages
    return await _answer(
        raw_request, scope, handler, await handler.count_tokens(request, raw_request), ANTHROPIC_STREAM
    )


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AlignRequest(_Body):
    """The short form: one query, its preferences, a few sampling parameters."""

    query: Annotated[str, Field(min_length=1)]
    preferences: PreferencesInput = None
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class RenderRequest(_Body):
    """What `/v1/preferences/render` takes."""

    preferences: PreferencesInput = None
    messages: list[dict[str, Any]] = Field(default_factory=list)
    model: str | None = None


@router.post("/v1/align", dependencies=JSON_BODY)
@with_cancellation
async def align(request: AlignRequest, raw_request: Request) -> Response:
    """Answer one query under preferences: `{"text", "metaalign", "usage"}`."""
    scope = _open_scope(request, raw_request)
    handler = service_of(raw_request).chat
    sampling = request.model_dump(exclude={"query", "preferences", "max_tokens"}, exclude_none=True)
    chat = ChatRequest(
        messages=[{"role": "user", "content": request.query}],
        max_completion_tokens=request.max_tokens,
        **sampling,
    )
    result = await handler.create_chat_completion(chat, raw_request)
    if is_error(result):
        return _engine_error(raw_request.url.path, EngineError.of(result))
    applied = scope.receipt
    choice = result.choices[0]
    body = {
        "id": result.id,
        "model": result.model,
        "text": choice.message.content or "",
        "finish_reason": choice.finish_reason,
        "metaalign": applied.receipt.model_dump() if applied is not None else None,
        "usage": result.usage.model_dump(exclude_none=True),
    }
    return JSONResponse(body, headers=_headers(scope))


@router.post("/v1/preferences/render", dependencies=JSON_BODY)
async def render_preferences(request: RenderRequest, raw_request: Request) -> Response:
    """Dry run: the tiers, the prompt and its ids, without generation."""
    scope = _open_scope(request, raw_request)
    aligner = service_of(raw_request).aligner
    for number, message in enumerate(request.messages):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), (str, list)):
            raise InvalidPrompt(
                f"messages[{number}]: needs a `role` and a text `content`", param=f"messages[{number}]"
            )
    if scope.preferences is None:
        scope.preferences = request_preferences(
            {}, caller=scope.caller, header_profile=None, model_profile=None
        )
    opens_answer = bool(request.messages) and request.messages[-1]["role"] != "assistant"
    prompt = render_conversation(aligner, scope, request.messages, add_generation_prompt=opens_answer)
    applied = scope.applied
    if applied is None:
        raise AssertionError("rendering with preferences always applies a spec")
    body = {
        "system_info": applied.meta_prompt.system_info,
        "user_info": applied.meta_prompt.user_info,
        "prompt": prompt.text,
        "prompt_token_ids": list(prompt.token_ids),
        "tokens": len(prompt.token_ids),
        "metaalign": applied.receipt.model_dump(),
    }
    return JSONResponse(body, headers=_headers(scope))


@router.get("/v1/models")
async def list_models(raw_request: Request) -> Response:
    """The served models."""
    models = await service_of(raw_request).models.show_available_models()
    return JSONResponse(models.model_dump())
