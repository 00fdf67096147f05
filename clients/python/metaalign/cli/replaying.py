"""`metaalign replay`: ask again what was asked, and say what differs; `metaalign ask --save` writes what it reads.

Each line of the file is one exchange: `request`, the fields of `/v1/chat/completions` or `/v1/align`; `answer`, what
the server answered; and `prompt`, the number of the prompt's token ids and their hash, if the key may know them.
Whoever keeps requests and answers on their own can write such lines too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from metaalign.cli.arguments import client
from metaalign.cli.output import as_json, note, print_json, table
from metaalign.client import MetaAlign
from metaalign.client.failures import APIError
from metaalign.errors import MetaAlignError
from metaalign.receipt import Receipt

__all__ = ["add_commands", "save"]

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

    @property
    def text(self) -> str:
        """The answer's text, in either route's form."""
        return _text(self.answer)

    @property
    def receipt(self) -> Receipt | None:
        found = self.answer.get("metaalign")
        return None if found is None else Receipt.model_validate(found)

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


def save(server: MetaAlign, path: Path, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Append an exchange to a file.

    Raises:
        MetaAlignError: the file cannot be written.
    """
    exchange = Exchange(request=dict(request), answer=dict(answer), prompt=_prompt(server, request))
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(as_json(exchange), ensure_ascii=False) + "\n")
    except OSError as error:
        raise MetaAlignError(f"{path}: cannot be written ({error.strerror})") from error


def _replay(options: argparse.Namespace) -> int:
    exchanges = list(_read(options.file))
    found: list[list[Difference]] = []
    with client(options) as server:
        for number, exchange in enumerate(exchanges, 1):
            found.append(_differences(server, exchange, labels=options.labels))
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
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise MetaAlignError(f"{path}: cannot be read") from error
    read = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            exchange = Exchange.model_validate_json(line)
            if ("query" in exchange.request) == ("messages" in exchange.request):
                raise MetaAlignError(f"{path}:{number}: `request` needs either `query` or `messages`")
            yield exchange
        except ValidationError as error:
            where = ".".join(str(step) for step in error.errors()[0]["loc"]) or "the line"
            raise MetaAlignError(f"{path}:{number}: {where}: {error.errors()[0]['msg']}") from error
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
    now = Exchange(request=request, answer=answer, prompt=_prompt(server, request))
    found = list(_receipts(exchange.receipt, now.receipt))
    if exchange.prompt is not None and now.prompt is not None and exchange.prompt != now.prompt:
        tokens = [str(prompt.tokens) + " tokens" for prompt in (exchange.prompt, now.prompt)]
        if tokens[0] == tokens[1]:
            tokens = [
                f"{t}, {p.sha256[:12]}" for t, p in zip(tokens, (exchange.prompt, now.prompt), strict=True)
            ]
        found.append(Difference("prompt", *tokens))
    if exchange.reproducible and exchange.text != now.text:
        found.append(Difference("answer", *_where_they_part(exchange.text, now.text)))
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
        ("tiers", then.spec_hash[:12], now.spec_hash[:12]),
    ):
        if old != new:
            yield Difference(what, old or "none", new or "none")


def _lost(receipt: Receipt) -> str:
    return ", ".join(f"{one.tier} {one.dimension}={one.value} to {one.kept}" for one in receipt.overridden)


def _pinned(exchange: Exchange) -> dict[str, Any]:
    """The request with the versions of profiles that its receipt names, wherever it named the profiles."""
    request, receipt = dict(exchange.request), exchange.receipt
    if receipt is None or not receipt.profiles:
        return request
    given = request.get("preferences")
    preferences = {"system": given} if isinstance(given, str) else dict(given or {})
    request["preferences"] = preferences | {"profile": list(receipt.profiles)}
    if request.get("model"):
        request["model"] = str(request["model"]).partition("@")[0]
    return request


def _prompt(server: MetaAlign, request: Mapping[str, Any]) -> Prompt | None:
    """The prompt of a request; None if this key may not know it."""
    messages = request.get("messages") or [{"role": "user", "content": request.get("query")}]
    try:
        found = server.tokenize(
            messages,
            preferences=request.get("preferences"),
            model=request.get("model"),
            user=request.get("user"),
        )
    except APIError as error:
        if error.status == 403:
            return None
        raise
    return Prompt(tokens=found.count, sha256=hashlib.sha256(json.dumps(found.tokens).encode()).hexdigest())


def _text(answer: Mapping[str, Any]) -> str:
    if choices := answer.get("choices"):
        return str((choices[0].get("message") or {}).get("content") or "")
    return str(answer.get("text") or "")


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
