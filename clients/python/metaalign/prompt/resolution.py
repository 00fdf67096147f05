"""Resolves layers of preferences into one Meta-Prompt specification: who may set what, and what wins.

System tier, in order: tenant policy, profiles, request, `system`/`developer` messages.
User tier, in order: profiles, request, `user_info` messages.

- A dimension set in the System tier beats the same dimension in the User tier.
- Within a tier a later layer overrides an earlier one, unless the earlier one locked the dimension.
- Nothing overrides a binding layer (a tenant's policy): all its dimensions and its priorities are locked.
- Free text is never edited; the texts of a tier appear in layer order.

`resolve()` is a pure function: equal layers give an equal `Resolution`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metaalign.errors import InvalidPreferences
from metaalign.preferences import Example, Preferences, Strength, SystemPreferences, UserPreferences

__all__ = ["Layer", "Overridden", "Resolution", "Tier", "request_layers", "resolve"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of preferences.

    Attributes:
        source: Origin of the layer: `tenant`, `profile support:3`, `request` or `messages`.
        system: Its System part, if any.
        user: Its User part, if any.
        binding: If set, no later layer overrides its dimensions or priorities.
        strength: How strongly the tiers shall act, if it says so.
        blend: User tiers to mix, with their weights.
        candidates: How many answers to sample, if it says so.
    """

    source: str
    system: SystemPreferences | None = None
    user: UserPreferences | None = None
    binding: bool = False
    strength: Strength | None = None
    blend: tuple[tuple[UserPreferences, float], ...] = ()
    candidates: int | None = None

    @classmethod
    def of(
        cls, source: str, preferences: Preferences, profiles: Mapping[str, UserPreferences] | None = None
    ) -> Layer:
        """Return the layer that a whole `preferences` field is.

        Args:
            source: Its origin.
            preferences: The field.
            profiles: The User parts of the profiles that its blend names.

        Raises:
            InvalidPreferences: `profiles` lacks one of them.
        """
        blend = []
        total = sum(part.weight for part in preferences.blend)
        for number, part in enumerate(preferences.blend):
            user = part.user if part.user is not None else (profiles or {}).get(part.profile or "")
            if user is None:
                path = f"preferences.blend[{number}].profile"
                raise InvalidPreferences(f"{path}: profiles are stored on a server", param=path)
            blend.append((user, part.weight / total))
        return cls(
            source,
            preferences.system,
            preferences.user,
            strength=preferences.strength,
            blend=tuple(blend),
            candidates=preferences.candidates,
        )

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return self == Layer(self.source)


@dataclass(frozen=True, slots=True)
class Overridden:
    """A value that was not rendered: `value` of `dimension` in `tier` lost to `kept`, set by layer `by`."""

    dimension: str
    tier: str
    value: str
    kept: str
    by: str


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier after resolution; attributes are in the order in which they were first set."""

    texts: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result of `resolve()`: two tiers and the overridden values."""

    system: Tier
    user: Tier
    overridden: tuple[Overridden, ...] = ()


def request_layers(
    preferences: Preferences | None,
    *,
    system_messages: Iterable[str] = (),
    user_info_messages: Iterable[str] = (),
    blended: Mapping[str, UserPreferences] | None = None,
) -> tuple[Layer, ...]:
    """Return the layers that a request itself contributes: its field, then its messages.

    Args:
        preferences: The field.
        system_messages: Texts of its system messages.
        user_info_messages: Texts of its messages of the role `user_info`.
        blended: The User parts of the profiles that its blend names.

    Raises:
        InvalidPreferences: `blended` lacks one of them.
    """
    layers: list[Layer] = []
    if preferences is not None and not (own := Layer.of("request", preferences, blended)).empty:
        layers.append(own)
    # The bounds of the field do not apply to messages, so they are constructed without validation.
    layers.extend(
        Layer("messages", system=SystemPreferences.model_construct(info=text, attributes={}))
        for text in system_messages
    )
    layers.extend(
        Layer("messages", user=UserPreferences.model_construct(info=text, attributes={}))
        for text in user_info_messages
    )
    return tuple(layers)


@dataclass(slots=True)
class _Choice:
    value: str
    source: str
    locked: bool


def _merge(
    parts: Sequence[tuple[Layer, SystemPreferences | UserPreferences]],
    tier: str,
    fixed: dict[str, _Choice],
    overridden: list[Overridden],
) -> dict[str, _Choice]:
    """Choose one value per dimension; `fixed` holds the choices of a higher tier."""
    chosen: dict[str, _Choice] = {}
    for layer, part in parts:
        locked = part.locked if isinstance(part, SystemPreferences) else ()
        for name, value in part.attributes.items():
            new = _Choice(value, f"{tier}:{layer.source}", layer.binding or name in locked)
            higher, earlier = fixed.get(name), chosen.get(name)
            if higher is not None:
                if higher.value != value:
                    overridden.append(Overridden(name, tier, value, higher.value, higher.source))
            elif earlier is None:
                chosen[name] = new
            elif earlier.locked:
                if earlier.value != value:
                    overridden.append(Overridden(name, tier, value, earlier.value, earlier.source))
            else:
                if earlier.value != value:
                    overridden.append(Overridden(name, tier, earlier.value, value, new.source))
                chosen[name] = new
    return chosen


def resolve(layers: Sequence[Layer]) -> Resolution:
    """Merge `layers`, given in order of precedence (earliest first), into one specification."""
    system = [(layer, layer.system) for layer in layers if layer.system is not None]
    user = [(layer, layer.user) for layer in layers if layer.user is not None]
    overridden: list[Overridden] = []
    system_choices = _merge(system, "system", {}, overridden)
    user_choices = _merge(user, "user", system_choices, overridden)
    return Resolution(
        system=Tier(
            texts=tuple(part.info for _, part in system if part.info),
            priorities=_priorities(system, overridden),
            attributes=tuple((name, choice.value) for name, choice in system_choices.items()),
        ),
        user=Tier(
            texts=tuple(part.info for _, part in user if part.info),
            attributes=tuple((name, choice.value) for name, choice in user_choices.items()),
            examples=tuple(example for _, part in user for example in part.examples),
        ),
        overridden=tuple(overridden),
    )


def _priorities(
    parts: Sequence[tuple[Layer, SystemPreferences]], overridden: list[Overridden]
) -> tuple[str, ...]:
    """Return the order of priorities that wins: the last one, or the first binding one."""
    chosen: _Choice | None = None
    kept: tuple[str, ...] = ()
    for layer, part in parts:
        if not part.priorities:
            continue
        new = _Choice(", ".join(part.priorities), f"system:{layer.source}", layer.binding)
        if chosen is not None and part.priorities != kept:
            loser, winner = (new, chosen) if chosen.locked else (chosen, new)
            overridden.append(Overridden("priorities", "system", loser.value, winner.value, winner.source))
        if chosen is None or not chosen.locked:
            chosen, kept = new, part.priorities
    return kept
