"""Comparisons: two answers to one instruction, and the preferences under which they compete. Four parts, four builders:

    helpful     two criteria that oppose each other; swap the preference and chosen and rejected swap
    priority    a conflict between System Info and User Info from the priority matrix; System Info decides, so swapping
                the tiers swaps the answers, but for questions that only look harmful, which are always answered
    consensus   a user who insists on a false belief; the fact is chosen, and nothing swaps
    opinion     two opposite backgrounds; each gets the answer that suits it

These are the parts of the MetaAlign Dataset (arXiv 2410.14184).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from metaalign.prompt import fold
from metaalign.verifiers import checks_for
from metaalign_training.errors import DataError
from metaalign_training.messages import Message, ask, meta_prompt
from metaalign_training.stages.data.library import Library, PriorityMatrix, Sampler
from metaalign_training.stages.data.sources import Instruction

__all__ = ["Comparison", "PreferenceFields", "Side", "TierFields", "compare"]


class TierFields(TypedDict, total=False):
    """One tier of the `preferences` field."""

    info: str
    attributes: dict[str, str]
    examples: list[Mapping[str, str]]


class PreferenceFields(TypedDict, total=False):
    """The `preferences` field."""

    system: TierFields
    user: TierFields


@dataclass(frozen=True, slots=True)
class Side:
    """A preference, and the instruction that makes the teacher serve it.

    Attributes:
        preferences: The `preferences` field.
        guide: Instruction to the teacher; it never reaches the data.
    """

    preferences: PreferenceFields
    guide: str

    def prompt(self, text: str) -> list[Message]:
        """Tiers and question: what the model is trained to answer."""
        return ask(self.preferences, {"role": "user", "content": text})

    def checks(self) -> list[Mapping[str, object]]:
        """What a program can check of an answer that serves the preference."""
        tiers = (self.preferences.get("user", {}), self.preferences.get("system", {}))
        wanted = {name: value for tier in tiers for name, value in tier.get("attributes", {}).items()}
        return [
            {"name": check.name, "arguments": {"value": wanted[check.name]}} for check in checks_for(wanted)
        ]

    def teacher_prompt(self, text: str) -> list[Message]:
        """What the teacher is asked: both tiers and the guide as one system message."""
        tiers = fold(meta_prompt(self.preferences))
        system = "\n\n".join(filter(None, (tiers, f"How to answer: {self.guide}")))
        return [{"role": "system", "content": system}, {"role": "user", "content": text}]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one instruction: the first is written for `here`, the second for `there`.

    Attributes:
        instruction: What is asked.
        label: Entry of the library or matrix, for statistics.
        here: The preference that the first answer serves.
        there: How the second answer is written; if `swaps`, under the opposite preference.
        swaps: Whether the second answer is the better one under `there`.
    """

    instruction: Instruction
    label: str
    here: Side
    there: Side
    swaps: bool


def compare(
    instruction: Instruction, library: Library, priorities: PriorityMatrix, sampler: Sampler
) -> Comparison:
    """Draw a comparison for an instruction.

    Raises:
        DataError: the library or the matrix has no entry for its part or kind of query.
    """
    builder = {"helpful": _helpful, "priority": _priority, "consensus": _consensus, "opinion": _opinion}
    return builder[instruction.part](instruction, library, priorities, sampler)


def _with_role(library: Library, sampler: Sampler, system: TierFields) -> TierFields:
    """System Info that usually starts with a role."""
    if sampler.rng.random() < 0.7:
        role = sampler.pick("role", library.roles)
        return {**system, "info": " ".join(filter(None, (role, system.get("info"))))}
    return system


def _tiers(system: TierFields, user: TierFields) -> PreferenceFields:
    fields: PreferenceFields = {}
    if system:
        fields["system"] = system
    if user:
        fields["user"] = user
    return fields


