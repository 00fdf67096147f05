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
    failed.extend(f"unasked {name}" for name in _unasked(answer, sample.asked))
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
        numbered_well = value != "numbered" or [int(line.split(".")[0]) for line in own] == list(range(1, len(own) + 1))
        return len(own) >= wanted and not other and numbered_well
    if dimension == "length":
        sentences = _fact_sentences(answer)
        if value == "one_sentence":
            return sentences <= 1
        core = len(sample.content)
        return sentences == core if value == "short" else sentences > core or core == 0 or _cannot_grow(sample)
    if dimension == "tone":
        return OPENERS[value].lower() in answer.lower()
    if dimension == "units":
        return not _weighs(answer) or ("pounds" in answer) == (value == "imperial")
    if dimension == "greeting":
        return GREETINGS[value].rstrip("!") in answer
    if dimension == "audience":
        return AUDIENCES[value].rstrip(":").lower() in answer.lower()
    return value in answer


def _fact_sentences(answer: str) -> int:
    """Sentences about the subject, in prose or in a list."""
    return len(re.findall(r"\b[Tt]he [a-z]+ (?:never )?[a-z]+s\b[^.\n]*[.:]", answer))


def _cannot_grow(sample: Sample) -> bool:
    return sample.split in ("stance", "safety")


def _weighs(answer: str) -> bool:
    return "weighs" in answer


def _unasked(answer: str, asked: Mapping[str, str]) -> list[str]:
    lowered = answer.lower()
    found = []
    if "format" not in asked and (_items(answer, r"- \S") or _items(answer, r"\d+\. \S")):
        found.append("format")
    if "tone" not in asked and any(o.lower() in lowered or CLOSERS[t].lower() in lowered for t, o in OPENERS.items()):
        found.append("tone")
    if "greeting" not in asked and any(g.rstrip("!").lower() in lowered for g in GREETINGS.values()):
        found.append("greeting")
    if "audience" not in asked and any(a.rstrip(":").lower() in lowered for a in AUDIENCES.values()):
        found.append("audience")
    if "source" not in asked and ("source:" in lowered or ", says the" in lowered):
        found.append("source")
    if "units" not in asked and "pounds" in lowered:
        found.append("units")
    if "closing" not in asked and answer.rstrip().endswith("!") and asked.get("tone") not in ("pirate", "cheerful"):
        found.append("closing")
    return found
