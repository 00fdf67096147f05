"""The profiles that a request names, and what the store adds to it: policy, profiles and learned examples."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from metaalign import ConflictingProfiles, InvalidPreferences, Preferences, ProfileNotFound, UserPreferences
from metaalign.preferences import LIMITS, PROFILE_REFERENCE, BlendPart
from metaalign.prompt import Layer
from metaalign_server.callers import Caller
from metaalign_server.platform.lookups import StoredProfile
from metaalign_server.platform.startup import Platform

__all__ = ["NOTHING_STORED", "ProfileChoice", "StoredLayers", "choose_profiles", "stored_layers"]


@dataclass(frozen=True, slots=True)
class ProfileChoice:
    """The profiles that a request names.

    Attributes:
        references: For example `support:3`; later ones take precedence.
        door: The part of the request that names them, for error messages.
    """

    references: tuple[str, ...] = ()
    door: str = ""


def choose_profiles(preferences: Preferences | None, header: str | None, model: str | None) -> ProfileChoice:
    """Return the profiles that a request names through one of three doors: its body, the header, the model suffix.

    Raises:
        InvalidPreferences: a name is malformed.
        ConflictingProfiles: two doors disagree.
    """
    doors = {
        "preferences.profile": preferences.profile if preferences else (),
        "X-MetaAlign-Profile": _split(header, "X-MetaAlign-Profile"),
        "model": _split(model, "model"),
    }
    named = {door: references for door, references in doors.items() if references}
    if len(set(named.values())) > 1:
        raise ConflictingProfiles(
            f"{' and '.join(named)} name different profiles; name it in one place", param=next(iter(named))
        )
    return next((ProfileChoice(references, door) for door, references in named.items()), ProfileChoice())


def _split(reference: str | None, door: str) -> tuple[str, ...]:
    if not reference:
        return ()
    references = tuple(part.strip() for part in reference.split(","))
    if len(references) > LIMITS["profiles"]:
        raise InvalidPreferences(f"{door}: at most {LIMITS['profiles']} profiles", param=door)
    if not all(re.fullmatch(PROFILE_REFERENCE, part) for part in references):
        raise InvalidPreferences(
            f"{door}: a profile is named like `support`, `support:3` or `support@stable`", param=door
        )
    return references


@dataclass(frozen=True, slots=True)
class StoredLayers:
    """What the store adds to a request.

    Attributes:
        layers: In order of precedence, all before the request's own.
        profiles: Names for the receipt, for example `support:3`.
        learned_examples: How many examples come from feedback.
        learns_for: The profile that feedback on the answer goes to, if any.
        key: Cache key; equal for equal layers.
        shared: Those that the operator wrote for several tenants; their System texts' cache blocks may be shared.
        blended: The User parts of the profiles that the request's blend names.
        confidential: Whether any layer has a System part, or examples from feedback, which are users' own words.
    """

    layers: tuple[Layer, ...] = ()
    profiles: tuple[str, ...] = ()
    learned_examples: int = 0
    learns_for: int | None = None
    key: Hashable = None
    shared: tuple[Layer, ...] = ()
    blended: Mapping[str, UserPreferences] = field(default_factory=dict)
    confidential: bool = False


NOTHING_STORED = StoredLayers()


async def stored_layers(
    platform: Platform,
    caller: Caller,
    choice: ProfileChoice,
    user: str | None,
    blend: Sequence[BlendPart] = (),
) -> StoredLayers:
    """Return the stored layers of a request.

    Args:
        platform: Provides the layers.
        caller: The caller whose tenant's policy and profiles apply.
        choice: The profiles that the request names.
        user: The user's id, if the request names one; weighted labels and learned examples depend on it.
        blend: The request's blend.

    Raises:
        ProfileNotFound: a profile does not exist for this tenant.
        InvalidPreferences: a profile of the blend has no User part, or more than one.
        StoreUnavailable: a value is not cached and the store is unavailable.
    """
    policy = caller.tenant.policy
    blended, versions = await _blended(platform, caller, blend, user)
    if not choice.references and policy is None and not blended:
        return NOTHING_STORED
    layers = [Layer("tenant", system=policy, binding=True)] if policy is not None else []
    try:
        found = await platform.lookups.find_profiles(caller.tenant.id, choice.references, user)
    except ProfileNotFound as error:
        raise ProfileNotFound(f"{choice.door}: {error.message}", param=choice.door) from None
    keys: list[object] = [
        policy.model_dump_json() if policy is not None else None,
        caller.tenant.share_policy,
        versions,
    ]
    shared = layers[:1] if caller.tenant.share_policy else []
    learned = 0
    user_ref = platform.secret.user(caller.tenant.id, user) if user is not None else None
    for profile in found:
        preferences = profile.preferences
        layers.append(Layer.of(f"profile {profile.reference}", preferences))
        keys.append((profile.profile_id, profile.number, profile.shared))
        if profile.shared:
            shared.append(layers[-1])
        whose = user_ref if profile.learn_scope == "user" else None
        if profile.learn_examples and platform.settings.feedback and (whose or profile.learn_scope != "user"):
            examples = await platform.learned.get((profile.profile_id, whose, profile.learn_examples))
            if examples:
                # Bounds apply to one layer; the examples were checked one by one when they were read.
                part = UserPreferences.model_construct(attributes={}, examples=examples)
                layers.append(Layer(f"feedback on {profile.reference}", user=part))
                keys.append(examples)
                learned += len(examples)
    return StoredLayers(
        layers=tuple(layers),
        profiles=tuple(profile.reference for profile in found),
        learned_examples=learned,
        learns_for=_learns_for(found),
        key=tuple(keys),
        shared=tuple(shared),
        blended=blended,
        confidential=learned > 0 or any(layer.system is not None for layer in layers),
    )


async def _blended(
    platform: Platform, caller: Caller, blend: Sequence[BlendPart], user: str | None
) -> tuple[dict[str, UserPreferences], Hashable]:
    """Return the User parts of the profiles that a blend names, and a cache key for them."""
    found: dict[str, UserPreferences] = {}
    key = []
    for number, part in enumerate(blend):
        if part.profile is None:
            continue
        path = f"preferences.blend[{number}].profile"
        try:
            (profile,) = await platform.lookups.find_profiles(caller.tenant.id, (part.profile,), user)
        except ProfileNotFound as error:
            raise ProfileNotFound(f"{path}: {error.message}", param=path) from None
        own = Layer.of(profile.reference, profile.preferences)
        if own.user is None or own != Layer(own.source, user=own.user):
            raise InvalidPreferences(
                f"{path}: a blend mixes User tiers, so its profiles have a `user` part and nothing else; name"
                f" `{part.profile}` in `preferences.profile` instead",
                param=path,
            )
        found[part.profile] = own.user
        key.append((part.profile, profile.profile_id, profile.number))
    return found, tuple(key)


def _learns_for(found: Sequence[StoredProfile]) -> int | None:
    """Return the profile of highest precedence that learns, or else the one of highest precedence."""
    learning = [profile for profile in found if profile.learn_examples] or list(found)
    return learning[-1].profile_id if learning else None
