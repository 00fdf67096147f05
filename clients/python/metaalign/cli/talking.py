"""`metaalign chat`: a talk in which preferences can change at any time."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from metaalign.cli.arguments import add_preferences, attribute, client, preferences_of
from metaalign.cli.output import note, print_answer, receipt_lines, told
from metaalign.cli.steering import DIALS, check_temperature, check_together, dial
from metaalign.client import MetaAlign
from metaalign.errors import MetaAlignError

__all__ = ["add_commands"]

HELP = """/system TEXT        System Info from here on; without TEXT: none
/user TEXT          User Info from here on; without TEXT: none
/prefer NAME=VALUE  an attribute of the user, or of the provider: system.tone=formal; NAME= removes it
/profile NAME       a profile from here on; without NAME: none
/strength NUMBER    how strongly the tiers act, or each of them: system=1.2,user=2; without NUMBER: as trained
/blend PART=WEIGHT  mix User tiers, one part or more: formal=0.7 tone=pirate=0.3; without: none
/candidates COUNT   take the best of so many answers; without COUNT: the first
/show               the preferences, and what was applied to the last answer
/again              the last question once more
/new                forget the talk, keep the preferences
/up, /down          rate the last answer
/quit               the same as Ctrl-D"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = commands.add_parser("chat", help="talk, and change preferences in the middle of it", epilog=HELP,
                               formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add_preferences(chat)
    chat.add_argument("--model", help="a served model, or model@profile")
    chat.add_argument("--temperature", type=float, default=0.0, help="default: 0")
    chat.add_argument("--as-user", metavar="ID", help="the user that feedback and learned examples belong to")
    chat.set_defaults(run=_chat)


class _Talk:
    def __init__(self, server: MetaAlign, options: argparse.Namespace) -> None:
        self._server = server
        self._options = {"model": options.model, "temperature": options.temperature}
        if options.as_user is not None:
            self._options["user"] = options.as_user
        given = preferences_of(options)
        self.preferences: dict[str, Any] = {"system": given} if isinstance(given, str) else given or {}
        check_temperature(self.preferences, options.temperature)
        self.messages: list[dict[str, str]] = []
        self._last: Any = None

    def say(self, text: str) -> None:
        """Ask, and print the answer as it comes; a question that failed is not kept."""
        asked = {"role": "user", "content": text}
        stream = self._server.chat.stream(
            [*self.messages, asked], preferences=self.preferences or None, **self._options
        )
        with stream as answer:
            print_answer(answer)
        self._last = answer
        self.messages += [asked, {"role": "assistant", "content": answer.text}]

    def command(self, line: str) -> None:
        """Do what a line with a slash says."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("system", "user"):
            self._tier(name).pop("info", None)
            if rest:
                self._tier(name)["info"] = rest
        elif name == "prefer":
            self._prefer(rest)
        elif name == "profile":
            self.preferences.pop("profile", None)
            if rest:
                self.preferences["profile"] = rest
        elif name in DIALS:
            self._steer(name, rest)
        elif name == "show":
            note(f"preferences: {self.preferences or 'none'}")
            if self._last is not None:
                for shown in receipt_lines(self._last.receipt):
                    note(shown)
        elif name == "again":
            if not self.messages:
                raise MetaAlignError("/again: nothing has been asked yet")
            *self.messages, question, _answer = self.messages
            self.say(question["content"])
        elif name == "new":
            self.messages.clear()
        elif name in ("up", "down"):
            if self._last is None or self._last.id is None:
                raise MetaAlignError(f"/{name}: there is no answer to rate yet")
            self._server.feedback.give(self._last.id, name)
            note("noted")
        else:
            note(HELP)

    def _steer(self, name: str, text: str) -> None:
        changed = {field: value for field, value in self.preferences.items() if field != name}
        if text:
            changed[name] = dial(name, text)
        check_together(f"/{name}", changed)
        check_temperature(changed, self._options["temperature"])
        self.preferences = changed

    def _tier(self, name: str) -> dict[str, Any]:
        tier = self.preferences.setdefault(name, {})
        if isinstance(tier, str):
            tier = self.preferences[name] = {"info": tier}
        whole: dict[str, Any] = tier
        return whole

    def _prefer(self, text: str) -> None:
        tier, name, value = attribute(text)
        attributes = self._tier(tier).setdefault("attributes", {})
        attributes.pop(name, None)
        if value:
            attributes[name] = value


def _lines() -> Iterator[str]:
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives `input` a history
        note("/help lists the commands; Ctrl-D ends the talk")
    while True:
        try:
            yield input(prompt).strip()
        except EOFError:
            return


def _chat(options: argparse.Namespace) -> int:
    failed = False
    with client(options) as server:
        talk = _Talk(server, options)
        for line in _lines():
            try:
                if line in ("/quit", "/exit"):
                    break
                if line.startswith("/"):
                    talk.command(line)
                elif line:
                    talk.say(line)
            except MetaAlignError as error:
                failed = True
                note(f"metaalign: {told(error)}")
            except KeyboardInterrupt:
                note("")  # ends the answer, not the talk
    # At a terminal people have seen it; a script must not go on as if nothing had happened.
    return int(failed and not sys.stdin.isatty())
