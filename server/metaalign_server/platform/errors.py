"""What the platform refuses, with the HTTP status that says so."""

from __future__ import annotations

import math

from metaalign import MetaAlignError

__all__ = ["Refusal", "conflict", "not_found"]


class Refusal(MetaAlignError):
    """A request that the platform refuses.

    Attributes:
        status: HTTP status.
        code: Stable name of the kind.
        headers: Response headers, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


def not_found(what: str, name: str, param: str | None = None) -> Refusal:
    """404 for something that does not exist for this caller."""
    return Refusal(404, f"{what}_not_found", f"no {what} `{name}`", param=param)


def conflict(code: str, message: str, param: str | None = None) -> Refusal:
    """409: the state does not allow it."""
    return Refusal(409, code, message, param=param)
