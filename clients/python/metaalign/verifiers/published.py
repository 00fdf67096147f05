"""The 25 instructions of IFEval (arXiv 2311.07911) under their published names and by their published definitions.

What follows is what the authors' scoring decides, also where a reader would decide otherwise: a keyword is found within
another word, `---` counts as a bullet, a postscript may stand anywhere. Three things differ. Sentences are counted by
our own rules instead of NLTK's trained model, and languages are detected by py3langid instead of langdetect, because
those need a download and are no longer kept. And the authors' keywords and section names are regular expressions; here
they are plain text, which is the same for every published row and cannot be made slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from metaalign.verifiers.languages import CodeOrName, is_in
from metaalign.verifiers.reading import NOT_JSON, read_json, sentences
from metaalign.verifiers.verdict import Arguments, Count, Outcome, Phrase, Relation, Words, compare

__all__ = ["PUBLISHED"]


class _Nothing(Arguments):
    """No arguments."""


# --- keywords ------------------------------------------------------------------------------------------------


class _Keywords(Arguments):
    keywords: Words


def _existence(text: str, a: _Keywords) -> Outcome:
    lowered = text.lower()
    missing = sum(keyword.lower() not in lowered for keyword in a.keywords)
    return not missing, f"{missing} of {len(a.keywords)} keywords are missing"


class _Frequency(Arguments):
    keyword: Phrase
    frequency: Count
    relation: Relation


def _frequency(text: str, a: _Frequency) -> Outcome:
    return compare(text.lower().count(a.keyword.strip().lower()), a.relation, a.frequency, "occurrences")


class _ForbiddenWords(Arguments):
    forbidden_words: Words


def _forbidden_words(text: str, a: _ForbiddenWords) -> Outcome:
    lowered = text.lower()
    found = sum(_as_word(lowered, word.lower()) for word in a.forbidden_words)
    return not found, f"{found} of {len(a.forbidden_words)} forbidden words occur"


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _as_word(text: str, word: str) -> bool:
    """Whether `word` occurs between boundaries of words, as a regular expression with `\\b` on both sides finds it."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        left = at > 0 and _is_word(text[at - 1])
        right = end < len(text) and _is_word(text[end])
        if left != _is_word(word[0]) and right != _is_word(word[-1]):
            return True
        at = text.find(word, at + 1)
    return False


class _LetterFrequency(Arguments):
    letter: Annotated[str, StringConstraints(min_length=1, max_length=1)]
    let_frequency: Count
    let_relation: Relation


def _letter_frequency(text: str, a: _LetterFrequency) -> Outcome:
    return compare(text.lower().count(a.letter.lower()), a.let_relation, a.let_frequency, "occurrences")


# --- language ------------------------------------------------------------------------------------------------


class _Language(Arguments):
    language: CodeOrName


def _response_language(text: str, a: _Language) -> Outcome:
    return is_in(text, a.language)


# --- lengths -------------------------------------------------------------------------------------------------


class _NumberOfWords(Arguments):
    relation: Relation
    num_words: Count


def _number_words(text: str, a: _NumberOfWords) -> Outcome:
    return compare(sum(1 for _ in re.finditer(r"\w+", text)), a.relation, a.num_words, "words")


class _NumberOfSentences(Arguments):
    relation: Relation
    num_sentences: Count


def _number_sentences(text: str, a: _NumberOfSentences) -> Outcome:
    return compare(len(sentences(text)), a.relation, a.num_sentences, "sentences")


class _NumberOfParagraphs(Arguments):
    num_paragraphs: Count


def _number_paragraphs(text: str, a: _NumberOfParagraphs) -> Outcome:
    parts = text.split("***")
    if any(not part.strip() for part in parts[1:-1]):
        return False, "an empty paragraph"
    found = sum(1 for part in parts if part.strip())
    return found == a.num_paragraphs, f"{found} paragraphs between dividers; {a.num_paragraphs} asked for"


class _NthParagraph(Arguments):
    num_paragraphs: Count
    nth_paragraph: Annotated[int, Field(ge=1)]
    first_word: Phrase

    @model_validator(mode="after")
    def _within(self) -> _NthParagraph:
        if self.nth_paragraph > self.num_paragraphs:
            raise ValueError("`nth_paragraph` is at most `num_paragraphs`")
        return self


