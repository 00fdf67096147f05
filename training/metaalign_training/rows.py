"""The three kinds of row, one JSON object a line, and how files of them are read and written.

    conversation   {"messages": [system?, user_info?, user, …, assistant]}   what SFT learns from
    prompt         {"prompt": [… user], "check"?: {…}, "opposite"?: {"prompt", "check"}}   what is asked of a model
    pair           {"prompt": [… user], "chosen": [assistant], "rejected": [assistant]}   what DPO learns from

All may carry `part` and `split`. Conversations and pairs are TRL's own conversational formats, so that any TRL script
reads them. The tiers are messages with the roles `system` and `user_info`.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from metaalign_training.errors import DataError
from metaalign_training.recipe import FileShare, MetaPromptView

__all__ = [
    "Message",
    "Row",
    "check_conversation",
    "check_pair",
    "mix",
    "read_conversations",
    "read_pairs",
    "read_rows",
    "view",
    "write_rows",
]

Message = Mapping[str, Any]
Row = dict[str, Any]
_ROLES = frozenset(("system", "user_info", "user", "assistant", "tool"))


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Objects of a JSONL file (or `.jsonl.gz`) with their line numbers; blank lines are skipped.

    Raises:
        DataError: unreadable file, or a line that is no JSON object.
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
                    raise DataError(path, number, f"not JSON ({error}); mend or remove the line") from None
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


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write JSONL, whole or not at all, and return the number of rows."""
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
        content = message.get("content")
        if not isinstance(content, str) and not message.get("tool_calls"):
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


def _refuse_template(row: Row) -> str | None:
    kwargs = row.get("chat_template_kwargs")
    if kwargs is not None and (not isinstance(kwargs, dict) or "chat_template" in kwargs):
        return "`chat_template_kwargs` must be an object without `chat_template`: rows do not choose their template"
    return None


def check_conversation(row: Row) -> str | None:
    """What is wrong with a conversation row, or None."""
    return _refuse_template(row) or _check_messages(row.get("messages"), "messages", "assistant")


def check_pair(row: Row) -> str | None:
    """What is wrong with a pair row, or None."""
    if problem := _refuse_template(row) or _check_messages(row.get("prompt"), "prompt", None):
        return problem
    for name in ("chosen", "rejected"):
        if problem := _check_messages(row.get(name), name, "assistant"):
            return problem
    if row["chosen"] == row["rejected"]:
        return "`chosen` and `rejected` are the same; there is nothing to prefer"
    return None


def read_conversations(path: Path) -> list[Row]:
    """All conversation rows of a file.

    Raises:
        DataError: names file and line of the first bad row, or says that there is none at all.
    """
    return _checked(path, check_conversation, "conversation")


def read_pairs(path: Path) -> list[Row]:
    """All pair rows of a file; raises as `read_conversations`."""
    return _checked(path, check_pair, "pair")


def _checked(path: Path, check: Any, kind: str) -> list[Row]:
    rows = []
    for number, row in read_rows(path):
        if problem := check(row):
            raise DataError(path, number, problem)
        rows.append(row)
    if not rows:
        raise DataError(path, None, f"has no {kind} row; build data first or name another file")
    return rows


def mix(rows: Sequence[Row], files: Iterable[FileShare], read: Any, seed: int) -> list[Row]:
    """Rows with those of further files, each by its share; the order is decided by `seed`."""
    rng = random.Random(f"mixture {seed}")
    mixed = list(rows)
    for file in files:
        own = read(Path(file.path))
        mixed.extend(rng.sample(own, max(1, round(len(own) * file.share))) if file.share < 1 else own)
    if files:
        rng.shuffle(mixed)
    return mixed


def view(messages: Sequence[Message], meta_prompt: MetaPromptView) -> list[Message]:
    """The messages as a model sees them that is given all tiers, System Info alone, or none (a static model)."""
    hidden = {"full": (), "system": ("user_info",), "none": ("system", "user_info")}[meta_prompt]
    return [m for m in messages if m.get("role") not in hidden]
