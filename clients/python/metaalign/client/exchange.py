"""Requests and responses without the waiting: what both clients, the one that blocks and the one that awaits, share."""

from __future__ import annotations

import email.utils
import json
import os
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import httpx

from metaalign.client.errors import BY_CODE, BY_STATUS
from metaalign.client.failures import APIError, ConnectionFailed, StreamBroken, TimedOut
from metaalign.errors import ERRORS
from metaalign.preferences import Preferences

__all__ = [
    "DONE", "Call", "PreferencesField", "Repeatable", "Settings", "as_field", "broken_off", "changing", "chat_call",
    "creating", "event_of", "failed", "path_of", "refused", "wait_before", "with_preferences",
]  # fmt: skip

DEFAULT_URL = "http://127.0.0.1:8000"
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0
_LONGEST_PATIENCE = 60.0
"""Seconds of `Retry-After` up to which a client waits by itself."""
_NO_ANSWER = (502, 504)
"""How a proxy says that it got no answer."""
_REFUSED_BEFORE = ("unavailable", "overloaded")
"""The codes of 503 with which the server refuses before it begins."""
_RAISE_IT = "raise `timeout` (on the command line `--timeout`)"
DONE = "data: [DONE]"
"""The last line of a stream."""

Repeatable: TypeAlias = Literal["always", "before-answer", "if-refused"]
"""When a request may be sent again, beside 429 and a server that refuses before it begins.

- `always`: sending it twice does what sending it once does.
- `before-answer`: the model is asked; also if the connection was lost before anything of an answer came, which ends the
  work on the server, but not after a silence, in which it may be at work still.
- `if-refused`: only if the server cannot have done it, because doing it twice would do it twice.
"""

PreferencesField: TypeAlias = Preferences | Mapping[str, Any] | str
"""What may stand for preferences: the model, a mapping like it, or a text, which is short for System Info."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a client finds its server, and how patient it is.

    Attributes:
        base_url: The server's address without a path.
        api_key: A key or a user token; None for a server that has no keys.
        timeout: Seconds to wait for the connection, and between two parts of an answer.
        max_retries: How often a request is sent again.
        headers: Headers of every request.
    """

    base_url: str
    api_key: str | None
    timeout: float
    max_retries: int
    headers: Mapping[str, str]

    @classmethod
    def read(
        cls,
        base_url: str | None,
        api_key: str | None,
        timeout: float,
        max_retries: int,
        headers: Mapping[str, str] | None,
    ) -> Settings:
        """Arguments first, then METAALIGN_BASE_URL and METAALIGN_API_KEY, then a server on this machine."""
        url = (base_url or os.environ.get("METAALIGN_BASE_URL") or DEFAULT_URL).rstrip("/")
        key = api_key or os.environ.get("METAALIGN_API_KEY") or None
        return cls(url.removesuffix("/v1").rstrip("/"), key, timeout, max_retries, dict(headers or {}))

    def sent_headers(self) -> dict[str, str]:
        """The headers of every request."""
        key = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"user-agent": "metaalign-python", **key, **self.headers}


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        repeatable: When it may be sent again.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: Repeatable = "always"

    def arguments(self) -> dict[str, Any]:
        """What httpx takes."""
        given = {
            "params": {k: v for k, v in self.query.items() if v is not None},
            "headers": dict(self.headers),
        }
        return given if self.body is None else {**given, "json": self.body}


def creating(path: str, body: Any, idempotency_key: str | None, *, method: str = "POST") -> Call:
    """A request that makes or changes something: its key lets the server see that it was sent twice."""
    return Call(method, path, body, headers={"idempotency-key": idempotency_key or uuid.uuid4().hex})


def as_field(preferences: PreferencesField | None) -> Any:
    """`preferences` as a request has them."""
    if isinstance(preferences, Preferences):
        return preferences.model_dump(mode="json", exclude_defaults=True)
    return preferences


def wait_before(attempt: int, settings: Settings, call: Call, failure: Exception) -> float | None:
    """Seconds to wait before request number `attempt` is sent again; None if it is not."""
    if attempt >= settings.max_retries or not _may_repeat(call.repeatable, failure):
        return None
    if isinstance(failure, APIError) and failure.retry_after is not None:
        return failure.retry_after if failure.retry_after <= _LONGEST_PATIENCE else None
    # Clients that failed together must not come back together.
    spread = random.uniform(0.5, 1)  # noqa: S311 - no secret
    return float(min(_FIRST_WAIT * 2.0**attempt, _LONGEST_WAIT) * spread)


def _may_repeat(repeatable: Repeatable, failure: Exception) -> bool:
    if isinstance(failure, APIError):
        if failure.status == 429:
            return failure.code != "budget_exhausted"  # of a whole day
        if failure.status in _NO_ANSWER:
            return repeatable != "if-refused"
        return failure.status == 503 and (repeatable != "if-refused" or failure.code in _REFUSED_BEFORE)
    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    if repeatable == "before-answer":
        return isinstance(failure, httpx.TransportError) and not isinstance(failure, httpx.TimeoutException)
    return repeatable == "always" and isinstance(failure, httpx.TransportError)


