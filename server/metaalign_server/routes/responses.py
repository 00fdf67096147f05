"""`/v1/responses`: OpenAI's Responses with `preferences`, stored and continued by id if the operator enables it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal, NoReturn

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import Counter
from pydantic import BaseModel, ValidationError

from metaalign import MetaAlignError, RefusedField
from metaalign_server.alignment.context import RequestContext
from metaalign_server.callers import Caller
from metaalign_server.engine.cancellation import with_cancellation
from metaalign_server.engine.dialects import OPENAI_RESPONSES
from metaalign_server.engine.handlers import VllmEngine
from metaalign_server.engine.requests import ResponsesApiAnswer, ResponsesApiRequest, user_of
from metaalign_server.platform import responses
from metaalign_server.platform.refusal import Refusal
from metaalign_server.platform.responses import Dialogue, StoredResponse
from metaalign_server.platform.startup import Platform
from metaalign_server.routes.common import (
    JSON_BODY,
    caller_of,
    error_documents,
    needs,
    platform_of,
    service_of,
)
from metaalign_server.routes.inference import STREAMING, infer, receipt_headers

__all__ = ["router", "stored"]

logger = logging.getLogger(__name__)

router = APIRouter(tags=["inference"])
stored = APIRouter(prefix="/v1/responses/{response_id}", tags=["inference"])

NOT_STORED = Counter("metaalign_responses_dropped_total", "Responses that could not be stored.")

READING = error_documents(400, 401, 403, 404, 429, 503)
_PROMPTS = ("input_messages", "output_messages")
_SYSTEM_ROLES = ("system", "developer")
_LAST_EVENTS = tuple(start.encode() for start in OPENAI_RESPONSES.end)

Asking = Annotated[Caller, Depends(needs("inference"))]


class DeletedResponse(BaseModel):
    """A response that was deleted."""

    id: str
    object: str = "response"
    deleted: bool = True


class InputItems(BaseModel):
    """The items of a response's own request."""

    object: str = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool = False


@router.post("/v1/responses", dependencies=JSON_BODY, response_model=ResponsesApiAnswer, responses=STREAMING)
@with_cancellation
async def create_response(request: ResponsesApiRequest, raw_request: Request) -> Response:
    """OpenAI Responses with `preferences`.

    `previous_response_id` goes on with a stored response: its input and its output, and those before it, come first.
    Neither `instructions` nor `preferences` are taken over from it.
    """
    platform = service_of(raw_request).platform
    keeps = platform is not None and platform.settings.store_responses
    previous = request.previous_response_id
    if previous is not None and not keeps:
        raise RefusedField(
            "previous_response_id: this server stores no responses; send the dialogue so far in `input`",
            param="previous_response_id",
        )
    if platform is None or not keeps:
        return await infer(OPENAI_RESPONSES, VllmEngine.responses, request, raw_request)
    # Parsed again, because validators have put models into what was parsed before.
    body = json.loads(await raw_request.body(), parse_constant=_refuse_constant)
    own = _items(body["input"])
    caller = caller_of(raw_request)
    user = user_of(request, caller.user.id if caller.user is not None else None)
    user_ref = platform.secret.user(caller.tenant.id, user) if user is not None else None
    if previous is not None:
        earlier = await _earlier(platform, caller, previous)
        # What continues a user's dialogue is that user's, so that an erasure finds it.
        if user_ref is not None and earlier.user_ref not in (None, user_ref):
            raise Refusal(
                "user_mismatch",
                "previous_response_id: is another user's response",
                param="previous_response_id",
            )
        user_ref = user_ref or earlier.user_ref
        try:
            request = ResponsesApiRequest.model_validate(
                body | {"input": earlier.items + own, "previous_response_id": None}
            )
        except ValidationError as error:
            raise RequestValidationError(_of_own_items(error, len(earlier.items))) from error
    keep = request.store is not False
    answer = await infer(OPENAI_RESPONSES, VllmEngine.responses, request, raw_request, user_ref=user_ref)
    context: RequestContext = raw_request.state.metaalign_context
    tenant_id = caller.tenant.id

    async def store(document: dict[str, Any]) -> None:
        if keep:
            # The whole prompt, which readers with fewer scopes may not see.
            document |= {name: None for name in _PROMPTS if name in document}
            response = StoredResponse(document["id"], tenant_id, user_ref, previous, own, document)
            await _keep(platform, response)

    if isinstance(answer, StreamingResponse):
        answer.body_iterator = _stored_at_its_end(answer.body_iterator, previous, store)
        return answer
    text = _continuing(bytes(answer.body), previous)
    await store(json.loads(text))
    return Response(text, media_type="application/json", headers=receipt_headers(context))


