// Written by `make generated` from clients/python/metaalign/errors.py.

import { APIError } from "./errors.js";

/** One kind of error: its HTTP status, what `param` names (empty if it is null), when it occurs and what to do. */
export interface ErrorKind {
  readonly status: number;
  readonly param: string;
  readonly when: string;
  readonly remedy: string;
}

/** Code -> meaning, for every code that the server answers with. Codes are stable; a newer server may have more. */
export const ERRORS = {
  invalid_request: {
    status: 400,
    param: "the field, if one is to blame",
    when: "The body is no JSON, or the protocol or the engine does not take a field or a value.",
    remedy: "Correct what the message says.",
  },
  invalid_preferences: {
    status: 400,
    param: "the part of `preferences`, or the header or model suffix that names a profile",
    when: "`preferences` has an unknown key, a wrong type, or a value over its bound.",
    remedy: "Correct the part that `param` names; the JSON Schema lists keys and bounds.",
  },
  invalid_prompt: {
    status: 400,
    param: "the field with the text",
    when: "The conversation cannot become a prompt of the served checkpoint.",
    remedy: "Send roles and texts that its chat template takes.",
  },
  refused_field: {
    status: 400,
    param: "the field",
    when: "A field that reaches past the preferences, or a value that costs the engine too much.",
    remedy: "Remove the field or ask for less; the operator can allow some fields.",
  },
  conflicting_profiles: {
    status: 400,
    param: "one of the places",
    when: "Body, header and model suffix name different profiles.",
    remedy: "Name the profile in one place.",
  },
  nested_too_deeply: {
    status: 400,
    param: "",
    when: "The JSON of the body is nested too deeply.",
    remedy: "Send a flatter body.",
  },
  value_not_storable: {
    status: 400,
    param: "",
    when: "A text or number that the database cannot hold, such as a NUL character.",
    remedy: "Remove it.",
  },
  invalid_name: {
    status: 400,
    param: "the name",
    when: "A name of a profile, tenant or label has a wrong form.",
    remedy: "Use the form that the message shows.",
  },
  invalid_targets: {
    status: 400,
    param: "`versions`",
    when: "A label's versions or weights are out of bounds or repeated.",
    remedy: "Name different versions with weights from 1 to 100.",
  },
  invalid_label: {
    status: 400,
    param: "`version` or `versions`",
    when: "A label is given both or neither of `version` and `versions`, or a version twice.",
    remedy: "Give one of the two, each version once.",
  },
  invalid_document: {
    status: 400,
    param: "the part of the document",
    when: "An import cannot be read as JSON or YAML, or is no profile export.",
    remedy: "Send what `/v1/profiles:export` gave.",
  },
  version_gap: {
    status: 400,
    param: "the version's number",
    when: "An imported version's number is not the next one of its profile.",
    remedy: "Import the versions before it first.",
  },
  unknown_scope: {
    status: 400,
    param: "`scopes`",
    when: "A key is to have no scope, or one that does not exist.",
    remedy: "Use the scopes that the message lists.",
  },
  invalid_expiry: {
    status: 400,
    param: "`expires_at`",
    when: "A key is to expire in the past.",
    remedy: "Give a time in the future.",
  },
  invalid_idempotency_key: {
    status: 400,
    param: "`Idempotency-Key`",
    when: "The header has a wrong form.",
    remedy: "Use 1 to 255 visible ASCII characters.",
  },
  invalid_api_key: {
    status: 401,
    param: "",
    when: "No key was sent, or the key is unknown, revoked or expired.",
    remedy: "Send `Authorization: Bearer KEY` or `x-api-key: KEY`.",
  },
  system_tier_forbidden: {
    status: 403,
    param: "the field that writes the System tier",
    when: "The key lacks the scope `system` and the request writes the System tier.",
    remedy: "Move the text to `preferences.user`, or use a key with the scope `system`.",
  },
  missing_scope: {
    status: 403,
    param: "the field that needs it, if it is one field",
    when: "The key lacks the scope that the message names.",
    remedy: "Use a key with that scope.",
  },
  user_mismatch: {
    status: 403,
    param: "the field that names the user",
    when: "A request with a user token names another user.",
    remedy: "Leave the field out, or send the token of that user.",
  },
  cross_site: {
    status: 403,
    param: "",
    when: "A web page of another origin asks a server that has no keys.",
    remedy: "Create a key, or call the server from its own origin.",
  },
  label_protected: {
    status: 403,
    param: "",
    when: "The label is protected and the key lacks the scope `admin`.",
    remedy: "Use a key with the scope `admin`.",
  },
  profile_shared: {
    status: 403,
    param: "`shared`, if that is to change",
    when: "The profile is shared between tenants, or is to be, and the key lacks the scope `admin`.",
    remedy: "Use a key with the scope `admin`.",
  },
  profile_not_found: {
    status: 404,
    param: "the place that names it",
    when: "The tenant has no profile, version or label of that name, or it is archived.",
    remedy: "Check the name with `GET /v1/profiles`.",
  },
  model_not_found: {
    status: 404,
    param: "`model`",
    when: "The request names no served model.",
    remedy: "Use a name that `GET /v1/models` lists.",
  },
  route_not_found: {
    status: 404,
    param: "",
    when: "There is no such path.",
    remedy: "See `/docs` for the routes.",
  },
  version_not_found: {
    status: 404,
    param: "`version`",
    when: "The profile has no such version.",
    remedy: "List its versions.",
  },
  label_not_found: {
    status: 404,
    param: "",
    when: "The profile has no such label.",
    remedy: "Read the profile's labels.",
  },
  tenant_not_found: {
    status: 404,
    param: "`tenant`",
    when: "There is no such tenant.",
    remedy: "List the tenants.",
  },
  key_not_found: {
    status: 404,
    param: "",
    when: "There is no such key.",
    remedy: "List the keys.",
  },
  exchange_not_found: {
    status: 404,
    param: "`id`",
    when: "No answer of that id is kept for this tenant.",
    remedy: "Give feedback within the retention time, with the id of the answer.",
  },
  response_not_found: {
    status: 404,
    param: "`previous_response_id`, if it names the response",
    when: "No response of that id is stored for this caller, or one before it was deleted.",
    remedy: "Send the dialogue in `input`; an operator can set METAALIGN_STORE_RESPONSES=true.",
  },
  method_not_allowed: {
    status: 405,
    param: "",
    when: "The path does not take this method.",
    remedy: "Use a method that the `Allow` header lists.",
  },
  profile_exists: {
    status: 409,
    param: "`name`",
    when: "The name is taken.",
    remedy: "Add a version to the profile instead.",
  },
  profile_archived: {
    status: 409,
    param: "",
    when: "The profile is archived.",
    remedy: "Restore it first.",
  },
  version_conflict: {
    status: 409,
    param: "the version",
    when: "An imported version exists with other preferences.",
    remedy: "Give it a new number; versions never change.",
  },
  too_many_labels: {
    status: 409,
    param: "`label`",
    when: "The profile has as many labels as it may.",
    remedy: "Remove one.",
  },
  nothing_to_roll_back: {
    status: 409,
    param: "",
    when: "The label was never moved.",
    remedy: "Move it to a version.",
  },
  tenant_exists: {
    status: 409,
    param: "`name`",
    when: "The name is taken.",
    remedy: "Update the tenant instead.",
  },
  default_tenant: {
    status: 409,
    param: "`disabled`",
    when: "The default tenant cannot be disabled.",
    remedy: "Revoke its keys.",
  },
  too_many_keys: {
    status: 409,
    param: "`tenant`",
    when: "The tenant has as many live keys as it may.",
    remedy: "Revoke one.",
  },
  key_not_live: {
    status: 409,
    param: "",
    when: "The key is revoked or expired.",
    remedy: "Create a new one.",
  },
  feedback_disabled: {
    status: 409,
    param: "",
    when: "The server keeps no exchanges.",
    remedy: "An operator can set METAALIGN_FEEDBACK=true.",
  },
  precondition_failed: {
    status: 412,
    param: "`If-Match`",
    when: "The profile or tenant has changed since it was read.",
    remedy: "Read it again.",
  },
  body_too_large: {
    status: 413,
    param: "",
    when: "The body is larger than METAALIGN_MAX_BODY_BYTES.",
    remedy: "Send less.",
  },
  unprocessable_content: {
    status: 422,
    param: "the field, if one is to blame",
    when: "The engine cannot read what the request points to, such as an image.",
    remedy: "Check that the address is right and the server may read it.",
  },
  idempotency_key_reused: {
    status: 422,
    param: "`Idempotency-Key`",
    when: "The key was used for another request.",
    remedy: "Use a new key.",
  },
  rate_limit_exceeded: {
    status: 429,
    param: "",
    when: "The key or its tenant has used its requests or tokens per minute.",
    remedy: "Wait for `Retry-After` seconds.",
  },
  budget_exhausted: {
    status: 429,
    param: "",
    when: "The key or its tenant has used its tokens per day.",
    remedy: "Wait for `Retry-After` seconds, or ask the operator for a larger budget.",
  },
  concurrency_limit_exceeded: {
    status: 429,
    param: "",
    when: "The key or its tenant has as many requests running as it may.",
    remedy: "Wait until one of them has finished.",
  },
  engine_failed: {
    status: 500,
    param: "",
    when: "The engine failed on the request or in its answer, or the model called a tool with what is no JSON.",
    remedy: "Send the request again; if it fails again, report it with the request id.",
  },
  internal_error: {
    status: 500,
    param: "",
    when: "A defect of the server.",
    remedy: "Report it with the request id; the server's log names the place under this id.",
  },
  not_supported: {
    status: 501,
    param: "",
    when: "The engine cannot do with the served model what the request asks for.",
    remedy: "Leave out what the message names.",
  },
  unavailable: {
    status: 503,
    param: "",
    when: "The server drains, stops before the answer is complete, or its engine does not answer.",
    remedy: "Try another server, or again after `Retry-After` seconds.",
  },
  overloaded: {
    status: 503,
    param: "",
    when: "Too many requests wait for the engine.",
    remedy: "Try again after `Retry-After` seconds.",
  },
  store_unavailable: {
    status: 503,
    param: "",
    when: "The database does not answer in time.",
    remedy: "Try again after `Retry-After` seconds; requests that were seen lately still work.",
  },
  erasure_incomplete: {
    status: 503,
    param: "",
    when: "What was to go is deleted, but another program holds SQLite's files, where copies of it remain.",
    remedy: "End that program; the server goes on trying. Send the erasure again to have it confirmed.",
  },
  store_full: {
    status: 507,
    param: "",
    when: "The database has no room left.",
    remedy: "Make room, or raise its limit.",
  },
} as const satisfies Record<string, ErrorKind>;

