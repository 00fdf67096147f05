"""Reading text as a person does: its words, sentences, paragraphs, and the blocks of its Markdown.

Everything here takes time in proportion to the text, whatever the text is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "NOT_JSON",
    "Outline",
    "outline",
    "paragraphs",
    "read_json",
    "sentences",
    "syllables",
    "without_fences",
    "words",
]

_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Characters of scripts that put no spaces between words; each counts as a word, as word processors count."""


def words(text: str) -> list[str]:
    """Return the words: what stands between spaces and holds a letter or digit, so `don't` and `well-known` are one."""
    spaced = _WIDE.sub(lambda found: f" {found[0]} ", text)
    return [token for token in spaced.split() if any(c.isalnum() for c in token)]


def paragraphs(text: str) -> list[str]:
    """Return what stands between blank lines."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return ["\n".join(block) for block in blocks if block]


# --- sentences -----------------------------------------------------------------------------------------------

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st rev gen col capt cpt lt sgt hon pres gov sen rep mt ft messrs mme mlle sra srta vs cf al ca"
    " approx appt apt dept est fig figs vol vols ed eds esp e.g i.e viz no nos nr p pp jan feb mar apr jun jul aug sep"
    " sept oct nov dec bzw ca z.b d.h u.a usw".split()
)
"""They end in a period and no sentence ends with them."""
_MAY_END = frozenset(
    "etc inc ltd co corp jr sr bros ave blvd rd ph.d m.d b.a m.a p.m a.m u.s u.k u.n e.u d.c".split()
)
"""They end in a period, and a sentence may end with them, if a word follows that often starts one."""
_STARTERS = frozenset(
    "the a an it its he she we they you i this that these those there here but and however so then after before when"
    " while if in on at for as my his her our their your who what why how where no not".split()
)
_END = re.compile(r"[.!?…。！？।॥۔؟]+")
_CLOSERS = "\"'”’»)]}*_"
_WIDE_STOPS = "。！？"
_MARK = re.compile(r"[(\[{\"'“‘«*_]*")


def sentences(text: str) -> list[str]:
    """Return the sentences of running text; line breaks are spaces here.

    A period ends no sentence within a number or an address, after a title, an initial or most abbreviations, or before
    a small letter. Every piece holds a letter or digit.
    """
    found, start = [], 0
    for end in _END.finditer(text):
        after = end.end()
        while after < len(text) and text[after] in _CLOSERS:
            after += 1
        if _ends(text, end.start(), end[0], after):
            found.append(text[start:after])
            start = after
    found.append(text[start:])
    return [piece.strip() for piece in found if any(c.isalnum() for c in piece)]


def _ends(text: str, at: int, stop: str, after: int) -> bool:
    if stop[-1] in _WIDE_STOPS or after == len(text):
        return True
    if not text[after].isspace():
        return False
    next_at = after
    while next_at < len(text) and text[next_at].isspace():
        next_at += 1
    following = text[next_at : next_at + 40].split(maxsplit=1)
    if not following:
        return True
    mark = _MARK.match(following[0])
    word = following[0][mark.end() :] if mark else following[0]
    small = word[:1].islower()
    if stop != ".":
        quoted = after > at + len(stop)
        return not (small and (quoted or stop[-1] in ".…"))
    if small:
        return False
    token = text[max(0, at - 20) : at].split()[-1:]
    before = token[0].lstrip("([{\"'“‘«*_#").casefold() if token and not text[at - 1].isspace() else ""
    if before in _ABBREVIATIONS:
        return False
    if before in _MAY_END or (len(before) > 2 and re.fullmatch(r"(\w\.)+\w", before)):
        return word.strip(",;:'’").casefold() in _STARTERS
    if len(before) == 1 and before.isalpha() and before != "i":
        return word.casefold() in _STARTERS
    return not (before.isdigit() and len(before) <= 3 and _opens_line(text, at - len(before)))


def _opens_line(text: str, at: int) -> bool:
    """Whether only blanks stand before `at` on its line: there a number with a period marks an item of a list."""
    while at and text[at - 1] in " \t*_#>":
        at -= 1
    return at == 0 or text[at - 1] == "\n"


# --- Markdown ------------------------------------------------------------------------------------------------

_BULLET = re.compile(r"\s*[-*+•‣◦▪–]\s+(?=\S)")
_NUMBERED = re.compile(r"\s*(?:\*\*|__)?(\d{1,3})[.)]\s+(?=\S)")
_HEADING = re.compile(r" {0,3}#{1,6}\s+\S")
_UNDERLINE = re.compile(r" {0,3}(={2,}|-{2,})\s*")
_RULE = re.compile(r"\s*([-*_])(\s*\1){2,}\s*")
_DELIMITER = re.compile(r"\s*:?-+:?\s*")
_FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(slots=True)
class Outline:
    """The lines of a text by what they are; code is left out.

    Attributes:
        lines: How many lines are not blank.
        items: The indentation of each item of a list and its number, 0 for a bullet, in order.
        listed: How many lines belong to an item: its own, and indented ones below it.
        headings: How many headings there are.
        rows: How many rows a table has below its heading.
        blocks: The text of each paragraph, item and heading, without marks.
    """

    lines: int = 0
    items: list[tuple[int, int]] = field(default_factory=list)
    listed: int = 0
    headings: int = 0
    rows: int = 0
    blocks: list[str] = field(default_factory=list)

    @property
    def bullets(self) -> int:
        """How many items have a bullet."""
        return sum(not number for _, number in self.items)

    @property
    def top(self) -> tuple[int, list[int]]:
        """How many bullets the outermost lists have, and their numbers in order."""
        margin = min((indent for indent, _ in self.items), default=0) + 1
        outer = [number for indent, number in self.items if indent <= margin]
        return outer.count(0), [number for number in outer if number]


def without_fences(text: str) -> list[str]:
    """Return the lines that stand in no fenced code."""
    kept, fence = [], ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            fence = "" if mark and mark[1] == fence else fence
        elif mark:
            fence = mark[1]
        else:
            kept.append(line)
    return kept


def outline(text: str) -> Outline:
    """Return what the lines of a Markdown text are."""
    seen, lines = Outline(), without_fences(text)
    in_item = in_table = open_block = False
    for at, line in enumerate(lines):
        if not line.strip():
            in_table = open_block = False
            continue
        seen.lines += 1
        cells = _cells(line)
        if at and cells and all(_DELIMITER.fullmatch(cell) for cell in cells) and "|" in lines[at - 1]:
            in_table = True
            continue
        if in_table and "|" in line:
            seen.rows += 1
            seen.blocks.append(" ".join(cells))
            continue
        in_table = False
        if open_block and not in_item and _UNDERLINE.fullmatch(line):
            seen.headings += 1
            open_block = False
            continue
        if _RULE.fullmatch(line):
            seen.lines -= 1
            in_item = open_block = False
            continue
        mark = _BULLET.match(line) or _NUMBERED.match(line)
        if mark:
            in_item = True
            number = int(mark[1]) if mark.re is _NUMBERED else 0
            seen.items.append((len(line) - len(line.lstrip()), number))
        elif not line[0].isspace():
            in_item = False
        seen.listed += in_item
        heading = _HEADING.match(line)
        seen.headings += bool(heading)
        piece = line[mark.end() :] if mark else line.strip().lstrip("#>").strip()
        if mark or heading or not open_block:
            seen.blocks.append(piece)
        else:
            seen.blocks[-1] += " " + piece
        open_block = not heading
    return seen


def _cells(line: str) -> list[str]:
    return line.strip().removeprefix("|").removesuffix("|").split("|") if "|" in line else []


# --- JSON and reading level ----------------------------------------------------------------------------------

NOT_JSON = object()
"""What `read_json` returns for a text that is no JSON; null is JSON."""


def read_json(text: str, *, nan: bool = False) -> Any:
    """Return the value of a text that is JSON as a whole, with or without a code fence around it; else `NOT_JSON`.

    `nan` takes NaN and Infinity, as Python's parser does and JSON does not.
    """
    body = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        if body.startswith(fence):
            body = body.removeprefix(fence)
            break
    try:
        return json.loads(body.removesuffix("```").strip(), parse_constant=float if nan else _no_constant)
    except (ValueError, RecursionError):
        return NOT_JSON


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def syllables(word: str) -> int:
    """Estimate the syllables of an English word by its groups of vowels."""
    letters = re.sub(r"[^a-z]", "", word.lower())
    groups = len(re.findall(r"[aeiouy]+", letters))
    silent = re.search(r"[^aeiouyl]e$|[^aeiouytd]ed$|[^aeiouyscxz]es$", letters) is not None
    return max(1, groups - (silent and groups > 1))
