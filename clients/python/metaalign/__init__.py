"""MetaAlign's contract: preferences, who wins, the words of the Meta-Prompt, safe assembly, manifests, errors."""

from metaalign.assembly import Prompt, PromptAssembler
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
from metaalign.manifest import Manifest, read_manifest, verify_checkpoint, write_manifest
from metaalign.preferences import (
    LIMITS,
    Example,
    Preferences,
    SystemPreferences,
    UserPreferences,
    parse_preferences,
)
from metaalign.receipt import Receipt
from metaalign.rendering import MetaPrompt, fold, render
from metaalign.resolution import Layer, Overridden, Resolution, Tier, request_layers, resolve
from metaalign.template import CONTROL_TOKENS, END_TOKEN, PAD_TOKEN, ChatTemplate, packaged_template

__version__ = "0.1.0"

__all__ = [
    "CONTROL_TOKENS",
    "DIMENSIONS",
    "END_TOKEN",
    "LIMITS",
    "PAD_TOKEN",
    "ChatTemplate",
    "ConflictingProfiles",
    "Dimension",
    "Example",
    "InvalidCheckpoint",
    "InvalidPreferences",
    "InvalidPrompt",
    "InvalidTemplate",
    "Layer",
    "Manifest",
    "MetaAlignError",
    "MetaPrompt",
    "Overridden",
    "Preferences",
    "ProfileNotFound",
    "Prompt",
    "PromptAssembler",
    "Receipt",
    "RefusedField",
    "Resolution",
    "SystemPreferences",
    "SystemTierForbidden",
    "Tier",
    "UserPreferences",
    "__version__",
    "fold",
    "packaged_template",
    "parse_preferences",
    "read_manifest",
    "render",
    "request_layers",
    "resolve",
    "verify_checkpoint",
    "write_manifest",
]
