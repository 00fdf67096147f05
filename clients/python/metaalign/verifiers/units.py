"""Measures in a text, by system: a number with a unit, in figures or in words."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
_METRIC_SHORT = r"[kK][mM](?:/h)?|cm|mm|m|[kK]g|mg|g|m[lL]|cl|[lL]|°\s?[cC]|ha|kph"
_IMPERIAL = (
    r"miles?|yards?|inch(?:es)?|pounds?|ounces?|gallons?|quarts?|pints?|fluid ounces?|acres?|cups? of|tablespoons?"
    r"|teaspoons?|degrees fahrenheit|fahrenheit|millas?|libras?|pulgadas?"
)
_IMPERIAL_SHORT = r"mi|mph|MPH|yds?|ft|lbs?|oz|gal|tbsp|tsp|°\s?[fF]"
_TALL = r"(?:tall|long|wide|deep|high|away|above|below|thick|across|apart|off)"

_SEPARATOR = r"(?:\s|-|\xa0)?"


def _pattern(long: str, short: str, more: str = "") -> re.Pattern[str]:
    figures = rf"{_FIGURE}{_SEPARATOR}(?:square |cubic )?(?:{long}|(?-i:{short})[²³23]?)(?![\w/])"
    spoken = rf"{_WORD}[\s-](?:and a half |dozen |hundred |thousand |million |square |cubic )?(?:{long})\b"
    return re.compile(rf"{figures}|{spoken}{more}", re.IGNORECASE)


# Feet are also what one stands on: in words they count only where something is measured.
_FEET = (
    rf"|{_FIGURE}[\s-](?:square |cubic )?(?:feet|foot)\b|{_WORD}[\s-](?:feet|foot)[\s-]{_TALL}\b"
    rf"|\b\d{{1,2}}\s?['′]\s?\d{{1,2}}\s?[\"″]"
)
_PATTERNS = {
    "metric": _pattern(_METRIC, _METRIC_SHORT),
    "imperial": _pattern(_IMPERIAL, _IMPERIAL_SHORT, _FEET),
}
_MONEY = re.compile(r"\s(?:sterling|notes?|sign|dollars?|euros?)\b", re.IGNORECASE)
_PRICE = re.compile(
    r"\b(?:costs?|prices?|bills?|pays?|paid|spend|spent|worth|fees?|fined?|salary|earns?)\b[^.!?]*$",
    re.IGNORECASE,
)


def measures(text: str) -> dict[str, int]:
    """Return how many measures of each system a text has; a conversion in brackets behind a measure is left out."""
    found = dict.fromkeys(_PATTERNS, 0)
    for piece in _pieces(text):
        plain = _without_conversions(piece)
        for system, pattern in _PATTERNS.items():
            found[system] += sum(not _is_money(plain, one) for one in pattern.finditer(plain))
    return found


_PIECE = 4_000


def _pieces(text: str) -> Iterator[str]:
    """Lines, long ones in pieces: while a regular expression runs, no other thread of the program does."""
    for line in text.split("\n"):
        start = 0
        while len(line) - start > _PIECE:
            space = line.rfind(" ", start + _PIECE // 2, start + _PIECE)
            end = space if space > 0 else start + _PIECE
            yield line[start:end]
            start = end
        if line:
            yield line[start:]


def _is_money(text: str, measure: re.Match[str]) -> bool:
    if _MONEY.match(text, measure.end()):
        return True
    return measure[0].lower().endswith(("pound", "pounds")) and bool(
        _PRICE.search(text[max(0, measure.start() - 40) : measure.start()])
    )


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
