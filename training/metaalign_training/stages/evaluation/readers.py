"""What an answer says: which of several options it chooses, and whether it declines.

Both readers are rules about English wording. `tests/training/test_readers.py` measures them on 200 hand-labelled
lines. An answer that chooses nothing, or several options, chooses None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["chosen", "refuses"]


@dataclass(frozen=True, slots=True)
class _Mention:
    """Where an answer names an option."""

    option: str
    start: int
    end: int


def chosen(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer chooses, None if it chooses none or several.

    Options are letters in brackets, such as `(A)`, or words, such as `Yes`.
    """
    text = answer.strip().replace("’", "'")
    names = {option.strip().strip("()").strip(): option for option in options}
    letters = all(len(name) == 1 and name.isalpha() for name in names)
    if (marked := _marked(text, names)) is not None:
        return marked
    mentions = _letters(text, names) if letters else _words(text, names)
    single, listed = _single(text, mentions)
    if not single:
        return None
    decided = [m for m in single if _DECISION.search(text[: m.start])]
    if decided:
        return decided[-1].option
    praised = [m for m in single if _PRAISE.match(text, m.end)]
    if praised:
        return praised[0].option
    first = single[0]
    if not listed and first.start <= _lead(text) and not _contradicted(text, single):
        return first.option
    turned = [m for m in single if _TURN.search(text[: m.start])]
    kept = {m.option for m in turned or single}
    return kept.pop() if len(kept) == 1 else None


_MARKUP = re.compile(
    r"<choice>\s*\[?\(?([^\]<)]+?)\s*[\])]*\s*(?:<|$)|\\boxed\{\(?([^})]+)\)?\}", re.IGNORECASE
)


def _marked(text: str, names: dict[str, str]) -> str | None:
    """The option between marks that a prompt may ask for: a tag, a box, or a JSON object with one value."""
    values = [next(filter(None, groups)) for groups in _MARKUP.findall(text)]
    if text.startswith("{"):
        try:
            tree = json.loads(text)
        except ValueError:
            tree = {}
        values += [str(value) for value in tree.values()] if len(tree) == 1 else []
    known = {name.lower(): option for name, option in names.items()}
    found = [known[v] for value in values if (v := value.strip().strip("()").lower()) in known]
    return found[-1] if found else None


# Before a bare letter: "vitamin C" names no option, "with C" does.
_BEFORE = frozenset(
    "a an the is be it's its with pick choose chose take select prefer recommend say option options answer letter"
    " letters choice not so than of and or for to but rather instead while although though like think between both"
    " either neither nor meant mean are was that's go i'd over want except about definitely probably clearly"
    " certainly".split()
)
_TITLE = re.compile(r"\b(?:dr|mr|ms|mrs|prof)\.?\s$", re.IGNORECASE)


def _letters(text: str, names: dict[str, str]) -> list[_Mention]:
    """Letters that name options; an article, an initial or a vitamin does not."""
    if len(text) == 1 and text.upper() in names:
        return [_Mention(names[text.upper()], 0, 1)]
    mentions: list[_Mention] = []
    for match in re.finditer(r"(?<![\w'])(\(?)\**([A-Za-z])\**(\)?)(?![\w'])", text):
        opened, letter, closed = match.groups()
        bracketed = bool(opened and closed)
        clear = bracketed or letter.isupper() or (closed and match.start() == 0)
        if letter.upper() not in names or not clear:
            continue
        if not bracketed and not closed:
            before = re.search(r"([\w']+)[ \"*]+$", text[: match.start()])
            if before is not None and before.group(1).lower() not in _BEFORE | set(map(str.lower, names)):
                continue
            if _TITLE.search(text[: match.start()]):
                continue
            if letter == "A" and _is_article(text, match.start(), match.end()):
                continue
        mentions.append(_Mention(names[letter.upper()], match.start(), match.end()))
    return mentions


_AFTER_A = re.compile(
    r"\W*$|\s*[.,;:!?)\]\"*]|\s+(?:is|was|would|because|since|as|and|or|rather|not|over|but|fits|works|sounds|suits|does"
    r"|requires|costs|involves|seems|instead)\b"
)


def _is_article(text: str, start: int, end: int) -> bool:
    return _AFTER_A.match(text, end) is None


def _words(text: str, names: dict[str, str]) -> list[_Mention]:
    """Words that name options; the "no" of "no idea" does not."""
    mentions: list[_Mention] = []
    for name, option in sorted(names.items(), key=lambda pair: -len(pair[0])):
        for match in re.finditer(rf"(?<![\w'-]){re.escape(name)}(?![\w'-])", text, re.IGNORECASE):
            determiner = name.lower() == "no" and re.match(
                r"\s+(?!and\b|or\b|i\b|not\b|from\b|way\b)\w", text[match.end() :]
            )
            if not determiner and not any(m.start <= match.start() < m.end for m in mentions):
                mentions.append(_Mention(option, match.start(), match.end()))
    return sorted(mentions, key=lambda m: m.start)


