"""Refusals with a code from the error table (`metaalign.errors.ERRORS`)."""

from __future__ import annotations

import math

from metaalign import MetaAlignError
from metaalign.errors import ERRORS

__all__ = ["Refusal", "not_found"]

_PATIENCE = 120
"""Seconds that a client may sleep before it tries again; one that waits for a minute's window sleeps no longer."""


class Refusal(MetaAlignError):
    """The server refuses a request or a command.

    Args:
        code: One of `ERRORS`; it determines the HTTP status.
        retry_after: Seconds after which a retry may succeed.

    Attributes:
        headers: Response headers, such as Retry-After.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.code = ERRORS[code].code
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
            if retry_after > _PATIENCE:
                # Anthropic's clients would sleep until tomorrow without a word; they and OpenAI's obey this.
                self.headers["x-should-retry"] = "false"


def not_found(what: str, name: str, param: str | None = None) -> Refusal:
    """Return a 404 for something that does not exist for this caller."""
    return Refusal(f"{what}_not_found", f"no {what} `{name}`", param=param)
