"""The three kinds of row, one JSON object per line, and how files of them are read and written.

    Conversation   system?, user_info?, user, …, assistant        what SFT learns from
    Question       … user, and what the answer to it must be      what a model is asked
    Pair           … user, a chosen and a rejected answer         what DPO learns from

Each may carry `part` and `split`. Conversations and pairs are in TRL's conversational formats, so any TRL script can
read them. The tiers are messages with the roles `system` and `user_info`. Each may have `tools`, as OpenAI's protocol
defines them; conversations and pairs may have `chat_template_kwargs`, further variables of the chat template.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TextIO, TypeAlias, TypedDict, cast

from metaalign.verifiers import InvalidCheck, parse_checks
from metaalign_training.errors import DataError
from metaalign_training.messages import Message

__all__ = [
    "Asked",
    "CheckRow",
    "Conversation",
    "Expect",
    "JsonObject",
    "Pair",
    "Question",
    "Thumb",
    "check_pair",
    "check_question",
    "check_variables",
    "read_conversations",
    "read_pairs",
    "read_questions",
    "read_rows",
    "read_thumbs",
    "stream_conversations",
    "texts_of",
    "write_rows",
]

JsonObject: TypeAlias = Mapping[str, Any]
"""An object from a file; nothing is known about its fields until it has been checked."""

_ROLES = frozenset(("system", "user_info", "user", "assistant", "tool"))


class Conversation(TypedDict):
    """What SFT learns from; the last message is the assistant's."""

    tools: NotRequired[list[Mapping[str, object]]]
    split: NotRequired[str]
    part: NotRequired[str]
    chat_template_kwargs: NotRequired[dict[str, Any]]
    messages: list[Message]


class CheckRow(TypedDict):
    """What the world's verifiers check; see `world.samples.Check`."""

    asked: Mapping[str, str]
    content: Sequence[str]
    subject: str
    facts: Sequence[str]


class Expect(TypedDict, total=False):
    """How an answer is scored without the world's verifiers; exactly one key is set.

    Attributes:
        choice: Right and wrong options.
        words: Words that are needed, and words that are forbidden.
        verify: Checks as in `preferences.verify` (docs/verifiers.md).
        refusal: Whether the answer must refuse.
        text: A reference answer.
        rubric: What makes an answer good, for a judge.
    """

    choice: list[list[str]]
    words: list[list[str]]
    verify: list[Mapping[str, Any]]
    refusal: bool
    text: str
    rubric: str


class Asked(TypedDict):
    """A prompt, a right answer to it, and how answers are scored."""

    prompt: list[Message]
    answer: NotRequired[str]
    check: NotRequired[CheckRow]
    expect: NotRequired[Expect]
    tools: NotRequired[list[Mapping[str, object]]]


class Question(Asked):
    """What a model is asked; `opposite` is the same question under the opposite preference."""

    split: NotRequired[str]
    part: NotRequired[str]
    rejected: NotRequired[str]
    opposite: NotRequired[Asked]


class Pair(TypedDict):
    """What DPO learns from; `source` says how the pair was made."""

    split: NotRequired[str]
    part: NotRequired[str]
    source: NotRequired[str]
    tools: NotRequired[list[Mapping[str, object]]]
    chat_template_kwargs: NotRequired[dict[str, Any]]
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class Thumb(TypedDict):
    """An answer that somebody liked (`label` true) or disliked; what KTO learns from."""

    tools: NotRequired[list[Mapping[str, object]]]
    chat_template_kwargs: NotRequired[dict[str, Any]]
    prompt: list[Message]
    completion: list[Message]
    label: bool


