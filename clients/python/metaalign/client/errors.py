"""What a server answers instead of an answer: a class for each code, below a class for each status.

Written by `scripts/client_errors.py` from the table in `metaalign.errors`; do not edit.
"""

from __future__ import annotations

from metaalign import errors
from metaalign.client.failures import APIError

__all__ = [
    "BY_CODE",
    "BY_STATUS",
    "AuthenticationError",
    "BadRequestError",
    "BodyTooLarge",
    "BudgetExhausted",
    "ConcurrencyLimitExceeded",
    "ConflictError",
    "ConflictingProfiles",
    "CrossSite",
    "DefaultTenant",
    "EngineFailed",
    "ErasureIncomplete",
    "ExchangeNotFound",
    "FeedbackDisabled",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidApiKey",
    "InvalidDocument",
    "InvalidExpiry",
    "InvalidIdempotencyKey",
    "InvalidLabel",
    "InvalidName",
    "InvalidPreferences",
    "InvalidPrompt",
    "InvalidRequest",
    "InvalidTargets",
    "KeyNotFound",
    "KeyNotLive",
    "LabelNotFound",
    "LabelProtected",
    "MethodNotAllowed",
    "MethodNotAllowedError",
    "MissingScope",
    "ModelNotFound",
    "NestedTooDeeply",
    "NotFoundError",
    "NotSupported",
    "NothingToRollBack",
    "Overloaded",
    "PermissionDeniedError",
    "PreconditionFailed",
    "PreconditionFailedError",
    "ProfileArchived",
    "ProfileExists",
    "ProfileNotFound",
    "ProfileShared",
    "RateLimitError",
    "RateLimitExceeded",
    "RefusedField",
    "RequestTooLargeError",
    "ResponseNotFound",
    "RouteNotFound",
    "ServerError",
    "StoreFull",
    "StoreUnavailable",
    "SystemTierForbidden",
    "TenantExists",
    "TenantNotFound",
    "TooManyKeys",
    "TooManyLabels",
    "Unavailable",
    "UnknownScope",
    "UnprocessableContent",
    "UnprocessableEntityError",
    "UserMismatch",
    "ValueNotStorable",
    "VersionConflict",
    "VersionGap",
    "VersionNotFound",
]


class BadRequestError(APIError):
    """The request is wrong as it stands."""


class AuthenticationError(APIError):
    """No key was sent, or one that the server does not take."""


class PermissionDeniedError(APIError):
    """The key may not do this."""


class NotFoundError(APIError):
    """There is no such thing, or not for this key."""


class MethodNotAllowedError(APIError):
    """The path does not take this method."""


class ConflictError(APIError):
    """It does not fit what is there already."""


class PreconditionFailedError(APIError):
    """What was to be changed has changed since it was read."""


class RequestTooLargeError(APIError):
    """The body is too large."""


class UnprocessableEntityError(APIError):
    """The request contradicts an earlier one."""


class RateLimitError(APIError):
    """Too much was asked for in too short a time."""


class ServerError(APIError):
    """The server failed, or cannot answer now."""


class InvalidRequest(BadRequestError):
    """The body is no JSON, or the protocol or the engine does not take a field or a value. Correct what the message
    says.
    """

    code = "invalid_request"


class InvalidPreferences(BadRequestError, errors.InvalidPreferences):
    """`preferences` has an unknown key, a wrong type, or a value over its bound. Correct the part that `param` names;
    the JSON Schema lists keys and bounds.
    """

    code = "invalid_preferences"


class InvalidPrompt(BadRequestError, errors.InvalidPrompt):
    """The conversation cannot become a prompt of the served checkpoint. Send roles and texts that its chat template
    takes.
    """

    code = "invalid_prompt"


class RefusedField(BadRequestError, errors.RefusedField):
    """A field that reaches past the preferences, or a value that costs the engine too much. Remove the field or ask
    for less; the operator can allow some fields.
    """

    code = "refused_field"


class ConflictingProfiles(BadRequestError, errors.ConflictingProfiles):
    """Body, header and model suffix name different profiles. Name the profile in one place."""

    code = "conflicting_profiles"


class SystemTierForbidden(PermissionDeniedError, errors.SystemTierForbidden):
    """The key lacks the scope `system` and the request writes the System tier. Move the text to `preferences.user`,
    or use a key with the scope `system`.
    """

    code = "system_tier_forbidden"


class ProfileNotFound(NotFoundError, errors.ProfileNotFound):
    """The tenant has no profile, version or label of that name, or it is archived. Check the name with `GET
    /v1/profiles`.
    """

    code = "profile_not_found"


class ModelNotFound(NotFoundError):
    """The request names no served model. Use a name that `GET /v1/models` lists."""

    code = "model_not_found"


class UnprocessableContent(UnprocessableEntityError):
    """The engine cannot read what the request points to, such as an image. Check that the address is right and the
    server may read it.
    """

    code = "unprocessable_content"


class NotSupported(ServerError):
    """The engine cannot do with the served model what the request asks for. Leave out what the message names."""

    code = "not_supported"


