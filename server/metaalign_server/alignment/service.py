"""The server's interface for the routes: readiness, the served model, the context of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from metaalign import Preferences, ProfileNotFound, SystemTierForbidden, parse_preferences
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.context import Recording, RequestContext
from metaalign_server.alignment.layers import choose_profiles, stored_layers
from metaalign_server.alignment.verification import parse_verify
from metaalign_server.callers import Caller
from metaalign_server.platform.exchanges import Exchange
from metaalign_server.platform.fair_queue import FairQueue
from metaalign_server.platform.startup import Platform
from metaalign_server.settings import Settings

__all__ = ["Engine", "Service"]


class Engine(Protocol):
    """What the server needs from the engine besides answers."""

    @property
    def version(self) -> str:
        """The version of vLLM."""
        ...

    @property
    def model_names(self) -> list[str]:
        """The names of the served model."""
        ...

    @property
    def reasons(self) -> bool:
        """Whether the engine knows where the model's reasoning ends."""
        ...

    @property
    def dead(self) -> bool:
        """Whether the engine has failed permanently."""
        ...

    @property
    def registry(self) -> CollectorRegistry:
        """The Prometheus registry to scrape, with the engine's metrics and ours."""
        ...

    async def ping(self) -> None:
        """Return once the engine has answered a call between two of its steps."""
        ...


@dataclass(slots=True)
class Service:
    """The server's state, at `app.state.metaalign`.

    Attributes:
        platform: The store and what is built on it; None under `vllm serve`.
        queue: The fair queue for the engine's places.
        draining: Whether the server has stopped accepting new work.
        stalled: Whether the engine is unresponsive; see `serving/watchdog.py`.
        answered_at: When the engine last answered, by `time.monotonic`; None while nobody watches it.
    """

    settings: Settings
    aligner: Aligner
    engine: Engine
    queue: FairQueue
    platform: Platform | None = None
    draining: bool = False
    stalled: bool = False
    answered_at: float | None = None

    @property
    def ready(self) -> bool:
        """Whether the server accepts new work."""
        return not self.draining and not self.stalled and not self.engine.dead

    def forget(self) -> None:
        """Make store changes take effect immediately, and drop cached texts that may have been erased."""
        self.aligner.forget()
        if self.platform is not None:
            self.platform.forget()

    async def open_request(
        self, field: object, caller: Caller, *, header: str | None, suffix: str, user: str | None
    ) -> RequestContext:
        """Create the context of a request, before it reaches the engine.

        Args:
            field: `preferences` as the client sent it.
            caller: The caller.
            header: Value of `X-MetaAlign-Profile`.
            suffix: The profile after `@` in the model name, or "".
            user: The user's id, if the request names one.

        Raises:
            InvalidPreferences, ConflictingProfiles, SystemTierForbidden, ProfileNotFound, StoreUnavailable.
        """
        preferences = _parse(field, caller)
        choice = choose_profiles(preferences, header, suffix)
        context = RequestContext(preferences=preferences, caller=caller)
        if preferences is not None and preferences.verify:
            named = preferences.verify
            context.verify = True if named is True else await parse_verify(named, caller.tenant.id)
            # It says nothing to the model, so that the prompt is the cached one.
            context.preferences = preferences.model_copy(update={"verify": None})
        if self.platform is None:
            if choice.references:
                raise ProfileNotFound(
                    f"{choice.door}: there are no profiles under `vllm serve`", param=choice.door
                )
            return context
        context.stored = await stored_layers(self.platform, caller, choice, user)
        if not caller.tenant.share_cache:
            context.cache_salt = self.platform.secret.cache_salt(caller.tenant.id)
            context.operator_salt = self.platform.secret.operator_salt
        return context

    def record(self, context: RequestContext, user: str | None) -> None:
        """Store the exchange for feedback once it is complete, if the operator has enabled feedback."""
        platform, tenant = self.platform, context.caller.tenant
        if platform is None or not platform.settings.feedback:
            return
        user_ref = platform.secret.user(tenant.id, user) if user is not None else None

        def keep(answer_id: str, recording: Recording) -> None:
            platform.recorder.add(
                Exchange(
                    id=answer_id,
                    tenant_id=tenant.id,
                    user_ref=user_ref,
                    profile_id=context.stored.learns_for,
                    profiles=context.stored.profiles,
                    messages=recording.messages,
                    answer=recording.answer,
                )
            )

        context.recording = Recording(keep)


def _parse(field: object, caller: Caller) -> Preferences | None:
    preferences = None if field is None else parse_preferences(field)
    if preferences is not None and preferences.system is not None and not caller.may_write_system:
        raise SystemTierForbidden(
            "preferences.system: this key lacks the scope `system`; put preferences of a user under `user`",
            param="preferences.system",
        )
    return preferences
