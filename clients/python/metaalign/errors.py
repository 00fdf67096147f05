"""All errors of the product: one table, and one class for each kind that a caller handles separately.

    MetaAlignError
    ├── InvalidPreferences      invalid_preferences
    ├── InvalidPrompt           invalid_prompt
    ├── RefusedField            refused_field
    ├── SystemTierForbidden     system_tier_forbidden
    ├── ProfileNotFound         profile_not_found
    ├── ConflictingProfiles     conflicting_profiles
    ├── InvalidTemplate         invalid_template
    ├── InvalidCheckpoint       invalid_checkpoint
    ├── InvalidCheck            invalid_check                                            (metaalign.verifiers)
    ├── Refusal                 every other code that the server returns (metaalign_server.platform.refusal)
    ├── StoreUnavailable, StoreFull, ValueNotStorable, WrongSchema, ErasureIncomplete    (metaalign_server.store)
    └── TrainingError and its subclasses                                                 (metaalign_training.errors)

Each carries a stable `code`, one sentence that says what is wrong and what would be right, and the offending field in
`param` (`preferences.user.attributes`). `ERRORS` defines for every code its HTTP status, what `param` names, when it
occurs and what to do. The server's responses, `docs/errors.md` (`scripts/errors_page.py`) and the OpenAPI document are
all derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ERRORS",
    "ConflictingProfiles",
    "ErrorKind",
    "InvalidCheckpoint",
    "InvalidPreferences",
    "InvalidPrompt",
    "InvalidTemplate",
    "MetaAlignError",
    "ProfileNotFound",
    "RefusedField",
    "SystemTierForbidden",
]


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of error.

    Attributes:
        code: Its stable name.
        status: Its HTTP status; None if it only ever ends a command.
        param: What `param` names; empty if `param` is null.
        when: When it occurs.
        remedy: What to do about it.
    """

    code: str
    status: int | None
    param: str
    when: str
    remedy: str


