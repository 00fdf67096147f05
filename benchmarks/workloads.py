"""The preferences that the benchmark's requests carry: short or long, few that return or each request its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["SHORT_FEW", "WORKLOADS", "Workload"]

FEW = 4
_ROLE = "You are the guide of a museum. You answer questions of visitors. "


@dataclass(frozen=True)
class Workload:
    """How long the Meta-Prompt is, and how many different ones there are."""

    name: str
    sentences: int
    """Of System Info; its length in tokens is in the report."""
    distinct: int | None
    """How many preferences there are; None if each request has its own, from the first words of its Meta-Prompt on."""

    def key(self, number: int) -> str:
        """Which preferences the request of this number carries; all keys have the same length."""
        return f"{number % self.distinct if self.distinct else number:06d}"

    def preferences(self, key: str) -> dict[str, Any]:
        """The preferences of a key; those of different keys have the same number of tokens."""
        return {
            "system": {"info": f"Hall {key}. " + _ROLE * self.sentences, "attributes": {"tone": "pirate"}},
            "user": {"info": "My name is Ada. I live in Oslo. " * 4, "attributes": {"format": "bullets"}},
        }


SHORT_FEW = Workload("short-few", 8, FEW)
WORKLOADS = [
    SHORT_FEW,
    Workload("short-many", 8, None),
    Workload("long-few", 50, FEW),
    Workload("long-many", 50, None),
]
