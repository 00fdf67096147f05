"""PrefEval (arXiv 2502.09597): benchmark_dataset/…/TOPIC.json, as published.

    explicit_preference                  `preference`, `question`: the user says what they want, then asks
    implicit_preference/choice-based     and `conversation`: the user chose among options earlier
    implicit_preference/persona-driven   and `conversation`: turns in which the preference shows
    mcq_options                          and `classification_task_options`, of which the first is right

Where there is a conversation, the model sees that and not the preference. An explicit preference is given as User Info,
which is where our server puts it; the authors say it in an earlier turn. Options are asked for as the authors ask. Free
answers need a judge: following is right if the answer does not violate the preference and is helpful, which is what
the authors' four questions to their judge amount to. `prefeval-options` asks for options under an implicit preference:
they are in mcq_options/TOPIC.json, row by row.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaalign_training.errors import DataError
from metaalign_training.messages import Message, ask
from metaalign_training.published import need, read_entries
from metaalign_training.rows import JsonObject
from metaalign_training.stages.evaluation.items import Expectation, Item

__all__ = ["KINDS", "read_prefeval"]

KINDS = ("explicit_preference", "choice-based", "persona-driven", "mcq_options")
_LETTERS = "ABCDEFGHIJ"
_OPTIONS = "classification_task_options"
_CHOICE = ("query", "assistant_options", "user_selection", "assistant_acknowledgment")


def read_prefeval(path: Path, suite: str, *, with_options: bool = False) -> list[Item]:
    """The items of one topic; `with_options` takes the options from mcq_options.

    Raises:
        DataError: a field is missing, a conversation has neither published form, or there are no options.
    """
    kind = next((k for k in KINDS if k in path.parts), "")
    split = " ".join(filter(None, (kind.replace("_", " "), path.stem)))
    rows = list(read_entries(path))
    choices = _choices(path, rows) if with_options else [row.get(_OPTIONS) for _, row in rows]
    items = []
    for (number, row), options in zip(rows, choices, strict=True):
        preference, question = map(str, need(path, number, row, "preference", "question"))
        if options:
            query, expected = _options(f"{path.name} {number}", question, options)
        else:
            query, expected = question, _free(preference)
        user: Message = {"role": "user", "content": query}
        shown = _conversation(path, number, row)
        prompt = [*shown, user] if shown else ask({"user": {"info": preference}}, user)
        identity = f"{split}-{number}".replace(" ", "/")
        items.append(
            Item(identity, suite, split, prompt, expected, source=f"{path.stem} {preference} {question}")
        )
    return items


def _choices(path: Path, rows: Sequence[tuple[int, JsonObject]]) -> list[list[object]]:
    """The options of mcq_options for each row of a topic."""
    root = next((folder for folder in path.parents if (folder / "mcq_options").is_dir()), None)
    if root is None:
        raise DataError(path, None, "has no folder mcq_options above it; keep the published folders together")
    file = root / "mcq_options" / path.name
    found = [(number, *need(file, number, row, "question", _OPTIONS)) for number, row in read_entries(file)]
    if [question for _, question, _ in found] != [row.get("question") for _, row in rows]:
        raise DataError(file, None, f"its questions are not those of {path}, row by row")
    return [list(options) for _, _, options in found]


def _conversation(path: Path, number: int, row: JsonObject) -> list[Message]:
    """The earlier turns of an implicit preference, none of an explicit one."""
    turns = row.get("conversation")
    if turns is None:
        if "implicit_query" in row or "persona" in row:
            raise DataError(
                path, number, "`conversation` is missing; without it the preference cannot be seen"
            )
        return []
    if isinstance(turns, str):  # the tables on the hub hold it as JSON text
        try:
            turns = json.loads(turns)
        except ValueError as error:
            raise DataError(path, number, f"`conversation` is not JSON: {error}") from error
    if isinstance(turns, Mapping) and set(_CHOICE) <= turns.keys():
        roles = ("user", "assistant", "user", "assistant")
        return [
            {"role": role, "content": str(turns[name])} for role, name in zip(roles, _CHOICE, strict=True)
        ]
    entries = list(turns.values()) if isinstance(turns, Mapping) else turns
    if not entries or not all(isinstance(t, Mapping) and {"user", "assistant"} <= t.keys() for t in entries):
        raise DataError(
            path,
            number,
            f"`conversation` must have {', '.join(_CHOICE)}, or turns with `user` and `assistant`",
        )
    return [{"role": role, "content": str(turn[role])} for turn in entries for role in ("user", "assistant")]


def _free(preference: str) -> Expectation:
    return Expectation(
        criteria=(
            f"The answer does not go against this preference of the user: {preference}",
            "The answer is helpful: it has a substantive response to the question, and does not merely ask back,"
            " apologise or refuse.",
        )
    )


def _options(seed: str, question: str, options: Sequence[object]) -> tuple[str, Expectation]:
    """The question with its options in another order; the first one in the file is right."""
    order = list(range(len(options)))
    random.Random(seed).shuffle(order)
    letters = _LETTERS[: len(order)]
    listed = "\n".join(f"{letter}. {options[o]}" for letter, o in zip(letters, order, strict=True))
    asked = ", ".join(letters[:-1]) + f" or {letters[-1]}"
    query = (
        f"{question}\n\nThese are my options:\n{listed}\n\nWhich one suits my preferences best? Choose exactly one"
        f" ({asked}) and reply in this form, with nothing else: <choice>{letters[0]}</choice>"
    )
    right = f"({letters[order.index(0)]})"
    wrong = tuple(f"({letter})" for letter in letters if f"({letter})" != right)
    return query, Expectation(choice=((right,), wrong))