_TABLE = (
    # Requests to the model
    ErrorKind(
        "invalid_request",
        400,
        "the field, if one is to blame",
        "The body is no JSON, or the protocol or the engine does not take a field or a value.",
        "Correct what the message says.",
    ),
    ErrorKind(
        "invalid_preferences",
        400,
        "the part of `preferences`, or the header or model suffix that names a profile",
        "`preferences` has an unknown key, a wrong type, or a value over its bound.",
        "Correct the part that `param` names; the JSON Schema lists keys and bounds.",
    ),
    ErrorKind(
        "invalid_prompt",
        400,
        "the field with the text",
        "The conversation cannot become a prompt of the served checkpoint.",
        "Send roles and texts that its chat template takes.",
    ),
    ErrorKind(
        "refused_field",
        400,
        "the field",
        "A field that reaches past the preferences, or a value that costs the engine too much.",
        "Remove the field or ask for less; the operator can allow some fields.",
    ),
    ErrorKind(
        "conflicting_profiles",
        400,
        "one of the places",
        "Body, header and model suffix name different profiles.",
        "Name the profile in one place.",
    ),
    ErrorKind(
        "system_tier_forbidden",
        403,
        "the field that writes the System tier",
        "The key lacks the scope `system` and the request writes the System tier.",
        "Move the text to `preferences.user`, or use a key with the scope `system`.",
    ),
    ErrorKind(
        "profile_not_found",
        404,
        "the place that names it",
        "The tenant has no profile, version or label of that name, or it is archived.",
        "Check the name with `GET /v1/profiles`.",
    ),
    ErrorKind(
        "model_not_found",
        404,
        "`model`",
        "The request names no served model.",
        "Use a name that `GET /v1/models` lists.",
    ),
    ErrorKind(
        "unprocessable_content",
        422,
        "the field, if one is to blame",
        "The engine cannot read what the request points to, such as an image.",
        "Check that the address is right and the server may read it.",
    ),
    ErrorKind(
        "not_supported",
        501,
        "",
        "The engine cannot do with the served model what the request asks for.",
        "Leave out what the message names.",
    ),
    ErrorKind(
        "engine_failed",
        500,
        "",
        "The engine failed on the request or in its answer, or the model called a tool with what is no JSON.",
        "Send the request again; if it fails again, report it with the request id.",
    ),
    # Every request
    ErrorKind(
        "invalid_api_key",
        401,
        "",
        "No key was sent, or the key is unknown, revoked or expired.",
        "Send `Authorization: Bearer KEY` or `x-api-key: KEY`.",
    ),
    ErrorKind(
        "missing_scope",
        403,
        "the field that needs it, if it is one field",
        "The key lacks the scope that the message names.",
        "Use a key with that scope.",
    ),
    ErrorKind(
        "user_mismatch",
        403,
        "the field that names the user",
        "A request with a user token names another user.",
        "Leave the field out, or send the token of that user.",
    ),
    ErrorKind(
        "cross_site",
        403,
        "",
        "A web page of another origin asks a server that has no keys.",
        "Create a key, or call the server from its own origin.",
    ),
    ErrorKind("route_not_found", 404, "", "There is no such path.", "See `/docs` for the routes."),
    ErrorKind(
        "method_not_allowed",
        405,
        "",
        "The path does not take this method.",
        "Use a method that the `Allow` header lists.",
    ),
    ErrorKind(
        "nested_too_deeply", 400, "", "The JSON of the body is nested too deeply.", "Send a flatter body."
    ),
    ErrorKind(
        "body_too_large",
        413,
        "",
        "The body is larger than METAALIGN_MAX_BODY_BYTES.",
        "Send less.",
    ),
    ErrorKind(
        "rate_limit_exceeded",
        429,
        "",
        "The key or its tenant has used its requests or tokens per minute.",
        "Wait for `Retry-After` seconds.",
    ),
    ErrorKind(
        "budget_exhausted",
        429,
        "",
        "The key or its tenant has used its tokens per day.",
        "Wait for `Retry-After` seconds, or ask the operator for a larger budget.",
    ),
    ErrorKind(
        "concurrency_limit_exceeded",
        429,
        "",
        "The key or its tenant has as many requests running as it may.",
        "Wait until one of them has finished.",
    ),
    ErrorKind(
        "internal_error",
        500,
        "",
        "A defect of the server.",
        "Report it with the request id; the server's log names the place under this id.",
    ),
    ErrorKind(
        "unavailable",
        503,
        "",
        "The server drains, stops before the answer is complete, or its engine does not answer.",
        "Try another server, or again after `Retry-After` seconds.",
    ),
    ErrorKind(
        "overloaded",
        503,
        "",
        "Too many requests wait for the engine.",
        "Try again after `Retry-After` seconds.",
    ),
    ErrorKind(
        "store_unavailable",
        503,
        "",
        "The database does not answer in time.",
        "Try again after `Retry-After` seconds; requests that were seen lately still work.",
    ),
    ErrorKind(
        "erasure_incomplete",
        503,
        "",
        "What was to go is deleted, but another program holds SQLite's files, where copies of it remain.",
        "End that program; the server goes on trying. Send the erasure again to have it confirmed.",
    ),
    ErrorKind("store_full", 507, "", "The database has no room left.", "Make room, or raise its limit."),
    ErrorKind(
        "value_not_storable",
        400,
        "",
        "A text or number that the database cannot hold, such as a NUL character.",
        "Remove it.",
    ),
    # Profiles, tenants, keys, feedback
    ErrorKind(
        "invalid_name",
        400,
        "the name",
        "A name of a profile, tenant or label has a wrong form.",
        "Use the form that the message shows.",
    ),
    ErrorKind(
        "invalid_targets",
        400,
        "`versions`",
        "A label's versions or weights are out of bounds or repeated.",
        "Name different versions with weights from 1 to 100.",
    ),
    ErrorKind(
        "invalid_label",
        400,
        "`version` or `versions`",
        "A label is given both or neither of `version` and `versions`, or a version twice.",
        "Give one of the two, each version once.",
    ),
    ErrorKind(
        "invalid_document",
        400,
        "the part of the document",
        "An import cannot be read as JSON or YAML, or is no profile export.",
        "Send what `/v1/profiles:export` gave.",
    ),
    ErrorKind(
        "version_gap",
        400,
        "the version's number",
        "An imported version's number is not the next one of its profile.",
        "Import the versions before it first.",
    ),
    ErrorKind(
        "unknown_scope",
        400,
        "`scopes`",
        "A key is to have no scope, or one that does not exist.",
        "Use the scopes that the message lists.",
    ),
    ErrorKind(
        "invalid_expiry",
        400,
        "`expires_at`",
        "A key is to expire in the past.",
        "Give a time in the future.",
    ),
    ErrorKind(
        "invalid_idempotency_key",
        400,
        "`Idempotency-Key`",
        "The header has a wrong form.",
        "Use 1 to 255 visible ASCII characters.",
    ),
    ErrorKind(
        "label_protected",
        403,
        "",
        "The label is protected and the key lacks the scope `admin`.",
        "Use a key with the scope `admin`.",
    ),
    ErrorKind(
        "profile_shared",
        403,
        "`shared`, if that is to change",
        "The profile is shared between tenants, or is to be, and the key lacks the scope `admin`.",
        "Use a key with the scope `admin`.",
    ),
    ErrorKind(
        "version_not_found", 404, "`version`", "The profile has no such version.", "List its versions."
    ),
    ErrorKind("label_not_found", 404, "", "The profile has no such label.", "Read the profile's labels."),
    ErrorKind("tenant_not_found", 404, "`tenant`", "There is no such tenant.", "List the tenants."),
    ErrorKind("key_not_found", 404, "", "There is no such key.", "List the keys."),
    ErrorKind(
        "exchange_not_found",
        404,
        "`id`",
        "No answer of that id is kept for this tenant.",
        "Give feedback within the retention time, with the id of the answer.",
    ),
    ErrorKind(
        "response_not_found",
        404,
        "`previous_response_id`, if it names the response",
        "No response of that id is stored for this caller, or one before it was deleted.",
        "Send the dialogue in `input`; an operator can set METAALIGN_STORE_RESPONSES=true.",
    ),
    ErrorKind("profile_exists", 409, "`name`", "The name is taken.", "Add a version to the profile instead."),
    ErrorKind("profile_archived", 409, "", "The profile is archived.", "Restore it first."),
    ErrorKind(
        "version_conflict",
        409,
        "the version",
        "An imported version exists with other preferences.",
        "Give it a new number; versions never change.",
    ),
    ErrorKind("too_many_labels", 409, "`label`", "The profile has as many labels as it may.", "Remove one."),
    ErrorKind("nothing_to_roll_back", 409, "", "The label was never moved.", "Move it to a version."),
    ErrorKind("tenant_exists", 409, "`name`", "The name is taken.", "Update the tenant instead."),
    ErrorKind(
        "default_tenant", 409, "`disabled`", "The default tenant cannot be disabled.", "Revoke its keys."
    ),
    ErrorKind("too_many_keys", 409, "`tenant`", "The tenant has as many live keys as it may.", "Revoke one."),
    ErrorKind("key_not_live", 409, "", "The key is revoked or expired.", "Create a new one."),
    ErrorKind(
        "feedback_disabled",
        409,
        "",
        "The server keeps no exchanges.",
        "An operator can set METAALIGN_FEEDBACK=true.",
    ),
    ErrorKind(
        "precondition_failed",
        412,
        "`If-Match`",
        "The profile or tenant has changed since it was read.",
        "Read it again.",
    ),
    ErrorKind(
        "idempotency_key_reused",
        422,
        "`Idempotency-Key`",
        "The key was used for another request.",
        "Use a new key.",
    ),
    # Commands
    ErrorKind(
        "invalid_template",
        None,
        "",
        "A checkpoint's chat template is missing, too large, cannot carry preferences, or lets any text write a role.",
        "Do what the message says, or serve a checkpoint whose roles are marked by control tokens.",
    ),
    ErrorKind(
        "invalid_checkpoint",
        None,
        "",
        "A checkpoint disagrees with its manifest.",
        "Restore the file or export the checkpoint again.",
    ),
    ErrorKind(
        "wrong_schema",
        None,
        "",
        "The database has another schema than this server needs.",
        "Run `metaalign-server migrate`.",
    ),
    ErrorKind(
        "lossy_migration",
        None,
        "",
        "`migrate` to an older schema would delete data.",
        "Keep a copy as the message says, or repeat with `--yes`.",
    ),
    ErrorKind(
        "not_sqlite",
        None,
        "",
        "`backup` and `migrate --dump` copy SQLite files only.",
        "Run the `pg_dump` that the message names.",
    ),
    ErrorKind("file_exists", None, "", "The file to be written exists.", "Name another file."),
    ErrorKind("backup_failed", None, "", "The copy could not be written.", "See the message for the cause."),
    ErrorKind("invalid_limits", None, "", "`--limits` is malformed.", "Write it as the help shows."),
    ErrorKind("invalid_grace", None, "", "`--grace-seconds` is negative.", "Give 0 or more."),
    ErrorKind("invalid_policy", None, "", "`--policy` names no readable JSON file.", "Check the file."),
    ErrorKind(
        "key_not_written",
        None,
        "",
        "`keys create --output` cannot write its file.",
        "See the message for the cause.",
    ),
    ErrorKind(
        "invalid_check",
        None,
        "the part of the check",
        "A check has an unknown name or wrong arguments.",
        "Correct the part that the message names; it also names the nearest.",
    ),
    ErrorKind("training_error", None, "", "`metaalign-train` cannot go on.", "See the message."),
    ErrorKind("recipe_error", None, "", "A recipe cannot be used.", "Correct the line that is named."),
    ErrorKind("data_error", None, "", "A row or file cannot be used.", "Correct the line that is named."),
    ErrorKind(
        "endpoint_error",
        None,
        "",
        "A teacher or judge does not answer as it should; finished answers are kept.",
        "Check its address, key and model, then run the same command again.",
    ),
    ErrorKind("stage_error", None, "", "A training stage cannot run on what it finds.", "See the message."),
    ErrorKind("metaalign_error", None, "", "The command-line client was refused.", "See the message."),
)

