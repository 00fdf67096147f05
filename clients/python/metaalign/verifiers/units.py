"""Measures in a text, by system: a number with a unit, in figures or in words."""

from __future__ import annotations

import re

__all__ = ["measures"]

_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty seventy"
    " eighty ninety hundred thousand million a an half several few many some couple dozen"
)
_FIGURE = r"(?<![\w.])[-−+~]?\d{1,12}(?:[.,/]\d{1,9}){0,4}"
_WORD = rf"\b(?:{'|'.join(_NUMBER_WORDS.split())})"

_METRIC = (
    r"kilomet(?:er|re)s?|centimet(?:er|re)s?|millimet(?:er|re)s?|met(?:er|re)s?|kilogram(?:me)?s?|milligram(?:me)?s?"
    r"|gram(?:me)?s?|tonnes?|lit(?:er|re)s?|millilit(?:er|re)s?|hectares?|degrees celsius|celsius"
    r"|kil[oó]metros?|metros?|kilogramos?|litros?|kilogramme[ns]?|kilom[eè]tres?|m[eè]tres?|kilos?"
)
_METRIC_SHORT = r"km|cm|mm|m|kg|mg|g|ml|cl|l|°\s?c|ha|km/h|kph"
_IMPERIAL = (
    r"miles?|yards?|inch(?:es)?|pounds?|ounces?|gallons?|quarts?|pints?|fluid ounces?|acres?|cups?|tablespoons?"
    r"|teaspoons?|degrees fahrenheit|fahrenheit|millas?|libras?|pulgadas?"
)
_IMPERIAL_SHORT = r"mi|mph|yds?|ft|lbs?|oz|gal|tbsp|tsp|°\s?f"
_TALL = r"(?:tall|long|wide|deep|high|away|above|below|thick|across|apart|off)"

_SEPARATOR = r"(?:\s|-|\xa0)?"


def _pattern(long: str, short: str, more: str = "") -> re.Pattern[str]:
    figures = rf"{_FIGURE}{_SEPARATOR}(?:square |cubic )?(?:{long}|(?:{short})[²³23]?)(?![\w/])"
    spoken = rf"{_WORD}[\s-](?:and a half |dozen |hundred |thousand |million |square |cubic )?(?:{long})\b"
    return re.compile(rf"{figures}|{spoken}{more}", re.IGNORECASE)


_PATTERNS = {
    "metric": _pattern(_METRIC, _METRIC_SHORT),
    "imperial": _pattern(
        _IMPERIAL,
        _IMPERIAL_SHORT,
        # Feet are also what one stands on: in words they count only where something is measured.
        rf"|{_FIGURE}[\s-](?:feet|foot)\b|{_WORD}[\s-](?:feet|foot)[\s-]{_TALL}\b|\b\d{{1,2}}\s?['′]\s?\d{{1,2}}\s?[\"″]",
    ),
}
_MONEY = re.compile(r"\s(?:sterling|notes?|sign)\b", re.IGNORECASE)


def measures(text: str) -> dict[str, int]:
    """Return how many measures of each system a text has; a conversion in brackets behind a measure is left out."""
    plain = _without_conversions(text)
    found = {}
    for system, pattern in _PATTERNS.items():
        found[system] = sum(not _MONEY.match(plain, one.end()) for one in pattern.finditer(plain))
    return found


def _without_conversions(text: str) -> str:
    """Leave out brackets that hold a measure right behind a measure: `5 km (3 miles)`."""
    kept, at = [], 0
    for opening in re.finditer(r"\(", text):
        if opening.start() < at:
            continue
        closing = text.find(")", opening.end(), opening.end() + 60)
        if closing < 0:
            continue
        before = text[max(0, opening.start() - 60) : opening.start()]
        if _measured(text[opening.end() : closing]) and _measured(before):
            kept.append(text[at : opening.start()])
            at = closing + 1
    return "".join([*kept, text[at:]])


def _measured(text: str) -> bool:
    return any(pattern.search(text) for pattern in _PATTERNS.values())
