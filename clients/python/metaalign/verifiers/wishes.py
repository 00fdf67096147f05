"""Checks of what preferences ask for, as a reader would judge: dimensions that a program can decide, and a few more.

A dimension's check has the dimension's name and takes its `value`. Where the wording leaves room ("keep the answer
short"), the bounds are conventions of ours; neighbouring values overlap, so that a case of doubt passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from metaalign.verifiers.languages import GREETINGS, CodeOrName, code_of, is_in
from metaalign.verifiers.reading import (
    NOT_JSON,
    outline,
    paragraphs,
    read_json,
    sentences,
    syllables,
    without_fences,
    words,
)
from metaalign.verifiers.schemas import OutOfTime, first_error, problem_of
from metaalign.verifiers.units import measures
from metaalign.verifiers.verdict import Arguments, Count, Outcome

__all__ = ["WISHES", "checkable"]

Line = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Text(Arguments):
    value: Line


# --- format and length ---------------------------------------------------------------------------------------


class _Format(Arguments):
    value: Literal["plain", "bullets", "numbered", "table", "json"]


def _format(text: str, a: _Format) -> Outcome:
    if a.value == "json":
        found = isinstance(read_json(text), dict)
        return found, "one JSON object" if found else "not one JSON object"
    seen = outline(text)
    bullets, numbers = seen.top
    numbered = len(numbers)
    what = f"{bullets} bullets, {numbered} numbers, {seen.rows} rows of a table, {seen.headings} headings"
    mostly_list = seen.listed * 2 >= seen.lines
    if a.value == "bullets":
        return bullets > 0 and not numbered and not seen.rows and mostly_list, what
    if a.value == "numbered":
        return _counts_up(numbers) and not bullets and not seen.rows and mostly_list, what
    if a.value == "table":
        return seen.rows > 0, what
    structured = isinstance(read_json(text), dict | list)
    return not (structured or bullets or numbered or seen.rows or seen.headings), what


def _counts_up(numbers: list[int]) -> bool:
    """Whether numbers start at 1 and each is one more than the last, or starts another list at 1."""
    last = 0
    for number in numbers:
        if number not in (last + 1, 1):
            return False
        last = number
    return last > 0


class _Length(Arguments):
    value: Literal["one_sentence", "short", "medium", "long"]


_LENGTHS = {"short": (0, 80), "medium": (40, 300), "long": (150, 1_000_000)}


def _length(text: str, a: _Length) -> Outcome:
    if a.value == "one_sentence":
        found = _sentences(text)
        return found == 1, f"{found} sentences"
    least, most = _LENGTHS[a.value]
    found = len(words(text))
    return least <= found <= most, f"{found} words; `{a.value}` is {least} to {most}"


def _sentences(text: str) -> int:
    """Sentences as a reader counts: a paragraph, a heading or an item of a list ends one, with or without a stop."""
    return sum(len(sentences(block)) for block in outline(text).blocks)


class _Count(Arguments):
    what: Literal["characters", "words", "sentences", "paragraphs", "headings", "bullets"]
    at_least: Count | None = None
    at_most: Count | None = None

    @model_validator(mode="after")
    def _bounded(self) -> _Count:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give `at_least`, `at_most`, or both")
        return self


_COUNTED: Mapping[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(words(text)),
    "sentences": _sentences,
    "paragraphs": lambda text: len(paragraphs(text)),
    "headings": lambda text: outline(text).headings,
    "bullets": lambda text: outline(text).bullets,
}


def _count(text: str, a: _Count) -> Outcome:
    found = _COUNTED[a.what](text)
    asked = " and ".join(
        f"{name.replace('_', ' ')} {bound}"
        for name, bound in (("at_least", a.at_least), ("at_most", a.at_most))
        if bound is not None
    )
    passed = found >= (a.at_least or 0) and (a.at_most is None or found <= a.at_most)
    return passed, f"{found} {a.what}; {asked} asked for"


# --- language, greeting, reader ------------------------------------------------------------------------------


class _Language(Arguments):
    value: CodeOrName


def _language(text: str, a: _Language) -> Outcome:
    return is_in(text, a.value)


class _Greeting(Arguments):
    value: CodeOrName

    @field_validator("value")
    @classmethod
    def _greets(cls, value: str) -> str:
        if value not in GREETINGS:
            raise ValueError(f"greetings are known in: {', '.join(sorted(GREETINGS))}")
        return value


_LEADING = " \t\r\n*_#>\"'“”«»¡¿([-–—"


def _greeting(text: str, a: _Greeting) -> Outcome:
    start = text[:200].lstrip(_LEADING).casefold()
    for greeting in GREETINGS[a.value]:
        if start.startswith(greeting):
            following = start[len(greeting) : len(greeting) + 1]
            if not following.isalpha() or (not greeting.isascii() and a.value in ("ja", "ko", "th", "zh")):
                return True, f"opens with a greeting in {a.value}"
    return False, f"opens without a greeting in {a.value}"


_ADDRESSING = frozenset(
    "hi hello hey dear thanks you welcome sorry ok okay yes no well so sure right day morning evening afternoon night"
    " there congratulations congrats greetings howdy ahoy please bye goodbye course absolutely indeed".split()
    + [greeting.split()[-1] for several in GREETINGS.values() for greeting in several]
)
"""Words after which a name is spoken to, not spoken of."""


_SIGNING = re.compile(r"\b(?:wishes|regards|sincerely|faithfully|truly|yours|love|cheers),$")
"""What stands before the name of the writer."""


def _plain(text: str) -> str:
    return text.replace("’", "'").casefold()


def _name(text: str, a: _Text) -> Outcome:
    whole, name = _plain(text), _plain(a.value.strip())
    at = whole.find(name) if name else -1
    while at >= 0:
        if _spoken_to(whole, at, at + len(name)):
            return True, "addressed by the name"
        at = whole.find(name, at + 1)
    return False, "not addressed by the name"


def _spoken_to(text: str, start: int, end: int) -> bool:
    after = text[end : end + 8].lstrip("*_")
    if after[:1].isalnum() or (after[:1] == "'" and after[1:2].isalpha()) or after.lstrip(" ")[:1].isalnum():
        return False
    before = text[max(0, start - 40) : start].rstrip("*_").rstrip(" ")
    if _SIGNING.search(before):
        return False
    if not before or before[-1] in '\n,.!?:;—–-(¡¿"“>#。、！？，':
        return True
    word = re.search(r"\w+$", before)
    return word is not None and word[0] in _ADDRESSING


class _Audience(Arguments):
    value: Literal["child"]


def _audience(text: str, _: _Audience) -> Outcome:
    return _reading_level(text, _ReadingLevel(max_grade=6))


class _ReadingLevel(Arguments):
    max_grade: Annotated[int, Field(ge=1, le=20)]


def _reading_level(text: str, a: _ReadingLevel) -> Outcome:
    if not is_in(text, "en")[0]:
        return False, "the reading level is known for English only"
    said = [word for line in without_fences(text) for word in words(line)]
    if not said:
        return True, "no words"
    spoken = sum(syllables(word) for word in said)
    grade = 0.39 * len(said) / max(1, _sentences(text)) + 11.8 * spoken / len(said) - 15.59  # Flesch-Kincaid
    return grade <= a.max_grade, f"Flesch-Kincaid grade {grade:.1f}; at most {a.max_grade} asked for"


# --- units, closing, source, schema --------------------------------------------------------------------------


class _Units(Arguments):
    value: Literal["metric", "imperial"]


def _units(text: str, a: _Units) -> Outcome:
    found = measures(text)
    wrong = found["imperial" if a.value == "metric" else "metric"]
    return (
        not wrong,
        f"{found[a.value]} {a.value} measures and {wrong} others, conversions in brackets left out",
    )


def _one_line(text: str) -> str:
    return " ".join(_plain(text).split())


_TRAILING = " \t\r\n*_\"'”’»)."


def _closing(text: str, a: _Text) -> Outcome:
    wanted = _one_line(a.value).strip(_TRAILING)
    ended = _one_line(text[-2 * len(a.value) - 200 :]).rstrip(_TRAILING).endswith(wanted)
    return ended, "ends with the words" if ended else "ends with something else"


def _source(text: str, a: _Text) -> Outcome:
    whole, source = _one_line(text), _one_line(a.value)
    at = whole.find(source) if source else -1
    while at >= 0:
        end = at + len(source)
        if not whole[max(0, at - 1) : at].isalnum() and not whole[end : end + 1].isalnum():
            return True, "names the source"
        at = whole.find(source, at + 1)
    return False, "does not name the source"


class _JsonSchema(Arguments):
    given: Annotated[dict[str, Any], Field(alias="schema")]

    @field_validator("given")
    @classmethod
    def _usable(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if problem := problem_of(schema):
            raise ValueError(f"must be {problem}")
        return schema


def _json_schema(text: str, a: _JsonSchema) -> Outcome:
    document = read_json(text)
    if document is NOT_JSON:
        return False, "no JSON"
    try:
        error = first_error(a.given, document)
    except OutOfTime as problem:
        return False, f"not decided: {problem}"
    return error is None, error or "valid"


def checkable(dimension: str, value: str) -> bool:
    """Whether a program can decide if an answer obeys a dimension's value."""
    if dimension == "language":
        return code_of(value) is not None
    if dimension == "greeting":
        return code_of(value) in GREETINGS
    if dimension == "audience":
        return value == "child"
    return dimension in ("format", "length", "units", "name", "closing", "source")


WISHES: Mapping[str, tuple[type[Arguments], Callable[[str, Any], Outcome]]] = {
    "audience": (_Audience, _audience),
    "closing": (_Text, _closing),
    "count": (_Count, _count),
    "format": (_Format, _format),
    "greeting": (_Greeting, _greeting),
    "json_schema": (_JsonSchema, _json_schema),
    "language": (_Language, _language),
    "length": (_Length, _length),
    "name": (_Text, _name),
    "reading_level": (_ReadingLevel, _reading_level),
    "source": (_Text, _source),
    "units": (_Units, _units),
}