def read_rows(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """Objects of a JSONL file (or `.jsonl.gz`) with their line numbers; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        with _open(path) as file:
            number = 0
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(path, number, f"not JSON ({error}); fix or remove the line") from None
                if not isinstance(row, dict):
                    raise DataError(path, number, "not a JSON object; each line must be one")
                yield number, row
    except FileNotFoundError:
        raise DataError(path, None, "no such file") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"cannot be read as UTF-8 JSON lines: {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write a JSONL file, completely or not at all, and return the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def _check_messages(messages: object, where: str, last: str | None) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"`{where}` must be a non-empty list of messages"
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return f"`{where}[{index}].role` must be one of {', '.join(sorted(_ROLES))}"
        calls, content = message.get("tool_calls"), message.get("content")
        if problem := _check_calls(calls, message["role"], f"{where}[{index}].tool_calls"):
            return problem
        if not isinstance(content, str) and not (content is None and calls):
            return f"`{where}[{index}].content` must be text"
    if last is not None and messages[-1]["role"] != last:
        return f"the last of `{where}` must have the role {last}"
    if (
        last == "assistant"
        and not str(messages[-1].get("content") or "").strip()
        and not messages[-1].get("tool_calls")
    ):
        return f"the last of `{where}` is empty; there is nothing to learn"
    return None


def _check_calls(calls: object, role: str, where: str) -> str | None:
    """What is wrong with the tool calls of a message."""
    if calls is None or calls == []:
        return None
    if role != "assistant":
        return f"`{where}`: only the assistant calls tools"
    if not isinstance(calls, list):
        return f"`{where}` must be a list"
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or call.get("type", "function") != "function":
            return f'`{where}[{index}]` must be {{"type": "function", "function": {{"name", "arguments"}}}}'
        if not isinstance(function.get("name"), str) or not function["name"]:
            return f"`{where}[{index}].function.name` must be text"
        if not _is_object(function.get("arguments")):
            return f"`{where}[{index}].function.arguments` must be an object, or one as JSON text"
    return None


def _is_object(value: object) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return isinstance(value, dict)


def _check_tools(row: JsonObject) -> str | None:
    """What is wrong with the definitions of tools in a row."""
    tools = row.get("tools")
    if tools is None:
        return None
    if not isinstance(tools, list):
        return "`tools` must be a list of definitions, not their text"
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            return f'`tools[{index}]` must be {{"type": "function", "function": {{"name", …}}}}'
        for name, kind, what in (
            ("description", str, "text"),
            ("parameters", dict, "an object, a JSON schema"),
        ):
            if not isinstance(function.get(name), (kind, type(None))):
                return f"`tools[{index}].function.{name}` must be {what}"
        if not isinstance(function.get("name"), str) or not function["name"]:
            return f"`tools[{index}].function.name` must be text"
    return None


_NOT_A_ROWS = frozenset(
    (
        "add_generation_prompt",
        "add_special_tokens",
        "chat_template",
        "continue_final_message",
        "messages",
        "return_dict",
        "system_info",
        "tokenize",
        "tools",
        "user_info",
    )
)
"""Variables of the template that `chat_template_kwargs` must not set: a row would override what it is trained on."""


def check_variables(row: JsonObject) -> str | None:
    """What is wrong with what a row gives the chat template beside its messages."""
    kwargs = row.get("chat_template_kwargs", {})
    if not isinstance(kwargs, dict):
        return "`chat_template_kwargs` must be an object; leave it out where there is nothing to say"
    if reserved := sorted(_NOT_A_ROWS & kwargs.keys()):
        return f"`chat_template_kwargs.{reserved[0]}` is not a row's to set; remove it"
    return _check_tools(row)


def _check_conversation(row: JsonObject) -> str | None:
    """What is wrong with a conversation row, or None if nothing is."""
    return check_variables(row) or _check_messages(row.get("messages"), "messages", "assistant")


def check_question(row: JsonObject) -> str | None:
    """What is wrong with a question row, or None if nothing is."""
    if "chat_template_kwargs" in row:
        return "`chat_template_kwargs` is for conversations and pairs; remove it"
    if problem := check_variables(row) or _check_messages(row.get("prompt"), "prompt", None):
        return problem
    if problem := _check_expectation(row, ""):
        return problem
    opposite = row.get("opposite")
    if opposite is None:
        return None
    if not isinstance(opposite, dict):
        return "`opposite` must be an object with `prompt`"
    return _check_messages(opposite.get("prompt"), "opposite.prompt", None) or _check_expectation(
        opposite, "opposite."
    )


def _check_expectation(row: JsonObject, at: str) -> str | None:
    """What is wrong with the checks that a row names."""
    expect = row.get("expect", {})
    if not isinstance(expect, dict):
        return f"`{at}expect` must be an object"
    if "verify" not in expect:
        return None
    if not isinstance(expect["verify"], list) or not expect["verify"]:
        return f"`{at}expect.verify` must be a list of checks"
    try:
        parse_checks(expect["verify"])
    except InvalidCheck as error:
        return f"`{at}expect.verify`{error.message}"
    except (TypeError, AttributeError):
        return f'`{at}expect.verify` must be a list of {{"name", "arguments"}}'
    return None


def _check_answer(row: JsonObject, name: str) -> str | None:
    """What is wrong with an answer that is compared or rated."""
    if problem := _check_messages(row.get(name), name, "assistant"):
        return problem
    if len(row[name]) > 1:
        return f"`{name}` must be one message; those before it belong to `prompt`"
    return None


def check_pair(row: JsonObject) -> str | None:
    """What is wrong with a pair row, or None if nothing is."""
    if problem := check_variables(row) or _check_messages(row.get("prompt"), "prompt", None):
        return problem
    for name in ("chosen", "rejected"):
        if problem := _check_answer(row, name):
            return problem
    if row["chosen"] == row["rejected"]:
        return "`chosen` and `rejected` are the same; there is nothing to prefer"
    return None


def _check_thumb(row: JsonObject) -> str | None:
    """What is wrong with a thumb row, or None if nothing is."""
    if problem := check_variables(row) or _check_messages(row.get("prompt"), "prompt", None):
        return problem
    if not isinstance(row.get("label"), bool):
        return "`label` must be true (thumbs up) or false (thumbs down)"
    return _check_answer(row, "completion")


def read_conversations(path: Path) -> list[Conversation]:
    """All conversation rows of a file.

    Raises:
        DataError: names file and line of the first bad row; or the file has no row.
    """
    return cast(list[Conversation], _checked(path, _check_conversation, _empty("conversation")))


def read_questions(path: Path) -> list[Question]:
    """All question rows of a file; raises as `read_conversations`."""
    return cast(list[Question], _checked(path, check_question, _NO_QUESTION))


def read_pairs(path: Path) -> list[Pair]:
    """All pair rows of a file; raises as `read_conversations`."""
    return cast(list[Pair], _checked(path, check_pair, _empty("pair")))


def read_thumbs(path: Path) -> list[Thumb]:
    """All thumb rows of a file; raises as `read_conversations`."""
    return cast(list[Thumb], _checked(path, _check_thumb, _empty("thumb")))


def _empty(kind: str) -> str:
    return f"has no {kind} row; build data first or name another file"


_NO_QUESTION = (
    "has no question to sample answers for; raise `world.pair_prompts` or `instructions.preference_share`"
)


def stream_conversations(path: Path) -> Iterator[Conversation]:
    """Conversation rows of a file one by one, as they are read; raises as `read_conversations`."""
    return cast(Iterator[Conversation], _stream(path, _check_conversation, _empty("conversation")))


def _checked(path: Path, check: Callable[[JsonObject], str | None], empty: str) -> list[JsonObject]:
    """The rows of a file, with keys that we do not know left in."""
    return list(_stream(path, check, empty))


def _stream(path: Path, check: Callable[[JsonObject], str | None], empty: str) -> Iterator[JsonObject]:
    found = False
    for number, row in read_rows(path):
        if problem := check(row):
            raise DataError(path, number, problem)
        found = True
        yield row
    if not found:
        raise DataError(path, None, empty)


def texts_of(row: Conversation) -> Iterator[str]:
    """All texts of a conversation; calls and definitions of tools as JSON."""
    for message in row["messages"]:
        yield message.get("content") or ""
        if message.get("tool_calls"):
            yield json.dumps(message["tool_calls"], ensure_ascii=False)
    if row.get("tools"):
        yield json.dumps(row["tools"], ensure_ascii=False)
