"""`AsyncMetaAlign`: a client for asyncio. `blocking.py` is made of this file by `scripts/blocking_client.py`.

async with AsyncMetaAlign() as client:
    answer = await client.align("What does a fox eat?", preferences={"user": "I like bullet points."})
    print(answer.text, answer.metaalign.overridden)
    async with client.chat.stream([{"role": "user", "content": "And a wolf?"}]) as stream:
        async for text in stream:
            print(text, end="")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from metaalign.client.exchange import (
    Call,
    PreferencesField,
    Settings,
    as_field,
    creating,
    events,
    failed,
    refused,
    wait_before,
)
from metaalign.client.failures import APIError, StreamBroken
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
    ModelList,
    NewKey,
    Profile,
    ProfileDiff,
    ProfilePage,
    ProfilesDocument,
    ProfileVersion,
    RenderAnswer,
    ServerVersion,
    State,
    Tenant,
    TenantPage,
    VersionPage,
)
from metaalign.receipt import Receipt

__all__ = ["AsyncChatStream", "AsyncMetaAlign"]

_Answer = TypeVar("_Answer", bound=BaseModel)


class AsyncChatStream:
    """A streamed answer: iterate over its pieces of text. Leaving the `with` block ends the request.

    Attributes:
        receipt: What was applied, once the first event is there; None without preferences.
        text: What has arrived so far.
        finish_reason: Why the answer ended; None before it has.
        usage: Tokens of prompt and answer, if the server tells.
        id: The answer's id, which feedback takes.
    """

    def __init__(self, response: httpx.Response, settings: Settings) -> None:
        self._response = response
        self._settings = settings
        self.receipt: Receipt | None = None
        self.text = ""
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.id: str | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        async with aclosing(self.events()) as chunks:
            async for event in chunks:
                for choice in event.get("choices", ()):
                    piece = choice.get("delta", {}).get("content")
                    if choice.get("index", 0) == 0 and piece:
                        yield piece

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """The events as the server sends them, in OpenAI's form.

        Raises:
            StreamBroken: the connection ended before the answer.
            APIError: the server could not finish the answer.
        """
        try:
            async for line in self._response.aiter_lines():
                for event in events(line):
                    self._note(event)
                    yield event
        except httpx.HTTPError as error:
            raise self._broken() from error
        if self.finish_reason is None:
            raise self._broken()

    async def until_done(self) -> str:
        """Read what is left, and return the whole text."""
        async for _ in self:
            pass
        return self.text

    def _broken(self) -> StreamBroken:
        where = self._settings.base_url
        return StreamBroken(f"{where} ended the stream before the answer: ask again", text=self.text)

    def _note(self, event: Mapping[str, Any]) -> None:
        self.id = event.get("id", self.id)
        if event.get("metaalign"):
            self.receipt = Receipt.model_validate(event["metaalign"])
        if event.get("usage"):
            self.usage = event["usage"]
        for choice in event.get("choices", ()):
            if choice.get("index", 0) == 0:
                self.text += choice.get("delta", {}).get("content") or ""
                self.finish_reason = choice.get("finish_reason") or self.finish_reason


class _AsyncOpening:
    """What `chat.stream` returns: the request is sent on entering."""

    def __init__(self, client: AsyncMetaAlign, call: Call) -> None:
        self._client = client
        self._call = call
        self._response: httpx.Response | None = None

    async def __aenter__(self) -> AsyncChatStream:
        self._response = await self._client._send(self._call, stream=True)
        return AsyncChatStream(self._response, self._client.settings)

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            await self._response.aclose()


class _AsyncResource:
    def __init__(self, client: AsyncMetaAlign) -> None:
        self._client = client

    async def _ask(self, call: Call, answer: type[_Answer]) -> _Answer:
        response = await self._client._send(call)
        return answer.model_validate_json(response.content)


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
        return await self._ask(_chat(messages, preferences, model, options), ChatAnswer)

    def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> _AsyncOpening:
        """The same as it is written: use it in a `with` statement, and iterate over the text."""
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        return _AsyncOpening(self._client, _chat(messages, preferences, model, usage | options))


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
        return await self._ask(creating("/v1/profiles", body, idempotency_key), Profile)

    async def list(self, *, archived: bool = False, page: int = 50) -> AsyncIterator[Profile]:
        """All profiles by name; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            query = {"limit": page, "after": after, "archived": "true" if archived else None}
            found = await self._ask(Call("GET", "/v1/profiles", query=query), ProfilePage)
            for profile in found.data:
                yield profile
            if not found.has_more:
                return
            after = found.data[-1].name

    async def get(self, name: str) -> Profile:
        """A profile, with its labels."""
        return await self._ask(Call("GET", f"/v1/profiles/{name}"), Profile)

    async def change(
        self,
        name: str,
        *,
        archived: bool | None = None,
        learn: Mapping[str, Any] | None = None,
        etag: str | None = None,
    ) -> Profile:
        """Archive or restore a profile, or change what it learns; with `etag` only if nobody changed it meanwhile."""
        body = {k: v for k, v in (("archived", archived), ("learn", learn)) if v is not None}
        return await self._ask(_changing("PATCH", f"/v1/profiles/{name}", body, etag), Profile)

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """Delete a profile with all its versions; `change(name, archived=True)` only takes it out of use."""
        await self._client._send(_changing("DELETE", f"/v1/profiles/{name}", None, etag))

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
        call = _changing("POST", f"/v1/profiles/{name}/versions", body, etag, idempotency_key)
        return await self._ask(call, ProfileVersion)

    async def versions(self, name: str, *, page: int = 50) -> AsyncIterator[ProfileVersion]:
        """All versions, newest first; pages are fetched as they are needed."""
        before: int | None = None
        while True:
            query = {"limit": page, "before": before}
            found = await self._ask(Call("GET", f"/v1/profiles/{name}/versions", query=query), VersionPage)
            for version in found.data:
                yield version
            if not found.has_more:
                return
            before = found.data[-1].version

    async def version(self, name: str, number: int) -> ProfileVersion:
        """One version."""
        return await self._ask(Call("GET", f"/v1/profiles/{name}/versions/{number}"), ProfileVersion)

    async def diff(self, name: str, old: int, new: int) -> ProfileDiff:
        """What changed from one version to another."""
        query = {"from": old, "to": new}
        return await self._ask(Call("GET", f"/v1/profiles/{name}/diff", query=query), ProfileDiff)

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
        return await self._ask(_changing("PUT", f"/v1/profiles/{name}/labels/{label}", body, etag), Profile)

    async def delete_label(self, name: str, label: str, *, etag: str | None = None) -> Profile:
        """Remove a label."""
        return await self._ask(
            _changing("DELETE", f"/v1/profiles/{name}/labels/{label}", None, etag), Profile
        )

    async def roll_back(self, name: str, label: str, *, etag: str | None = None) -> Profile:
        """Let a label point to where it pointed before its last move."""
        path = f"/v1/profiles/{name}/labels/{label}/rollback"
        return await self._ask(_changing("POST", path, None, etag), Profile)

    async def export(self) -> ProfilesDocument:
        """All profiles with their versions and labels, for another server or a repository."""
        return await self._ask(Call("GET", "/v1/profiles:export"), ProfilesDocument)

    async def import_(
        self, document: ProfilesDocument | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> ImportReport:
        """Add what `export` gave; what is there already stays as it is."""
        body = document.model_dump(mode="json") if isinstance(document, BaseModel) else dict(document)
        return await self._ask(creating("/v1/profiles:import", body, idempotency_key), ImportReport)


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
        return await self._ask(Call("POST", "/v1/feedback", body), FeedbackStored)

    async def erase(self, user: str) -> Erasure:
        """Delete everything stored about a user of the key's tenant."""
        return await self._ask(Call("POST", "/v1/feedback/erase", {"user": user}), Erasure)


class AsyncTenants(_AsyncResource):
    """Tenants; takes an operator's key."""

    async def create(self, name: str, **settings: Any) -> Tenant:
        """Create a tenant; `settings`: `policy`, `limits`, `share_cache`."""
        body = {"name": name, **settings}
        # Without an idempotency key: a second one of that name is refused.
        return await self._ask(Call("POST", "/v1/admin/tenants", body, repeatable=False), Tenant)

    async def list(self, *, page: int = 50) -> AsyncIterator[Tenant]:
        """All tenants by name; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            query = {"limit": page, "after": after}
            found = await self._ask(Call("GET", "/v1/admin/tenants", query=query), TenantPage)
            for tenant in found.data:
                yield tenant
            if not found.has_more:
                return
            after = found.data[-1].name

    async def get(self, name: str) -> Tenant:
        """One tenant."""
        return await self._ask(Call("GET", f"/v1/admin/tenants/{name}"), Tenant)

    async def change(self, name: str, *, etag: str | None = None, **settings: Any) -> Tenant:
        """Change `policy`, `limits`, `share_cache` or `disabled`; with `etag` only if nobody else did meanwhile."""
        headers = {} if etag is None else {"if-match": etag}
        return await self._ask(Call("PATCH", f"/v1/admin/tenants/{name}", settings, headers=headers), Tenant)


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
        return await self._ask(Call("POST", "/v1/admin/keys", body, repeatable=False), NewKey)

    async def list(self, *, tenant: str | None = None, page: int = 50) -> AsyncIterator[Key]:
        """All keys, or a tenant's; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            query = {"limit": page, "after": after, "tenant": tenant}
            found = await self._ask(Call("GET", "/v1/admin/keys", query=query), KeyPage)
            for key in found.data:
                yield key
            if not found.has_more:
                return
            after = found.data[-1].id

    async def revoke(self, key_id: str) -> Key:
        """End a key at once."""
        return await self._ask(Call("POST", f"/v1/admin/keys/{key_id}/revoke"), Key)

    async def rotate(self, key_id: str, *, grace_seconds: int | None = None) -> NewKey:
        """Replace a key; the old one works until the grace period is over."""
        body = {} if grace_seconds is None else {"grace_seconds": grace_seconds}
        return await self._ask(
            Call("POST", f"/v1/admin/keys/{key_id}/rotate", body, repeatable=False), NewKey
        )


class AsyncAdmin(_AsyncResource):
    """What only the operator may do."""

    def __init__(self, client: AsyncMetaAlign) -> None:
        super().__init__(client)
        self.tenants = AsyncTenants(client)
        self.keys = AsyncKeys(client)

    async def audit(self, *, tenant: str | None = None, page: int = 50) -> AsyncIterator[AuditEntry]:
        """All changes, newest first; pages are fetched as they are needed."""
        before: int | None = None
        while True:
            query = {"limit": page, "before": before, "tenant": tenant}
            found = await self._ask(Call("GET", "/v1/admin/audit", query=query), AuditPage)
            for entry in found.data:
                yield entry
            if not found.has_more:
                return
            before = found.data[-1].id

    async def erase(self, user: str, *, tenant: str) -> Erasure:
        """Delete everything stored about a user of a tenant."""
        body = {"tenant": tenant, "user": user}
        return await self._ask(Call("POST", "/v1/admin/users/erase", body), Erasure)


class AsyncMetaAlign(_AsyncResource):
    """A client of one server. It is safe to share, and keeps its connections until it is closed.

    Requests that failed without harm are sent again, after a growing pause or as long as the server asks for
    (`Retry-After`, up to a minute): when no connection was made, for 429 and 503, and when the connection broke, unless
    the answer may be on its way already.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 600,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Make a client.

        Args:
            base_url: The server's address; default: METAALIGN_BASE_URL, or this machine's port 8000.
            api_key: A key or a user token; default: METAALIGN_API_KEY.
            timeout: Seconds to wait for a connection, and between two parts of an answer.
            max_retries: How often a request is sent again.
            headers: Headers of every request.
            http_client: What sends the requests, for proxies and certificates; it is not closed with this client.
        """
        super().__init__(self)
        self.settings = Settings.read(base_url, api_key, timeout, max_retries, headers)
        self._own = http_client is None
        self._http = http_client or httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10)), follow_redirects=True
        )
        self.chat = AsyncChat(self)
        self.profiles = AsyncProfiles(self)
        self.feedback = AsyncFeedback(self)
        self.admin = AsyncAdmin(self)

    async def align(
        self,
        query: str,
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> AlignAnswer:
        """Answer one query.

        Args:
            query: The user's question.
            preferences: Of provider and user; a text is short for System Info.
            model: A served model, `model@profile`, or None for the server's own.
            options: `max_tokens`, `temperature`, `top_p`, `seed`, `stop`, `user`, `store`.
        """
        body = _with_preferences({"query": query, **options}, preferences, model)
        return await self._ask(Call("POST", "/v1/align", body, repeatable=False), AlignAnswer)

    def align_stream(
        self,
        query: str,
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> _AsyncOpening:
        """The same as it is written: use it in a `with` statement, and iterate over the text."""
        messages = [{"role": "user", "content": query}]
        return self.chat.stream(messages, preferences=preferences, model=model, **options)

    async def render(
        self,
        preferences: PreferencesField,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        model: str | None = None,
        **options: Any,
    ) -> RenderAnswer:
        """What the model would be told, without an answer."""
        body = _with_preferences({"messages": [*messages], **options}, preferences, model)
        return await self._ask(Call("POST", "/v1/preferences/render", body), RenderAnswer)

    async def models(self) -> ModelList:
        """The served models."""
        return await self._ask(Call("GET", "/v1/models"), ModelList)

    async def version(self) -> ServerVersion:
        """What the server is made of."""
        return await self._ask(Call("GET", "/version"), ServerVersion)

    async def ready(self) -> State:
        """Whether the server takes requests; an `APIError` with status 503 if it does not."""
        return await self._ask(Call("GET", "/readyz"), State)

    async def close(self) -> None:
        """End the connections."""
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call, *, stream: bool = False) -> httpx.Response:
        settings = self.settings
        url, arguments = settings.base_url + call.path, call.arguments()
        arguments["headers"] = settings.sent_headers() | arguments["headers"]
        attempt = 0
        while True:
            request = self._http.build_request(call.method, url, **arguments)
            failure: Exception
            try:
                response = await self._http.send(request, stream=stream)
                if response.is_success:
                    return response
                if stream:
                    await response.aread()
                    await response.aclose()
                failure = refused(response)
            except httpx.HTTPError as error:
                failure = error
            pause = wait_before(attempt, settings, call, failure)
            if pause is None:
                if isinstance(failure, httpx.HTTPError):
                    raise failed(settings, failure) from failure
                assert isinstance(failure, APIError)
                raise failure
            attempt += 1
            await asyncio.sleep(pause)


def _with_preferences(
    body: dict[str, Any], preferences: PreferencesField | None, model: str | None
) -> dict[str, Any]:
    given = {"preferences": as_field(preferences), "model": model}
    return body | {name: value for name, value in given.items() if value is not None}


def _chat(
    messages: Sequence[Mapping[str, Any]],
    preferences: PreferencesField | None,
    model: str | None,
    options: Mapping[str, Any],
) -> Call:
    body = _with_preferences({"messages": [*messages], **options}, preferences, model)
    return Call("POST", "/v1/chat/completions", body, repeatable=False)


def _changing(
    method: str, path: str, body: Any, etag: str | None, idempotency_key: str | None = None
) -> Call:
    """A change of a profile, which the server makes once however often it is sent."""
    call = creating(path, body, idempotency_key, method=method)
    headers = dict(call.headers) | ({} if etag is None else {"if-match": etag})
    return Call(method, path, body, headers=headers)
