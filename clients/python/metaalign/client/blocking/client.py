"""`MetaAlign`: a client that blocks.

Made of `awaiting/` by `scripts/blocking_client.py`; do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from metaalign.client.blocking.resources import Admin, Chat, Feedback, Profiles
from metaalign.client.blocking.sending import Sender
from metaalign.client.blocking.streams import Opening
from metaalign.client.exchange import Call, PreferencesField, Settings, with_preferences
from metaalign.client.models import AlignAnswer, ModelList, RenderAnswer, ServerVersion, State, Tokens

__all__ = ["MetaAlign"]


class MetaAlign:
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
        http_client: httpx.Client | None = None,
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
        http = http_client or httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 10)))
        self._sender = Sender(self.settings, http)
        self.chat = Chat(self._sender)
        self.profiles = Profiles(self._sender)
        self.feedback = Feedback(self._sender)
        self.admin = Admin(self._sender)

    def align(
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
        return self._sender.ask(Call("POST", "/v1/align", body, repeatable="before-answer"), AlignAnswer)

    def align_stream(
        self,
        query: str,
        *,
        preferences: PreferencesField | None = None,
        model: str | None = None,
        **options: Any,
    ) -> Opening:
        """The same as it is written: use it in a `with` statement, and iterate over the text."""
        messages = [{"role": "user", "content": query}]
        return self.chat.stream(messages, preferences=preferences, model=model, **options)

    def render(
        self,
        preferences: PreferencesField,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        model: str | None = None,
        **options: Any,
    ) -> RenderAnswer:
        """What the model would be told, without an answer."""
        body = with_preferences({"messages": [*messages], **options}, preferences, model)
        return self._sender.ask(Call("POST", "/v1/preferences/render", body), RenderAnswer)

    def tokenize(
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
        return self._sender.ask(Call("POST", "/tokenize", body), Tokens)

    def models(self) -> ModelList:
        """The served models."""
        return self._sender.ask(Call("GET", "/v1/models"), ModelList)

    def version(self) -> ServerVersion:
        """What the server is made of."""
        return self._sender.ask(Call("GET", "/version"), ServerVersion)

    def ready(self) -> State:
        """Whether the server takes requests; an `APIError` with status 503 if it does not."""
        return self._sender.ask(Call("GET", "/readyz"), State)

    def close(self) -> None:
        """End the connections."""
        if self._own:
            self._sender.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
