"""The known preference dimensions, their values, and the fixed sentence that each value is rendered as.

The sentences are part of the contract: the model is trained on exactly these words, so changing one requires a new
template version. A *closed* dimension accepts only the listed values; an *open* one accepts any text of bounded length,
and the listed values merely have better wording. A dimension that is not listed here is allowed and rendered as
`Name: value.`
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DIMENSIONS", "Dimension", "sentence"]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One known dimension.

    Attributes:
        name: The key in `attributes`.
        summary: What it controls, for documentation.
        values: Documented value -> rendered sentence.
        pattern: Sentence for any other value, with `{}` where the value goes; None makes the dimension closed.
    """

    name: str
    summary: str
    values: dict[str, str]
    pattern: str | None = None


DIMENSIONS: dict[str, Dimension] = {
    d.name: d
    for d in (
        Dimension(
            "format",
            "shape of the answer",
            {
                "plain": "Answer in plain sentences without a list.",
                "bullets": "Answer as a bulleted list.",
                "numbered": "Answer as a numbered list.",
                "table": "Answer as a table.",
                "json": "Answer as one JSON object.",
            },
        ),
        Dimension(
            "length",
            "how much is said",
            {
                "one_sentence": "Answer in one sentence.",
                "short": "Keep the answer short.",
                "medium": "Answer at medium length.",
                "long": "Answer in detail.",
            },
        ),
        Dimension(
            "tone",
            "manner of speaking",
            {
                "neutral": "Use a neutral tone.",
                "formal": "Use a formal tone.",
                "casual": "Use a casual tone.",
                "cheerful": "Use a cheerful tone.",
                "pirate": "Answer like a pirate.",
            },
            "Use this tone: {}.",
        ),
        Dimension("language", "language of the answer", {}, "Answer in this language: {}."),
        Dimension("greeting", "language of the opening greeting", {}, "Open with a greeting in {}."),
        Dimension(
            "units",
            "system of measurement",
            {"metric": "Use metric units.", "imperial": "Use imperial units."},
        ),
        Dimension(
            "audience",
            "who will read the answer",
            {
                "child": "Explain it so that a child understands.",
                "general": "Write for a general audience.",
                "expert": "Write for an expert.",
            },
            "Write for this audience: {}.",
        ),
        Dimension("name", "how to address the reader", {}, "Address the reader as {}."),
        Dimension("closing", "exact closing words", {}, "End with these words: {}"),
        Dimension("source", "source to name", {}, "Name this source: {}."),
    )
}


def sentence(dimension: str, value: str) -> str:
    """Return the fixed wording of one attribute: one sentence, to which we add no line break."""
    known = DIMENSIONS.get(dimension)
    if known is None:
        label = dimension.replace("_", " ").capitalize()
        return f"{label}: {value}."
    if value in known.values:
        return known.values[value]
    if known.pattern is None:
        raise ValueError(f"{dimension!r} is closed and {value!r} is not one of its values")
    return known.pattern.format(value)