def _nth_paragraph_first_word(text: str, a: _NthParagraph) -> Outcome:
    parts = text.split("\n\n")
    found = sum(1 for part in parts if part.strip())
    if found != a.num_paragraphs:
        return False, f"{found} paragraphs; {a.num_paragraphs} asked for"
    # The authors count only paragraphs with text, but look at the nth of all.
    paragraph = parts[a.nth_paragraph - 1].split()
    word = (
        re.split(r"[.,?!'\"]", paragraph[0].lstrip("'").lstrip('"'), maxsplit=1)[0].lower()
        if paragraph
        else ""
    )
    return word == a.first_word.lower(), f"paragraph {a.nth_paragraph} starts with " + (
        "that word" if word == a.first_word.lower() else "another word"
    )


# --- content -------------------------------------------------------------------------------------------------


class _Placeholders(Arguments):
    num_placeholders: Count


def _number_placeholders(text: str, a: _Placeholders) -> Outcome:
    found = 0
    for line in text.split("\n"):
        opening = line.find("[")
        while opening >= 0 and (closing := line.find("]", opening)) >= 0:
            found += 1
            opening = line.find("[", closing)
    return compare(found, "at least", a.num_placeholders, "placeholders")


class _Postscript(Arguments):
    postscript_marker: Phrase


_POSTSCRIPTS = {"P.S.": re.compile(r"p\.\s?s\."), "P.P.S": re.compile(r"p\.\s?p\.\s?s")}


def _postscript(text: str, a: _Postscript) -> Outcome:
    marker, lowered = a.postscript_marker.strip(), text.lower()
    pattern = _POSTSCRIPTS.get(marker)
    found = pattern.search(lowered) is not None if pattern else marker.lower() in lowered
    return found, "a postscript" if found else "no postscript"


# --- format --------------------------------------------------------------------------------------------------


class _Bullets(Arguments):
    num_bullets: Count


def _number_bullet_lists(text: str, a: _Bullets) -> Outcome:
    found, lines, at = 0, text.split("\n"), 0
    while at < len(lines):
        line = lines[at].lstrip()
        if line.startswith("-"):
            found += 1
        elif line == "*" and at + 1 < len(lines):  # the authors' pattern takes the next line as its text
            found += 1
            at += 1
            found += lines[at].lstrip().startswith("-")
        elif len(line) > 1 and line[0] == "*" != line[1]:
            found += 1
        at += 1
    return found == a.num_bullets, f"{found} bullets; {a.num_bullets} asked for"


_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _constrained_response(text: str, _: _Nothing) -> Outcome:
    found = any(option in text for option in _CONSTRAINED)
    return found, "one of the three answers" if found else "none of the three answers"


class _Highlights(Arguments):
    num_highlights: Count


def _number_highlighted_sections(text: str, a: _Highlights) -> Outcome:
    found = sum(1 for one in re.findall(r"\*[^\n*]*\*", text) if one.strip("*").strip())
    found += sum(1 for one in re.findall(r"\*\*[^\n*]*\*\*", text) if one[2:-2].strip())
    return compare(found, "at least", a.num_highlights, "highlighted sections")


class _Sections(Arguments):
    section_spliter: Phrase  # the authors' spelling
    num_sections: Count


def _multiple_sections(text: str, a: _Sections) -> Outcome:
    found = sum(1 for _ in re.finditer(re.escape(a.section_spliter.strip()) + r"\s?\d", text))
    return compare(found, "at least", a.num_sections, "sections")


def _json_format(text: str, _: _Nothing) -> Outcome:
    found = read_json(text, nan=True) is not NOT_JSON
    return found, "JSON" if found else "no JSON"


def _title(text: str, _: _Nothing) -> Outcome:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and end > start + 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True, "a title"
    return False, "no title in double angular brackets"


# --- combinations, start and end -----------------------------------------------------------------------------


def _two_responses(text: str, _: _Nothing) -> Outcome:
    parts = [part.strip() for part in text.split("******")]
    if any(not part for part in parts[1:-1]):
        return False, "an empty response"
    given = [part for part in parts if part]
    return len(given) == 2 and given[0] != given[
        1
    ], f"{len(given)} responses, {len(set(given))} of them different"


class _RepeatPrompt(Arguments):
    prompt_to_repeat: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


