"""`/v1/feedback`: feedback on answers, and erasure of everything stored about a user."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from metaalign_server.alignment.service import Service
from metaalign_server.callers import Caller
from metaalign_server.platform import audit, exchanges, retention
from metaalign_server.platform.exchanges import Opinion
from metaalign_server.platform.refusal import Refusal
from metaalign_server.routes.common import JSON_BODY, Body, error_documents, needs, platform_of, service_of

__all__ = ["ErasureModel", "erase", "router"]

router = APIRouter(prefix="/v1/feedback", tags=["feedback"])

ERRORS = error_documents(400, 401, 403, 404, 409, 413, 429, 503, 507)
Answer = Annotated[str, Field(min_length=1, max_length=32_000)]
UserId = Annotated[
    str, Field(min_length=1, max_length=512, description="the id that requests sent as `user`")
]


class FeedbackBody(Body):
    """A rating of an answer, or a better answer (`chosen`) and a worse one (`rejected`).

    If only one of the two is given, the answer itself is the other.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [given], "properties": {given: {"type": "string"}}}
                for given in ("rating", "chosen", "rejected")
            ]
        }
    )

    id: Annotated[str, Field(min_length=1, max_length=128, description="the id of the answer")]
    rating: Literal["up", "down"] | None = None
    chosen: Answer | None = None
    rejected: Answer | None = None

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackBody:
        if self.rating is None and self.chosen is None and self.rejected is None:
            raise ValueError("give `rating`, `chosen` or `rejected`")
        if self.chosen is not None and self.chosen == self.rejected:
            raise ValueError("`chosen` and `rejected` must differ")
        return self


class FeedbackModel(BaseModel):
    """Feedback that was stored."""

    id: str
    recorded: bool


class EraseBody(Body):
    user: UserId


class ErasureModel(BaseModel):
    """The number of deleted rows."""

    exchanges: int
    feedback: int
    responses: int


@router.post("", response_model=FeedbackModel, responses=ERRORS, dependencies=JSON_BODY)
async def give_feedback(
    body: FeedbackBody, request: Request, caller: Annotated[Caller, Depends(needs("inference"))]
) -> Response:
    """Give feedback on an answer; later feedback replaces earlier feedback."""
    platform = platform_of(request)
    if not platform.settings.feedback:
        raise Refusal(
            "feedback_disabled", "this server keeps no exchanges; an operator can set METAALIGN_FEEDBACK=true"
        )
    await platform.recorder.flush()  # the exchange may still be queued
    rating = None if body.rating is None else (exchanges.LIKED if body.rating == "up" else exchanges.DISLIKED)
    async with platform.database.write() as connection:
        await exchanges.give_feedback(
            connection,
            caller.tenant.id,
            body.id,
            Opinion(rating, body.chosen, body.rejected),
            user_ref=caller.user.ref if caller.user is not None else None,
        )
    platform.learned.forget()
    answer = FeedbackModel(id=body.id, recorded=True)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/erase",
    response_model=ErasureModel,
    responses=error_documents(400, 401, 403, 413, 429, 503, 507),
    dependencies=JSON_BODY,
)
async def erase_user(
    body: EraseBody, request: Request, caller: Annotated[Caller, Depends(needs("profiles:write"))]
) -> Response:
    """Delete everything stored about a user of the caller's tenant; return what was deleted."""
    erased = await erase(service_of(request), caller, caller.tenant.id, body.user)
    return Response(erased.model_dump_json(), media_type="application/json")


async def erase(service: Service, caller: Caller, tenant_id: str, user: str) -> ErasureModel:
    """Delete a user's exchanges and feedback, stored and queued, and clear what was rendered from them."""
    platform = service.platform
    if platform is None:
        raise AssertionError("routes of the platform are served with a platform")
    user_ref = platform.secret.user(tenant_id, user)
    async with platform.recorder.resting():
        waiting = platform.recorder.forget_user(tenant_id, user_ref)
        async with platform.database.write() as connection:
            removed = await retention.erase_user(connection, tenant_id, user_ref)
            await audit.record(
                connection, caller, "user.erase", user_ref[:16], tenant_id=tenant_id, before=removed
            )
    service.forget()
    await platform.database.shred()
    return ErasureModel(**removed | {"exchanges": removed["exchanges"] + waiting})
