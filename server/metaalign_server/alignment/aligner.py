"""Turns a request's `preferences` into the Meta-Prompt: resolution, rendering and receipt, with a cache."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from metaalign import InvalidPrompt, Preferences, Receipt
from metaalign.prompt import (
    Layer,
    MetaPrompt,
    PromptAssembler,
    render,
    request_layers,
    resolve,
    steer,
)
from metaalign.receipt import OverriddenEntry, TierTokens
from metaalign_server.alignment.layers import NOTHING_STORED, StoredLayers
from metaalign_server.alignment.spec_cache import SpecCache

__all__ = ["NO_TIERS", "Aligner", "AppliedBranch", "AppliedSpec"]

_CACHEABLE_CHARACTERS = 64_000
_ENTRY_BYTES = 2_500
"""What a cached result takes without its texts and ids, and `_VALUE_BYTES` for each overridden value, in CPython 3.11:
most of it is the dictionaries and sets of pydantic's models."""
_VALUE_BYTES = 1_150

META_PROMPTS = Counter(
    "metaalign_meta_prompts_total",
    "Meta-Prompts by whether one was rendered already (`hit`) or not (`miss`).",
    ["result"],
)
DURATION = Histogram(
    "metaalign_meta_prompt_seconds",
    "Time to make a Meta-Prompt that was not cached: `resolve` its layers, `render` them to text and tokens.",
    ["stage"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
_HIT, _MISS = META_PROMPTS.labels("hit"), META_PROMPTS.labels("miss")
_RESOLVE, _RENDER = DURATION.labels("resolve"), DURATION.labels("render")


@dataclass(frozen=True, slots=True)
class AppliedBranch:
    """The tiers of one prompt, and what its logits are multiplied by; see `AppliedSpec` for the others."""

    meta_prompt: MetaPrompt
    coefficient: float
    messages: tuple[dict[str, str], ...]
    prefix_text: str
    prefix_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AppliedSpec:
    """A Meta-Prompt, ready to be placed before a dialogue.

    Attributes:
        meta_prompt: The two tier texts and their hash.
        coefficient: What the logits under it are multiplied by; 1 if nothing is steered.
        followers: The other branches that draw the answer with it.
        candidates: How many answers to sample.
        attributes: Each dimension with the value that won.
        messages: The tiers as leading messages of the checkpoint's template.
        prefix_text: The tiers as rendered text, if the template can be cut after them, else "".
        prefix_ids: The token ids of that text.
        shared_ids: A prompt's leading ids that equal these are the operator's, for all tenants alike.
        receipt: The receipt for the client.
        receipt_json: The receipt as compact JSON bytes.
    """

    meta_prompt: MetaPrompt
    coefficient: float
    followers: tuple[AppliedBranch, ...]
    candidates: int
    attributes: tuple[tuple[str, str], ...]
    messages: tuple[dict[str, str], ...]
    prefix_text: str
    prefix_ids: tuple[int, ...]
    shared_ids: tuple[int, ...]
    receipt: Receipt
    receipt_json: bytes

    @property
    def steered(self) -> bool:
        """Whether an answer takes more than its prompt: other branches, or candidates."""
        return bool(self.followers) or self.candidates > 1

    @property
    def branches(self) -> tuple[AppliedBranch, ...]:
        """All branches, the leading one first."""
        own = AppliedBranch(
            self.meta_prompt, self.coefficient, self.messages, self.prefix_text, self.prefix_ids
        )
        return (own, *self.followers)

    @property
    def held_bytes(self) -> int:
        """What it takes in memory, estimated: what is there once for all specs is not counted."""
        texts: dict[int, str] = {}
        large: list[object] = [self.shared_ids, self.receipt_json]
        for branch in self.branches:
            tiers = (branch.meta_prompt.system_info, branch.meta_prompt.user_info)
            texts |= {
                id(text): text for text in (*tiers, *(message["content"] for message in branch.messages))
            }
            large += [branch.prefix_text, branch.prefix_ids]
        values = [text for attribute in self.attributes for text in attribute]
        names = sum(map(sys.getsizeof, (*values, *self.receipt.profiles)))
        return (
            _ENTRY_BYTES
            + _VALUE_BYTES * len(self.receipt.overridden)
            + names
            + sum(map(sys.getsizeof, (*texts.values(), *large)))
        )


NO_TIERS = AppliedBranch(render(resolve(())), 1.0, (), "", ())
"""What a dialogue has without preferences."""


class Aligner:
    """Applies preferences for one checkpoint, with an LRU cache of the results.

    Args:
        assembler: Renders and tokenises for the checkpoint.
        cache_bytes: How much the cached results may take.
        most_characters: A longer conversation cannot fit the model; None if the bound is unknown.
    """

    def __init__(
        self,
        assembler: PromptAssembler,
        cache_bytes: int = 128 * 2**20,
        most_characters: int | None = None,
    ) -> None:
        self.assembler = assembler
        self.most_characters = most_characters
        self._cache = SpecCache[AppliedSpec](cache_bytes)
        self._ids: dict[
            int, int
        ] = {}  # one object for each id of the vocabulary, not one for each of its uses

    def apply(
        self,
        preferences: Preferences | None,
        system_messages: Sequence[str] = (),
        user_info_messages: Sequence[str] = (),
        stored: StoredLayers = NOTHING_STORED,
    ) -> AppliedSpec:
        """Resolve and render; a recently used spec costs one cache lookup."""
        field = preferences.model_dump_json() if preferences is not None else ""
        system, user_info = tuple(system_messages), tuple(user_info_messages)
        key = _digest(field, system, user_info, stored)
        began = self._cache.round
        cached = self._cache.get(key)
        if preferences is not None or stored.layers:  # the prompt of no preferences is always there
            (_MISS if cached is None else _HIT).inc()
        if cached is not None:
            return cached
        spec = self._apply(preferences, system, user_info, stored)
        if len(field) + sum(map(len, system)) + sum(map(len, user_info)) <= _CACHEABLE_CHARACTERS:
            self._cache.put(key, spec, spec.held_bytes, began)
        return spec

    def forget(self) -> None:
        """Clear the cache, because rendered results may contain erased texts."""
        self._cache.clear()

    def _apply(
        self,
        preferences: Preferences | None,
        system_messages: tuple[str, ...],
        user_info_messages: tuple[str, ...],
        stored: StoredLayers,
    ) -> AppliedSpec:
        assembler = self.assembler
        started = time.perf_counter()
        own = request_layers(
            preferences,
            system_messages=system_messages,
            user_info_messages=user_info_messages,
            blended=stored.blended,
        )
        layers = (*stored.layers, *own)
        steered = steer(layers)
        resolved = time.perf_counter()
        (leading, *followers) = [
            self._branch(branch.meta_prompt, branch.coefficient) for branch in steered.branches
        ]
        meta_prompt = steered.branches[0].meta_prompt
        receipt = Receipt(
            applied=any(not branch.meta_prompt.empty for branch in steered.branches),
            spec_hash=steered.spec_hash,
            template=assembler.template.reference,
            profiles=stored.profiles,
            learned_examples=stored.learned_examples,
            overridden=tuple(
                OverriddenEntry(dimension=o.dimension, tier=o.tier, value=o.value, kept=o.kept, by=o.by)
                for o in steered.resolution.overridden
            ),
            tokens=TierTokens(
                system_info=assembler.count(meta_prompt.system_info),
                user_info=assembler.count(meta_prompt.user_info),
            ),
            steering=steered.applied,
        )
        if layers:
            _RESOLVE.observe(resolved - started)
            _RENDER.observe(time.perf_counter() - resolved)
        return AppliedSpec(
            meta_prompt=meta_prompt,
            coefficient=leading.coefficient,
            followers=tuple(followers),
            candidates=steered.candidates,
            attributes=(*steered.resolution.system.attributes, *steered.resolution.user.attributes),
            messages=leading.messages,
            prefix_text=leading.prefix_text,
            prefix_ids=leading.prefix_ids,
            shared_ids=self._shared_ids(stored),
            receipt=receipt,
            receipt_json=receipt.model_dump_json().encode(),
        )

    def _branch(self, meta_prompt: MetaPrompt, coefficient: float) -> AppliedBranch:
        assembler = self.assembler
        messages = tuple(assembler.tier_messages(meta_prompt))
        prefix = assembler.assemble(messages) if assembler.cuttable and messages else None
        return AppliedBranch(
            meta_prompt,
            coefficient,
            messages,
            prefix.text if prefix else "",
            self._shared_objects(prefix.token_ids) if prefix else (),
        )

    def _shared_ids(self, stored: StoredLayers) -> tuple[int, ...]:
        """Return the ids that the operator's System texts would have if nobody added anything to them."""
        alone = [Layer(layer.source, layer.system, None, layer.binding) for layer in stored.shared]
        messages = self.assembler.tier_messages(render(resolve(alone))) if alone else ()
        if not messages:
            return ()
        try:
            return self._shared_objects(self.assembler.assemble(messages).token_ids)
        except InvalidPrompt:  # a template that renders no dialogue without a question
            return ()

    def _shared_objects(self, token_ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return equal ids, each of which is one object in all cached results."""
        return tuple(map(self._ids.setdefault, token_ids, token_ids))


def _digest(field: str, system: tuple[str, ...], user_info: tuple[str, ...], stored: StoredLayers) -> bytes:
    """Return a key that takes as little memory for a long specification as for a short one.

    `repr` quotes each text, so that different tuples have different texts. A text that is not Unicode gets a key, too:
    the assembler refuses it.
    """
    parts = repr((system, user_info, stored.key)) if system or user_info or stored.key is not None else ""
    return hashlib.sha256(f"{len(field)} {field}{parts}".encode("utf-8", "surrogatepass")).digest()
