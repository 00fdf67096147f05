"""`metaalign-train chat CHECKPOINT`: talk with a checkpoint, and change the preferences in the middle of it.

The prompt is assembled as the server does, so what works here works there. On a terminal it asks line by line; from a
pipe, each line is a turn of the user.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from metaalign import InvalidPreferences, MetaAlignError, parse_preferences
from metaalign_training.errors import StageError, nearest
from metaalign_training.inference.generation import TransformersGenerator
from metaalign_training.messages import Message, ask

__all__ = ["HELP", "Talk", "talk"]

HELP = """\
/system TEXT   set System Info; without text, clear it      /reset   begin a new talk with the same preferences
/user TEXT     set User Info; without text, clear it        /undo    take back the last question and its answer
/prefer JSON   set the whole `preferences` field            /show    what the model is told
/help          this                                         /quit    end (also Ctrl-D); Ctrl-C stops an answer"""


class Talk:
    """One talk: its preferences, and the turns so far.

    Args:
        generator: The checkpoint.
        preferences: The `preferences` field to begin with.
        temperature: 0 is greedy.
        max_new_tokens: Length of an answer at most.
        seed: For sampling.

    Raises:
        metaalign.InvalidPreferences: the preferences are wrong.
    """

    def __init__(
        self,
        generator: TransformersGenerator,
        preferences: Mapping[str, Any],
        *,
        temperature: float = 0.0,
        max_new_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        parse_preferences(preferences)
        self._generator = generator
        self._preferences = dict(preferences)
        self._options: dict[str, Any] = {
            "temperature": temperature,
            "max_new_tokens": max_new_tokens,
            "seed": seed,
        }
        self._turns: list[Message] = []

    def answer(self, text: str) -> Iterator[str]:
        """Ask, and yield the answer in pieces; a question whose answer is broken off counts, with what there is."""
        self._turns.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            for piece in self._generator.stream(self._messages(), **self._options):
                said.append(piece)
                yield piece
        finally:
            self._turns.append({"role": "assistant", "content": "".join(said).strip()})

    def command(self, line: str) -> str:
        """Carry out a line that begins with a slash, and return what to say about it.

        Raises:
            EOFError: the talk is over.
            StageError: there is no such command.
            metaalign.InvalidPreferences: it would make the preferences wrong; they stay as they were.
        """
        name, _, text = line[1:].partition(" ")
        text = text.strip()
        if name in ("quit", "exit"):
            raise EOFError
        if name in ("system", "user"):
            changed = {**self._preferences, name: text} if text else {**self._preferences}
            if not text:
                changed.pop(name, None)
            return self._set(changed)
        if name == "prefer":
            try:
                tree = json.loads(text)
            except ValueError as error:
                raise InvalidPreferences(f"/prefer takes JSON: {error}", param="preferences") from None
            return self._set({"system": tree} if isinstance(tree, str) else tree)
        if name == "reset":
            self._turns.clear()
            return "A new talk."
        if name == "undo":
            del self._turns[-2:]
            return f"{len(self._turns) // 2} questions so far."
        if name == "show":
            return "\n".join(f"[{m['role']}] {m['content']}" for m in self._messages()) or "Nothing yet."
        if name == "help":
            return HELP
        names = ("system", "user", "prefer", "reset", "undo", "show", "help", "quit")
        raise StageError(f"/{name}: no such command{nearest(name, names)}")

    def _set(self, preferences: Any) -> str:
        parse_preferences(preferences)
        self._preferences = dict(preferences)
        return "From the next answer on."

    def _messages(self) -> list[Message]:
        return ask(self._preferences, *self._turns)


def talk(folder: Path, preferences: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Talk with the checkpoint in `folder` until the input ends; `options` are those of `Talk`.

    Raises:
        StageError: there is no checkpoint.
        metaalign.InvalidPreferences: the preferences are wrong.
    """
    parse_preferences(preferences)  # before a model is loaded
    own = Talk(TransformersGenerator(folder), preferences, **options)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # `input` uses it once it is imported
        print(f"{folder.name}; /help lists the commands")
    while True:
        try:
            line = input("> ").strip() if sys.stdin.isatty() else _next_line(sys.stdin)
            if line.startswith("/"):
                print(own.command(line))
            elif line:
                _say(own, line)
        except EOFError:
            return
        except MetaAlignError as error:
            print(f"{error}", file=sys.stderr)
        except KeyboardInterrupt:
            print()  # at the prompt it clears the line; Ctrl-D ends


def _next_line(source: TextIO) -> str:
    line = source.readline()
    if not line:
        raise EOFError
    return line.strip()


def _say(own: Talk, line: str) -> None:
    try:
        for piece in own.answer(line):
            print(piece, end="", flush=True)
    finally:
        print()
