"""What an application needs: the `preferences` of a request, the receipt of its answer, and the errors.

How preferences become a prompt (resolution, wording, template, assembly, manifest) is in `metaalign.prompt`.
"""

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
    Example,
    Preferences,
    SystemPreferences,
    UserPreferences,
    parse_preferences,
)
from metaalign.receipt import Receipt
from metaalign.user_tokens import user_token

__version__ = "0.1.0"

__all__ = [
    "DIMENSIONS",
    "LIMITS",
    "ConflictingProfiles",
    "Dimension",
    "Example",
    "InvalidCheckpoint",
    "InvalidPreferences",
    "InvalidPrompt",
    "InvalidTemplate",
    "MetaAlignError",
    "Preferences",
    "ProfileNotFound",
    "Receipt",
    "RefusedField",
    "SystemPreferences",
    "SystemTierForbidden",
    "UserPreferences",
    "__version__",
    "parse_preferences",
    "user_token",
]
