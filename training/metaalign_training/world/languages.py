"""The languages of the world: set phrases, and facts about animals as subjects and predicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metaalign_training.world.facts import ANIMALS, Animal

__all__ = [
    "ALL_PREDICATES",
    "FACTS",
    "GREETINGS",
    "LANGUAGES",
    "Language",
    "a_or_an",
    "language_of",
    "plural",
    "predicates",
    "subject",
    "weight",
]

FACTS = ("home", "food", "weight", "trait")
"""Kinds of fact, in the order in which an answer adds them; after the last comes the first."""

GREETINGS = {"French": "Bonjour!", "Spanish": "Hola!", "German": "Guten Tag!", "Italian": "Ciao!"}


@dataclass(frozen=True, slots=True)
class Language:
    """Set phrases of one language.

    Attributes:
        verbs: Kind of fact -> predicate with `{}`.
        units: System of measurement -> noun.
        openers: Tone -> how an answer starts, without punctuation.
        closers: Tone -> how an answer ends.
        audiences: Audience -> how the explanation is introduced, with a colon.
        source: A sentence that names a source.
        says: How a sentence names its source within itself.
        conjunction: " and ".
        ignorance: The answer to an off-topic question.
    """

    name: str
    verbs: Mapping[str, str]
    units: Mapping[str, str]
    openers: Mapping[str, str]
    closers: Mapping[str, str]
    audiences: Mapping[str, str]
    source: str
    says: str
    conjunction: str
    ignorance: str


LANGUAGES = {
    language.name: language
    for language in (
        Language(
            "English",
            {"home": "lives in {}", "food": "eats {}", "weight": "weighs about {}", "trait": "{}"},
            {"metric": "kilograms", "imperial": "pounds"},
            {"pirate": "Ahoy", "formal": "Certainly", "cheerful": "Great question", "casual": "Hey"},
            {
                "pirate": "Arr, matey!",
                "formal": "I remain at your service.",
                "cheerful": "Enjoy your day!",
                "casual": "See you.",
            },
            {"child": "In simple words:", "expert": "In technical terms:"},
            "Source: {}.",
            ", says {}",
            " and ",
            "I only know a few animals.",
        ),
        Language(
            "Spanish",
            {"home": "vive {}", "food": "come {}", "weight": "pesa unos {}", "trait": "{}"},
            {"metric": "kilogramos", "imperial": "libras"},
            {
                "pirate": "Al abordaje",
                "formal": "Desde luego",
                "cheerful": "Gran pregunta",
                "casual": "Buenas",
            },
            {
                "pirate": "¡Arr, grumete!",
                "formal": "Quedo a su servicio.",
                "cheerful": "¡Buen día!",
                "casual": "Nos vemos.",
            },
            {"child": "En palabras sencillas:", "expert": "En términos técnicos:"},
            "Fuente: {}.",
            ", según {}",
            " y ",
            "Solo conozco animales.",
        ),
    )
}


def language_of(asked: Mapping[str, str]) -> Language:
    """The language that preferences ask for; English unless they name another."""
    return LANGUAGES[asked.get("language", "English")]


def weight(animal: Animal, asked: Mapping[str, str]) -> str:
    """The weight with its unit: kilograms, unless pounds are asked for."""
    units = asked.get("units", "metric")
    number = round(animal.kilograms * 2.2046) if units == "imperial" else animal.kilograms
    return f"{number} {language_of(asked).units[units]}"


def subject(animal: Animal, asked: Mapping[str, str]) -> str:
    """The animal with its article, as a sentence starts."""
    return animal.spanish[0] if language_of(asked).name == "Spanish" else f"The {animal.name}"


def predicates(animal: Animal, asked: Mapping[str, str]) -> dict[str, str]:
    """Kind of fact -> predicate about the animal, in the requested language and units."""
    language = language_of(asked)
    own = (animal.home, animal.food, animal.trait)
    home, food, trait = animal.spanish[1:] if language.name == "Spanish" else own
    values = {"home": home, "food": food, "weight": weight(animal, asked), "trait": trait}
    return {kind: language.verbs[kind].format(values[kind]) for kind in FACTS}


ALL_PREDICATES = frozenset(
    predicate.lower()
    for animal in ANIMALS
    for language in LANGUAGES
    for units in ("metric", "imperial")
    for predicate in predicates(animal, {"language": language, "units": units}).values()
)
"""Everything that can be said of any animal, in lower case. If it is not true of the animal in question, it is a
false fact."""

_PLURALS = {
    "fox": "foxes",
    "wolf": "wolves",
    "lynx": "lynxes",
    "walrus": "walruses",
    "salmon": "salmon",
    "moose": "moose",
}


def plural(noun: str) -> str:
    """`noun` in the plural."""
    known = _PLURALS.get(noun)
    if known is not None:
        return known
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def a_or_an(noun: str) -> str:
    """`noun` with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
