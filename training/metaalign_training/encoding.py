"""Rows as token ids, by the assembler that also serves requests.

The model is therefore trained on exactly the ids that it is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metaalign.prompt import PromptAssembler
from metaalign_training.errors import DataError
from metaalign_training.messages import Message, MetaPromptView, folded, tool_definition, view, written
from metaalign_training.recipe import Loss
from metaalign_training.rows import Conversation, JsonObject, Pair, Thumb

__all__ = [
    "IGNORED",
    "Dialogue",
    "EncodedRow",
    "as_served",
    "encode_conversation",
    "encode_conversations",
    "encode_pair",
    "encode_pairs",
    "encode_prompt",
    "encode_thumbs",
    "encode_turns",
    "keep_short",
    "length_of",
    "template_variables",
]

IGNORED = -100
"""Label of a position that carries no loss."""

Dialogue: TypeAlias = Sequence[Mapping[str, Any]]
"""Messages as the assembler takes them."""

EncodedRow: TypeAlias = Mapping[str, NDArray[np.int32]]
"""The ids of one row, by column name."""


def as_served(
    assembler: PromptAssembler, messages: Sequence[Message], meta_prompt: MetaPromptView = "full"
) -> list[Message]:
    """Messages as the server would send them to this checkpoint: folded if its template has no User Info tier."""
    shown = [written(message) for message in view(messages, meta_prompt)]
    return shown if assembler.template.knows_user_info else folded(shown)


def encode_conversation(
    assembler: PromptAssembler, messages: Dialogue, **variables: Any
) -> dict[str, list[int]]:
    """One row with loss on the last message, the answer, and on the token that ends it.

    Args:
        assembler: The checkpoint's.
        messages: The conversation.
        **variables: Further variables of the template, such as `tools`.

    Returns:
        `input_ids` and `labels` of equal length; labels are `IGNORED` up to where generation would begin.

    Raises:
        ValueError: the last message is not the assistant's.
        metaalign.InvalidPrompt: the template refuses the conversation.
    """
    prompt = encode_prompt(assembler, messages[:-1], **variables)
    answer = _answer_ids(assembler, messages[:-1], prompt, messages[-1:], variables)
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def encode_turns(
    assembler: PromptAssembler, messages: Dialogue, **variables: Any
) -> list[dict[str, list[int]]]:
    """Rows with loss on every turn of the assistant, each after exactly the prompt that it is served with.

    This is one row, unless the template writes a turn differently once others follow it, as those do that drop old
    thoughts: then a row ends there. Arguments and exceptions are those of `encode_conversation`.
    """
    rows: list[dict[str, list[int]]] = []
    for end, message in enumerate(messages, start=1):
        if message.get("role") != "assistant" or not (message.get("content") or message.get("tool_calls")):
            continue
        row = encode_conversation(assembler, messages[:end], **variables)
        if rows and row["input_ids"][: length_of(rows[-1])] == rows[-1]["input_ids"]:
            before = rows.pop()
            row["labels"][: length_of(before)] = before["labels"]
        rows.append(row)
    return rows


def encode_pair(
    assembler: PromptAssembler,
    prompt: Dialogue,
    chosen: Dialogue,
    rejected: Dialogue,
    **variables: Any,
) -> dict[str, list[int]]:
    """One preference pair as `prompt_ids`, `chosen_ids` and `rejected_ids`; raises as `encode_conversation`."""
    prompt_ids = encode_prompt(assembler, prompt, **variables)
    return {
        "prompt_ids": prompt_ids,
        "chosen_ids": _answer_ids(assembler, prompt, prompt_ids, chosen, variables),
        "rejected_ids": _answer_ids(assembler, prompt, prompt_ids, rejected, variables),
    }


def encode_prompt(assembler: PromptAssembler, prompt: Dialogue, **variables: Any) -> list[int]:
    """The ids of a prompt, up to where the answer begins."""
    return list(assembler.assemble(prompt, add_generation_prompt=True, **variables).token_ids)


def _answer_ids(
    assembler: PromptAssembler,
    prompt: Dialogue,
    prompt_ids: list[int],
    answer: Dialogue,
    variables: Mapping[str, Any],
) -> list[int]:
    """The ids of the answer, which follow those of the prompt."""
    if not answer or answer[-1].get("role") != "assistant":
        raise ValueError("messages: the last one must be the assistant's answer")
    whole = list(assembler.assemble([*prompt, *answer], **variables).token_ids)
    if whole[: len(prompt_ids)] != prompt_ids:
        raise ValueError("messages: the template renders the prompt differently once the answer is there")
    return whole[len(prompt_ids) :]


def template_variables(
    assembler: PromptAssembler, row: JsonObject, messages: Iterable[Message]
) -> dict[str, Any]:
    """What the row gives the template beside its messages.

    Raises:
        ValueError: the template does not use it, so that it would silently be missing.
    """
    source = assembler.template.source
    for name in row.get("chat_template_kwargs", {}):
        if name not in source:
            raise ValueError(f"chat_template_kwargs.{name}: the chat template does not use it; remove it")
    tools = [tool_definition(tool) for tool in row.get("tools") or []]
    if tools and "tools" not in source:
        raise ValueError("tools: the chat template does not write them; remove them, or use another template")
    if "tool_calls" not in source and any("tool_calls" in message for message in messages):
        raise ValueError("tool_calls: the chat template does not write them; use another template")
    return {**row.get("chat_template_kwargs", {}), **({"tools": tools} if tools else {})}


def encode_conversations(
    assembler: PromptAssembler,
    rows: Iterable[Conversation],
    meta_prompt: MetaPromptView = "full",
    loss: Loss = "answer",
) -> Iterator[dict[str, list[int]]]:
    """Encode conversation rows one by one; DataError names the first that the template refuses."""
    for number, row in enumerate(rows, start=1):
        try:
            messages = as_served(assembler, row["messages"], meta_prompt)
            variables = template_variables(assembler, row, messages)
            if loss == "all_turns":
                yield from encode_turns(assembler, messages, **variables)
            else:
                yield encode_conversation(assembler, messages, **variables)
        except ValueError as error:
            raise DataError("sft rows", number, str(error)) from error


def encode_pairs(
    assembler: PromptAssembler, rows: Iterable[Pair], meta_prompt: MetaPromptView = "full"
) -> Iterator[dict[str, list[int]]]:
    """Encode pair rows one by one; raises as `encode_conversations`."""
    for number, row in enumerate(rows, start=1):
        try:
            prompt = as_served(assembler, row["prompt"], meta_prompt)
            chosen, rejected = ([written(m) for m in row[name]] for name in ("chosen", "rejected"))
            variables = template_variables(assembler, row, [*prompt, *chosen, *rejected])
            yield encode_pair(assembler, prompt, chosen, rejected, **variables)
        except ValueError as error:
            raise DataError("dpo rows", number, str(error)) from error


def encode_thumbs(
    assembler: PromptAssembler, rows: Iterable[Thumb], meta_prompt: MetaPromptView = "full"
) -> Iterator[dict[str, list[int]]]:
    """Encode thumb rows one by one as `prompt_ids`, `completion_ids` and `label`; raises as `encode_conversations`."""
    for number, row in enumerate(rows, start=1):
        try:
            prompt = as_served(assembler, row["prompt"], meta_prompt)
            completion = [written(m) for m in row["completion"]]
            variables = template_variables(assembler, row, [*prompt, *completion])
            ids = encode_prompt(assembler, prompt, **variables)
            answer = _answer_ids(assembler, prompt, ids, completion, variables)
            yield {"prompt_ids": ids, "completion_ids": answer, "label": [int(row["label"])]}
        except ValueError as error:
            raise DataError("dpo rows", number, str(error)) from error


def length_of(row: Mapping[str, Sized]) -> int:
    """Number of tokens of an encoded row; for a pair, of the prompt with the longer answer."""
    if "input_ids" in row:
        return len(row["input_ids"])
    if "completion_ids" in row:
        return len(row["prompt_ids"]) + len(row["completion_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def keep_short(
    rows: Iterable[Mapping[str, Sequence[int]]], max_length: int | None
) -> tuple[list[EncodedRow], int]:
    """Rows of at most `max_length` tokens, and the number dropped: a cut answer would teach the model to stop midway.

    Ids are returned as 32-bit arrays, which take a fraction of the memory of lists.
    """
    kept: list[EncodedRow] = []
    dropped = 0
    for row in rows:
        if max_length is not None and length_of(row) > max_length:
            dropped += 1
        else:
            kept.append({name: np.asarray(ids, dtype=np.int32) for name, ids in row.items()})
    return kept, dropped