ERRORS: dict[str, ErrorKind] = {kind.code: kind for kind in _TABLE}
"""Code -> meaning. Codes are stable; new ones may be added."""


class MetaAlignError(Exception):
    """Base class of all errors that a caller can act on."""

    code = "metaalign_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def status(self) -> int:
        """The HTTP status of the server's response; 500 for an error that should only end a command."""
        return ERRORS[self.code].status or 500


class InvalidPreferences(MetaAlignError):
    """The `preferences` field is malformed, has unknown parts, or exceeds a bound."""

    code = "invalid_preferences"


class InvalidPrompt(MetaAlignError):
    """The conversation cannot become a prompt."""

    code = "invalid_prompt"


class RefusedField(MetaAlignError):
    """A field that would let a client bypass the contract (templates, salts, media, raw ids)."""

    code = "refused_field"


class SystemTierForbidden(MetaAlignError):
    """The caller's key lacks the scope `system`."""

    code = "system_tier_forbidden"


class ProfileNotFound(MetaAlignError):
    """No profile of that name, version or label exists for this caller."""

    code = "profile_not_found"


class ConflictingProfiles(MetaAlignError):
    """Two of the three doors (body, header, model suffix) name different profiles."""

    code = "conflicting_profiles"


class InvalidTemplate(MetaAlignError):
    """A chat template does not compile, is too large, or lacks a required part."""

    code = "invalid_template"


class InvalidCheckpoint(MetaAlignError):
    """A checkpoint folder disagrees with its manifest `metaalign.json`."""

    code = "invalid_checkpoint"
