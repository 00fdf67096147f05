"""Does an answer obey its preferences? One check a dimension, right content, and nothing that was not asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from metaalign_training.world import AUDIENCES, CLOSERS, GREETINGS, OPENERS, Sample

__all__ = ["failures", "obeys"]


def obeys(answer: str, sample: Sample) -> bool:
    """Whether every check passes."""
    return not failures(answer, sample)


def failures(answer: str, sample: Sample) -> list[str]:
    """Names of the checks that fail, dimensions first; empty for a perfect answer."""
    failed = [d for d, value in sample.asked.items() if not _obeys_dimension(answer, d, value, sample)]
    lowered = answer.lower()
    if not all(_said(piece.lower(), lowered) for piece in sample.content):
        failed.append("content")
    failed.extend(f"unasked {name}" for name in _unasked(answer, sample.asked, sample.content))
    return failed


def _said(piece: str, answer: str) -> bool:
    return piece in answer


def _items(answer: str, mark: str) -> list[str]:
    return [line for line in answer.split("\n") if re.match(mark, line)]


def _obeys_dimension(answer: str, dimension: str, value: str, sample: Sample) -> bool:
    if dimension == "format":
        bullets, numbers = _items(answer, r"- \S"), _items(answer, r"\d+\. \S")
        if value == "plain":
            return not bullets and not numbers
        own, other = (bullets, numbers) if value == "bullets" else (numbers, bullets)
        wanted = 1 if sample.asked.get("length") == "one_sentence" else len(sample.content)
        numbered_well = value != "numbered" or [int(line.split(".")[0]) for line in own] == list(
            range(1, len(own) + 1)
        )
        return len(own) >= wanted and not other and numbered_well
    if dimension == "length":
        sentences = _fact_sentences(answer)
        if value == "one_sentence":
            return sentences <= 1
        core = len(sample.content)
        if value == "short":
            return sentences <= core
        return sentences > core or _cannot_grow(sample) or (value == "medium" and core > 1)
    if dimension == "tone":
        return value not in OPENERS or OPENERS[value].lower() in answer.lower()
    if dimension == "units":
        return not _weighs(answer) or ("pounds" in answer) == (value == "imperial")
    if dimension == "greeting":
        return GREETINGS[value].rstrip("!") in answer
    if dimension == "audience":
        return value not in AUDIENCES or AUDIENCES[value].rstrip(":").lower() in answer.lower()
    return value in answer


def _fact_sentences(answer: str) -> int:
    """Sentences about the subject, in prose or in a list."""
    return len(re.findall(r"\b[Tt]he [a-z]+ (?:never )?[a-z]+s\b[^.\n]*[.:]", answer))


def _cannot_grow(sample: Sample) -> bool:
    """Whether the world has nothing more to say: only animals have further facts."""
    return not any(_fact_sentences(f"the animal {piece}.") for piece in sample.content)


def _weighs(answer: str) -> bool:
    return "weighs" in answer


_FACT = re.compile(r"\bthe [a-z]+ (?:never )?[a-z]+s\b[^.:\n]*")
_PHRASES = sorted(
    [
        text.lower().rstrip("!:.")
        for table in (GREETINGS, OPENERS, CLOSERS, AUDIENCES)
        for text in table.values()
    ],
    key=len,
    reverse=True,
)


def _unasked(answer: str, asked: Mapping[str, str], content: tuple[str, ...]) -> list[str]:
    lowered = answer.lower()
    found = []
    if "format" not in asked and (_items(answer, r"- \S") or _items(answer, r"\d+\. \S")):
        found.append("format")
    for dimension, table in (
        ("tone", OPENERS),
        ("tone", CLOSERS),
        ("greeting", GREETINGS),
        ("audience", AUDIENCES),
    ):
        own = table.get(asked.get(dimension, ""), "")
        others = [text.lower().rstrip("!:.") for text in table.values() if text != own]
        if dimension not in found and any(re.search(rf"\b{re.escape(text)}\b", lowered) for text in others):
            found.append(dimension)
    if "source" not in asked and ("source:" in lowered or ", says " in lowered):
        found.append("source")
    if "units" not in asked and "pounds" in lowered:
        found.append("units")
    if not found and re.search(r"[a-z]", _remainder(lowered, asked, content)):
        found.append("text")
    return found


def _remainder(answer: str, asked: Mapping[str, str], content: tuple[str, ...]) -> str:
    """What is left of an answer once everything that may be in it is taken away: an unasked name or closing."""
    for value in sorted(
        (asked[d].lower() for d in ("closing", "source", "name") if d in asked), key=len, reverse=True
    ):
        answer = answer.replace(value, "", 1)
    for phrase in _PHRASES:
        answer = answer.replace(phrase, "", 1)
    for piece in content:
        if not _FACT.search(f"the animal {piece.lower()}"):
            answer = answer.replace(piece.lower(), "")
    answer = answer.replace("source:", "").replace(", because i care about ", "").replace(", says ", "")
    return _FACT.sub("", answer)