@stored.get("", response_model=ResponsesApiAnswer, responses=READING)
async def get_response(
    response_id: str,
    request: Request,
    caller: Asking,
    stream: Annotated[bool, Query(description="must be false: a stored response is one document")] = False,
) -> Response:
    """Return a stored response as it was answered."""
    if stream:
        raise RefusedField("stream: a stored response comes as one document; leave it out", param="stream")
    response = await _find(request, caller, response_id)
    hidden = {} if caller.may_write_system else {"instructions": None}
    return JSONResponse(response.document | hidden)


@stored.get("/input_items", response_model=InputItems, responses=READING)
async def list_input_items(
    response_id: str,
    request: Request,
    caller: Asking,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(description="only items behind this one, by id")] = None,
) -> Response:
    """List the items of a stored response's own request; those of the System tier take a key that may write them."""
    response = await _find(request, caller, response_id)
    data = [
        item | {"id": f"item_{response_id.removeprefix('resp_')}_{number}"}
        for number, item in enumerate(response.input)
        if caller.may_write_system or item.get("role") not in _SYSTEM_ROLES
    ]
    if order == "desc":
        data.reverse()
    ids = [item["id"] for item in data]
    start = ids.index(after) + 1 if after in ids else 0
    page, ids = data[start : start + limit], ids[start : start + limit]
    answer = InputItems(
        data=page,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=start + limit < len(data),
    )
    return JSONResponse(answer.model_dump())


@stored.delete(
    "", response_model=DeletedResponse, responses=error_documents(400, 401, 403, 404, 429, 503, 507)
)
async def delete_response(response_id: str, request: Request, caller: Asking) -> Response:
    """Delete a stored response; what continued it can then not be continued. Its bytes go within minutes."""
    platform = platform_of(request)
    async with platform.database.write() as connection:
        await responses.delete(connection, caller.tenant.id, response_id, _user_ref(caller))
    platform.database.shred_later()  # rewriting the file holds up all writers
    return JSONResponse(DeletedResponse(id=response_id).model_dump())


def _user_ref(caller: Caller) -> str | None:
    """Whose responses the caller may see: a user token's only that user's, a key's all of its tenant."""
    return caller.user.ref if caller.user is not None else None


async def _find(request: Request, caller: Caller, response_id: str) -> StoredResponse:
    async with platform_of(request).database.read() as connection:
        return await responses.find(connection, caller.tenant.id, response_id, _user_ref(caller))


async def _earlier(platform: Platform, caller: Caller, previous: str) -> Dialogue:
    async with platform.database.read() as connection:
        return await responses.dialogue(
            connection,
            caller.tenant.id,
            previous,
            _user_ref(caller),
            max_bytes=platform.settings.max_body_bytes,
        )


def _refuse_constant(name: str) -> NoReturn:
    """JSON has no NaN and no infinity, and what is stored is to be read again."""
    raise RefusedField(f"input: {name} is no number of JSON", param="input")


def _of_own_items(error: ValidationError, earlier: int) -> list[Any]:
    """The errors of a whole dialogue, with the places of this request's own items."""

    def own(step: Any) -> Any:
        return step - earlier if isinstance(step, int) and step >= earlier else step

    return [found | {"loc": tuple(map(own, found["loc"]))} for found in error.errors()]


async def _keep(platform: Platform, response: StoredResponse) -> None:
    """Store a response before the client sees its end and may name it; an answer is not lost with the store."""
    try:
        async with platform.database.write() as connection:
            await responses.keep(connection, response)
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is there
        NOT_STORED.inc()
        cause = error.code if isinstance(error, MetaAlignError) else type(error).__name__
        logger.warning("a response is not stored", extra={"fields": {"cause": cause}})


def _items(given: Any) -> list[dict[str, Any]]:
    """Return `input` as items; a text is one message of the user."""
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        return [{"type": "message", "role": "user", "content": content}]
    return list(given)


def _continuing(text: bytes, previous: str | None) -> bytes:
    """Write into an answer which response it continues; the engine was not told.

    Inside a JSON string the quotes would be escaped, so that this only finds the field.
    """
    if previous is None:
        return text
    return text.replace(
        b'"previous_response_id":null', b'"previous_response_id":' + json.dumps(previous).encode(), 1
    )


async def _stored_at_its_end(
    events: AsyncIterable[Any], previous: str | None, store: Callable[[dict[str, Any]], Awaitable[None]]
) -> AsyncIterator[bytes]:
    async for event in events:
        text = _continuing(event, previous)
        if text.startswith(_LAST_EVENTS):
            data = json.loads(text[text.index(b"data: ") + 6 :])
            await store(data["response"])
        yield text
