"""`AsyncMetaAlign`: a client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from metaalign.client.awaiting.resources import AsyncAdmin, AsyncChat, AsyncFeedback, AsyncProfiles
from metaalign.client.awaiting.sending import AsyncSender
from metaalign.client.awaiting.streams import AsyncOpening
from metaalign.client.exchange import Call, PreferencesField, Settings, with_preferences
from metaalign.client.models import AlignAnswer, ModelList, RenderAnswer, ServerVersion, State, Tokens

__all__ = ["AsyncMetaAlign"]


class AsyncMetaAlign:
    """A client of one server. It is safe to share, and keeps its connections until it is closed.

    Requests that failed without harm are sent again, after a growing pause or as long as the server asks for
    (`Retry-After`, up to a minute); `Repeatable` in `exchange.py` says which.
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
        self.settings = Settings.read(base_url, api_key, timeout, max_retries, headers)
        self._own = http_client is None
        http = http_client or httpx.AsyncClient(timeout=httpx.Timeout(timeout, connect=min(timeout, 10)))
        self._sender = AsyncSender(self.settings, http)
        self.chat = AsyncChat(self._sender)
        self.profiles = AsyncProfiles(self._sender)
        self.feedback = AsyncFeedback(self._sender)
        self.admin = AsyncAdmin(self._sender)

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
        body = with_preferences({"query": query, **options}, preferences, model)
        return await self._sender.ask(
            Call("POST", "/v1/align", body, repeatable="before-answer"), AlignAnswer
        )

    def align_stream(
        self,
        query: str,
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> AsyncOpening:
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
        body = with_preferences({"messages": [*messages], **options}, preferences, model)
        return await self._sender.ask(Call("POST", "/v1/preferences/render", body), RenderAnswer)

    async def tokenize(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> Tokens:
        """The token ids that the model would get, those of the preferences included."""
        given = {name: value for name, value in options.items() if value is not None}
        body = with_preferences({"messages": [*messages], **given}, preferences, model)
        return await self._sender.ask(Call("POST", "/tokenize", body), Tokens)

    async def models(self) -> ModelList:
        """The served models."""
        return await self._sender.ask(Call("GET", "/v1/models"), ModelList)

    async def version(self) -> ServerVersion:
        """What the server is made of."""
        return await self._sender.ask(Call("GET", "/version"), ServerVersion)

    async def ready(self) -> State:
        """Whether the server takes requests; an `APIError` with status 503 if it does not."""
        return await self._sender.ask(Call("GET", "/readyz"), State)

    async def close(self) -> None:
        """End the connections."""
        if self._own:
            await self._sender.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
