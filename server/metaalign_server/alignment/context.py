"""The state of one request: written by its route, read deep inside vLLM's handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from metaalign import Preferences
from metaalign.receipt import VerifiedAnswer
from metaalign.verifiers import Check
from metaalign_server.alignment.aligner import AppliedSpec
from metaalign_server.alignment.layers import NOTHING_STORED, StoredLayers
from metaalign_server.callers import OPEN_CALLER, Caller
from metaalign_server.platform.fair_queue import Places

__all__ = ["Recording", "RequestContext", "Usage", "current_request"]


@dataclass(slots=True)
class Usage:
    """Tokens that a request uses; `cached` are those of the prompt that the engine did not have to compute."""

    prompt: int = 0
    cached: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Tokens of the prompt and the answer together."""
        return self.prompt + self.output


@dataclass(slots=True)
class Recording:
    """Collects an exchange while it runs, if it is to be stored.

    Attributes:
        keep: Called when the answer is complete, with its id as the client sees it.
    """

    keep: Callable[[str, Recording], None]
    messages: tuple[Mapping[str, str], ...] = ()
    answer: str = ""


@dataclass(slots=True)
class RequestContext:
    """One request.

    The renderer writes `applied`, and what wraps the engine fills `usage`, `logprobs` and `recording`. The route and
    the gate read them.

    Attributes:
        places: The request's places in the engine; None where nothing queues.
        cache_salt: Keeps the prefix cache's blocks apart from those of other tenants; None where they are shared.
        operator_salt: The salt of blocks that hold only what the operator wrote for all; None without a store.
        constraint: The field that constrains the output, if any.
        length_given: Whether the client said how long an answer may be.
        logprobs_asked: Whether the client asks for log probabilities.
        logprobs: How many log probabilities the request may produce.
        verify: Checks of the answer; True for those that the applied dimensions imply.
        verified: What they said.
        broke_off: Whether the answer is a stream in which the engine failed after its status was sent.
        refused_late: The code of a refusal that came after the status was sent.
        finish_reasons: Why each sequence ended, in the engine's words, by the engine's request and the choice in it.
    """

    preferences: Preferences | None = None
    caller: Caller = OPEN_CALLER
    stored: StoredLayers = NOTHING_STORED
    add_special_tokens: bool = False
    cache_salt: str | None = None
    operator_salt: str | None = None
    recording: Recording | None = None
    usage: Usage = field(default_factory=Usage)
    places: Places | None = None
    length_given: bool = False
    constraint: str | None = None
    logprobs_asked: bool = False
    logprobs: int = 0
    broke_off: bool = False
    refused_late: str | None = None
    verify: tuple[Check, ...] | Literal[True] | None = None
    verified: tuple[VerifiedAnswer, ...] = ()
    finish_reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    applied: AppliedSpec | None = None

    @property
    def aligned(self) -> bool:
        """Whether preferences, from the request or the store, are placed before the dialogue."""
        return self.preferences is not None or bool(self.stored.layers)

    @property
    def reported(self) -> AppliedSpec | None:
        """The applied spec to report to the client; None for a request without preferences."""
        return self.applied if self.aligned else None


current_request: ContextVar[RequestContext | None] = ContextVar("metaalign_request", default=None)
