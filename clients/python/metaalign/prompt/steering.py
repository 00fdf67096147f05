"""Steering: how strongly each tier acts, which User tiers are mixed, and the branches that this takes.

With l_0 the logits of a dialogue without tiers, l_sys those with System Info and l_full those with both, an answer is
drawn from

    l = l_0 + s_system (l_sys - l_0) + s_user (l_full - l_sys)

(the contrast of classifier-free guidance, arXiv 2306.17806, for each tier). A blend puts the weighted sum of the logits
of several User tiers in the place of l_full. Resolution comes first: what System overrides is in no branch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from metaalign.errors import InvalidPreferences
from metaalign.preferences import MAX_STRENGTH
from metaalign.prompt.rendering import MetaPrompt, render
from metaalign.prompt.resolution import Layer, Overridden, Resolution, Tier, resolve
from metaalign.receipt import SteeringApplied, StrengthApplied

__all__ = ["Branch", "Steered", "steer"]

_DIGITS = 9
"""Of a coefficient; below that it is 0."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One prompt for the answer, and what its logits are multiplied by."""

    meta_prompt: MetaPrompt
    coefficient: float


@dataclass(frozen=True, slots=True)
class Steered:
    """What layers of preferences come to.

    Attributes:
        resolution: Both tiers, and what lost; of a blend, those of its part with the highest weight.
        branches: At least one. The first leads: it is the whole Meta-Prompt if that takes any part.
        strength: Of the System and of the User tier.
        blend: The weights of a blend, as its parts are given; empty without one.
        candidates: How many answers to sample; 1 for an answer as it comes.
        spec_hash: SHA-256 of the leading texts, or of those of all branches with their coefficients.
    """

    resolution: Resolution
    branches: tuple[Branch, ...]
    strength: tuple[float, float] = (1.0, 1.0)
    blend: tuple[float, ...] = ()
    candidates: int = 1

    @property
    def plain(self) -> bool:
        """Whether nothing is steered."""
        return self.strength == (1.0, 1.0) and not self.blend and self.candidates == 1

    @property
    def applied(self) -> SteeringApplied | None:
        """What a receipt says of it before there is an answer; None if nothing is steered."""
        if self.plain:
            return None
        of_system, of_user = self.strength
        return SteeringApplied(
            strength=StrengthApplied(system=of_system, user=of_user),
            branches=len(self.branches),
            blend=self.blend or None,
            candidates=self.candidates if self.candidates > 1 else None,
        )

    @property
    def spec_hash(self) -> str:
        """See above."""
        first = self.branches[0]
        if len(self.branches) == 1:
            return first.meta_prompt.spec_hash
        said = [[branch.meta_prompt.spec_hash, branch.coefficient] for branch in self.branches]
        return hashlib.sha256(json.dumps(said).encode("ascii")).hexdigest()


def steer(layers: Sequence[Layer]) -> Steered:
    """Resolve `layers`, in order of precedence, and say which branches draw the answer.

    Raises:
        InvalidPreferences: a blend meets a strength of the User tier.
    """
    strength, lost = _strength(layers)
    blend = next((layer.blend for layer in reversed(layers) if layer.blend), ())
    candidates = next((layer.candidates for layer in reversed(layers) if layer.candidates is not None), 1)
    if blend and strength[1] != 1:
        raise InvalidPreferences(
            "preferences.blend: does not go with a strength of the User tier, whose place it takes; set `strength.user`"
            " to 1, or leave out one of the two",
            param="preferences.blend",
        )
    parts = [(Layer(f"blend[{number}]", user=user), weight) for number, (user, weight) in enumerate(blend)]
    whole = [(resolve([*layers, part]), weight) for part, weight in parts] or [(resolve(layers), 1.0)]
    whole.sort(key=lambda one: -one[1])
    leading = whole[0][0]
    overridden = dict.fromkeys(
        (*lost, *(entry for resolution, _ in whole for entry in resolution.overridden))
    )
    branches = _branches(whole, strength)
    return Steered(
        Resolution(leading.system, leading.user, tuple(overridden)),
        branches,
        strength,
        tuple(weight for _, weight in blend),
        candidates,
    )


def _branches(whole: Sequence[tuple[Resolution, float]], strength: tuple[float, float]) -> tuple[Branch, ...]:
    """Return the branches with a coefficient other than 0; those with equal prompts are one."""
    of_system, of_user = strength
    system = whole[0][0].system
    terms = [(render(resolution), of_user * weight) for resolution, weight in whole]
    if strength != (1.0, 1.0):
        terms.append((render(Resolution(system, Tier())), of_system - of_user))
        terms.append((render(Resolution(Tier(), Tier())), 1 - of_system))
    coefficients: dict[MetaPrompt, float] = {}
    for meta_prompt, coefficient in terms:
        coefficients[meta_prompt] = coefficients.get(meta_prompt, 0.0) + coefficient
    found = [Branch(prompt, round(value, _DIGITS)) for prompt, value in coefficients.items()]
    return tuple(branch for branch in found if branch.coefficient)


def _strength(layers: Sequence[Layer]) -> tuple[tuple[float, float], list[Overridden]]:
    """Return the strength of both tiers: the last one that is given, within the bounds of the layers before it."""
    found: list[float] = []
    lost: list[Overridden] = []
    for tier in ("system", "user"):
        value, low, high, by = 1.0, 0.0, MAX_STRENGTH, ""
        for layer in layers:
            wanted = getattr(layer.strength, tier) if layer.strength is not None else None
            if wanted is not None:
                value = min(max(wanted, low), high)
                if value != wanted:
                    lost.append(Overridden("strength", tier, f"{wanted:g}", f"{value:g}", by))
            bounds = _bounds(layer, tier)
            if bounds is not None and max(low, bounds[0]) <= min(high, bounds[1]):
                low, high, by = max(low, bounds[0]), min(high, bounds[1]), f"system:{layer.source}"
                value = min(max(value, low), high)
        found.append(value)
    return (found[0], found[1]), lost


def _bounds(layer: Layer, tier: str) -> tuple[float, float] | None:
    """Return what a layer says of later layers' strength; nobody weakens a binding one unless it says so itself."""
    if layer.system is None:
        return None
    said = layer.system.strength_bounds
    bounds: tuple[float, float] | None = getattr(said, tier) if said is not None else None
    if bounds is None and layer.binding and tier == "system":
        return (1.0, MAX_STRENGTH)
    return bounds