def path_of(*parts: str | int) -> str:
    """The path of what is named; a name is one part of it, whatever is in the name."""
    return "/".join(("/v1", *(quote(str(part), safe="") for part in parts)))


def failed(settings: Settings, error: Exception) -> Exception:
    """An error of the connection in words that say what to do; others as they are."""
    if not isinstance(error, httpx.HTTPError):
        return error
    where = settings.base_url
    if isinstance(error, httpx.ConnectTimeout):
        told = f"no server answers at {where} within {_passed(error)}"
        return ConnectionFailed(f"{told}: start one, or set METAALIGN_BASE_URL")
    if isinstance(error, httpx.ConnectError):
        return ConnectionFailed(f"no server answers at {where}: start one, or set METAALIGN_BASE_URL")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{where} did not answer within {_passed(error)}: {_RAISE_IT}, or ask for less")
    return ConnectionFailed(
        f"the connection to {where} broke ({type(error).__name__}): send the request again"
    )


def broken_off(settings: Settings, error: Exception | None, text: str) -> StreamBroken:
    """The error of a stream that ended, or fell silent, after `text`."""
    where = settings.base_url
    if isinstance(error, httpx.TimeoutException):
        told = f"{where} sent nothing for {_passed(error)} in the middle of the answer"
        return StreamBroken(f"{told}: {_RAISE_IT}, or ask again", text=text)
    return StreamBroken(f"{where} ended the stream before the answer: ask again", text=text)


def _passed(error: httpx.TimeoutException) -> str:
    """The time that was too short. An HTTP client of the caller's own has times of its own."""
    kind = type(error).__name__.removesuffix("Timeout").lower()
    return f"{error.request.extensions['timeout'][kind]:g} s"


def refused(response: httpx.Response) -> APIError:
    """The error that a response with its body read tells of."""
    try:
        document = response.json()
    except ValueError:
        document = None
    told = document.get("error") if isinstance(document, dict) else None
    told = told if isinstance(told, dict) else {}
    code, status = told.get("code"), response.status_code
    known = code if isinstance(code, str) and code in BY_CODE else None
    kind = BY_CODE[known] if known else BY_STATUS.get(500 if status >= 500 else status, APIError)
    message = told.get("message")
    if not isinstance(message, str) or not message:
        message = f"{response.request.url} answered {status}, and not as a MetaAlign server does"
    return kind(
        message,
        status=status,
        code=code if isinstance(code, str) else None,
        param=told.get("param") if isinstance(told.get("param"), str) else None,
        request_id=response.headers.get("x-request-id"),
        retry_after=_seconds(response.headers.get("retry-after")),
    )


def _seconds(header: str | None) -> float | None:
    """`Retry-After`, which is a number of seconds or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def event_of(line: str) -> dict[str, Any] | None:
    """The event that a line of a stream holds, if it holds one.

    Raises:
        APIError: the event tells of an error.
        ValueError: it is not JSON.
    """
    if not line.startswith("data:") or line == DONE:
        return None
    event: dict[str, Any] = json.loads(line.removeprefix("data:"))
    if isinstance(told := event.get("error"), dict):
        message, code, param = str(told.get("message")), told.get("code"), told.get("param")
        known = BY_CODE.get(code) if isinstance(code, str) else None
        # Stock vLLM, behind a proxy of one's own, says the status where we say the code.
        status = (ERRORS[known.code].status if known else code if isinstance(code, int) else None) or 500
        raise (known or BY_STATUS.get(status, BY_STATUS[500]))(
            message,
            status=status,
            code=code if isinstance(code, str) else None,
            param=param if isinstance(param, str) else None,
        )
    return event


def with_preferences(
    body: dict[str, Any], preferences: PreferencesField | None, model: str | None
) -> dict[str, Any]:
    given = {"preferences": as_field(preferences), "model": model}
    return body | {name: value for name, value in given.items() if value is not None}


def chat_call(
    messages: Sequence[Mapping[str, Any]],
    preferences: PreferencesField | None,
    model: str | None,
    options: Mapping[str, Any],
) -> Call:
    body = with_preferences({"messages": [*messages], **options}, preferences, model)
    return Call("POST", "/v1/chat/completions", body, repeatable="before-answer")


def changing(method: str, path: str, body: Any, etag: str | None, idempotency_key: str | None = None) -> Call:
    """A change of a profile, which the server makes once however often it is sent."""
    call = creating(path, body, idempotency_key, method=method)
    headers = dict(call.headers) | ({} if etag is None else {"if-match": etag})
    return Call(method, path, body, headers=headers)
