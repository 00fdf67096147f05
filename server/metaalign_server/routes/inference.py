"""The inference routes: preferences in, vLLM's own handlers, receipt out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from metaalign import InvalidPrompt, Preferences, ProfileNotFound, Receipt
from metaalign_server.alignment import profile_references, request_preferences
from metaalign_server.engine.cancellation import with_cancellation
from metaalign_server.engine.constraints import refuse_heavy_constraints, refuse_huge_numbers
from metaalign_server.engine.protocol import (
    INT64,
    ChatAnswer,
    ChatRequest,
    CompletionsAnswer,
    CompletionsRequest,
    CountTokensAnswer,
    CountTokensRequest,
    InferenceRequest,
    MessagesAnswer,
    MessagesRequest,
    ModelList,
    PreferencesInput,
    ResponsesApiAnswer,
    ResponsesApiRequest,
    exchange_id,
    may_be_kept,
    refuse_fields,
    refuse_prompt_disclosure,
    refuse_truncation,
    rename_request,
    sequences_of,
    user_of,
)
from metaalign_server.engine.rendering import render_responsively
from metaalign_server.engine.service import EngineError
from metaalign_server.engine.streams import as_server_sent_events, is_error, sse_interval
from metaalign_server.errors import error_response
from metaalign_server.platform.errors import Refusal
from metaalign_server.platform.exchanges import Exchange
from metaalign_server.platform.startup import Platform
from metaalign_server.platform.stored import stored_layers
from metaalign_server.routes.common import JSON_BODY, Body, caller_of, service_of
from metaalign_server.scope import Recording, RequestScope, current_scope
from metaalign_server.streaming import (
    ANTHROPIC_STREAM,
    OPENAI_STREAM,
    RESPONSES_STREAM,
    EarlyFailure,
    Splice,
    open_stream,
)

router = APIRouter(tags=["inference"])

_EVENT = {
    "description": "One of the events; `data` is JSON, or `[DONE]` at the end of OpenAI's streams.",
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
STREAMING: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream`, its events as they come.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


async def _open_scope(
    request: InferenceRequest | AlignRequest | RenderRequest, raw_request: Request, *, generates: bool = True
) -> RequestScope:
    """Check the request, make what the renderer needs to know known to it, and wait for a place in the engine.

    Args:
        request: The parsed body; a profile in its model name is taken off.
        raw_request: The HTTP request.
        generates: Whether the engine will work on it.
    """
    service = service_of(raw_request)
    settings = service.settings
    rename_request(request)
    refuse_fields(request, allowed=frozenset(settings.allow_fields), max_choices=settings.max_choices)
    refuse_huge_numbers(request)
    refuse_heavy_constraints(request)
    model, separator, profile = (request.model or "").partition("@")
    if not separator or model not in service.model_names:
        profile = ""
    else:
        request.model = model
    caller = caller_of(raw_request)
    preferences = request_preferences(request.preferences, caller)
    references, door = profile_references(
        preferences, raw_request.headers.get("x-metaalign-profile"), profile
    )
    scope = RequestScope(
        preferences=preferences,
        caller=caller,
        add_special_tokens=bool(getattr(request, "add_special_tokens", False)),
    )
    if service.platform is not None:
        await _use_platform(service.platform, scope, request, references, door)
    elif references:
        raise ProfileNotFound(f"{door}: there are no profiles under `vllm serve`", param=door)
    if scope.aligned:
        refuse_truncation(request)
    current_scope.set(scope)
    raw_request.state.metaalign_scope = scope
    if generates and service.platform is not None:
        raw_request.state.ticket = await service.queue.enter(caller.tenant.id, sequences_of(request))
    return scope


async def _use_platform(
    platform: Platform,
    scope: RequestScope,
    request: InferenceRequest | AlignRequest | RenderRequest,
    references: tuple[str, ...],
    door: str,
) -> None:
    """Add what the store knows: policy, profiles, learned examples, the tenant's cache salt, what is to be kept."""
    tenant, user = scope.caller.tenant, user_of(request)
    scope.stored, profiles = await stored_layers(platform, scope.caller, references, door, user)
    if scope.stored.confidential and not scope.caller.may_read_profiles:
        if isinstance(request, RenderRequest):
            raise Refusal(
                403,
                "missing_scope",
                "rendering stored preferences takes a key with the scope `profiles:read`",
            )
        refuse_prompt_disclosure(request)
    if not tenant.share_cache:
        scope.cache_salt = platform.secret.cache_salt(tenant.id)
    if platform.settings.feedback and may_be_kept(request):
        user_ref = platform.secret.user(tenant.id, user) if user is not None else None
        learning = [profile for profile in profiles if profile.learn_examples] or list(profiles)

        def keep(engine_id: str, recording: Recording) -> None:
            platform.recorder.add(
                Exchange(
                    id=exchange_id(engine_id),
                    tenant_id=tenant.id,
                    user_ref=user_ref,
                    profile_id=learning[-1].profile_id if learning else None,
                    profiles=scope.stored.profiles,
                    messages=recording.messages,
                    answer=recording.answer,
                )
            )

        scope.recording = Recording(keep)


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


