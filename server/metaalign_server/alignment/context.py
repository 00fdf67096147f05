"""What the parts of the server know of one request: written by its route, read deep inside vLLM's handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from metaalign import Preferences
from metaalign_server.alignment.aligner import AppliedSpec
from metaalign_server.alignment.layers import NOTHING_STORED, StoredLayers
from metaalign_server.callers import OPEN_CALLER, Caller

__all__ = ["Recording", "RequestContext", "Usage", "current_request"]


@dataclass(slots=True)
class Usage:
    """Tokens that a request took."""

    prompt: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Prompt and answer together."""
        return self.prompt + self.output


@dataclass(slots=True)
class Recording:
    """What is kept of an exchange while it goes on, if it is to be kept at all.

    Attributes:
        keep: Called with the answer's id, as the client sees it, when the answer is complete.
    """

    keep: Callable[[str, Recording], None]
    messages: tuple[Mapping[str, str], ...] = ()
    answer: str = ""


@dataclass(slots=True)
class RequestContext:
    """One request.

    `applied` is written by the renderer, `usage` and `recording` around generation; the route and the gate read them.
    """

    preferences: Preferences | None = None
    caller: Caller = OPEN_CALLER
    stored: StoredLayers = NOTHING_STORED
    add_special_tokens: bool = False
    cache_salt: str | None = None
    recording: Recording | None = None
    usage: Usage = field(default_factory=Usage)
    applied: AppliedSpec | None = None

    @property
    def aligned(self) -> bool:
        """Whether preferences, the request's or stored ones, go before the dialogue."""
        return self.preferences is not None or bool(self.stored.layers)

    @property
    def reported(self) -> AppliedSpec | None:
        """What was applied, if the client is to be told: not of a request without preferences."""
        return self.applied if self.aligned else None


current_request: ContextVar[RequestContext | None] = ContextVar("metaalign_request", default=None)