/** A code that this version of the package knows. */
export type ErrorCode = keyof typeof ERRORS;

/** The request is wrong as it stands. */
export class BadRequestError extends APIError {
  declare readonly status: 400;
}

/** The body is no JSON, or the protocol or the engine does not take a field or a value. */
export class InvalidRequest extends BadRequestError {
  declare readonly code: "invalid_request";
}

/** `preferences` has an unknown key, a wrong type, or a value over its bound. */
export class InvalidPreferences extends BadRequestError {
  declare readonly code: "invalid_preferences";
}

/** The conversation cannot become a prompt of the served checkpoint. */
export class InvalidPrompt extends BadRequestError {
  declare readonly code: "invalid_prompt";
}

/** A field that reaches past the preferences, or a value that costs the engine too much. */
export class RefusedField extends BadRequestError {
  declare readonly code: "refused_field";
}

/** Body, header and model suffix name different profiles. */
export class ConflictingProfiles extends BadRequestError {
  declare readonly code: "conflicting_profiles";
}

/** The JSON of the body is nested too deeply. */
export class NestedTooDeeply extends BadRequestError {
  declare readonly code: "nested_too_deeply";
}

/** A text or number that the database cannot hold, such as a NUL character. */
export class ValueNotStorable extends BadRequestError {
  declare readonly code: "value_not_storable";
}

