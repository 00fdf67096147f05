"""The `preferences` field: frozen models with the documented bounds.

Unknown keys are errors at every level. Lengths are counted in Unicode code points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from metaalign.dimensions import DIMENSIONS
from metaalign.errors import InvalidPreferences
from metaalign.surrogates import has_surrogates

__all__ = [
    "LIMITS",
    "MAX_STRENGTH",
    "BlendPart",
    "Example",
    "NamedCheck",
    "Preferences",
    "Strength",
    "StrengthBounds",
    "SystemPreferences",
    "UserPreferences",
    "describe_validation_error",
    "parse_preferences",
]

LIMITS = {
    "info": 8_000,
    "attributes": 32,
    "attribute_value": 200,
    "priorities": 8,
    "priority": 64,
    "examples": 8,
    "example_text": 2_000,
    "profiles": 8,
    "verify": 16,
    "blend": 4,
    "candidates": 16,
    "total": 32_000,
}

MAX_STRENGTH = 4.0
"""The highest strength of a tier; 1 is as trained."""
_WEIGHTS_SUM = 1e-3
"""How far the weights of a blend may be from 1 together; they are divided by their sum."""

PROFILE_REFERENCE = r"^[a-z0-9][a-z0-9_-]{0,62}([@:][A-Za-z0-9_.-]{1,63})?$"


def _no_surrogates(value: str) -> str:
    if has_surrogates(value):
        raise ValueError("must be valid Unicode without lone surrogates")
    return value


Text = Annotated[str, StringConstraints(min_length=1)]
DimensionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
DimensionValue = Annotated[str, StringConstraints(min_length=1, max_length=LIMITS["attribute_value"])]
ProfileReference = Annotated[str, StringConstraints(pattern=PROFILE_REFERENCE)]


StrengthValue = Annotated[float, Field(ge=0, le=MAX_STRENGTH, strict=True, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Model):
    """An exchange that shows a preference instead of stating it; at least one of the two answers is given."""

    query: Annotated[Text, Field(max_length=LIMITS["example_text"])]
    preferred: Annotated[Text, Field(max_length=LIMITS["example_text"])] | None = None
    rejected: Annotated[Text, Field(max_length=LIMITS["example_text"])] | None = None

    @model_validator(mode="after")
    def _has_an_answer(self) -> Example:
        if self.preferred is None and self.rejected is None:
            raise ValueError("an example needs `preferred`, `rejected`, or both")
        return self


class _TierPreferences(_Model):
    info: Annotated[str, Field(max_length=LIMITS["info"], description="free text")] | None = None
    attributes: Annotated[
        Mapping[DimensionName, DimensionValue],
        Field(default_factory=dict, max_length=LIMITS["attributes"], description="dimension -> value"),
    ]

    @field_validator("attributes")
    @classmethod
    def _known_values(cls, attributes: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in attributes.items():
            known = DIMENSIONS.get(name)
            if known is not None and known.pattern is None and value not in known.values:
                raise ValueError(f"`{name}` takes one of: {', '.join(known.values)}")
            if "\n" in value or "\r" in value:
                raise ValueError(f"`{name}` must be one line")
        return attributes


class StrengthBounds(_Model):
    """Lowest and highest strength that later layers may give each tier; twice the same value fixes it."""

    system: tuple[StrengthValue, StrengthValue] | None = None
    user: tuple[StrengthValue, StrengthValue] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> StrengthBounds:
        for name in ("system", "user"):
            bounds = getattr(self, name)
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError(f"`{name}` is [lowest, highest]")
        return self


class SystemPreferences(_TierPreferences):
    """The provider's preferences: the System tier."""

    priorities: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[^\r\n]{1,64}$")], ...],
        FailFast(),
        Field(max_length=LIMITS["priorities"], description="most important first"),
    ] = ()
    locked: Annotated[
        tuple[DimensionName, ...],
        FailFast(),
        Field(max_length=LIMITS["attributes"], description="dimensions that no later layer may change"),
    ] = ()

    strength_bounds: Annotated[
        StrengthBounds | None, Field(description="what `strength` may be in later layers")
    ] = None

    @model_validator(mode="after")
    def _locks_what_it_sets(self) -> SystemPreferences:
        missing = sorted(set(self.locked) - set(self.attributes))
        if missing:
            raise ValueError("`locked` may only name dimensions that `attributes` sets beside it")
        if len(set(self.priorities)) != len(self.priorities):
            raise ValueError("`priorities` must not repeat an entry")
        return self


class UserPreferences(_TierPreferences):
    """The user's own preferences: the User tier."""

    examples: Annotated[tuple[Example, ...], FailFast(), Field(max_length=LIMITS["examples"])] = ()


class Strength(_Model):
    """How strongly each tier acts: 1 as trained, 0 as if it were not there. A tier that is left out keeps its own."""

    system: StrengthValue | None = None
    user: StrengthValue | None = None


def _text_is_info(value: object) -> object:
    return {"info": value} if isinstance(value, str) else value