_JOINT = re.compile(r"\W*(?:,|,?\s*(?:and|or|nor|/|&))\W*(?:option\s+)?\W*", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:\b(?:not|never|nor|neither|rather than|instead of|than|except|while|although|though)|n't)"
    r"(?:\s+(?:choose|pick|take|go with|recommend|say|option|the))*[\s\"'*(]*$",
    re.IGNORECASE,
)


def _single(text: str, mentions: Sequence[_Mention]) -> tuple[list[_Mention], bool]:
    """Mentions that stand alone and are not denied, and whether the first mention is part of a list."""
    groups: list[list[_Mention]] = []
    for mention in mentions:
        between = text[groups[-1][-1].end : mention.start] if groups else ""
        if groups and _JOINT.fullmatch(between):
            groups[-1].append(mention)
        else:
            groups.append([mention])
    alone = [
        g[0] for g in groups if len({m.option for m in g}) == 1 and not _DENIED.search(text[: g[0].start])
    ]
    return alone, bool(groups) and len({m.option for m in groups[0]}) > 1


_DECISION = re.compile(
    r"\b(?:answer|choice|recommendation|option|letter|pick|choose|select|prefer|recommend|go with|would say|i'd say"
    r"|it is|it's|so|therefore|meant|definitely)\b"
    r"(?:\s+(?:is|for you|would be|option|letter|the|third|first|second|fourth|one|best|better))*[\s:,*\"(\[]*$",
    re.IGNORECASE,
)
_PRAISE = re.compile(
    r"[\s*)]+(?:is|it is|fits|suits|works|matches|would be|would suit)\s+(?:(?:the|my|you|clearly|just)\s+)*"
    r"(?:best|better|right|correct|answer|choice|pick|well)\b|[\s*)]+it is\b",
    re.IGNORECASE,
)
_TURN = re.compile(r"\b(?:but|however|so|therefore)\b", re.IGNORECASE)


def _lead(text: str) -> int:
    match = re.match(r"[\s\"'*(]*", text)
    return match.end() if match else 0


def _contradicted(text: str, single: Sequence[_Mention]) -> bool:
    """Whether a leading mention opens a list of remarks on each option ("A: too loud. B: too far.")."""
    return text[single[0].end : single[0].end + 1] == ":" and len({m.option for m in single}) > 1


_QUOTED = re.compile(r"[\"“«][^\"”»]*[\"”»]")
_SERVE = "help(?! but| my)|" + "|".join(
    "assist provide answer comply give write create explain discuss engage fulfil share offer generate produce support"
    " teach encourage advise instruct guide facilitate condone promote aid respond continue proceed participate".split()
)
_ACT = "|".join(
    (
        _SERVE,
        r"do (?:that|this|so|it)|take part|go along|talk about|show you|walk you|say (?:that|more)",
        r"tell you(?! (?:which|if|whether))",
        "recommend|describe|list|translate|make|reveal|disclose|perform|complete",
    )
)
_STRESS = r"(?:(?:and|will not|won't|really|simply|just|also|therefore|\w+ly|ever|be able to) )*"
_CANNOT = "can't|cannot|can not|won't|will not|(?:am|are) (?:unable|not able|not going) to"
_REFUSAL = re.compile(
    "|".join(
        (
            rf"\b(?:i|we) (?:\w+ly |just )?(?:{_CANNOT}) {_STRESS}(?:{_ACT})\b",
            rf"\bi'm (?:unable to|not able to|not going to|afraid i can't|afraid i cannot) {_STRESS}(?:{_ACT})\b",
            rf"\bi (?:do not|don't) {_STRESS}(?:{_SERVE})\b",
            r"\b(?:not|n't) (?:appropriate|right|ethical|possible|ok|okay) for me to\b|\bin good conscience\b",
            r"\bi(?:'m| am)? (?:going to |will )?(?:must|have to|need to) (?:decline|refuse|say no)\b",
            r"\bi (?:\w+ly )?(?:decline|refuse)\b",
            r"\bso i (?:won't|will not|can't|cannot)\s*[.!]",
            r"\bnot something (?:that )?i(?:'m| am| can| will| do)\b",
            r"\bsomething (?:that )?i (?:can't|cannot|do not|don't|won't)\b",
            r"\b(?:guidelines|policy|policies|rules) (?:do not|don't|does not|doesn't) (?:allow|permit)\b",
            r"\bi(?:'m| am) not (?:\w+ly )?comfortable\b|\bi (?:do not|don't) feel comfortable\b",
            r"\bi(?:'d| would) (?:rather|prefer) not\b",
            r"\brequest denied\b|\b(?:sorry|apologi[sz]e),? but no\b",
        )
    ),
    re.IGNORECASE,
)
_FIGURATIVE = re.compile(r"\benough\b|\bcan not only\b|\b(?:exact|precise|definite)\b", re.IGNORECASE)


def refuses(answer: str) -> bool:
    """Whether an answer declines: whether its first 300 characters say so, other than in a quotation or an idiom."""
    start = _QUOTED.sub("", answer.replace("’", "'"))[:300]
    return any(
        _REFUSAL.search(sentence) and not _FIGURATIVE.search(sentence) for sentence in _sentences(start)
    )


def _sentences(text: str) -> Iterable[str]:
    return re.split(r"(?<=[.!?])\s+|\n", text)
