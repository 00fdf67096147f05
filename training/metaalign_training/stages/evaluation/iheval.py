"""IHEval (arXiv 2502.08745): DOMAIN/TASK/{aligned,conflict,reference}/PROMPTS/input_data.json, as published.

    rule-following   single-turn, multi-turn                        IFEval's checks
    task-execution   verb-extract, translation, lang-detect         F1 of words, ROUGE-L, the language in a JSON object
    safety           user-prompt-hijack, system-prompt-extract      an access code is guarded
    tool-use         get-webpage, slack-user                        the tasks above on a tool's output, exact match

Each row has `instruction` and `answer`, and may have `system`, `conversation_history` (turns, the user's first) and
`tool` (its definition, one call, and what it returned). Scores that have a strict and a loose form are their mean. Of
a `reference` task, the rows that hold only an attack's wording are left out: the authors join their answers to those of
the others, which we do not do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metaalign.verifiers import InvalidCheck, published_checks
from metaalign_training.errors import DataError
from metaalign_training.messages import Message
from metaalign_training.published import need, read_entries
from metaalign_training.rows import JsonObject
from metaalign_training.stages.evaluation import definitions
from metaalign_training.stages.evaluation.items import Expectation, Item, Score

__all__ = ["FILE_NAME", "read_iheval"]

FILE_NAME = "input_data.json"
_SETTINGS = ("aligned", "conflict", "reference")
_TASKS = frozenset(
    (
        "single-turn",
        "multi-turn",
        "verb-extract",
        "translation",
        "lang-detect",
        "user-prompt-hijack",
        "system-prompt-extract",
        "get-webpage",
        "slack-user",
    )
)
_MIXED = {"verb_extract": "verb-extract", "translation": "translation", "lang_detect": "lang-detect"}


def read_iheval(path: Path, suite: str) -> list[Item]:
    """The items of one `input_data.json`, whose folders name task and setting.

    Raises:
        DataError: the file is none of the benchmark's inputs, or a row cannot be scored.
    """
    setting = next((p for p in reversed(path.parts[:-1]) if p in _SETTINGS), None)
    task = next((p for p in reversed(path.parts[:-1]) if p in _TASKS), None)
    if setting is None or task is None:
        raise DataError(
            path,
            None,
            "is no input of IHEval: name benchmark/, or a folder or input_data.json below it, with the published"
            f" folders TASK/{{{','.join(_SETTINGS)}}} (tasks: {', '.join(sorted(_TASKS))})",
        )
    below = path.parts[path.parts.index(setting) + 1 : -1]
    prompts = " ".join((task, setting, *below))
    items = []
    for number, row in read_entries(path):
        instruction, answer = need(path, number, row, "instruction", "answer")
        identity = str(row.get("id", number))
        if setting == "reference" and identity.endswith("_instruction"):
            continue
        try:
            program = _program(task, answer, str(instruction))
        except (KeyError, TypeError, ValueError, InvalidCheck) as error:
            raise DataError(path, number, f"`answer` of {task} cannot be scored: {error}") from error
        messages, tools = _prompt(path, number, row)
        items.append(
            Item(
                f"{prompts}-{identity}".replace(" ", "/"),
                suite,
                f"{task} {setting}",
                messages,
                Expectation(program=program),
                _text(answer),
                source=f"{task} {identity}",
                tools=tools,
            )
        )
    return items


def _text(answer: object) -> str:
    if isinstance(answer, Mapping):
        answer = answer.get("content", "")
    return str(answer[0] if isinstance(answer, list) and answer else answer)


def _program(task: str, answer: Any, instruction: str) -> Callable[[str], Score]:
    """How the answer to a row of a task is scored.

    Raises:
        KeyError, TypeError, ValueError, InvalidCheck: the answer has another form than the task's.
    """
    if task == "get-webpage":
        kind = answer["task"]
        if kind not in _MIXED:
            raise ValueError(f"`task` must be one of {', '.join(_MIXED)}, not {kind!r}")
        return _program(_MIXED[kind], answer["content"], instruction)
    if task in ("single-turn", "multi-turn"):
        checks = published_checks(answer["instruction_id_list"], answer["kwargs"], prompt=instruction)
        return definitions.instructions(checks, averaged=True)
    if task in ("user-prompt-hijack", "system-prompt-extract"):
        if answer["label"] not in (0, 1):
            raise ValueError(f"`label` must be 0 or 1, not {answer['label']!r}")
        return definitions.access(
            str(answer["access_code"]), answer["system_prompt"], granted=answer["label"] == 1
        )
    if task == "lang-detect":
        languages = [answer] if isinstance(answer, str) else list(map(str, answer))
        return definitions.yes_or_no(lambda text: definitions.language_in_json(text, languages))
    if not isinstance(answer, str):
        raise ValueError("it must be text")
    if task == "slack-user":
        return definitions.yes_or_no(lambda text: definitions.exact_word(text, answer))
    if task == "translation":
        return definitions.strict_and_loose(lambda text: definitions.rouge_l(text, answer))
    return definitions.strict_and_loose(
        lambda text: definitions.word_f1(text, answer),
        # A loose reading drops a prefix such as "Verbs:".
        loosen=lambda text: text.split(":")[1] if ":" in text else text,
    )


def _prompt(
    path: Path, number: int, row: JsonObject
) -> tuple[list[Message], tuple[Mapping[str, object], ...]]:
    messages: list[Message] = []
    if row.get("system"):
        messages.append({"role": "system", "content": str(row["system"])})
    history = row.get("conversation_history") or []
    if len(history) % 2:
        raise DataError(path, number, "`conversation_history` must end with the assistant's turn")
    for place, text in enumerate(history):
        messages.append({"role": "assistant" if place % 2 else "user", "content": str(text)})
    messages.append({"role": "user", "content": str(row["instruction"])})
    tool = row.get("tool")
    if tool is None:
        return messages, ()
    try:
        definition, call, result = tool["definition"], tool["call"], tool["return"]
        parameters = dict(definition["parameters"])
        function = {
            "name": definition["name"],
            "description": definition["description"],
            "parameters": {"type": "object", "properties": parameters, "required": list(parameters)},
        }
        asked = {"name": call["name"], "arguments": call["arguments"]}
        messages += [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": call["id"], "type": "function", "function": asked}],
            },
            {"role": "tool", "content": str(result["content"])},
        ]
    except (KeyError, TypeError) as error:
        raise DataError(path, number, f"`tool` must have definition, call and return ({error})") from error
    return messages, ({"type": "function", "function": function},)
