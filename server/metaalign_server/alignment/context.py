"""The state of one request: written by its route, read deep inside vLLM's handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from metaalign import Preferences, Receipt
from metaalign.receipt import VerifiedAnswer
from metaalign.verifiers import Check
from metaalign_server.alignment.aligner import AppliedSpec
from metaalign_server.alignment.layers import NOTHING_STORED, StoredLayers
from metaalign_server.callers import OPEN_CALLER, Caller
from metaalign_server.platform.fair_queue import Places

__all__ = ["Recording", "RequestContext", "SteeredPrompt", "Usage", "current_request"]


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


@dataclass(frozen=True, slots=True)
class SteeredPrompt:
    """What draws or ranks the answers to one prompt, besides that prompt itself; all are token ids.

    Attributes:
        followers: The other branches' prompts and coefficients.
        bare: The dialogue without tiers, if candidates are ranked by it.
    """

    followers: tuple[tuple[tuple[int, ...], float], ...]
    bare: tuple[int, ...] = ()


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
        cut_off: Whether the server stops before the engine has finished the answer.
        refused_late: The code of a refusal that came after the status was sent.
        steered: By its token ids, what steers a prompt; empty if nothing is steered.
        beams: Whether the client asks for beam search, which no steering goes with.
        score: That of the candidate that was chosen; see `SteeringApplied`.
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
    cut_off: bool = False
    refused_late: str | None = None
    verify: tuple[Check, ...] | Literal[True] | None = None
    verified: tuple[VerifiedAnswer, ...] = ()
    finish_reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    steered: dict[tuple[int, ...], SteeredPrompt] = field(default_factory=dict)
    beams: bool = False
    score: float | None = None
    applied: AppliedSpec | None = None

    @property
    def aligned(self) -> bool:
        """Whether preferences, from the request or the store, are placed before the dialogue."""
        return self.preferences is not None or bool(self.stored.layers)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, as far as it is known; None for a request without preferences."""
        applied = self.reported
        if applied is None:
            return None
        updates: dict[str, object] = {}
        if self.verified:
            updates["verified"] = self.verified
        if self.score is not None and applied.receipt.steering is not None:
            updates["steering"] = applied.receipt.steering.model_copy(update={"score": self.score})
        return applied.receipt.model_copy(update=updates) if updates else applied.receipt

    @property
    def receipt_json(self) -> bytes | None:
        """The receipt as compact JSON."""
        applied, receipt = self.reported, self.receipt
        if applied is None or receipt is None:
            return None
        return applied.receipt_json if receipt is applied.receipt else receipt.model_dump_json().encode()

    @property
    def reported(self) -> AppliedSpec | None:
        """The applied spec to report to the client; None for a request without preferences."""
        return self.applied if self.aligned else None


current_request: ContextVar[RequestContext | None] = ContextVar("metaalign_request", default=None)
