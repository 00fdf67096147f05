"""Verifiers: does an answer obey each dimension, have the right content, and add nothing that was not asked for?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metaalign_training.world.facts import ANIMALS
from metaalign_training.world.languages import (
    ALL_PREDICATES,
    GREETINGS,
    LANGUAGES,
    language_of,
    predicates,
    subject,
)
from metaalign_training.world.sample import Check

__all__ = ["facts_said", "failures", "obeys", "text_of"]


def obeys(answer: str, check: Check) -> bool:
    """Whether every check passes."""
    return not failures(answer, check)


def failures(answer: str, check: Check) -> list[str]:
    """Names of the checks that fail, dimensions first; empty for a perfect answer."""
    read = _read(answer)
    failed = [d for d, value in check.asked.items() if not _obeys_dimension(read, d, value, check)]
    lowered = read.text.lower()
    if not all(piece.lower() in lowered for piece in check.content):
        failed.append("content")
    facts = {fact.lower() for fact in check.facts}
    if not set(read.predicates) <= facts or not read.subjects <= {check.subject.lower()}:
        failed.append("false fact")
    if len(read.predicates) != len(set(read.predicates)):
        failed.append("repetition")
    failed.extend(f"unasked {name}" for name in _unasked(read, check.asked, check.content))
    return failed


def facts_said(answer: str) -> list[str]:
    """What the answer says of animals, in lower case and in its order."""
    return _read(answer).predicates


def text_of(answer: str) -> str:
    """The answer without the marks of its format."""
    return _read(answer).text


# --- reading -------------------------------------------------------------------------------------------------


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of `texts` as whole words, the longest first."""
    return re.compile("|".join(rf"\b{re.escape(t)}(?!\w)" for t in sorted(set(texts), key=len, reverse=True)))


_PREDICATE = _any_of(ALL_PREDICATES)
_SUBJECT = _any_of(subject(a, {"language": language}).lower() for a in ANIMALS for language in LANGUAGES)
_FOREIGN = {
    language: {
        p.lower()
        for other in LANGUAGES
        if other != language
        for a in ANIMALS
        for p in predicates(a, {"language": other}).values()
    }
    for language in LANGUAGES
}
_MARKED = (("bullets", re.compile(r"- (\S.*)")), ("numbered", re.compile(r"(\d+\. \S.*)")))


@dataclass(frozen=True, slots=True)
class _Answer:
    """A parsed answer: its formats and their items, its text without markup, and what it says about which subjects."""

    shapes: Mapping[str, list[str]]
    text: str
    predicates: list[str]
    subjects: set[str]


def _read(answer: str) -> _Answer:
    shapes: dict[str, list[str]] = {}
    text = answer
    if answer.lstrip().startswith("{"):
        shapes["json"], text = _read_json(answer)
    else:
        lines = []
        for line in answer.split("\n"):
            if line.startswith("|"):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if set("".join(cells)) <= {"-"} or cells == ["No.", "Fact"]:
                    shapes.setdefault("table", [])
                    continue
                shapes.setdefault("table", []).append(cells[-1])
                lines.append(cells[-1])
                continue
            for shape, mark in _MARKED:
                if found := mark.match(line):
                    shapes.setdefault(shape, []).append(found[1])
                    line = found[1].split(". ", 1)[1] if shape == "numbered" else found[1]
            lines.append(line)
        text = "\n".join(lines)
    lowered = text.lower()
    return _Answer(shapes, text, _PREDICATE.findall(lowered), set(_SUBJECT.findall(lowered)))


def _read_json(answer: str) -> tuple[list[str], str]:
    try:
        document = json.loads(answer)
        facts = [str(fact) for fact in document["facts"]]
        return facts, " ".join([str(document.get("opening", "")), *facts, str(document.get("ending", ""))])
    except (ValueError, KeyError, TypeError, AttributeError):
        return [], answer


# --- checks --------------------------------------------------------------------------------------------------


