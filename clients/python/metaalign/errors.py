"""One error tree for the whole product.

    MetaAlignError
    ├── InvalidPreferences      invalid_preferences      the `preferences` field is malformed or out of bounds
    ├── InvalidPrompt           invalid_prompt           the messages cannot be rendered by the checkpoint's template
    ├── RefusedField            refused_field            a request field that this server refuses by default
    ├── SystemTierForbidden     system_tier_forbidden    the key may not write the System tier
    ├── ProfileNotFound         profile_not_found        a named profile does not exist
    ├── ConflictingProfiles     conflicting_profiles     two doors of one request name different profiles
    ├── InvalidTemplate         invalid_template         a chat template that cannot be used
    └── InvalidCheckpoint       invalid_checkpoint       a checkpoint that disagrees with its manifest

Each carries a stable `code`, one sentence with the remedy, and the offending field in `param`
(`preferences.user.attributes`). The server maps codes to HTTP statuses in one place.
"""

from __future__ import annotations

__all__ = [
    "ConflictingProfiles",
    "InvalidCheckpoint",
    "InvalidPreferences",
    "InvalidPrompt",
    "InvalidTemplate",
    "MetaAlignError",
    "ProfileNotFound",
    "RefusedField",
    "SystemTierForbidden",
]


class MetaAlignError(Exception):
    """Base of all errors that a caller can act on."""

    code = "metaalign_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidPreferences(MetaAlignError):
    """The `preferences` field is malformed, unknown in part, or over a bound."""

    code = "invalid_preferences"


class InvalidPrompt(MetaAlignError):
    """The conversation cannot be turned into a prompt."""

    code = "invalid_prompt"


class RefusedField(MetaAlignError):
    """A field that would let a client reach past the contract (templates, salts, media, raw ids)."""

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
    """A chat template does not compile, is too large, or lacks what is needed."""

    code = "invalid_template"


class InvalidCheckpoint(MetaAlignError):
    """A checkpoint folder disagrees with its manifest `metaalign.json`."""

    code = "invalid_checkpoint"
