"""From a request's `preferences` to the Meta-Prompt that is served: resolution, rendering, receipt, with a cache."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from metaalign import (
    ConflictingProfiles,
    InvalidPreferences,
    Preferences,
    ProfileNotFound,
    PromptAssembler,
    Receipt,
    SystemTierForbidden,
    parse_preferences,
    render,
    request_layers,
    resolve,
)
from metaalign.preferences import PROFILE_REFERENCE
from metaalign.receipt import OverriddenEntry, TierTokens
from metaalign.rendering import MetaPrompt
from metaalign_server.auth import OPEN_CALLER, Caller

__all__ = ["Aligner", "AppliedSpec", "RequestScope", "current_scope", "request_preferences"]

_CACHEABLE_CHARACTERS = 64_000


@dataclass(frozen=True, slots=True)
class AppliedSpec:
    """A Meta-Prompt ready to be put before a dialogue.

    Attributes:
        meta_prompt: The two tier texts and their hash.
        messages: They as leading messages of the checkpoint's template.
        prefix_text: They as rendered text, if the template can be cut behind them, else "".
        prefix_ids: The ids of that text.
        receipt: What to tell the client.
        receipt_json: The same as compact JSON bytes.
    """

    meta_prompt: MetaPrompt
    messages: tuple[dict[str, str], ...]
    prefix_text: str
    prefix_ids: tuple[int, ...]
    receipt: Receipt
    receipt_json: bytes


@dataclass(slots=True)
class RequestScope:
    """What the route knows of a request and the renderer, deep inside vLLM's handlers, must know too.

    `applied` and `cut` are written by the renderer and read by the route afterwards.
    """

    preferences: Preferences | None = None
    caller: Caller = OPEN_CALLER
    add_special_tokens: bool = False
    applied: AppliedSpec | None = field(default=None)

    @property
    def receipt(self) -> AppliedSpec | None:
        """The spec to report: only of a request that carried `preferences`."""
        return self.applied if self.preferences is not None else None


current_scope: ContextVar[RequestScope | None] = ContextVar("metaalign_request_scope", default=None)


def request_preferences(
    value: object, *, caller: Caller, header_profile: str | None, model_profile: str | None
) -> Preferences | None:
    """Validate the field, bring the three doors for a profile together, and check who may write the System tier.

    Raises:
        InvalidPreferences, ConflictingProfiles, ProfileNotFound, SystemTierForbidden.
    """
    preferences = None if value is None else parse_preferences(value)
    doors = {
        "preferences.profile": preferences.profile if preferences else (),
        "X-MetaAlign-Profile": _split(header_profile, "X-MetaAlign-Profile"),
        "model": _split(model_profile, "model"),
    }
    named = {door: references for door, references in doors.items() if references}
    if len(set(named.values())) > 1:
        raise ConflictingProfiles(
            f"{' and '.join(named)} name different profiles; name it in one place", param=next(iter(named))
        )
    for door in named:
        raise ProfileNotFound(f"{door}: no such profile on this server", param=door)
    if preferences is not None and preferences.system is not None and not caller.may_write_system:
        raise SystemTierForbidden(
            "preferences.system: this key lacks the scope `system`; put preferences of a user under `user`",
            param="preferences.system",
        )
    return preferences


def _split(reference: str | None, door: str) -> tuple[str, ...]:
    if not reference:
        return ()
    references = tuple(part.strip() for part in reference.split(","))
    if not all(re.fullmatch(PROFILE_REFERENCE, part) for part in references):
        raise InvalidPreferences(
            f"{door}: a profile is named like `support`, `support:3` or `support@stable`", param=door
        )
    return references


class Aligner:
    """Applies preferences for one checkpoint; keeps the most recently used results.

    Args:
        assembler: Renders and tokenises for the checkpoint.
        entries: How many results to keep.
    """

    def __init__(self, assembler: PromptAssembler, entries: int = 1024) -> None:
        self.assembler = assembler
        self._entries = entries
        self._cache: OrderedDict[tuple[str, tuple[str, ...], tuple[str, ...]], AppliedSpec] = OrderedDict()

    def apply(
        self,
        preferences: Preferences | None,
        system_messages: Sequence[str] = (),
        user_info_messages: Sequence[str] = (),
    ) -> AppliedSpec:
        """Resolve and render; a spec that was seen lately costs one look-up."""
        field = preferences.model_dump_json() if preferences is not None else ""
        key = (field, tuple(system_messages), tuple(user_info_messages))
        cached = self._cache.get(key)
        if cached is not None:
            self._cache.move_to_end(key)
            return cached
        spec = self._apply(preferences, key[1], key[2])
        if len(field) + sum(map(len, key[1])) + sum(map(len, key[2])) <= _CACHEABLE_CHARACTERS:
            self._cache[key] = spec
            if len(self._cache) > self._entries:
                self._cache.popitem(last=False)
        return spec

    def _apply(
        self,
        preferences: Preferences | None,
        system_messages: tuple[str, ...],
        user_info_messages: tuple[str, ...],
    ) -> AppliedSpec:
        assembler = self.assembler
        layers = request_layers(
            preferences, system_messages=system_messages, user_info_messages=user_info_messages
        )
        resolution = resolve(layers)
        meta_prompt = render(resolution)
        messages = tuple(assembler.tier_messages(meta_prompt))
        prefix = assembler.assemble(messages) if assembler.cuttable and messages else None
        receipt = Receipt(
            applied=not meta_prompt.empty,
            spec_hash=meta_prompt.spec_hash,
            template=assembler.template.reference,
            overridden=tuple(
                OverriddenEntry(dimension=o.dimension, tier=o.tier, value=o.value, kept=o.kept, by=o.by)
                for o in resolution.overridden
            ),
            tokens=TierTokens(
                system_info=assembler.count(meta_prompt.system_info),
                user_info=assembler.count(meta_prompt.user_info),
            ),
        )
        return AppliedSpec(
            meta_prompt=meta_prompt,
            messages=messages,
            prefix_text=prefix.text if prefix else "",
            prefix_ids=prefix.token_ids if prefix else (),
            receipt=receipt,
            receipt_json=receipt.model_dump_json().encode(),
        )