class EngineFailed(ServerError):
    """The engine failed on the request or in its answer, or the model called a tool with what is no JSON. Send the
    request again; if it fails again, report it with the request id.
    """

    code = "engine_failed"


class InvalidApiKey(AuthenticationError):
    """No key was sent, or the key is unknown, revoked or expired. Send `Authorization: Bearer KEY` or `x-api-key:
    KEY`.
    """

    code = "invalid_api_key"


class MissingScope(PermissionDeniedError):
    """The key lacks the scope that the message names. Use a key with that scope."""

    code = "missing_scope"


class UserMismatch(PermissionDeniedError):
    """A request with a user token names another user. Leave the field out, or send the token of that user."""

    code = "user_mismatch"


class CrossSite(PermissionDeniedError):
    """A web page of another origin asks a server that has no keys. Create a key, or call the server from its own
    origin.
    """

    code = "cross_site"


class RouteNotFound(NotFoundError):
    """There is no such path. See `/docs` for the routes."""

    code = "route_not_found"


class MethodNotAllowed(MethodNotAllowedError):
    """The path does not take this method. Use a method that the `Allow` header lists."""

    code = "method_not_allowed"


class NestedTooDeeply(BadRequestError):
    """The JSON of the body is nested too deeply. Send a flatter body."""

    code = "nested_too_deeply"


class BodyTooLarge(RequestTooLargeError):
    """The body is larger than METAALIGN_MAX_BODY_BYTES. Send less."""

    code = "body_too_large"


class RateLimitExceeded(RateLimitError):
    """The key or its tenant has used its requests or tokens per minute. Wait for `Retry-After` seconds."""

    code = "rate_limit_exceeded"


class BudgetExhausted(RateLimitError):
    """The key or its tenant has used its tokens per day. Wait for `Retry-After` seconds, or ask the operator for a
    larger budget.
    """

    code = "budget_exhausted"


class ConcurrencyLimitExceeded(RateLimitError):
    """The key or its tenant has as many requests running as it may. Wait until one of them has finished."""

    code = "concurrency_limit_exceeded"


class InternalError(ServerError):
    """A defect of the server. Report it with the request id; the server's log names the place under this id."""

    code = "internal_error"


class Unavailable(ServerError):
    """The server drains, stops before the answer is complete, or its engine does not answer. Try another server, or
    again after `Retry-After` seconds.
    """

    code = "unavailable"


class Overloaded(ServerError):
    """Too many requests wait for the engine. Try again after `Retry-After` seconds."""

    code = "overloaded"


class StoreUnavailable(ServerError):
    """The database does not answer in time. Try again after `Retry-After` seconds; requests that were seen lately
    still work.
    """

    code = "store_unavailable"


class ErasureIncomplete(ServerError):
    """What was to go is deleted, but another program holds SQLite's files, where copies of it remain. End that
    program; the server goes on trying. Send the erasure again to have it confirmed.
    """

    code = "erasure_incomplete"


class StoreFull(ServerError):
    """The database has no room left. Make room, or raise its limit."""

    code = "store_full"


class ValueNotStorable(BadRequestError):
    """A text or number that the database cannot hold, such as a NUL character. Remove it."""

    code = "value_not_storable"


class InvalidName(BadRequestError):
    """A name of a profile, tenant or label has a wrong form. Use the form that the message shows."""

    code = "invalid_name"


class InvalidTargets(BadRequestError):
    """A label's versions or weights are out of bounds or repeated. Name different versions with weights from 1 to
    100.
    """

    code = "invalid_targets"


class InvalidLabel(BadRequestError):
    """A label is given both or neither of `version` and `versions`, or a version twice. Give one of the two, each
    version once.
    """

    code = "invalid_label"


class InvalidDocument(BadRequestError):
    """An import cannot be read as JSON or YAML, or is no profile export. Send what `/v1/profiles:export` gave."""

    code = "invalid_document"


class VersionGap(BadRequestError):
    """An imported version's number is not the next one of its profile. Import the versions before it first."""

    code = "version_gap"


class UnknownScope(BadRequestError):
    """A key is to have no scope, or one that does not exist. Use the scopes that the message lists."""

    code = "unknown_scope"


class InvalidExpiry(BadRequestError):
    """A key is to expire in the past. Give a time in the future."""

    code = "invalid_expiry"


class InvalidIdempotencyKey(BadRequestError):
    """The header has a wrong form. Use 1 to 255 visible ASCII characters."""

    code = "invalid_idempotency_key"


class LabelProtected(PermissionDeniedError):
    """The label is protected and the key lacks the scope `admin`. Use a key with the scope `admin`."""

    code = "label_protected"


class ProfileShared(PermissionDeniedError):
    """The profile is shared between tenants, or is to be, and the key lacks the scope `admin`. Use a key with the
    scope `admin`.
    """

    code = "profile_shared"


class VersionNotFound(NotFoundError):
    """The profile has no such version. List its versions."""

    code = "version_not_found"


