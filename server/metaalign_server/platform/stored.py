"""What the store adds to a request, as layers: the tenant's policy, the named profiles, and what they have learned."""

from __future__ import annotations

from collections.abc import Sequence

from metaalign import ProfileNotFound, UserPreferences
from metaalign.prompt import Layer
from metaalign_server.alignment import NOTHING_STORED, StoredLayers
from metaalign_server.auth import Caller
from metaalign_server.platform.directory import StoredProfile
from metaalign_server.platform.startup import Platform

__all__ = ["stored_layers"]


async def stored_layers(
    platform: Platform, caller: Caller, references: Sequence[str], door: str, user: str | None
) -> tuple[StoredLayers, tuple[StoredProfile, ...]]:
    """The layers of a request, and the profiles that they come from.

    Args:
        platform: Where they are kept.
        caller: Whose policy and profiles.
        references: The profiles, the later the stronger.
        door: Which part of the request names them, for the error.
        user: The user's id, if the request names one: weighted labels and learned examples go by it.

    Raises:
        ProfileNotFound: one does not exist for this tenant.
        StoreUnavailable: one was never seen, and the store is away.
    """
    policy = caller.tenant.policy
    if not references and policy is None:
        return NOTHING_STORED, ()
    layers = [Layer("tenant", system=policy, binding=True)] if policy is not None else []
    try:
        found = await platform.directory.find_profiles(caller.tenant.id, references, user)
    except ProfileNotFound as error:
        raise ProfileNotFound(f"{door}: {error.message}", param=door) from None
    keys: list[object] = [policy.model_dump_json() if policy is not None else None]
    learned = 0
    user_ref = platform.secret.user(caller.tenant.id, user) if user is not None else None
    for profile in found:
        preferences = profile.preferences
        layers.append(Layer(f"profile {profile.reference}", preferences.system, preferences.user))
        keys.append((profile.profile_id, profile.number))
        whose = user_ref if profile.learn_scope == "user" else None
        if profile.learn_examples and platform.settings.feedback and (whose or profile.learn_scope != "user"):
            examples = await platform.learned.get((profile.profile_id, whose, profile.learn_examples))
            if examples:
                # Bounds hold for one layer; these were checked one by one when they were read.
                part = UserPreferences.model_construct(attributes={}, examples=examples)
                layers.append(Layer(f"feedback on {profile.reference}", user=part))
                keys.append(examples)
                learned += len(examples)
    stored = StoredLayers(
        layers=tuple(layers),
        profiles=tuple(profile.reference for profile in found),
        learned_examples=learned,
        key=tuple(keys),
        confidential=any(layer.system is not None for layer in layers),
    )
    return stored, found
