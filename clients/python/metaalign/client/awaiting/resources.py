"""The parts of a client: dialogues, profiles, feedback, and what operators do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from metaalign.client.awaiting.sending import AsyncSender
from metaalign.client.awaiting.streams import AsyncOpening
from metaalign.client.exchange import (
    Call,
    PreferencesField,
    Repeatable,
    as_field,
    changing,
    chat_call,
    creating,
    path_of,
)
from metaalign.client.models import (
    AlignAnswer,
    AuditEntry,
    AuditPage,
    ChatAnswer,
    Erasure,
    FeedbackStored,
    ImportReport,
    Key,
    KeyPage,
    NewKey,
    Profile,
    ProfileDiff,
    ProfilePage,
    ProfilesDocument,
    ProfileVersion,
    Tenant,
    TenantPage,
    VersionPage,
)

__all__ = ["AsyncAdmin", "AsyncChat", "AsyncFeedback", "AsyncProfiles"]


class _AsyncResource:
    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender


class AsyncChat(_AsyncResource):
    """Dialogues, in OpenAI's form."""

    async def create(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> ChatAnswer:
        """Answer a dialogue.

        Args:
            messages: `{"role": …, "content": …}` of each turn, the last one the user's.
            preferences: Of provider and user; a text is short for System Info.
            model: A served model, `model@profile`, or None for the server's own.
            options: Any other field of `/v1/chat/completions`: `temperature`, `tools`, `max_completion_tokens`, …
        """
        return await self._sender.ask(chat_call(messages, preferences, model, options), ChatAnswer)

    def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> AsyncOpening:
        """The same as it is written: use it in a `with` statement, and iterate over the text."""
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        return AsyncOpening(self._sender, chat_call(messages, preferences, model, usage | options))


class AsyncProfiles(_AsyncResource):
    """Named preferences with numbered versions and labels."""

    async def create(
        self,
        name: str,
        preferences: PreferencesField,
        *,
        note: str = "",
        learn: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Profile:
        """Create a profile with its first version."""
        body = {"name": name, "preferences": as_field(preferences), "note": note}
        body |= {} if learn is None else {"learn": learn}
        return await self._sender.ask(creating("/v1/profiles", body, idempotency_key), Profile)

    def list(self, *, archived: bool = False, page: int = 50) -> AsyncIterator[Profile]:
        """All profiles by name; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/profiles",
            ProfilePage,
            "after",
            lambda last: last.name,
            limit=page,
            archived=archived or None,
        )

    async def get(self, name: str) -> Profile:
        """A profile, with its labels."""
        return await self._sender.ask(Call("GET", path_of("profiles", name)), Profile)

    async def change(
        self,
        name: str,
        *,
        archived: bool | None = None,
        learn: Mapping[str, Any] | None = None,
        shared: bool | None = None,
        etag: str | None = None,
    ) -> Profile:
        """Archive, restore or share a profile, or change what it learns; with `etag` only if nobody did meanwhile."""
        given = {"archived": archived, "learn": learn, "shared": shared}
        body = {name: value for name, value in given.items() if value is not None}
        return await self._sender.ask(changing("PATCH", path_of("profiles", name), body, etag), Profile)

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """Delete a profile with all its versions; `change(name, archived=True)` only takes it out of use."""
        await self._sender.send(changing("DELETE", path_of("profiles", name), None, etag))

    async def add_version(
        self,
        name: str,
        preferences: PreferencesField,
        *,
        note: str = "",
        etag: str | None = None,
        idempotency_key: str | None = None,
    ) -> ProfileVersion:
        """Add a version; it gets the next number and never changes."""
        body = {"preferences": as_field(preferences), "note": note}
        call = changing("POST", path_of("profiles", name, "versions"), body, etag, idempotency_key)
        return await self._sender.ask(call, ProfileVersion)

    def versions(self, name: str, *, page: int = 50) -> AsyncIterator[ProfileVersion]:
        """All versions, newest first; pages are fetched as they are needed."""
        return self._sender.pages(
            path_of("profiles", name, "versions"),
            VersionPage,
            "before",
            lambda last: last.version,
            limit=page,
        )

    async def version(self, name: str, number: int) -> ProfileVersion:
        """One version."""
        return await self._sender.ask(
            Call("GET", path_of("profiles", name, "versions", number)), ProfileVersion
        )

    async def diff(self, name: str, old: int, new: int) -> ProfileDiff:
        """What changed from one version to another."""
        query = {"from": old, "to": new}
        return await self._sender.ask(
            Call("GET", path_of("profiles", name, "diff"), query=query), ProfileDiff
        )

    async def move_label(
        self,
        name: str,
        label: str,
        to: int | Mapping[int, int],
        *,
        protected: bool | None = None,
        etag: str | None = None,
    ) -> Profile:
        """Let a label point to a version, or to several by weight: `{3: 90, 4: 10}` sends every tenth request to 4."""
        body: dict[str, Any] = (
            {"version": to}
            if isinstance(to, int)
            else {"versions": [{"version": version, "weight": weight} for version, weight in to.items()]}
        )
        body |= {} if protected is None else {"protected": protected}
        return await self._sender.ask(
            changing("PUT", path_of("profiles", name, "labels", label), body, etag), Profile
        )

    async def delete_label(self, name: str, label: str, *, etag: str | None = None) -> Profile:
        """Remove a label."""
        return await self._sender.ask(
            changing("DELETE", path_of("profiles", name, "labels", label), None, etag), Profile
        )

    async def roll_back(self, name: str, label: str, *, etag: str | None = None) -> Profile:
        """Let a label point to where it pointed before its last move."""
        path = path_of("profiles", name, "labels", label, "rollback")
        return await self._sender.ask(changing("POST", path, None, etag), Profile)

    async def export(self) -> ProfilesDocument:
        """All profiles with their versions and labels, for another server or a repository."""
        return await self._sender.ask(Call("GET", "/v1/profiles:export"), ProfilesDocument)

    async def import_(
        self, document: ProfilesDocument | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> ImportReport:
        """Add what `export` gave; what is there already stays as it is."""
        body = document.model_dump(mode="json") if isinstance(document, BaseModel) else dict(document)
        return await self._sender.ask(creating("/v1/profiles:import", body, idempotency_key), ImportReport)


class AsyncFeedback(_AsyncResource):
    """What users think of answers, where the server keeps exchanges."""

    async def give(
        self,
        answer: str | AlignAnswer | ChatAnswer,
        rating: str | None = None,
        *,
        chosen: str | None = None,
        rejected: str | None = None,
    ) -> FeedbackStored:
        """Rate an answer `up` or `down`, or give a better (`chosen`) or a worse one (`rejected`).

        Args:
            answer: An answer, or its id.
        """
        body: dict[str, Any] = {"id": answer if isinstance(answer, str) else answer.id}
        given = {"rating": rating, "chosen": chosen, "rejected": rejected}
        body |= {name: value for name, value in given.items() if value is not None}
        return await self._sender.ask(Call("POST", "/v1/feedback", body), FeedbackStored)

    async def erase(self, user: str) -> Erasure:
        """Delete everything stored about a user of the key's tenant."""
        return await self._sender.ask(Call("POST", "/v1/feedback/erase", {"user": user}), Erasure)


class AsyncTenants(_AsyncResource):
    """Tenants; takes an operator's key."""

    async def create(self, name: str, **settings: Any) -> Tenant:
        """Create a tenant; `settings`: `policy`, `limits`, `share_cache`, `share_policy`."""
        body = {"name": name, **settings}
        # Without an idempotency key: a second one of that name is refused.
        return await self._sender.ask(
            Call("POST", "/v1/admin/tenants", body, repeatable="if-refused"), Tenant
        )

    def list(self, *, page: int = 50) -> AsyncIterator[Tenant]:
        """All tenants by name; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/admin/tenants", TenantPage, "after", lambda last: last.name, limit=page
        )

    async def get(self, name: str) -> Tenant:
        """One tenant."""
        return await self._sender.ask(Call("GET", path_of("admin", "tenants", name)), Tenant)

    async def change(self, name: str, *, etag: str | None = None, **settings: Any) -> Tenant:
        """Change what `create` takes, or `disabled`; with `etag` only if nobody else did meanwhile."""
        headers = {} if etag is None else {"if-match": etag}
        # Repeated, a change that was made already would no longer match.
        again: Repeatable = "always" if etag is None else "if-refused"
        call = Call("PATCH", path_of("admin", "tenants", name), settings, headers=headers, repeatable=again)
        return await self._sender.ask(call, Tenant)


class AsyncKeys(_AsyncResource):
    """Keys; takes an operator's key."""

    async def create(self, scopes: Sequence[str], **settings: Any) -> NewKey:
        """Create a key; its secret is in the answer and nowhere else.

        Args:
            scopes: What it may do.
            settings: `tenant`, `name`, `limits`, `expires_at`.
        """
        body = {"scopes": [*scopes], **settings}
        # A second one would be a key that nobody has.
        return await self._sender.ask(Call("POST", "/v1/admin/keys", body, repeatable="if-refused"), NewKey)

    def list(self, *, tenant: str | None = None, page: int = 50) -> AsyncIterator[Key]:
        """All keys, or a tenant's; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/admin/keys", KeyPage, "after", lambda last: last.id, limit=page, tenant=tenant
        )

    async def revoke(self, key_id: str) -> Key:
        """End a key at once."""
        return await self._sender.ask(Call("POST", path_of("admin", "keys", key_id, "revoke")), Key)

    async def rotate(self, key_id: str, *, grace_seconds: int | None = None) -> NewKey:
        """Replace a key; the old one works until the grace period is over."""
        body = {} if grace_seconds is None else {"grace_seconds": grace_seconds}
        return await self._sender.ask(
            Call("POST", path_of("admin", "keys", key_id, "rotate"), body, repeatable="if-refused"), NewKey
        )


class AsyncAdmin(_AsyncResource):
    """What only the operator may do."""

    def __init__(self, sender: AsyncSender) -> None:
        super().__init__(sender)
        self.tenants = AsyncTenants(sender)
        self.keys = AsyncKeys(sender)

    def audit(self, *, tenant: str | None = None, page: int = 50) -> AsyncIterator[AuditEntry]:
        """All changes, newest first; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/admin/audit", AuditPage, "before", lambda last: last.id, limit=page, tenant=tenant
        )

    async def erase(self, user: str, *, tenant: str) -> Erasure:
        """Delete everything stored about a user of a tenant."""
        body = {"tenant": tenant, "user": user}
        return await self._sender.ask(Call("POST", "/v1/admin/users/erase", body), Erasure)
