"""From a request's `preferences` to the Meta-Prompt that is served: resolution, rendering, receipt, with a cache."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from metaalign import (
    ConflictingProfiles,
    InvalidPreferences,
    Preferences,
    Receipt,
    SystemTierForbidden,
    parse_preferences,
)
from metaalign.preferences import LIMITS, PROFILE_REFERENCE
from metaalign.prompt import Layer, PromptAssembler, render, request_layers, resolve
from metaalign.prompt.rendering import MetaPrompt
from metaalign.receipt import OverriddenEntry, TierTokens
from metaalign_server.auth import Caller

__all__ = [
    "NOTHING_STORED",
    "Aligner",
    "AppliedSpec",
    "StoredLayers",
    "profile_references",
    "request_preferences",
]

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


@dataclass(frozen=True, slots=True)
class StoredLayers:
    """What the store adds to a request: its tenant's policy, its profiles, examples learned from feedback.

    Attributes:
        layers: In order of precedence, all before the request's own.
        profiles: Their references, such as `support:3`.
        learned_examples: How many examples come from feedback.
        key: Equal for equal layers.
        confidential: Whether System material is among them.
    """

    layers: tuple[Layer, ...] = ()
    profiles: tuple[str, ...] = ()
    learned_examples: int = 0
    key: Hashable = None
    confidential: bool = False


NOTHING_STORED = StoredLayers()


def request_preferences(value: object, caller: Caller) -> Preferences | None:
    """Validate the field, and check who may write the System tier.

    Raises:
        InvalidPreferences, SystemTierForbidden.
    """
    preferences = None if value is None else parse_preferences(value)
    if preferences is not None and preferences.system is not None and not caller.may_write_system:
        raise SystemTierForbidden(
            "preferences.system: this key lacks the scope `system`; put preferences of a user under `user`",
            param="preferences.system",
        )
    return preferences


def profile_references(
    preferences: Preferences | None, header: str | None, model: str | None
) -> tuple[tuple[str, ...], str]:
    """The profiles that a request names, and by which of the three doors.

    Raises:
        InvalidPreferences: a name is malformed.
        ConflictingProfiles: two doors disagree.
    """
    doors = {
        "preferences.profile": preferences.profile if preferences else (),
        "X-MetaAlign-Profile": _split(header, "X-MetaAlign-Profile"),
        "model": _split(model, "model"),
    }
    named = {door: references for door, references in doors.items() if references}
    if len(set(named.values())) > 1:
        raise ConflictingProfiles(
            f"{' and '.join(named)} name different profiles; name it in one place", param=next(iter(named))
        )
    return next(((references, door) for door, references in named.items()), ((), ""))


def _split(reference: str | None, door: str) -> tuple[str, ...]:
    if not reference:
        return ()
    references = tuple(part.strip() for part in reference.split(","))
    if len(references) > LIMITS["profiles"]:
        raise InvalidPreferences(f"{door}: at most {LIMITS['profiles']} profiles", param=door)
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
        most_characters: A longer conversation cannot fit the model; None if that is not known.
    """

    def __init__(
        self, assembler: PromptAssembler, entries: int = 1024, most_characters: int | None = None
    ) -> None:
        self.assembler = assembler
        self.most_characters = most_characters
        self._entries = entries
        self._cache: OrderedDict[Hashable, AppliedSpec] = OrderedDict()
        self._lock = threading.Lock()  # long conversations are rendered in threads
        self._forgotten = 0

    def apply(
        self,
        preferences: Preferences | None,
        system_messages: Sequence[str] = (),
        user_info_messages: Sequence[str] = (),
        stored: StoredLayers = NOTHING_STORED,
    ) -> AppliedSpec:
        """Resolve and render; a spec that was seen lately costs one look-up."""
        field = preferences.model_dump_json() if preferences is not None else ""
        system, user_info = tuple(system_messages), tuple(user_info_messages)
        key = (field, system, user_info, stored.key)
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                return cached
            began = self._forgotten
        spec = self._apply(preferences, system, user_info, stored)
        if len(field) + sum(map(len, system)) + sum(map(len, user_info)) <= _CACHEABLE_CHARACTERS:
            with self._lock:
                if began == self._forgotten:
                    self._cache[key] = spec
                if len(self._cache) > self._entries:
                    self._cache.popitem(last=False)
        return spec

    def forget(self) -> None:
        """Keep nothing: what was rendered may hold texts that are to be erased."""
        with self._lock:
            self._cache.clear()
            self._forgotten += 1

    def _apply(
        self,
        preferences: Preferences | None,
        system_messages: tuple[str, ...],
        user_info_messages: tuple[str, ...],
        stored: StoredLayers,
    ) -> AppliedSpec:
        assembler = self.assembler
        own = request_layers(
            preferences, system_messages=system_messages, user_info_messages=user_info_messages
        )
        layers = (*stored.layers, *own)
        resolution = resolve(layers)
        meta_prompt = render(resolution)
        messages = tuple(assembler.tier_messages(meta_prompt))
        prefix = assembler.assemble(messages) if assembler.cuttable and messages else None
        receipt = Receipt(
            applied=not meta_prompt.empty,
            spec_hash=meta_prompt.spec_hash,
            template=assembler.template.reference,
            profiles=stored.profiles,
            learned_examples=stored.learned_examples,
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
