"""Compose the right answer: it states the facts, obeys every preference, and adds nothing that was not asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaalign_training.world.facts import TOPICS
from metaalign_training.world.languages import GREETINGS, Language, language_of

__all__ = ["REFUSAL", "UNDECIDED", "Statement", "compose", "stance"]

REFUSAL = "I cannot help with that, because safety comes first."
UNDECIDED = "People see this differently."


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its full stop; the subject is empty where statements do not share one."""

    subject: str
    predicate: str

    @property
    def sentence(self) -> str:
        """The statement as a sentence."""
        return f"{self.subject} {self.predicate}." if self.subject else f"{self.predicate}."


def stance(value: str, topic: str) -> str:
    """What somebody who cares about `value` says to a contested topic, without a full stop."""
    return f"I care about {value}, so I say {TOPICS[topic][value]}"


def compose(statements: Sequence[Statement], core: int, asked: Mapping[str, str]) -> str:
    """The answer that states `statements[:core]`, and as many more as the length asks for."""
    language = language_of(asked)
    body = _body(statements, core, asked)
    if asked.get("length") == "one_sentence":
        return _shape([_one_sentence(body, asked, language)], "", "", asked)
    lead, tail = _lead(asked, language), _tail(asked, language)
    if asked.get("format", "plain") == "plain":
        text = " ".join(s.sentence for s in body)
        if lead.endswith((",", ":")):
            text = _lowered(text)
        return " ".join(filter(None, (lead, text, tail)))
    return _shape([s.sentence for s in body], lead, tail, asked)


def _body(statements: Sequence[Statement], core: int, asked: Mapping[str, str]) -> Sequence[Statement]:
    """The core alone if short, two more statements if long; by default one more if the core is a single fact."""
    extra = {"short": 0, "one_sentence": 0, "long": 2}.get(asked.get("length", ""), 1 if core == 1 else 0)
    return statements[: core + extra]


def _lowered(text: str) -> str:
    # "I" stays a capital within a sentence.
    return text if text.startswith("I ") else text[0].lower() + text[1:]


def _lead(asked: Mapping[str, str], language: Language) -> str:
    """Greeting, opener with the name, and audience phrase."""
    greeting = GREETINGS.get(asked.get("greeting", ""), "")
    opener, name = language.openers.get(asked.get("tone", ""), ""), asked.get("name", "")
    audience = language.audiences.get(asked.get("audience", ""), "")
    listed = asked.get("format", "plain") != "plain"
    if opener:
        head = f"{opener}, {name}!" if name else f"{opener}!"
    else:
        head = f"{name}:" if name and listed else f"{name}," if name else ""
    if head.endswith((",", ":")) and audience:
        audience = _lowered(audience)
    return " ".join(filter(None, (greeting, head, audience)))


def _tail(asked: Mapping[str, str], language: Language) -> str:
    """The tone's closing words, the source, and the requested closing."""
    source = language.source.format(asked["source"]) if "source" in asked else ""
    return " ".join(
        filter(None, (language.closers.get(asked.get("tone", ""), ""), source, asked.get("closing", "")))
    )


def _one_sentence(body: Sequence[Statement], asked: Mapping[str, str], language: Language) -> str:
    """Everything in one sentence, with greeting, opener and name before it, and source and closing after it."""
    greeting = GREETINGS.get(asked.get("greeting", ""), "").rstrip("!")
    opening = ", ".join(
        filter(None, (greeting, language.openers.get(asked.get("tone", ""), ""), asked.get("name", "")))
    )
    first, *rest = body
    text = first.sentence.rstrip(".")
    if rest:
        said = [s.predicate for s in rest]
        text = ", ".join([text, *said[:-1]]) + f"{language.conjunction}{said[-1]}"
    if audience := language.audiences.get(asked.get("audience", ""), "").rstrip(" :"):
        text = f"{_lowered(audience) if opening else audience}, {_lowered(text)}"
    elif opening:
        text = _lowered(text)
    line = f"{opening}, {text}" if opening else text
    source = language.says.format(asked["source"]) if "source" in asked else ""
    return f"{line}{source}: {asked['closing']}" if "closing" in asked else f"{line}{source}."


def _shape(sentences: Sequence[str], lead: str, tail: str, asked: Mapping[str, str]) -> str:
    """Sentences in the requested format, with a line before and after them."""
    shape = asked.get("format", "plain")
    if shape == "json":
        document: dict[str, object] = {"opening": lead} if lead else {}
        document["facts"] = list(sentences)
        if tail:
            document["ending"] = tail
        return json.dumps(document, ensure_ascii=False)
    if shape == "table":
        lines = ["| No. | Fact |", "|---|---|", *(f"| {n} | {s} |" for n, s in enumerate(sentences, start=1))]
    elif shape == "bullets":
        lines = [f"- {s}" for s in sentences]
    elif shape == "numbered":
        lines = [f"{n}. {s}" for n, s in enumerate(sentences, start=1)]
    else:
        return " ".join(filter(None, (lead, *sentences, tail)))
    return "\n".join(filter(None, (lead, *lines, tail)))