class LabelNotFound(NotFoundError):
    """The profile has no such label. Read the profile's labels."""

    code = "label_not_found"


class TenantNotFound(NotFoundError):
    """There is no such tenant. List the tenants."""

    code = "tenant_not_found"


class KeyNotFound(NotFoundError):
    """There is no such key. List the keys."""

    code = "key_not_found"


class ExchangeNotFound(NotFoundError):
    """No answer of that id is kept for this tenant. Give feedback within the retention time, with the id of the
    answer.
    """

    code = "exchange_not_found"


class ResponseNotFound(NotFoundError):
    """No response of that id is stored for this caller, or one before it was deleted. Send the dialogue in `input`;
    an operator can set METAALIGN_STORE_RESPONSES=true.
    """

    code = "response_not_found"


class ProfileExists(ConflictError):
    """The name is taken. Add a version to the profile instead."""

    code = "profile_exists"


class ProfileArchived(ConflictError):
    """The profile is archived. Restore it first."""

    code = "profile_archived"


class VersionConflict(ConflictError):
    """An imported version exists with other preferences. Give it a new number; versions never change."""

    code = "version_conflict"


class TooManyLabels(ConflictError):
    """The profile has as many labels as it may. Remove one."""

    code = "too_many_labels"


class NothingToRollBack(ConflictError):
    """The label was never moved. Move it to a version."""

    code = "nothing_to_roll_back"


class TenantExists(ConflictError):
    """The name is taken. Update the tenant instead."""

    code = "tenant_exists"


class DefaultTenant(ConflictError):
    """The default tenant cannot be disabled. Revoke its keys."""

    code = "default_tenant"


class TooManyKeys(ConflictError):
    """The tenant has as many live keys as it may. Revoke one."""

    code = "too_many_keys"


class KeyNotLive(ConflictError):
    """The key is revoked or expired. Create a new one."""

    code = "key_not_live"


class FeedbackDisabled(ConflictError):
    """The server keeps no exchanges. An operator can set METAALIGN_FEEDBACK=true."""

    code = "feedback_disabled"


class PreconditionFailed(PreconditionFailedError):
    """The profile or tenant has changed since it was read. Read it again."""

    code = "precondition_failed"


class IdempotencyKeyReused(UnprocessableEntityError):
    """The key was used for another request. Use a new key."""

    code = "idempotency_key_reused"


BY_CODE: dict[str, type[APIError]] = {
    "invalid_request": InvalidRequest,
    "invalid_preferences": InvalidPreferences,
    "invalid_prompt": InvalidPrompt,
    "refused_field": RefusedField,
    "conflicting_profiles": ConflictingProfiles,
    "system_tier_forbidden": SystemTierForbidden,
    "profile_not_found": ProfileNotFound,
    "model_not_found": ModelNotFound,
    "unprocessable_content": UnprocessableContent,
    "not_supported": NotSupported,
    "engine_failed": EngineFailed,
    "invalid_api_key": InvalidApiKey,
    "missing_scope": MissingScope,
    "user_mismatch": UserMismatch,
    "cross_site": CrossSite,
    "route_not_found": RouteNotFound,
    "method_not_allowed": MethodNotAllowed,
    "nested_too_deeply": NestedTooDeeply,
    "body_too_large": BodyTooLarge,
    "rate_limit_exceeded": RateLimitExceeded,
    "budget_exhausted": BudgetExhausted,
    "concurrency_limit_exceeded": ConcurrencyLimitExceeded,
    "internal_error": InternalError,
    "unavailable": Unavailable,
    "overloaded": Overloaded,
    "store_unavailable": StoreUnavailable,
    "erasure_incomplete": ErasureIncomplete,
    "store_full": StoreFull,
    "value_not_storable": ValueNotStorable,
    "invalid_name": InvalidName,
    "invalid_targets": InvalidTargets,
    "invalid_label": InvalidLabel,
    "invalid_document": InvalidDocument,
    "version_gap": VersionGap,
    "unknown_scope": UnknownScope,
    "invalid_expiry": InvalidExpiry,
    "invalid_idempotency_key": InvalidIdempotencyKey,
    "label_protected": LabelProtected,
    "profile_shared": ProfileShared,
    "version_not_found": VersionNotFound,
    "label_not_found": LabelNotFound,
    "tenant_not_found": TenantNotFound,
    "key_not_found": KeyNotFound,
    "exchange_not_found": ExchangeNotFound,
    "response_not_found": ResponseNotFound,
    "profile_exists": ProfileExists,
    "profile_archived": ProfileArchived,
    "version_conflict": VersionConflict,
    "too_many_labels": TooManyLabels,
    "nothing_to_roll_back": NothingToRollBack,
    "tenant_exists": TenantExists,
    "default_tenant": DefaultTenant,
    "too_many_keys": TooManyKeys,
    "key_not_live": KeyNotLive,
    "feedback_disabled": FeedbackDisabled,
    "precondition_failed": PreconditionFailed,
    "idempotency_key_reused": IdempotencyKeyReused,
}
BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: ServerError,
}
