"""Preferences through clients of other projects: what to pass to them, and the receipt back out of what they return.

Each client has a module of its own, so that the line to copy says which it is for:

    from metaalign.openai import extra, receipt

    answer = client.chat.completions.create(model=…, messages=…, **extra({"user": "I like bullet points."}))
    receipt(answer)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from metaalign.client.exchange import PreferencesField, as_field
from metaalign.receipt import Receipt

__all__ = ["ReceiptTrace", "body", "receipt"]

_MARK = "-ma"
"""What stands before the hash in `system_fingerprint`; see `Receipt.fingerprint`."""


@dataclass(frozen=True, slots=True)
class ReceiptTrace:
    """What is left of a receipt where a client drops the answer's body: the headers, or the fingerprint alone.

    Attributes:
        spec_hash: Of what was applied; from a fingerprint its first twelve characters.
        applied: Whether anything was; None from a fingerprint.
        overridden: How many wishes lost; None from a fingerprint.
        profiles: The profiles that took part; None from a fingerprint.
        steering: Always None: only a whole receipt says how the answer was steered.
    """

    spec_hash: str
    applied: bool | None = None
    overridden: int | None = None
    profiles: tuple[str, ...] | None = None
    steering: None = None


def body(preferences: PreferencesField) -> dict[str, Any]:
    """The field as it stands in a request's body."""
    return {"preferences": as_field(preferences)}


def receipt(answer: object) -> Receipt | ReceiptTrace | None:
    """The receipt in what a client returned: an answer, an event of a stream, a raw response, or a message.

    Returns:
        The receipt; what the headers or the fingerprint tell of it, where the client kept no more; None without
        preferences, or where the client kept none of the three.
    """
    trace: ReceiptTrace | None = None
    for part in _parts(answer):
        whole = _field(part, "metaalign")
        if isinstance(whole, Receipt):
            return whole
        if isinstance(whole, Mapping):
            try:
                return Receipt.model_validate(dict(whole))
            except ValidationError:
                continue
        if (found := _from_headers(part) or _from_fingerprint(part)) and (
            trace is None or trace.applied is None
        ):
            trace = found
    return trace


def _parts(answer: object) -> Iterator[object]:
    """The answer, and where clients keep the rest: pydantic, LangChain, LiteLLM, and responses in this order."""
    yield answer
    inner = ("model_extra", "response_metadata", "_hidden_params", "headers")
    for name in inner:
        part = _field(answer, name)
        if isinstance(part, Mapping) or hasattr(part, "get"):
            yield part
            for deeper in ("headers", "additional_headers"):
                if (kept := _field(part, deeper)) is not None:
                    yield kept


def _field(part: object, name: str) -> Any:
    if isinstance(part, Mapping):
        return part.get(name)
    return getattr(part, name, None)


def _from_headers(part: object) -> ReceiptTrace | None:
    get = getattr(part, "get", None)
    if get is None:
        return None
    # LiteLLM renames the headers of whoever it asked.
    for prefix in ("x-metaalign-", "llm_provider-x-metaalign-"):
        spec_hash = get(f"{prefix}spec-hash")
        if isinstance(spec_hash, str):
            overridden, profiles = get(f"{prefix}overridden"), get(f"{prefix}profiles")
            return ReceiptTrace(
                spec_hash,
                get(f"{prefix}applied") == "true",
                int(overridden) if overridden is not None else None,
                tuple(profiles.split(",")) if profiles else (),
            )
    return None


def _from_fingerprint(part: object) -> ReceiptTrace | None:
    fingerprint = _field(part, "system_fingerprint")
    if not isinstance(fingerprint, str) or _MARK not in fingerprint:
        return None
    return ReceiptTrace(fingerprint.rpartition(_MARK)[2])
