"""The preferences that the benchmark's requests carry: short or long, few that return or each request its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["SHORT_FEW", "WORKLOADS", "Workload"]

FEW = 4
_ROLE = "You are the guide of a museum. You answer questions of visitors. "
_PER_INFO, _PER_EXAMPLE = 115, 30
"""How many of these sentences fit into `info`, and into a text of an example."""


@dataclass(frozen=True)
class Workload:
    """How long the Meta-Prompt is, and how many different ones there are."""

    name: str
    sentences: int
    """Of System Info; its length in tokens is in the report. Those that it does not hold are examples for the user."""
    distinct: int | None
    """How many preferences there are; None if each request has its own, from the first words of its Meta-Prompt on."""

    def key(self, number: int) -> str:
        """Which preferences the request of this number carries; all keys have the same length."""
        return f"{number % self.distinct if self.distinct else number:06d}"

    def preferences(self, key: str) -> dict[str, Any]:
        """The preferences of a key; those of different keys have the same number of tokens."""
        user: dict[str, Any] = {
            "info": "My name is Ada. I live in Oslo. " * 4,
            "attributes": {"format": "bullets"},
        }
        rest = range(0, self.sentences - _PER_INFO, 2 * _PER_EXAMPLE)
        if rest:
            user["examples"] = [
                {
                    "query": _ROLE * min(_PER_EXAMPLE, rest.stop - done),
                    "preferred": _ROLE * max(1, min(_PER_EXAMPLE, rest.stop - done - _PER_EXAMPLE)),
                }
                for done in rest
            ]
        info = f"Hall {key}. " + _ROLE * min(self.sentences, _PER_INFO)
        return {"system": {"info": info, "attributes": {"tone": "pirate"}}, "user": user}


SHORT_FEW = Workload("short-few", 8, FEW)
WORKLOADS = [
    SHORT_FEW,
    Workload("short-many", 8, None),
    Workload("long-few", 50, FEW),
    Workload("long-many", 50, None),
]
