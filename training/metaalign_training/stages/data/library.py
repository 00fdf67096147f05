"""The preference library and the priority matrix as typed data, and even, seeded sampling from them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metaalign import InvalidPreferences, parse_preferences
from metaalign.preferences import describe_validation_error
from metaalign_training.errors import DataError, nearest

__all__ = ["Library", "PriorityMatrix", "Sampler", "load_library", "load_priorities"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Opposed(_Model):
    """A criterion or background: its opposite, how a tier states it, and how an answer serves it."""

    opposite: str
    says: tuple[str, ...] = Field(min_length=1)
    guide: str


class _DimensionPair(_Model):
    """Two values of one dimension, and how answers serve them."""

    dimension: str
    values: tuple[str, str]
    guides: tuple[str, str]

    @model_validator(mode="after")
    def _two_values(self) -> Self:
        if self.values[0] == self.values[1]:
            raise ValueError(
                f"{self.dimension}: both values are {self.values[0]!r}; a preference cannot oppose itself"
            )
        for value in self.values:
            try:
                parse_preferences({"user": {"attributes": {self.dimension: value}}})
            except InvalidPreferences as error:
                raise ValueError(error.message) from None
        return self


def _check_opposites(group: str, entries: Mapping[str, _Opposed]) -> None:
    for name, entry in entries.items():
        if entry.opposite == name:
            raise ValueError(f"{group}.{name}: is its own opposite; a preference cannot contradict itself")
        if entry.opposite not in entries:
            raise ValueError(
                f"{group}.{name}: its opposite {entry.opposite!r} does not exist{nearest(entry.opposite, entries)}"
            )
        if entries[entry.opposite].opposite != name:
            raise ValueError(
                f"{group}.{name}: {entry.opposite!r} names {entries[entry.opposite].opposite!r} as its opposite instead"
            )
        shared = {s.lower() for s in entry.says} & {s.lower() for s in entries[entry.opposite].says}
        if shared:
            raise ValueError(f"{group}.{name}: says the same as its opposite: {sorted(shared)[0]!r}")


class Library(_Model):
    """What System Info and User Info may say."""

    roles: tuple[str, ...] = Field(min_length=1)
    criteria: dict[str, _Opposed]
    dimensions: tuple[_DimensionPair, ...] = ()
    backgrounds: dict[str, _Opposed] = Field(default_factory=dict)
    pressures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _opposites(self) -> Self:
        _check_opposites("criteria", self.criteria)
        _check_opposites("backgrounds", self.backgrounds)
        return self


class _Principle(_Model):
    """A principle: how the provider states it, how a user asks for it, and how an answer follows it."""

    system: tuple[str, ...] = Field(min_length=1)
    user: tuple[str, ...] = Field(min_length=1)
    guide: str


class Cell(NamedTuple):
    """A conflict of the priority matrix.

    Kinds of query may have the same conflict and still be different cells: refusing harm and answering what only looks
    harmful are counted, and drawn, apart.
    """

    query: str
    system: str
    user: str

    def __str__(self) -> str:
        return f"{self.query}: {self.system} over {self.user}"


class PriorityMatrix(_Model):
    """Kind of query -> (what System Info puts first, what the user wants); System Info decides.

    Attributes:
        principles: What may come first.
        matrix: Kind of query -> its conflicts; those of the kind `any` are every query's.
        agreed: Kind of query -> the principle that decides all its own conflicts, whatever System Info puts first: a
            question that only looks harmful is answered under every priority.
    """

    principles: dict[str, _Principle]
    matrix: dict[str, tuple[tuple[str, str], ...]]
    agreed: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for query, cells in self.matrix.items():
            for system, user in cells:
                for name in (system, user):
                    if name not in self.principles:
                        raise ValueError(
                            f"matrix.{query}: no principle is called {name!r}{nearest(name, self.principles)}"
                        )
                if system == user:
                    raise ValueError(f"matrix.{query}: there is no conflict between {system!r} and itself")
        for query, winner in self.agreed.items():
            if query not in self.matrix or query == "any":
                raise ValueError(
                    f"agreed.{query}: is no kind of query with conflicts of its own{nearest(query, self.matrix)}"
                )
            if strange := [cell for cell in self.matrix[query] if winner not in cell]:
                raise ValueError(f"agreed.{query}: {winner!r} has no part in the conflict {list(strange[0])}")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of query that it knows."""
        return tuple(dict.fromkeys((*self.matrix, "any")))

    def cells(self, query: str) -> tuple[Cell, ...]:
        """The conflicts for this kind of query: its own, and those of every query."""
        return tuple(
            Cell(kind, system, user)
            for kind in dict.fromkeys((query, "any"))
            for system, user in self.matrix.get(kind, ())
        )

    def winner(self, cell: Cell) -> str | None:
        """The principle that decides a conflict whatever System Info puts first, if its kind of query has one."""
        return self.agreed.get(cell.query)


_Config = TypeVar("_Config", bound=BaseModel)


def _load(model: type[_Config], packaged: str, path: str | None) -> _Config:
    source = Path(path) if path is not None else Path(str(resources.files(__package__).joinpath(packaged)))
    try:
        return model.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(source, None, f"not a readable YAML file: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        message, _ = describe_validation_error(error, source.name)
        raise DataError(source, None, message) from None


def load_library(path: str | None = None) -> Library:
    """Load the packaged library, or the one at `path`; DataError names the entry that is wrong."""
    return _load(Library, "library.yaml", path)


def load_priorities(path: str | None = None) -> PriorityMatrix:
    """Load the packaged priority matrix, or the one at `path`; DataError names the cell that is wrong."""
    return _load(PriorityMatrix, "priorities.yaml", path)


_Choice = TypeVar("_Choice")


class Sampler:
    """Draws evenly, with counts: always one of the entries used least so far; the seed breaks ties."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"library {seed}")
        self.counts: Counter[str] = Counter()

    def pick(self, group: str, options: Sequence[_Choice], label: Callable[[_Choice], str] = str) -> _Choice:
        """One of `options`; `label(option)` is its name in the coverage report."""
        least = min(self.counts[f"{group}/{label(o)}"] for o in options)
        chosen = self.rng.choice([o for o in options if self.counts[f"{group}/{label(o)}"] == least])
        self.counts[f"{group}/{label(chosen)}"] += 1
        return chosen

    def coverage(self, library: Library, priorities: PriorityMatrix) -> dict[str, dict[str, int]]:
        """Group -> entry -> how often it was used, unused ones included."""
        leaves = {
            "role": list(library.roles),
            "criterion": list(library.criteria),
            "dimension": [f"{d.dimension}:{'/'.join(d.values)}" for d in library.dimensions],
            "background": list(library.backgrounds),
            "pressure": list(library.pressures),
            "conflict": sorted({str(cell) for kind in priorities.kinds for cell in priorities.cells(kind)}),
        }
        return {
            group: {leaf: self.counts[f"{group}/{leaf}"] for leaf in own} for group, own in leaves.items()
        }
