"""What an application needs: the `preferences` of a request, the receipt of its answer, and the errors.

`MetaAlign` and `AsyncMetaAlign` ask a server; they are imported with their HTTP client when they are first used.
How preferences become a prompt (resolution, wording, template, assembly, manifest) is in `metaalign.prompt`.
"""

from typing import TYPE_CHECKING, Any

from metaalign.dimensions import DIMENSIONS, Dimension
from metaalign.errors import (
    ConflictingProfiles,
    InvalidCheckpoint,
    InvalidPreferences,
    InvalidPrompt,
    InvalidTemplate,
    MetaAlignError,
    ProfileNotFound,
    RefusedField,
    SystemTierForbidden,
)
from metaalign.preferences import (
    LIMITS,
    BlendPart,
    Example,
    Preferences,
    Strength,
    StrengthBounds,
    SystemPreferences,
    UserPreferences,
    parse_preferences,
)
from metaalign.receipt import Receipt, SteeringApplied
from metaalign.user_tokens import user_token

if TYPE_CHECKING:
    from metaalign.client import APIError, AsyncMetaAlign, ConnectionFailed, MetaAlign, StreamBroken, TimedOut

__version__ = "0.1.0"

__all__ = [
    "DIMENSIONS",
    "LIMITS",
    "APIError",
    "AsyncMetaAlign",
    "BlendPart",
    "ConflictingProfiles",
    "ConnectionFailed",
    "Dimension",
    "Example",
    "InvalidCheckpoint",
    "InvalidPreferences",
    "InvalidPrompt",
    "InvalidTemplate",
    "MetaAlign",
    "MetaAlignError",
    "Preferences",
    "ProfileNotFound",
    "Receipt",
    "RefusedField",
    "SteeringApplied",
    "StreamBroken",
    "Strength",
    "StrengthBounds",
    "SystemPreferences",
    "SystemTierForbidden",
    "TimedOut",
    "UserPreferences",
    "__version__",
    "parse_preferences",
    "user_token",
]


_CLIENT = {"APIError", "AsyncMetaAlign", "ConnectionFailed", "MetaAlign", "StreamBroken", "TimedOut"}


def __getattr__(name: str) -> Any:
    if name not in _CLIENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metaalign import client

    return getattr(client, name)