/** A name of a profile, tenant or label has a wrong form. */
export class InvalidName extends BadRequestError {
  declare readonly code: "invalid_name";
}

/** A label's versions or weights are out of bounds or repeated. */
export class InvalidTargets extends BadRequestError {
  declare readonly code: "invalid_targets";
}

/** A label is given both or neither of `version` and `versions`, or a version twice. */
export class InvalidLabel extends BadRequestError {
  declare readonly code: "invalid_label";
}

/** An import cannot be read as JSON or YAML, or is no profile export. */
export class InvalidDocument extends BadRequestError {
  declare readonly code: "invalid_document";
}

/** An imported version's number is not the next one of its profile. */
export class VersionGap extends BadRequestError {
  declare readonly code: "version_gap";
}

/** A key is to have no scope, or one that does not exist. */
export class UnknownScope extends BadRequestError {
  declare readonly code: "unknown_scope";
}

/** A key is to expire in the past. */
export class InvalidExpiry extends BadRequestError {
  declare readonly code: "invalid_expiry";
}

/** The header has a wrong form. */
export class InvalidIdempotencyKey extends BadRequestError {
  declare readonly code: "invalid_idempotency_key";
}

/** No key was sent, or one that the server does not take. */
export class AuthenticationError extends APIError {
  declare readonly status: 401;
}

