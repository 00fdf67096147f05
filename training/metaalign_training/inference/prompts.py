"""Conversations as a checkpoint's token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from metaalign.prompt import PromptAssembler, verify_checkpoint
from metaalign_training.encoding import IGNORED, as_served, encode_conversation, encode_prompt
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
        return encode_prompt(self._assembler, shown, **_variables(tools))

    def answer_ids(
        self, messages: Sequence[Message], answer: str, tools: Tools = ()
    ) -> tuple[list[int], int]:
        """Ids of prompt and answer, and the index at which the answer starts.

        Raises:
            StageError: the template writes the prompt differently once the answer is there.
        """
        shown = as_served(self._assembler, messages, self._view)
        said = Message(role="assistant", content=answer)
        try:
            row = encode_conversation(self._assembler, [*shown, said], **_variables(tools))
        except ValueError as error:
            raise StageError(f"{self.tokenizer.name_or_path}: {error}") from error
        return row["input_ids"], row["labels"].count(IGNORED)


def _variables(tools: Tools) -> dict[str, Any]:
    return {"tools": [tool_definition(tool) for tool in tools]} if tools else {}