class BlendPart(_Model):
    """One of the User tiers that a blend mixes: a profile's, or one that is given here."""

    weight: Annotated[float, Field(gt=0, le=1, strict=True, allow_inf_nan=False)]
    profile: ProfileReference | None = None
    user: (
        Annotated[
            UserPreferences,
            BeforeValidator(_text_is_info, json_schema_input_type=str | UserPreferences),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _has_one_source(self) -> BlendPart:
        if (self.profile is None) == (self.user is None):
            raise ValueError("needs either `profile` or `user`, and a `weight`")
        return self


class NamedCheck(_Model):
    """A check of the answer, by its name and arguments in `metaalign.verifiers`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    arguments: Annotated[Mapping[str, Any], Field(default_factory=dict, max_length=16)]


def _true(value: object) -> object:
    if value is not True:  # 1 and 1.0 are equal to it
        raise ValueError("true, or a list of checks")
    return value


def _one_profile_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _one_strength_is_both(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"system": value, "user": value} if number else value


class Preferences(_Model):
    """The whole field. A bare string stands for `{"system": "…"}`."""

    version: Literal["1"] = "1"
    profile: Annotated[
        tuple[ProfileReference, ...],
        FailFast(),
        BeforeValidator(_one_profile_is_a_list),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": PROFILE_REFERENCE},
                    {
                        "type": "array",
                        "items": {"type": "string", "pattern": PROFILE_REFERENCE},
                        "maxItems": LIMITS["profiles"],
                    },
                ]
            }
        ),
        Field(max_length=LIMITS["profiles"], description="stored profiles; later ones win"),
    ] = ()
    system: (
        Annotated[
            SystemPreferences, BeforeValidator(_text_is_info, json_schema_input_type=str | SystemPreferences)
        ]
        | None
    ) = None
    user: (
        Annotated[
            UserPreferences, BeforeValidator(_text_is_info, json_schema_input_type=str | UserPreferences)
        ]
        | None
    ) = None

    verify: Annotated[
        Annotated[tuple[NamedCheck, ...], Field(min_length=1, max_length=LIMITS["verify"], fail_fast=True)]
        | Annotated[Literal[True], BeforeValidator(_true), WithJsonSchema({"const": True})]
        | None,
        Field(
            description="checks of the answer, reported in the receipt; true: those that its dimensions imply"
        ),
    ] = None

    strength: Annotated[
        Strength | None,
        BeforeValidator(_one_strength_is_both, json_schema_input_type=StrengthValue | Strength | None),
        Field(description="how strongly the tiers act; a number is for both"),
    ] = None
    blend: Annotated[
        tuple[BlendPart, ...],
        FailFast(),
        Field(max_length=LIMITS["blend"], description="User tiers to mix; the weights sum to 1"),
    ] = ()
    candidates: Annotated[
        int | None,
        Field(
            ge=1,
            le=LIMITS["candidates"],
            strict=True,
            description="answers to sample; the one that the preferences make likeliest is returned",
        ),
    ] = None

    @field_validator("blend")
    @classmethod
    def _weights_sum_to_one(cls, blend: tuple[BlendPart, ...]) -> tuple[BlendPart, ...]:
        total = sum(part.weight for part in blend)
        if blend and abs(total - 1) > _WEIGHTS_SUM:
            raise ValueError(f"the weights must sum to 1, not {total:g}")
        return blend

    @model_validator(mode="before")
    @classmethod
    def _text_is_system(cls, value: object) -> object:
        return {"system": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _bounded(self) -> Preferences:
        total = sum(len(text) for text in _texts(self))
        if total > LIMITS["total"]:
            raise ValueError(f"all texts together may hold {LIMITS['total']} characters, not {total}")
        for text in _texts(self):
            _no_surrogates(text)
        return self


def _texts(preferences: Preferences) -> list[str]:
    texts: list[str] = []
    users = [preferences.user, *(part.user for part in preferences.blend)]
    for tier in (preferences.system, *users):
        if tier is not None:
            texts.append(tier.info or "")
            texts.extend(tier.attributes.values())
    if preferences.system is not None:
        texts.extend(preferences.system.priorities)
    for user in users:
        for example in user.examples if user is not None else ():
            texts.extend((example.query, example.preferred or "", example.rejected or ""))
    return texts


def describe_validation_error(error: ValidationError, root: str) -> tuple[str, str]:
    """Return the first problem as `(message, param)`; `param` is a path such as `preferences.user.atributes`.

    The message never repeats the offending value, which may be private text.
    """
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = root
    for step in first["loc"]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier():
            path += f".{step}"
    reason = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "unknown key; remove it or correct its name"
    return f"{path}: {reason}", path


def parse_preferences(value: object) -> Preferences:
    """Validate plain data (a JSON value) and return `Preferences`.

    Raises:
        InvalidPreferences: the data is invalid; `param` is a path inside the field.
    """
    if isinstance(value, Preferences):
        return value
    if not isinstance(value, (str, dict)):
        raise InvalidPreferences("preferences: must be a string or an object", param="preferences")
    try:
        return Preferences.model_validate(value)
    except ValidationError as error:
        message, param = describe_validation_error(error, "preferences")
        raise InvalidPreferences(message, param=param) from None
