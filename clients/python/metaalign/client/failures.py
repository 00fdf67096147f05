"""What can go wrong between a client and a server, other than the server's refusals (`metaalign.client.errors`)."""

from __future__ import annotations

from metaalign.errors import ERRORS, MetaAlignError

__all__ = ["APIError", "ConnectionFailed", "StreamBroken", "TimedOut"]


class APIError(MetaAlignError):
    """The server answered with an error.

    Attributes:
        code: Its stable name; see docs/errors.md.
        status: The HTTP status.
        param: The offending field, such as `preferences.user.attributes`, if there is one.
        request_id: The id of the request, which the server's log has too.
        retry_after: Seconds after which to try again, if the server said so.
        remedy: What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self._status = status
        self.code = code or self.code
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        return self._status

    @property
    def remedy(self) -> str:
        known = ERRORS.get(self.code)
        return known.remedy if known is not None else ""

    def __str__(self) -> str:
        told = f"{self.message} ({self.status} {self.code}"
        return f"{told}, request {self.request_id})" if self.request_id else f"{told})"


class ConnectionFailed(MetaAlignError):
    """No answer came: nothing listens at the address, or the connection broke before the answer."""


class TimedOut(ConnectionFailed):
    """No answer came in time."""


class StreamBroken(ConnectionFailed):
    """A streamed answer broke off, or nothing more of it came in time; what had arrived by then is in `text`."""

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text
