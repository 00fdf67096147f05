"""`/v1/align`: one query, one answer. `/v1/preferences/render`: the prompt that the model would get."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from metaalign import InvalidPrompt, Preferences
from metaalign_server.alignment.aligner import AppliedSpec
from metaalign_server.alignment.context import RequestContext
from metaalign_server.alignment.verification import verify
from metaalign_server.engine.cancellation import with_cancellation
from metaalign_server.engine.rendering import render_responsively
from metaalign_server.engine.requests import ChatRequest
from metaalign_server.platform.refusal import Refusal
from metaalign_server.routes.common import JSON_BODY, service_of
from metaalign_server.routes.inference import engine_of, open_request, receipt_headers
from metaalign_server.routes.short_models import AlignAnswer, AlignRequest, RenderAnswer, RenderRequest

router = APIRouter(tags=["inference"])


@router.post("/v1/align", dependencies=JSON_BODY, response_model=AlignAnswer)
@with_cancellation
async def align(request: AlignRequest, raw_request: Request) -> Response:
    """Answer one query under preferences: `{"text", "metaalign", "usage"}`."""
    context = await open_request(request, raw_request)
    sampling = request.model_dump(exclude={"query", "preferences", "max_tokens"}, exclude_none=True)
    chat = ChatRequest(
        messages=[{"role": "user", "content": request.query}],
        max_completion_tokens=request.max_tokens,
        **sampling,
    )
    result = await engine_of(raw_request).chat(chat, raw_request)
    choice = result.choices[0]
    await verify(context, [choice.message.content or ""])
    receipt = context.receipt
    body = {
        "id": result.id,
        "model": result.model,
        "text": choice.message.content or "",
        "finish_reason": choice.finish_reason,
        "metaalign": receipt.model_dump() if receipt is not None else None,
        "usage": result.usage.model_dump(exclude_none=True),
    }
    return JSONResponse(body, headers=receipt_headers(context))


def _is_text(content: object) -> bool:
    """Return whether the content of a message is text or a list of text parts."""
    return isinstance(content, str) or (
        isinstance(content, list)
        and all(
            isinstance(part.get("text", ""), str) if isinstance(part, dict) else isinstance(part, str)
            for part in content
        )
    )


@router.post("/v1/preferences/render", dependencies=JSON_BODY, response_model=RenderAnswer)
async def render_preferences(request: RenderRequest, raw_request: Request) -> Response:
    """Dry run: return the tiers, the prompt and its token ids, without generating."""
    context = await open_request(request, raw_request, generates=False)
    if context.stored.confidential and not context.caller.may_read_profiles:
        raise Refusal(
            "missing_scope", "rendering stored preferences takes a key with the scope `profiles:read`"
        )
    aligner = service_of(raw_request).aligner
    for number, message in enumerate(request.messages):
        if not isinstance(message.get("role"), str) or not _is_text(message.get("content")):
            raise InvalidPrompt(
                f"messages[{number}]: needs a `role` and a text `content`", param=f"messages[{number}]"
            )
    if context.preferences is None:
        context.preferences = Preferences()
    opens_answer = bool(request.messages) and request.messages[-1]["role"] != "assistant"
    prompt = await render_responsively(aligner, context, request.messages, add_generation_prompt=opens_answer)
    applied = context.applied
    if applied is None:
        raise AssertionError("rendering with preferences always applies a spec")
    body = {
        "system_info": applied.meta_prompt.system_info,
        "user_info": applied.meta_prompt.user_info,
        "prompt": prompt.text,
        "prompt_token_ids": list(prompt.token_ids),
        "tokens": len(prompt.token_ids),
        "branches": _branches(applied, prompt.token_ids, context),
        "metaalign": applied.receipt.model_dump(),
    }
    return JSONResponse(body, headers=receipt_headers(context))


def _branches(
    applied: AppliedSpec, token_ids: tuple[int, ...], context: RequestContext
) -> list[dict[str, object]]:
    if not applied.followers:
        return []
    ids = [token_ids, *(ids for ids, _ in context.steered[token_ids].followers)]
    return [
        {
            "coefficient": branch.coefficient,
            "system_info": branch.meta_prompt.system_info,
            "user_info": branch.meta_prompt.user_info,
            "prompt_token_ids": list(its_ids),
        }
        for branch, its_ids in zip(applied.branches, ids, strict=True)
    ]