@router.post("/v1/chat/completions", dependencies=JSON_BODY, response_model=ChatAnswer, responses=STREAMING)
@with_cancellation
async def create_chat_completion(request: ChatRequest, raw_request: Request) -> Response:
    """OpenAI Chat Completions with `preferences`."""
    scope = await _open_scope(request, raw_request)
    handler = service_of(raw_request).chat
    return await _answer(
        raw_request, scope, handler, await handler.create_chat_completion(request, raw_request), OPENAI_STREAM
    )


@router.post("/v1/completions", dependencies=JSON_BODY, response_model=CompletionsAnswer, responses=STREAMING)
@with_cancellation
async def create_completion(request: CompletionsRequest, raw_request: Request) -> Response:
    """OpenAI Completions; with `preferences` the prompt is the User Query."""
    scope = await _open_scope(request, raw_request)
    handler = service_of(raw_request).completions
    return await _answer(
        raw_request, scope, handler, await handler.create_completion(request, raw_request), OPENAI_STREAM
    )


@router.post("/v1/responses", dependencies=JSON_BODY, response_model=ResponsesApiAnswer, responses=STREAMING)
@with_cancellation
async def create_response(request: ResponsesApiRequest, raw_request: Request) -> Response:
    """OpenAI Responses with `preferences`."""
    scope = await _open_scope(request, raw_request)
    handler = service_of(raw_request).responses
    return await _answer(
        raw_request, scope, handler, await handler.create_responses(request, raw_request), RESPONSES_STREAM
    )


@router.post("/v1/messages", dependencies=JSON_BODY, response_model=MessagesAnswer, responses=STREAMING)
@with_cancellation
async def create_message(request: MessagesRequest, raw_request: Request) -> Response:
    """Anthropic Messages with `preferences`."""
    scope = await _open_scope(request, raw_request)
    handler = service_of(raw_request).messages
    return await _answer(
        raw_request, scope, handler, await handler.create_messages(request, raw_request), ANTHROPIC_STREAM
    )


@router.post("/v1/messages/count_tokens", dependencies=JSON_BODY, response_model=CountTokensAnswer)
@with_cancellation
async def count_tokens(request: CountTokensRequest, raw_request: Request) -> Response:
    """Anthropic's token count of a request, its Meta-Prompt included."""
    scope = await _open_scope(request, raw_request, generates=False)
    handler = service_of(raw_request).messages
    return await _answer(
        raw_request, scope, handler, await handler.count_tokens(request, raw_request), ANTHROPIC_STREAM
    )


StopText = Annotated[str, Field(min_length=1)]


class AlignRequest(Body):
    """The short form: one query, its preferences, a few sampling parameters."""

    query: Annotated[str, Field(min_length=1)]
    preferences: PreferencesInput = None
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1, json_schema_extra=INT64)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    user: str | None = None
    store: bool | None = None


class AlignAnswer(BaseModel):
    """What `/v1/align` answers; `metaalign` is null without preferences."""

    id: str
    model: str
    text: str
    finish_reason: str | None
    metaalign: Receipt | None
    usage: dict[str, Any]


_PART_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"text": {"type": "string"}}}]}
_MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string"},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART_SCHEMA}]},
    },
}


class RenderRequest(Body):
    """What `/v1/preferences/render` takes."""

    preferences: PreferencesInput = None
    messages: list[dict[str, Any]] = Field(default_factory=list, json_schema_extra={"items": _MESSAGE_SCHEMA})
    model: str | None = None
    user: str | None = None


class RenderAnswer(BaseModel):
    """What `/v1/preferences/render` answers."""

    system_info: str
    user_info: str
    prompt: str
    prompt_token_ids: list[int]
    tokens: int
    metaalign: Receipt


@router.post("/v1/align", dependencies=JSON_BODY, response_model=AlignAnswer)
@with_cancellation
async def align(request: AlignRequest, raw_request: Request) -> Response:
    """Answer one query under preferences: `{"text", "metaalign", "usage"}`."""
    scope = await _open_scope(request, raw_request)
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


def _is_text(content: object) -> bool:
    """Whether the content of a message is text or a list of text parts."""
    return isinstance(content, str) or (
        isinstance(content, list)
        and all(
            isinstance(part.get("text", ""), str) if isinstance(part, dict) else isinstance(part, str)
            for part in content
        )
    )


@router.post("/v1/preferences/render", dependencies=JSON_BODY, response_model=RenderAnswer)
async def render_preferences(request: RenderRequest, raw_request: Request) -> Response:
    """Dry run: the tiers, the prompt and its ids, without generation."""
    scope = await _open_scope(request, raw_request, generates=False)
    aligner = service_of(raw_request).aligner
    for number, message in enumerate(request.messages):
        if not isinstance(message.get("role"), str) or not _is_text(message.get("content")):
            raise InvalidPrompt(
                f"messages[{number}]: needs a `role` and a text `content`", param=f"messages[{number}]"
            )
    if scope.preferences is None:
        scope.preferences = Preferences()
    opens_answer = bool(request.messages) and request.messages[-1]["role"] != "assistant"
    prompt = await render_responsively(aligner, scope, request.messages, add_generation_prompt=opens_answer)
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


@router.get("/v1/models", response_model=ModelList)
async def list_models(raw_request: Request) -> Response:
    """The served models."""
    models = await service_of(raw_request).models.show_available_models()
    return JSONResponse(models.model_dump())
