"""Sends requests, again where that does no harm, and turns what comes back into answers or errors.

Made of `awaiting/` by `scripts/blocking_client.py`; do not edit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from metaalign.client.exchange import Call, Settings, failed, refused, wait_before
from metaalign.client.models import Page

__all__ = ["Sender"]

_Answer = TypeVar("_Answer", bound=BaseModel)
_Item = TypeVar("_Item")


class Sender:
    """What the parts of a client send their requests with."""

    def __init__(self, settings: Settings, http: httpx.Client) -> None:
        self.settings = settings
        self.http = http

    def ask(self, call: Call, answer: type[_Answer]) -> _Answer:
        """The answer to a request."""
        response = self.send(call)
        return answer.model_validate_json(response.content)

    def pages(
        self, path: str, page: type[Page[_Item]], cursor: str, last: Callable[[_Item], Any], **query: Any
    ) -> Iterator[_Item]:
        """All items of a list; a page is fetched when it is needed.

        Args:
            path: The list's.
            page: What a page is read as.
            cursor: The parameter that says after (or before) which item a page begins.
            last: What it takes of the last item of the page before.
            query: Further parameters.
        """
        while True:
            found = self.ask(Call("GET", path, query=query), page)
            yield from found.data
            if not found.has_more:
                return
            query[cursor] = last(found.data[-1])

    def send(self, call: Call, *, stream: bool = False) -> httpx.Response:
        """A response that is no refusal; with `stream`, before its body is read.

        Raises:
            APIError: the server refuses.
            ConnectionFailed: there is no answer.
        """
        settings = self.settings
        url, arguments = settings.base_url + call.path, call.arguments()
        arguments["headers"] = settings.sent_headers() | arguments["headers"]
        attempt = 0
        while True:
            request = self.http.build_request(call.method, url, **arguments)
            failure: Exception
            try:
                response = self.http.send(request, stream=stream)
                if response.is_success:
                    return response
                if stream:
                    response.read()
                    response.close()
                failure = refused(response)
            except httpx.HTTPError as error:
                failure = error
            pause = wait_before(attempt, settings, call, failure)
            if pause is None:
                raise failed(settings, failure) from failure if isinstance(failure, httpx.HTTPError) else None
            attempt += 1
            time.sleep(pause)
