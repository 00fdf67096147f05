"""What the server refuses by a code of the table of errors (`metaalign.errors.ERRORS`)."""

from __future__ import annotations

import math

from metaalign import MetaAlignError
from metaalign.errors import ERRORS

__all__ = ["Refusal", "not_found"]


class Refusal(MetaAlignError):
    """A request or command that is refused.

    Args:
        code: One of `ERRORS`; it decides the HTTP status.
        retry_after: Seconds after which it is worth trying again.

    Attributes:
        headers: Response headers, such as Retry-After.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.code = ERRORS[code].code
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


def not_found(what: str, name: str, param: str | None = None) -> Refusal:
    """404 for something that does not exist for this caller."""
    return Refusal(f"{what}_not_found", f"no {what} `{name}`", param=param)