/** No key was sent, or the key is unknown, revoked or expired. */
export class InvalidApiKey extends AuthenticationError {
  declare readonly code: "invalid_api_key";
}

/** The key may not do this. */
export class PermissionDeniedError extends APIError {
  declare readonly status: 403;
}

/** The key lacks the scope `system` and the request writes the System tier. */
export class SystemTierForbidden extends PermissionDeniedError {
  declare readonly code: "system_tier_forbidden";
}

/** The key lacks the scope that the message names. */
export class MissingScope extends PermissionDeniedError {
  declare readonly code: "missing_scope";
}

/** A request with a user token names another user. */
export class UserMismatch extends PermissionDeniedError {
  declare readonly code: "user_mismatch";
}

/** A web page of another origin asks a server that has no keys. */
export class CrossSite extends PermissionDeniedError {
  declare readonly code: "cross_site";
}

/** The label is protected and the key lacks the scope `admin`. */
export class LabelProtected extends PermissionDeniedError {
  declare readonly code: "label_protected";
}

/** The profile is shared between tenants, or is to be, and the key lacks the scope `admin`. */
export class ProfileShared extends PermissionDeniedError {
  declare readonly code: "profile_shared";
}

/** There is no such thing, or not for this key. */
export class NotFoundError extends APIError {
  declare readonly status: 404;
}

/** The tenant has no profile, version or label of that name, or it is archived. */
export class ProfileNotFound extends NotFoundError {
  declare readonly code: "profile_not_found";
}

/** The request names no served model. */
export class ModelNotFound extends NotFoundError {
  declare readonly code: "model_not_found";
}

/** There is no such path. */
export class RouteNotFound extends NotFoundError {
  declare readonly code: "route_not_found";
}

/** The profile has no such version. */
export class VersionNotFound extends NotFoundError {
  declare readonly code: "version_not_found";
}

/** The profile has no such label. */
export class LabelNotFound extends NotFoundError {
  declare readonly code: "label_not_found";
}

