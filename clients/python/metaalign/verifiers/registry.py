"""All checks by name: parsing of what names them, and running them."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from metaalign.errors import MetaAlignError
from metaalign.verifiers.languages import is_in
from metaalign.verifiers.published import PUBLISHED
from metaalign.verifiers.verdict import Arguments, Outcome, Verdict
from metaalign.verifiers.wishes import WISHES, checkable

__all__ = [
    "CHECKS",
    "Check",
    "InvalidCheck",
    "check",
    "check_all",
    "checks_for",
    "loose_readings",
    "parse_checks",
    "prepare",
    "published_checks",
    "reward",
]


class InvalidCheck(MetaAlignError):
    """A check has an unknown name or wrong arguments; `param` is a path such as `[1].arguments.num_words`."""

    code = "invalid_check"


CHECKS: Mapping[str, tuple[type[Arguments], Callable[[str, Any], Outcome]]] = {**PUBLISHED, **WISHES}
"""Name -> the model of its arguments and the function that decides."""


@dataclass(frozen=True)
class Check:
    """One check with its arguments, validated."""

    name: str
    arguments: Arguments

    def __call__(self, text: str, *, loose: bool = False) -> Verdict:
        """Decide about `text`; see `check`."""
        decide = CHECKS[self.name][1]
        passed, why = False, "the text is blank"
        for variant in loose_readings(text) if loose else (text,):
            if variant.strip():
                passed, why = decide(variant, self.arguments)
            if passed:
                break
        return Verdict(self.name, passed, why)


def parse_check(
    name: str, arguments: Mapping[str, Any] | None = None, *, prompt: str | None = None, at: str = ""
) -> Check:
    """Return the check of that name, or say what is wrong with it.

    Arguments that are null count as not given: published files carry every argument of every check.

    Raises:
        InvalidCheck: the name is unknown, or an argument is unknown, missing or out of bounds.
    """
    if name not in CHECKS:
        raise InvalidCheck(f"{at}name: {_nearest('check', name, CHECKS)}", param=f"{at}name")
    model = CHECKS[name][0]
    given = {key: value for key, value in (arguments or {}).items() if value is not None}
    if prompt is not None and "prompt_to_repeat" in model.model_fields:
        given.setdefault("prompt_to_repeat", prompt)
    try:
        return Check(name, model.model_validate(given))
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False, include_context=False)
        first = next(
            (e for e in errors if e["type"] == "extra_forbidden"), errors[0]
        )  # it explains what is missing
        key = str(first["loc"][0]) if first["loc"] else ""
        reason = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            names = [field.alias or name for name, field in model.model_fields.items()]
            reason = _nearest("argument", key, names)
        path = f"{at}arguments.{key}" if key.isidentifier() else f"{at}arguments"
        raise InvalidCheck(f"{path}: {reason}", param=path) from None


def _nearest(what: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.0)
    return f"no such {what}; the nearest is `{close[0]}`" if close else f"no such {what}; there are none"


def parse_checks(
    checks: Iterable[Check | Mapping[str, Any]], *, prompt: str | None = None
) -> tuple[Check, ...]:
    """Return checks from `{"name": …, "arguments": {…}}`; those that are parsed already stay as they are.

    Raises:
        InvalidCheck: one of them is wrong; `param` says which and where.
    """
    parsed = []
    for number, item in enumerate(checks):
        if not isinstance(item, Check):
            if unknown := sorted(set(item) - {"name", "arguments"}):
                raise InvalidCheck(
                    f"[{number}]: {_nearest('key', unknown[0], ('name', 'arguments'))}", param=f"[{number}]"
                )
            item = parse_check(str(item.get("name")), item.get("arguments"), prompt=prompt, at=f"[{number}].")
        parsed.append(item)
    return tuple(parsed)


def published_checks(
    names: Sequence[str], arguments: Sequence[Mapping[str, Any]], *, prompt: str | None = None
) -> tuple[Check, ...]:
    """Return the checks of a row of IFEval or S-IFEval: `instruction_id_list` and `kwargs`.

    Raises:
        InvalidCheck: the lists differ in length, or a check is wrong.
    """
    if len(names) != len(arguments):
        raise InvalidCheck(f"{len(names)} names and {len(arguments)} sets of arguments; give one for each")
    return parse_checks(
        ({"name": n, "arguments": a} for n, a in zip(names, arguments, strict=True)), prompt=prompt
    )


def checks_for(attributes: Mapping[str, str]) -> tuple[Check, ...]:
    """Return the checks that the dimensions of applied preferences imply; none for what no program can decide."""
    return tuple(
        parse_check(dimension, {"value": value})
        for dimension, value in attributes.items()
        if checkable(dimension, value)
    )


def check(
    name: str,
    arguments: Mapping[str, Any] | None,
    text: str,
    prompt: str | None = None,
    *,
    loose: bool = False,
) -> Verdict:
    """Decide whether `text` passes one check.

    Args:
        name: A name in `CHECKS`.
        arguments: Its arguments; null ones count as not given.
        text: The answer. A blank one passes no check.
        prompt: What was asked; `combination:repeat_prompt` takes it where no argument says what to repeat.
        loose: IFEval's loose scoring: the text may pass without its asterisks, or its first or last line.

    Raises:
        InvalidCheck: the name or the arguments are wrong.
    """
    return parse_check(name, arguments, prompt=prompt)(text, loose=loose)


def check_all(
    checks: Iterable[Check | Mapping[str, Any]],
    text: str,
    prompt: str | None = None,
    *,
    loose: bool = False,
    seconds: float | None = None,
) -> tuple[Verdict, ...]:
    """Decide about every check, in order; see `check`.

    After `seconds` no further check is begun: the rest does not pass and says so. A single one takes half a second at
    most, whatever the text.
    """
    deadline = time.monotonic() + seconds if seconds is not None else math.inf
    return tuple(
        parsed(text, loose=loose)
        if time.monotonic() < deadline
        else Verdict(parsed.name, passed=False, why="not decided: no time was left")
        for parsed in parse_checks(checks, prompt=prompt)
    )


_NEED_LANGUAGES = frozenset(
    {
        "audience",
        "change_case:english_capital",
        "change_case:english_lowercase",
        "language",
        "language:response_language",
        "reading_level",
    }
)


def prepare(checks: Iterable[Check]) -> None:
    """Load what the checks need, which takes two seconds the first time that one of them asks for a language."""
    if any(check.name in _NEED_LANGUAGES for check in checks):
        is_in("a", "en")


def reward(
    checks: Iterable[Check | Mapping[str, Any]], text: str, prompt: str | None = None, *, loose: bool = False
) -> float:
    """Return the share of checks that `text` passes, from 0 to 1.

    Raises:
        InvalidCheck: there are no checks, or one is wrong.
    """
    verdicts = check_all(checks, text, prompt, loose=loose)
    if not verdicts:
        raise InvalidCheck("a reward needs at least one check")
    return sum(verdict.passed for verdict in verdicts) / len(verdicts)


@lru_cache(maxsize=8)
def loose_readings(text: str) -> tuple[str, ...]:
    """Return IFEval's eight readings: all, without the first line, the last, both; each also without asterisks."""
    lines = text.split("\n")
    cut = ("\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip())
    return tuple(dict.fromkeys((text, text.replace("*", ""), *cut, *(part.replace("*", "") for part in cut))))
