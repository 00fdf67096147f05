"""The server's interface for the routes: readiness, the served model, the context of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from metaalign import Preferences, ProfileNotFound, SystemTierForbidden, parse_preferences
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.context import Recording, RequestContext
from metaalign_server.alignment.layers import ProfileChoice, choose_profiles, stored_layers
from metaalign_server.alignment.verification import parse_verify
from metaalign_server.callers import Caller
from metaalign_server.platform.exchanges import Exchange
from metaalign_server.platform.fair_queue import FairQueue
from metaalign_server.platform.startup import Platform
from metaalign_server.platform.tenants import find_tenant
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

    def cut_off(self) -> None:
        """End all answers with an error, because the server stops."""
        ...

    async def ping(self) -> None:
        """Return once the engine has answered a call between two of its steps."""
        ...

    async def prefill(self, context: RequestContext, token_ids: Sequence[int]) -> None:
        """Compute a prompt's blocks for the prefix cache, with the salt of `context`, after everything else."""
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

    @property
    def idle(self) -> bool:
        """Whether no request runs or waits, and the server takes some."""
        return self.ready and not self.queue.taken and not self.queue.waiting

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
            _refuse_weaker_system(context)
            return context
        await self._add_stored(self.platform, context, choice, user)
        _refuse_weaker_system(context)
        if context.stored.layers:
            self.platform.hot.note(caller.tenant.id, context.stored.profiles)
        return context

    async def ahead(self, tenant_id: str, references: tuple[str, ...]) -> RequestContext | None:
        """Return the context of a request that might come, with what the tenant's policy and these profiles say.

        Returns:
            None if the tenant or a profile is gone, or there is no store.

        Raises:
            StoreUnavailable.
        """
        if self.platform is None:
            return None
        async with self.platform.database.read() as connection:
            row = await find_tenant(connection, tenant_id=tenant_id)
        if row is None or row.disabled:
            return None
        context = RequestContext(caller=Caller(frozenset(), tenant=row.tenant))
        try:
            await self._add_stored(self.platform, context, ProfileChoice(references), None)
        except ProfileNotFound:
            return None
        context.applied = self.aligner.apply(None, stored=context.stored)
        return context

    @staticmethod
    async def _add_stored(
        platform: Platform, context: RequestContext, choice: ProfileChoice, user: str | None
    ) -> None:
        """Add to a context what the store says, and what keeps its prefix-cache blocks apart."""
        tenant = context.caller.tenant
        blend = context.preferences.blend if context.preferences is not None else ()
        context.stored = await stored_layers(platform, context.caller, choice, user, blend)
        if not tenant.share_cache:
            context.cache_salt = platform.secret.cache_salt(tenant.id)
            context.operator_salt = platform.secret.operator_salt

    def record(self, context: RequestContext, user: str | None, user_ref: str | None = None) -> None:
        """Store the exchange for feedback once it is complete, if the operator has enabled feedback.

        Args:
            context: The request.
            user: The user's id, if it names one.
            user_ref: Otherwise the keyed hash of it, if that is known.
        """
        platform, tenant = self.platform, context.caller.tenant
        if platform is None or not platform.settings.feedback:
            return
        whose = platform.secret.user(tenant.id, user) if user is not None else user_ref

        def keep(answer_id: str, recording: Recording) -> None:
            platform.recorder.add(
                Exchange(
                    id=answer_id,
                    tenant_id=tenant.id,
                    user_ref=whose,
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


def _refuse_weaker_system(context: RequestContext) -> None:
    """Refuse a strength of the System tier that a key without the scope `system` may not give.

    Raises:
        SystemTierForbidden: as said.
    """
    asked = context.preferences.strength if context.preferences is not None else None
    if asked is None or asked.system is None or context.caller.may_write_system:
        return
    if asked.system < 1:
        raise SystemTierForbidden(
            "preferences.strength.system: this key lacks the scope `system` and may not weaken the System tier; give"
            ' {"user": …} alone',
            param="preferences.strength.system",
        )
