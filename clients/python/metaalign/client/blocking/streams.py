"""Answers as they are written.

Made of `awaiting/` by `scripts/blocking_client.py`; do not edit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import httpx

from metaalign.client.blocking.sending import Sender
from metaalign.client.exchange import DONE, Call, Settings, broken_off, event_of
from metaalign.receipt import Receipt

__all__ = ["ChatStream", "Opening"]


class ChatStream:
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

    def __iter__(self) -> Iterator[str]:
        with closing(self.events()) as chunks:
            for event in chunks:
                for choice in event.get("choices", ()):
                    piece = choice.get("delta", {}).get("content")
                    if choice.get("index", 0) == 0 and piece:
                        yield piece

    def events(self) -> Generator[dict[str, Any], None, None]:
        """The events as the server sends them, in OpenAI's form.

        Raises:
            StreamBroken: the connection ended before the answer, or nothing came for too long.
            APIError: the server could not finish the answer.
        """
        try:
            for line in self._response.iter_lines():
                if line == DONE:
                    self._done = True
                if (event := event_of(line)) is not None:
                    self._note(event)
                    yield event
        except (httpx.HTTPError, ValueError) as error:
            raise broken_off(self._settings, error, self.text) from error
        if not self._done:
            raise broken_off(self._settings, None, self.text)

    def until_done(self) -> str:
        """Read what is left, and return the whole text."""
        for _ in self:
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


class Opening:
    """What `chat.stream` returns: the request is sent on entering."""

    def __init__(self, sender: Sender, call: Call) -> None:
        self._sender = sender
        self._call = call
        self._response: httpx.Response | None = None

    def __enter__(self) -> ChatStream:
        self._response = self._sender.send(self._call, stream=True)
        return ChatStream(self._response, self._sender.settings)

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
