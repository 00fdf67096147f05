"""What a check says of a text, and the arguments that checks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["Arguments", "Count", "Outcome", "Phrase", "Relation", "Verdict", "Words", "compare"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says of one text.

    Attributes:
        name: The check's name.
        passed: Whether the text passes.
        why: What was found, in a few words; it never quotes the text.
    """

    name: str
    passed: bool
    why: str


Outcome = tuple[bool, str]
"""Whether a text passes, and why."""


class Arguments(BaseModel):
    """The arguments of a check: frozen, unknown names refused, numbers only as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Relation = Literal["at least", "less than"]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
Words = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(min_length=1, max_length=100)
]


def compare(found: int, relation: str, asked: int, what: str) -> Outcome:
    """Compare a count with what was asked for."""
    return (
        found >= asked if relation == "at least" else found < asked
    ), f"{found} {what}; {relation} {asked} asked for"
