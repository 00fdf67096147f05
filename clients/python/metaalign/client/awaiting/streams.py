"""Answers as they are written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from metaalign.client.awaiting.sending import AsyncSender
from metaalign.client.exchange import DONE, Call, Settings, broken_off, event_of
from metaalign.receipt import Receipt

__all__ = ["AsyncChatStream", "AsyncOpening"]


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
        self._done = False
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
            StreamBroken: the connection ended before the answer, or nothing came for too long.
            APIError: the server could not finish the answer.
        """
        try:
            async for line in self._response.aiter_lines():
                if line == DONE:
                    self._done = True
                if (event := event_of(line)) is not None:
                    self._note(event)
                    yield event
        except (httpx.HTTPError, ValueError) as error:
            raise broken_off(self._settings, error, self.text) from error
        if not self._done:
            raise broken_off(self._settings, None, self.text)

    async def until_done(self) -> str:
        """Read what is left, and return the whole text."""
        async for _ in self:
            pass
        return self.text

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


class AsyncOpening:
    """What `chat.stream` returns: the request is sent on entering."""

    def __init__(self, sender: AsyncSender, call: Call) -> None:
        self._sender = sender
        self._call = call
        self._response: httpx.Response | None = None

    async def __aenter__(self) -> AsyncChatStream:
        self._response = await self._sender.send(self._call, stream=True)
        return AsyncChatStream(self._response, self._sender.settings)

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            await self._response.aclose()