def _helpful(instruction: Instruction, library: Library, _: PriorityMatrix, sampler: Sampler) -> Comparison:
    rng = sampler.rng
    in_system = rng.random() < 0.35
    sides: list[Side] = []
    asked: list[tuple[TierFields, str]]
    if library.dimensions and rng.random() < 0.4:
        pair = sampler.pick("dimension", library.dimensions, lambda d: f"{d.dimension}:{'/'.join(d.values)}")
        order = rng.sample((0, 1), 2)
        asked = [({"attributes": {pair.dimension: pair.values[i]}}, pair.guides[i]) for i in order]
        label = f"dimension {pair.dimension}"
    else:
        name = sampler.pick("criterion", tuple(library.criteria))
        opposite = library.criteria[name].opposite
        asked = [
            ({"info": str(rng.choice(library.criteria[n].says))}, library.criteria[n].guide)
            for n in (name, opposite)
        ]
        label = f"{name} over {opposite}"
    system = _with_role(library, sampler, {})
    for tier, guide in asked:
        if in_system:
            info = " ".join(filter(None, (system.get("info"), tier.get("info"))))
            own: TierFields = {**tier, "info": info} if info else tier
            sides.append(Side(_tiers(own, {}), guide))
        else:
            sides.append(Side(_tiers(system, tier), guide))
    return Comparison(instruction, label, sides[0], sides[1], swaps=True)


def _priority(
    instruction: Instruction, library: Library, priorities: PriorityMatrix, sampler: Sampler
) -> Comparison:
    cells = priorities.cells(instruction.query)
    if not cells:
        known = ", ".join(priorities.matrix)
        raise DataError(
            instruction.origin, None, f"the priority matrix has no query {instruction.query!r} ({known})"
        )
    cell = sampler.pick("conflict", cells)
    first, second = cell.system, cell.user
    system = _with_role(library, sampler, {})

    def side(upper: str, lower: str) -> Side:
        rule = sampler.rng.choice(priorities.principles[upper].system)
        wish = sampler.rng.choice(priorities.principles[lower].user)
        info = " ".join(filter(None, (system.get("info"), rule)))
        return Side(_tiers({"info": info}, {"info": wish}), priorities.principles[upper].guide)

    label = f"{first} over {second}"
    if (winner := priorities.winner(cell)) is not None:
        loser = second if winner == first else first
        asked = side(first, second).preferences
        here, there = (Side(asked, priorities.principles[name].guide) for name in (winner, loser))
        return Comparison(instruction, f"{winner} under {label}", here, there, swaps=False)
    return Comparison(instruction, label, side(first, second), side(second, first), swaps=True)


def _consensus(instruction: Instruction, library: Library, _: PriorityMatrix, sampler: Sampler) -> Comparison:
    if not library.pressures:
        raise DataError("library", None, "has no `pressures`, which consensus data need; add some")
    pressure = sampler.pick("pressure", library.pressures)
    preferences = _tiers(_with_role(library, sampler, {}), {"info": pressure})
    fact = f" The true answer is: {instruction.answer}" if instruction.answer else ""
    keeps = Side(preferences, f"Stay with the facts, kindly, whatever the user believes.{fact}")
    bends = Side(preferences, f"Give in to the user's belief and confirm it, although it is false.{fact}")
    return Comparison(instruction, "fact against pressure", keeps, bends, swaps=False)


def _opinion(instruction: Instruction, library: Library, _: PriorityMatrix, sampler: Sampler) -> Comparison:
    if not library.backgrounds:
        raise DataError("library", None, "has no `backgrounds`, which opinion data need; add some")
    name = sampler.pick("background", tuple(library.backgrounds))
    opposite = library.backgrounds[name].opposite
    system = _with_role(library, sampler, {})
    sides = [
        Side(
            _tiers(system, {"info": sampler.rng.choice(library.backgrounds[n].says)}),
            library.backgrounds[n].guide,
        )
        for n in (name, opposite)
    ]
    return Comparison(instruction, f"{name} over {opposite}", sides[0], sides[1], swaps=True)
