"""Conversations as a checkpoint's token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from metaalign.prompt import PromptAssembler, verify_checkpoint
from metaalign_training.encoding import as_served
from metaalign_training.errors import StageError
from metaalign_training.inference.chat import Tools
from metaalign_training.messages import Message, MetaPromptView, tool_definition

__all__ = ["Prompts"]


class Prompts:
    """Encodes conversations for the checkpoint in `folder`, with the tiers that `meta_prompt` names.

    Raises:
        StageError: there is no checkpoint in the folder.
        metaalign.InvalidCheckpoint: the checkpoint does not match its manifest.
    """

    def __init__(self, folder: Path, meta_prompt: MetaPromptView) -> None:
        if folder.is_dir():
            verify_checkpoint(folder)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise StageError(
                f"{folder}: no checkpoint there ({' '.join(str(error).split())[:200]})"
            ) from error
        self._assembler = PromptAssembler.from_tokenizer(self.tokenizer)
        self._view = meta_prompt

    def ids(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Ids of the prompt, up to the start of the answer."""
        shown = as_served(self._assembler, messages, self._view)
        variables: dict[str, Any] = {"tools": [tool_definition(tool) for tool in tools]} if tools else {}
        return list(self._assembler.assemble(shown, add_generation_prompt=True, **variables).token_ids)

    def answer_ids(self, messages: Sequence[Message], answer: str) -> tuple[list[int], int]:
        """Ids of prompt and answer, and the index at which the answer starts."""
        prompt = self.ids(messages)
        shown = as_served(self._assembler, messages, self._view)
        whole = self._assembler.assemble([*shown, {"role": "assistant", "content": answer}]).token_ids
        return list(whole), len(prompt)
