"""`metaalign replay`: ask again what was asked, and say what differs; `metaalign ask --save` writes what it reads.

Each line of the file is one exchange: `request`, the fields of `/v1/chat/completions` or `/v1/align`; `answer`, what
the server answered; and `prompt`, the number of the prompt's token ids and their hash, if they are known.
Whoever keeps requests and answers on their own can write such lines too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from metaalign.cli.arguments import client
from metaalign.cli.output import as_json, note, print_json, steering_line, table, told
from metaalign.client import MetaAlign
from metaalign.client.failures import APIError
from metaalign.errors import MetaAlignError
from metaalign.receipt import Receipt

__all__ = ["add_commands", "check_writable", "save"]

_NEARBY = 20
"""Characters shown on either side of the place where two answers part."""


class Prompt(BaseModel):
    """A prompt's token ids: how many, and the SHA-256 of their JSON."""

    tokens: int
    sha256: str


class Exchange(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid")

    request: dict[str, Any]
    answer: dict[str, Any]
    prompt: Prompt | None = None

    @model_validator(mode="after")
    def _can_be_asked_and_compared(self) -> Exchange:
        if (self.request.get("query") is None) == (self.request.get("messages") is None):
            raise ValueError("`request` needs either `query` or `messages`")
        return self

    @property
    def said(self) -> dict[str, str]:
        """The answer in parts, in either route's form: its text, its calls, and why it ended."""
        found = self.answer
        choices = found.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            message = choices[0].get("message") or {}
            calls = [call.get("function") for call in message.get("tool_calls") or ()]
            end = {name: choices[0][name] for name in ("finish_reason",) if name in choices[0]}
            found = {"text": message.get("content"), "calls": json.dumps(calls) if calls else ""} | end
        names = {"answer": "text", "calls": "calls", "end": "finish_reason"}
        return {what: str(found.get(name) or "") for what, name in names.items() if name in found}

    @property
    def receipt(self) -> Receipt | None:
        found = self.answer.get("metaalign")
        try:
            return None if found is None else Receipt.model_validate(found)
        except ValidationError as error:
            raise MetaAlignError("`answer.metaalign` is no receipt") from error

    @property
    def reproducible(self) -> bool:
        """Whether the engine decides the answer, not chance."""
        return self.request.get("temperature") == 0 or self.request.get("seed") is not None


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was."""

    what: str
    then: str
    now: str


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = commands.add_parser(
        "replay", help="ask again what `ask --save` wrote; exit code 1 if anything differs"
    )
    replay.add_argument("file", type=Path, help="one exchange a line, as `ask --save FILE` writes them")
    replay.add_argument(
        "--labels", action="store_true",
        help="take profiles as they are named; without it, in the versions that the receipt names",
    )  # fmt: skip
    replay.set_defaults(run=_replay)


def check_writable(path: Path) -> None:
    """Make sure that a file can be written, before an answer is paid for; a new one is its owner's alone.

    Raises:
        MetaAlignError: it cannot.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        raise MetaAlignError(f"{path}: cannot be written ({error.strerror})") from error


def save(server: MetaAlign, path: Path, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Append an exchange to a file."""
    exchange = Exchange(request=dict(request), answer=dict(answer))
    # With the versions that were used: a label may choose another one, or have moved since.
    prompt = _prompt(server, _pinned(exchange))
    line = json.dumps(as_json(exchange.model_copy(update={"prompt": prompt})))
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _replay(options: argparse.Namespace) -> int:
    exchanges = list(_read(options.file))
    found: list[list[Difference]] = []
    with client(options) as server:
        for number, exchange in enumerate(exchanges, 1):
            try:
                found.append(_differences(server, exchange, labels=options.labels))
            except APIError as error:  # the others are still worth asking
                found.append([Difference("refused", "", told(error))])
            note(f"{number} of {len(exchanges)}: {_what(found[-1])}")
    sampled = sum(not exchange.reproducible for exchange in exchanges)
    if sampled:
        note(f"sampled without a seed, so that only the prompt is compared: {sampled} of {len(exchanges)}")
    if options.json:
        print_json([[{"what": d.what, "then": d.then, "now": d.now} for d in one] for one in found])
    else:
        rows = [(number, one.what, one.then, one.now) for number, many in enumerate(found, 1) for one in many]
        if rows:
            table(("exchange", "what", "then", "now"), rows)
        print(f"{sum(not many for many in found)} of {len(exchanges)} are as they were")
    return int(any(found))


def _what(differences: list[Difference]) -> str:
    return ", ".join(difference.what for difference in differences) or "the same"


def _read(path: Path) -> Iterator[Exchange]:
    try:
        # Not `splitlines`, which also cuts at separators that JSON may hold.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise MetaAlignError(f"{path}: cannot be read") from error
    read = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Exchange.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"]) or "the line"
            what = first["msg"].removeprefix("Value error, ")
            raise MetaAlignError(f"{path}:{number}: {where}: {what}") from error
        read += 1
    if not read:
        raise MetaAlignError(f"{path}: holds no exchange; `metaalign ask --save {path} …` adds one")


def _differences(server: MetaAlign, exchange: Exchange, *, labels: bool) -> list[Difference]:
    """Ask again, and compare the receipt, the prompt and the answer with what they were."""
    request = dict(exchange.request) if labels else _pinned(exchange)
    request.pop("stream", None)
    request.pop("stream_options", None)
    asked = server.align if "query" in request else server.chat.create
    answer: dict[str, Any] = as_json(asked(**request))
    now = Exchange(request=request, answer=answer)
    prompt = _prompt(server, _pinned(now))
    found = list(_receipts(exchange.receipt, now.receipt))
    if exchange.prompt is not None and prompt is not None and exchange.prompt != prompt:
        tokens = [str(prompt.tokens) + " tokens" for prompt in (exchange.prompt, prompt)]
        if tokens[0] == tokens[1]:
            tokens = [f"{t}, {p.sha256[:12]}" for t, p in zip(tokens, (exchange.prompt, prompt), strict=True)]
        found.append(Difference("prompt", *tokens))
    if exchange.reproducible:
        said = now.said
        found += [
            Difference(what, *_where_they_part(then, said.get(what, "")))
            for what, then in exchange.said.items()
            if then != said.get(what, "")
        ]
    return found


def _receipts(then: Receipt | None, now: Receipt | None) -> Iterator[Difference]:
    if then is None or now is None:
        if then is not now:
            yield Difference("preferences", *("none" if r is None else "applied" for r in (then, now)))
        return
    for what, old, new in (
        ("template", then.template.sha256[:12], now.template.sha256[:12]),
        ("profiles", ", ".join(then.profiles), ", ".join(now.profiles)),
        ("learned examples", str(then.learned_examples), str(now.learned_examples)),
        ("overridden", _lost(then), _lost(now)),
        ("steering", _steered(then), _steered(now)),
        ("tiers", then.spec_hash[:12], now.spec_hash[:12]),
    ):
        if old != new:
            yield Difference(what, old or "none", new or "none")


def _lost(receipt: Receipt) -> str:
    return ", ".join(f"{one.tier} {one.dimension}={one.value} to {one.kept}" for one in receipt.overridden)


def _steered(receipt: Receipt) -> str:
    """How an answer was steered; without its score, which is sampled with it."""
    if receipt.steering is None:
        return ""
    return steering_line(receipt.steering.model_copy(update={"score": None})).removeprefix("steering: ")


def _pinned(exchange: Exchange) -> dict[str, Any]:
    """The request with the versions of profiles that its receipt names, wherever it named the profiles."""
    request, receipt = dict(exchange.request), exchange.receipt
    if receipt is None or not receipt.profiles:
        return request
    given = request.get("preferences")
    preferences = {"system": given} if isinstance(given, str) else dict(given or {})
    request["preferences"] = preferences | {"profile": list(receipt.profiles)}
    model, separator, named = str(request.get("model") or "").partition("@")
    if separator and re.split("[:@]", named)[0] in {one.partition(":")[0] for one in receipt.profiles}:
        request["model"] = model
    return request


_OF_THE_PROMPT = ("model", "user", "tools", "add_generation_prompt", "continue_final_message")


def _prompt(server: MetaAlign, request: Mapping[str, Any]) -> Prompt | None:
    """The prompt of a request; None if this key may not know it, or the server does not tell."""
    messages = request.get("messages") or [{"role": "user", "content": request.get("query")}]
    fields = {name: request[name] for name in _OF_THE_PROMPT if request.get(name) is not None}
    try:
        found = server.tokenize(messages, preferences=request.get("preferences"), **fields)
    except APIError as error:
        if error.status in (403, 404):
            return None
        raise
    return Prompt(tokens=found.count, sha256=hashlib.sha256(json.dumps(found.tokens).encode()).hexdigest())


def _where_they_part(then: str, now: str) -> tuple[str, str]:
    """The two texts around the first character that differs."""
    same = next(
        (i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now))
    )
    start = max(0, same - _NEARBY)
    return tuple(  # type: ignore[return-value]  # two texts, two parts
        ("…" if start else "") + text[start : same + _NEARBY] + ("…" if len(text) > same + _NEARBY else "")
        for text in (then, now)
    )
