"""Conversations as training rows, through the same assembler that serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metaalign import PromptAssembler

__all__ = ["IGNORED", "encode_conversation"]

IGNORED = -100
"""Label of a position that carries no loss."""


def encode_conversation(
    assembler: PromptAssembler, messages: Sequence[Mapping[str, Any]]
) -> dict[str, list[int]]:
    """One row whose loss is on the last message, the answer, and the token that ends it.

    Returns:
        `input_ids` and `labels` of equal length; labels are `IGNORED` up to where generation would begin.

    Raises:
        ValueError: the last message is not the assistant's.
        metaalign.InvalidPrompt: the template refuses the conversation.
    """
    if not messages or messages[-1].get("role") != "assistant":
        raise ValueError("messages: the last one must be the assistant's answer")
    prompt = assembler.assemble(messages[:-1], add_generation_prompt=True).token_ids
    whole = assembler.assemble(messages).token_ids
    if whole[: len(prompt)] != prompt:
        raise ValueError("messages: the template renders the prompt differently once the answer is there")
    return {"input_ids": list(whole), "labels": [IGNORED] * len(prompt) + list(whole[len(prompt) :])}