/** There is no such tenant. */
export class TenantNotFound extends NotFoundError {
  declare readonly code: "tenant_not_found";
}

/** There is no such key. */
export class KeyNotFound extends NotFoundError {
  declare readonly code: "key_not_found";
}

/** No answer of that id is kept for this tenant. */
export class ExchangeNotFound extends NotFoundError {
  declare readonly code: "exchange_not_found";
}

/** No response of that id is stored for this caller, or one before it was deleted. */
export class ResponseNotFound extends NotFoundError {
  declare readonly code: "response_not_found";
}

/** The path does not take this method. */
export class MethodNotAllowedError extends APIError {
  declare readonly status: 405;
}

/** The path does not take this method. */
export class MethodNotAllowed extends MethodNotAllowedError {
  declare readonly code: "method_not_allowed";
}

/** It does not fit what is there already. */
export class ConflictError extends APIError {
  declare readonly status: 409;
}

/** The name is taken. */
export class ProfileExists extends ConflictError {
  declare readonly code: "profile_exists";
}

/** The profile is archived. */
export class ProfileArchived extends ConflictError {
  declare readonly code: "profile_archived";
}

/** An imported version exists with other preferences. */
export class VersionConflict extends ConflictError {
  declare readonly code: "version_conflict";
}

/** The profile has as many labels as it may. */
export class TooManyLabels extends ConflictError {
  declare readonly code: "too_many_labels";
}

/** The label was never moved. */
export class NothingToRollBack extends ConflictError {
  declare readonly code: "nothing_to_roll_back";
}

/** The name is taken. */
export class TenantExists extends ConflictError {
  declare readonly code: "tenant_exists";
}

/** The default tenant cannot be disabled. */
export class DefaultTenant extends ConflictError {
  declare readonly code: "default_tenant";
}

/** The tenant has as many live keys as it may. */
export class TooManyKeys extends ConflictError {
  declare readonly code: "too_many_keys";
}

/** The key is revoked or expired. */
export class KeyNotLive extends ConflictError {
  declare readonly code: "key_not_live";
}

/** The server keeps no exchanges. */
export class FeedbackDisabled extends ConflictError {
  declare readonly code: "feedback_disabled";
}

/** What was to be changed has changed since it was read. */
export class PreconditionFailedError extends APIError {
  declare readonly status: 412;
}

/** The profile or tenant has changed since it was read. */
export class PreconditionFailed extends PreconditionFailedError {
  declare readonly code: "precondition_failed";
}

/** The body is too large. */
export class RequestTooLargeError extends APIError {
  declare readonly status: 413;
}

/** The body is larger than METAALIGN_MAX_BODY_BYTES. */
export class BodyTooLarge extends RequestTooLargeError {
  declare readonly code: "body_too_large";
}

/** The request contradicts an earlier one. */
export class UnprocessableEntityError extends APIError {
  declare readonly status: 422;
}

/** The engine cannot read what the request points to, such as an image. */
export class UnprocessableContent extends UnprocessableEntityError {
  declare readonly code: "unprocessable_content";
}

/** The key was used for another request. */
export class IdempotencyKeyReused extends UnprocessableEntityError {
  declare readonly code: "idempotency_key_reused";
}

/** Too much was asked for in too short a time. */
export class RateLimitError extends APIError {
  declare readonly status: 429;
}

/** The key or its tenant has used its requests or tokens per minute. */
export class RateLimitExceeded extends RateLimitError {
  declare readonly code: "rate_limit_exceeded";
}

/** The key or its tenant has used its tokens per day. */
export class BudgetExhausted extends RateLimitError {
  declare readonly code: "budget_exhausted";
}

/** The key or its tenant has as many requests running as it may. */
export class ConcurrencyLimitExceeded extends RateLimitError {
  declare readonly code: "concurrency_limit_exceeded";
}

/** The server failed, or cannot answer now. */
export class ServerError extends APIError {
  protected declare readonly server: true;
}