def _obeys_dimension(read: _Answer, dimension: str, value: str, check: Check) -> bool:
    language, lowered = language_of(check.asked), read.text.lower()
    if dimension == "format":
        if value == "plain":
            return not read.shapes
        wanted = 1 if check.asked.get("length") == "one_sentence" else len(check.content)
        items = read.shapes.get(value, [])
        numbers = [int(item.split(".")[0]) for item in items] if value == "numbered" else []
        return (
            set(read.shapes) == {value} and len(items) >= wanted and numbers == [*range(1, len(numbers) + 1)]
        )
    if dimension == "length":
        return _obeys_length(read, value, check)
    if dimension == "tone":
        return value not in language.openers or language.openers[value].lower() in lowered
    if dimension == "units":
        other = "metric" if value == "imperial" else "imperial"
        return language.units[other] not in lowered
    if dimension == "greeting":
        return GREETINGS[value].rstrip("!") in read.text
    if dimension == "audience":
        return value not in language.audiences or language.audiences[value].rstrip(" :").lower() in lowered
    if dimension == "language":
        return not _FOREIGN[value].intersection(read.predicates)
    return value in read.text


def _obeys_length(read: _Answer, value: str, check: Check) -> bool:
    core, said = len(check.content), len(read.predicates)
    if value == "one_sentence":
        text = read.text
        for dimension in ("closing", "source", "name"):
            text = text.replace(check.asked.get(dimension, "\0"), "")
        return len(re.findall(r"[.!?](?=\s|$)", text)) <= 1
    if not check.facts:
        return True  # only answers about animals vary in length
    if value == "short":
        return said <= core
    if value == "medium":
        return said == max(2, core)
    return said >= min(core + 2, len(check.facts))


def _tables(name: str) -> list[tuple[str, str, str]]:
    """(language, value, phrase) of one kind of set phrase, in all languages."""
    return [
        (code, v, text) for code, language in LANGUAGES.items() for v, text in getattr(language, name).items()
    ]


_SET_PHRASES = [("tone", *row) for row in (*_tables("openers"), *_tables("closers"))]
_SET_PHRASES += [("audience", *row) for row in _tables("audiences")]
_SET_PHRASES += [("greeting", "", value, text) for value, text in GREETINGS.items()]


def _core(phrase: str) -> str:
    return phrase.lower().strip("!¡:. ")


def _unasked(read: _Answer, asked: Mapping[str, str], content: tuple[str, ...]) -> list[str]:
    lowered = read.text.lower()
    for piece in content:
        if not _PREDICATE.fullmatch(piece.lower()):
            lowered = lowered.replace(piece.lower(), " ", 1)
    for dimension in ("closing", "source", "name"):
        if dimension in asked:  # a requested value may contain any words
            value = re.escape(asked[dimension].lower())
            lowered = re.sub(rf"(?<!\w){value}(?!\w)", " ", lowered, count=1)
    found = []
    if "format" not in asked and read.shapes:
        found.append("format")
    own_language = language_of(asked).name
    for dimension, code, value, phrase in _SET_PHRASES:
        own = asked.get(dimension) == value and code in ("", own_language)
        if not own and dimension not in found and re.search(rf"\b{re.escape(_core(phrase))}(?!\w)", lowered):
            found.append(dimension)
    if "source" not in asked and any(
        _core(mark.split("{")[0].strip(" ,:")) in lowered
        for language in LANGUAGES.values()
        for mark in (language.source, language.says)
    ):
        found.append("source")
    if not found and any(c.isalpha() for c in _remainder(lowered)):
        found.append("text")
    return found


def _remainder(text: str) -> str:
    """What is left without everything that is known: a name or closing that nobody asked for."""
    text = _SUBJECT.sub(" ", _PREDICATE.sub(" ", text))
    for *_, phrase in sorted(_SET_PHRASES, key=lambda row: len(row[-1]), reverse=True):
        text = text.replace(_core(phrase), " ", 1)
    marks = [
        m.split("{")[0].strip(" ,:").lower()
        for language in LANGUAGES.values()
        for m in (language.source, language.says)
    ]
    joints = [language.conjunction.strip() for language in LANGUAGES.values()]
    return re.sub(rf"\b({'|'.join([*marks, *joints, 'so'])})\b", " ", text)