def _repeat_prompt(text: str, a: _RepeatPrompt) -> Outcome:
    repeated = text.strip().lower().startswith(a.prompt_to_repeat.strip().lower())
    return repeated, "the request comes first" if repeated else "the request does not come first"


class _End(Arguments):
    end_phrase: Phrase


def _end_checker(text: str, a: _End) -> Outcome:
    ended = text.strip().strip('"').lower().endswith(a.end_phrase.strip().lower())
    return ended, "ends with the phrase" if ended else "ends with something else"


def _quotation(text: str, _: _Nothing) -> Outcome:
    body = text.strip()
    quoted = len(body) > 1 and body[0] == body[-1] == '"'
    return quoted, "in double quotation marks" if quoted else "not in double quotation marks"


# --- case and punctuation ------------------------------------------------------------------------------------


def _in_case(text: str, right: bool) -> Outcome:
    english, found = is_in(text, "en")
    return english and right, f"{found}, " + ("in the right case" if right else "in the wrong case")


def _english_capital(text: str, _: _Nothing) -> Outcome:
    return _in_case(text, text.isupper())


def _english_lowercase(text: str, _: _Nothing) -> Outcome:
    return _in_case(text, text.islower())


class _CapitalWords(Arguments):
    capital_frequency: Count
    capital_relation: Relation


_BREAKS = re.compile(r"[\s\[\](){}<>;@#$%&?!\"“”«»„‘’]+|--+|[,:](?!\d)|\.{2,}")
"""Where a Penn Treebank tokenizer splits; a single quote or hyphen within a word stays."""
_CONTRACTION = re.compile(r"(?<=\w)(?:n't|'(?:s|m|d|ll|re|ve))$", re.IGNORECASE)
_TWO_IN_ONE = frozenset({"CANNOT", "GIMME", "GONNA", "GOTTA", "LEMME", "WANNA"})


def _capital_word_frequency(text: str, a: _CapitalWords) -> Outcome:
    found = 0
    for token in _BREAKS.split(text):
        bare = token.strip("'.")
        suffix = _CONTRACTION.search(bare)
        parts = (bare[: suffix.start()], suffix[0]) if suffix else (bare,)
        found += sum(part.isupper() for part in parts) + (bare in _TWO_IN_ONE)
    return compare(found, a.capital_relation, a.capital_frequency, "words in capitals")


def _no_comma(text: str, _: _Nothing) -> Outcome:
    found = text.count(",")
    return not found, f"{found} commas"


PUBLISHED: Mapping[str, tuple[type[Arguments], Callable[[str, Any], Outcome]]] = {
    "change_case:capital_word_frequency": (_CapitalWords, _capital_word_frequency),
    "change_case:english_capital": (_Nothing, _english_capital),
    "change_case:english_lowercase": (_Nothing, _english_lowercase),
    "combination:repeat_prompt": (_RepeatPrompt, _repeat_prompt),
    "combination:two_responses": (_Nothing, _two_responses),
    "detectable_content:number_placeholders": (_Placeholders, _number_placeholders),
    "detectable_content:postscript": (_Postscript, _postscript),
    "detectable_format:constrained_response": (_Nothing, _constrained_response),
    "detectable_format:json_format": (_Nothing, _json_format),
    "detectable_format:multiple_sections": (_Sections, _multiple_sections),
    "detectable_format:number_bullet_lists": (_Bullets, _number_bullet_lists),
    "detectable_format:number_highlighted_sections": (_Highlights, _number_highlighted_sections),
    "detectable_format:title": (_Nothing, _title),
    "keywords:existence": (_Keywords, _existence),
    "keywords:forbidden_words": (_ForbiddenWords, _forbidden_words),
    "keywords:frequency": (_Frequency, _frequency),
    "keywords:letter_frequency": (_LetterFrequency, _letter_frequency),
    "language:response_language": (_Language, _response_language),
    "length_constraints:nth_paragraph_first_word": (_NthParagraph, _nth_paragraph_first_word),
    "length_constraints:number_paragraphs": (_NumberOfParagraphs, _number_paragraphs),
    "length_constraints:number_sentences": (_NumberOfSentences, _number_sentences),
    "length_constraints:number_words": (_NumberOfWords, _number_words),
    "punctuation:no_comma": (_Nothing, _no_comma),
    "startend:end_checker": (_End, _end_checker),
    "startend:quotation": (_Nothing, _quotation),
}