/** The engine failed on the request or in its answer, or the model called a tool with what is no JSON. */
export class EngineFailed extends ServerError {
  declare readonly code: "engine_failed";
}

/** A defect of the server. */
export class InternalError extends ServerError {
  declare readonly code: "internal_error";
}

/** The engine cannot do with the served model what the request asks for. */
export class NotSupported extends ServerError {
  declare readonly code: "not_supported";
}

/** The server drains, stops before the answer is complete, or its engine does not answer. */
export class Unavailable extends ServerError {
  declare readonly code: "unavailable";
}

/** Too many requests wait for the engine. */
export class Overloaded extends ServerError {
  declare readonly code: "overloaded";
}

/** The database does not answer in time. */
export class StoreUnavailable extends ServerError {
  declare readonly code: "store_unavailable";
}

/** What was to go is deleted, but another program holds SQLite's files, where copies of it remain. */
export class ErasureIncomplete extends ServerError {
  declare readonly code: "erasure_incomplete";
}

/** The database has no room left. */
export class StoreFull extends ServerError {
  declare readonly code: "store_full";
}

/** The class of each code. */
export const CLASS_OF_CODE = {
  invalid_request: InvalidRequest,
  invalid_preferences: InvalidPreferences,
  invalid_prompt: InvalidPrompt,
  refused_field: RefusedField,
  conflicting_profiles: ConflictingProfiles,
  nested_too_deeply: NestedTooDeeply,
  value_not_storable: ValueNotStorable,
  invalid_name: InvalidName,
  invalid_targets: InvalidTargets,
  invalid_label: InvalidLabel,
  invalid_document: InvalidDocument,
  version_gap: VersionGap,
  unknown_scope: UnknownScope,
  invalid_expiry: InvalidExpiry,
  invalid_idempotency_key: InvalidIdempotencyKey,
  invalid_api_key: InvalidApiKey,
  system_tier_forbidden: SystemTierForbidden,
  missing_scope: MissingScope,
  user_mismatch: UserMismatch,
  cross_site: CrossSite,
  label_protected: LabelProtected,
  profile_shared: ProfileShared,
  profile_not_found: ProfileNotFound,
  model_not_found: ModelNotFound,
  route_not_found: RouteNotFound,
  version_not_found: VersionNotFound,
  label_not_found: LabelNotFound,
  tenant_not_found: TenantNotFound,
  key_not_found: KeyNotFound,
  exchange_not_found: ExchangeNotFound,
  response_not_found: ResponseNotFound,
  method_not_allowed: MethodNotAllowed,
  profile_exists: ProfileExists,
  profile_archived: ProfileArchived,
  version_conflict: VersionConflict,
  too_many_labels: TooManyLabels,
  nothing_to_roll_back: NothingToRollBack,
  tenant_exists: TenantExists,
  default_tenant: DefaultTenant,
  too_many_keys: TooManyKeys,
  key_not_live: KeyNotLive,
  feedback_disabled: FeedbackDisabled,
  precondition_failed: PreconditionFailed,
  body_too_large: BodyTooLarge,
  unprocessable_content: UnprocessableContent,
  idempotency_key_reused: IdempotencyKeyReused,
  rate_limit_exceeded: RateLimitExceeded,
  budget_exhausted: BudgetExhausted,
  concurrency_limit_exceeded: ConcurrencyLimitExceeded,
  engine_failed: EngineFailed,
  internal_error: InternalError,
  not_supported: NotSupported,
  unavailable: Unavailable,
  overloaded: Overloaded,
  store_unavailable: StoreUnavailable,
  erasure_incomplete: ErasureIncomplete,
  store_full: StoreFull,
} as const satisfies Record<ErrorCode, typeof APIError>;

/** The class of each status; that of 500 is for all above it, too. */
export const CLASS_OF_STATUS: Readonly<Record<number, typeof APIError>> = {
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
};
