"""The parts of a client: dialogues, profiles, feedback, and what operators do.

Made of `awaiting/` by `scripts/blocking_client.py`; do not edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from metaalign.client.blocking.sending import Sender
from metaalign.client.blocking.streams import Opening
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

__all__ = ["Admin", "Chat", "Feedback", "Profiles"]


class _Resource:
    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class Chat(_Resource):
    """Dialogues, in OpenAI's form."""

    def create(
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
        return self._sender.ask(chat_call(messages, preferences, model, options), ChatAnswer)

    def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> Opening:
        """The same as it is written: use it in a `with` statement, and iterate over the text."""
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        return Opening(self._sender, chat_call(messages, preferences, model, usage | options))


class Profiles(_Resource):
    """Named preferences with numbered versions and labels."""

    def create(
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
        return self._sender.ask(creating("/v1/profiles", body, idempotency_key), Profile)

    def list(self, *, archived: bool = False, page: int = 50) -> Iterator[Profile]:
        """All profiles by name; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/profiles",
            ProfilePage,
            "after",
            lambda last: last.name,
            limit=page,
            archived=archived or None,
        )

    def get(self, name: str) -> Profile:
        """A profile, with its labels."""
        return self._sender.ask(Call("GET", path_of("profiles", name)), Profile)

    def change(
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
        return self._sender.ask(changing("PATCH", path_of("profiles", name), body, etag), Profile)

    def delete(self, name: str, *, etag: str | None = None) -> None:
        """Delete a profile with all its versions; `change(name, archived=True)` only takes it out of use."""
        self._sender.send(changing("DELETE", path_of("profiles", name), None, etag))

    def add_version(
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
        return self._sender.ask(call, ProfileVersion)

    def versions(self, name: str, *, page: int = 50) -> Iterator[ProfileVersion]:
        """All versions, newest first; pages are fetched as they are needed."""
        return self._sender.pages(
            path_of("profiles", name, "versions"),
            VersionPage,
            "before",
            lambda last: last.version,
            limit=page,
        )

    def version(self, name: str, number: int) -> ProfileVersion:
        """One version."""
        return self._sender.ask(Call("GET", path_of("profiles", name, "versions", number)), ProfileVersion)

    def diff(self, name: str, old: int, new: int) -> ProfileDiff:
        """What changed from one version to another."""
        query = {"from": old, "to": new}
        return self._sender.ask(Call("GET", path_of("profiles", name, "diff"), query=query), ProfileDiff)

    def move_label(
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
        return self._sender.ask(
            changing("PUT", path_of("profiles", name, "labels", label), body, etag), Profile
        )

    def delete_label(self, name: str, label: str, *, etag: str | None = None) -> Profile:
        """Remove a label."""
        return self._sender.ask(
            changing("DELETE", path_of("profiles", name, "labels", label), None, etag), Profile
        )

    def roll_back(self, name: str, label: str, *, etag: str | None = None) -> Profile:
        """Let a label point to where it pointed before its last move."""
        path = path_of("profiles", name, "labels", label, "rollback")
        return self._sender.ask(changing("POST", path, None, etag), Profile)

    def export(self) -> ProfilesDocument:
        """All profiles with their versions and labels, for another server or a repository."""
        return self._sender.ask(Call("GET", "/v1/profiles:export"), ProfilesDocument)

    def import_(
        self, document: ProfilesDocument | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> ImportReport:
        """Add what `export` gave; what is there already stays as it is."""
        body = document.model_dump(mode="json") if isinstance(document, BaseModel) else dict(document)
        return self._sender.ask(creating("/v1/profiles:import", body, idempotency_key), ImportReport)


class Feedback(_Resource):
    """What users think of answers, where the server keeps exchanges."""

    def give(
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
        return self._sender.ask(Call("POST", "/v1/feedback", body), FeedbackStored)

    def erase(self, user: str) -> Erasure:
        """Delete everything stored about a user of the key's tenant."""
        return self._sender.ask(Call("POST", "/v1/feedback/erase", {"user": user}), Erasure)


class Tenants(_Resource):
    """Tenants; takes an operator's key."""

    def create(self, name: str, **settings: Any) -> Tenant:
        """Create a tenant; `settings`: `policy`, `limits`, `share_cache`, `share_policy`."""
        body = {"name": name, **settings}
        # Without an idempotency key: a second one of that name is refused.
        return self._sender.ask(Call("POST", "/v1/admin/tenants", body, repeatable="if-refused"), Tenant)

    def list(self, *, page: int = 50) -> Iterator[Tenant]:
        """All tenants by name; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/admin/tenants", TenantPage, "after", lambda last: last.name, limit=page
        )

    def get(self, name: str) -> Tenant:
        """One tenant."""
        return self._sender.ask(Call("GET", path_of("admin", "tenants", name)), Tenant)

    def change(self, name: str, *, etag: str | None = None, **settings: Any) -> Tenant:
        """Change what `create` takes, or `disabled`; with `etag` only if nobody else did meanwhile."""
        headers = {} if etag is None else {"if-match": etag}
        # Repeated, a change that was made already would no longer match.
        again: Repeatable = "always" if etag is None else "if-refused"
        call = Call("PATCH", path_of("admin", "tenants", name), settings, headers=headers, repeatable=again)
        return self._sender.ask(call, Tenant)


class Keys(_Resource):
    """Keys; takes an operator's key."""

    def create(self, scopes: Sequence[str], **settings: Any) -> NewKey:
        """Create a key; its secret is in the answer and nowhere else.

        Args:
            scopes: What it may do.
            settings: `tenant`, `name`, `limits`, `expires_at`.
        """
        body = {"scopes": [*scopes], **settings}
        # A second one would be a key that nobody has.
        return self._sender.ask(Call("POST", "/v1/admin/keys", body, repeatable="if-refused"), NewKey)

    def list(self, *, tenant: str | None = None, page: int = 50) -> Iterator[Key]:
        """All keys, or a tenant's; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/admin/keys", KeyPage, "after", lambda last: last.id, limit=page, tenant=tenant
        )

    def revoke(self, key_id: str) -> Key:
        """End a key at once."""
        return self._sender.ask(Call("POST", path_of("admin", "keys", key_id, "revoke")), Key)

    def rotate(self, key_id: str, *, grace_seconds: int | None = None) -> NewKey:
        """Replace a key; the old one works until the grace period is over."""
        body = {} if grace_seconds is None else {"grace_seconds": grace_seconds}
        return self._sender.ask(
            Call("POST", path_of("admin", "keys", key_id, "rotate"), body, repeatable="if-refused"), NewKey
        )


class Admin(_Resource):
    """What only the operator may do."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender)
        self.tenants = Tenants(sender)
        self.keys = Keys(sender)

    def audit(self, *, tenant: str | None = None, page: int = 50) -> Iterator[AuditEntry]:
        """All changes, newest first; pages are fetched as they are needed."""
        return self._sender.pages(
            "/v1/admin/audit", AuditPage, "before", lambda last: last.id, limit=page, tenant=tenant
        )

    def erase(self, user: str, *, tenant: str) -> Erasure:
        """Delete everything stored about a user of a tenant."""
        body = {"tenant": tenant, "user": user}
        return self._sender.ask(Call("POST", "/v1/admin/users/erase", body), Erasure)
