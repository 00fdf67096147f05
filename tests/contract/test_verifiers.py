"""Checks of real text: against lines labelled by hand, the published definitions, real rows, and hostile input."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metaalign.dimensions import DIMENSIONS
from metaalign.verifiers import (
    CHECKS,
    InvalidCheck,
    check,
    check_all,
    checks_for,
    parse_checks,
    published_checks,
    reward,
)
from metaalign.verifiers.schemas import SECONDS, OutOfTime, first_error

LABELLED = Path(__file__).parent / "labelled"
AMBIGUOUS = {("units", "Chapter 5 L is missing.")}
"""Five litres to the program, and to nobody else."""


def _labelled(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (LABELLED / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["checks.jsonl", "harder.jsonl"])
def test_the_verdicts_are_those_of_a_reader(name: str) -> None:
    """Both files were written in ordinary words, the second after the code and before it was run on it."""
    lines = _labelled(name)
    wrong = [
        (line["check"], line["text"])
        for line in lines
        if check(line["check"], line["arguments"], line["text"]).passed != line["passed"]
    ]
    assert len(lines) >= 120
    assert set(wrong) <= AMBIGUOUS


def test_every_check_is_labelled_with_both_verdicts() -> None:
    seen = Counter((line["check"], line["passed"]) for line in _labelled("checks.jsonl"))
    assert set(seen) == {(name, verdict) for name in CHECKS for verdict in (True, False)}


@pytest.mark.parametrize(
    ("name", "arguments", "text", "passed"),
    [
        ("keywords:existence", {"keywords": ["mom"]}, "Just a moment.", True),
        ("keywords:frequency", {"keyword": "an", "frequency": 2, "relation": "at least"}, "A banana.", True),
        ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "above\n\n---\n\nbelow", True),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "*\none\n* two", True),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**one**", False),
        ("detectable_format:constrained_response", {}, "my answer is yes.", False),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "p. s. first of all\n\nhello", True),
        ("detectable_format:json_format", {}, "NaN", True),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "one\n\ntwo", True),
        ("startend:quotation", {}, '"one" and "two"', True),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 3, "capital_relation": "at least"},
            "I DON'T",
            True,
        ),
    ],
)
def test_published_checks_keep_the_quirks_of_their_definitions(
    name: str, arguments: dict[str, Any], text: str, passed: bool
) -> None:
    assert check(name, arguments, text).passed is passed


def test_a_blank_text_passes_nothing() -> None:
    verdict = check("punctuation:no_comma", {}, " \n")
    assert (verdict.passed, verdict.why) == (False, "the text is blank")


def test_loose_scoring_forgives_the_first_line_the_last_and_asterisks() -> None:
    text = "Sure, here it is:\n**all is calm**\nHope that helps, friend!"
    assert not check("punctuation:no_comma", {}, text).passed
    assert check("punctuation:no_comma", {}, text, loose=True).passed
    assert not check("punctuation:no_comma", {}, "a, b", loose=True).passed
    assert check("startend:end_checker", {"end_phrase": "The end."}, "It is *The end.*", loose=True).passed
    assert not check("startend:end_checker", {"end_phrase": "The end."}, "It is *The end.*").passed


def test_a_row_of_the_published_files_is_read_as_it_is() -> None:
    """Files on the Hugging Face Hub carry every argument of every check, null where it is not this one's."""
    names = ["keywords:existence", "length_constraints:number_words"]
    arguments: list[dict[str, Any]] = [
        {"keywords": ["river"], "num_words": None, "relation": None},
        {"keywords": None, "num_words": 3, "relation": "at least"},
    ]
    checks = published_checks(names, arguments)
    assert [verdict.passed for verdict in check_all(checks, "The river runs.")] == [True, True]
    with pytest.raises(InvalidCheck, match="2 names and 1 sets"):
        published_checks(names, arguments[:1])


def test_the_prompt_is_what_is_repeated_where_nothing_else_is_named() -> None:
    assert check("combination:repeat_prompt", {}, "Name a lake. Lake Como.", "Name a lake.").passed
    with pytest.raises(InvalidCheck, match="prompt_to_repeat"):
        check("combination:repeat_prompt", {}, "Name a lake.")


def _rows() -> Iterator[dict[str, Any]]:
    """The rows of S-IFEval: the published ones where `METAALIGN_DATA` names their folder, else one of their form."""
    if folder := os.environ.get("METAALIGN_DATA"):
        with gzip.open(
            Path(folder) / "realguardrails" / "sys_ifeval.jsonl.gz", "rt", encoding="utf-8"
        ) as file:
            yield from (json.loads(line) for line in file)
    else:
        yield {
            "key": 1,
            "prompt": "Write two lines without commas.",
            "instruction_id_list": ["punctuation:no_comma", "keywords:letter_frequency"],
            "kwargs": [{}, {"letter": "#", "let_frequency": 2, "let_relation": "less than"}],
            "messages": [
                {"role": "system", "content": "No commas."},
                {"role": "user", "content": "Write two lines."},
            ],
        }


def test_every_row_of_s_ifeval_is_computable() -> None:
    rows = list(_rows())
    for row in rows:
        checks = published_checks(row["instruction_id_list"], row["kwargs"], prompt=row["prompt"])
        verdicts = check_all(checks, "A plain answer of two sentences. It asks for nothing.", loose=True)
        assert len(verdicts) == len(row["instruction_id_list"]) == len(checks) > 0
    assert len(rows) in (1, 541)


@pytest.mark.parametrize(
    ("item", "param", "message"),
    [
        ({"name": "keywords:existance"}, "[0].name", "the nearest is `keywords:existence`"),
        (
            {"name": "length_constraints:number_words", "arguments": {"num_word": 3, "relation": "at least"}},
            "[0].arguments.num_word",
            "the nearest is `num_words`",
        ),
        (
            {"name": "json_schema", "arguments": {"shema": {}}},
            "[0].arguments.shema",
            "the nearest is `schema`",
        ),
        ({"name": "punctuation:no_comma", "argument": {}}, "[0]", "the nearest is `arguments`"),
        ({"name": "punctuation:no_comma", "arguments": {"x": 1}}, "[0].arguments.x", "there are none"),
        (
            {
                "name": "length_constraints:number_words",
                "arguments": {"num_words": "3", "relation": "at least"},
            },
            "[0].arguments.num_words",
            "valid integer",
        ),
        (
            {"name": "length_constraints:number_words", "arguments": {"num_words": 3, "relation": "at most"}},
            "[0].arguments.relation",
            "'at least' or 'less than'",
        ),
        ({"name": "language", "arguments": {"value": "Klingon"}}, "[0].arguments.value", "ISO 639-1"),
        (
            {"name": "greeting", "arguments": {"value": "Khmer"}},
            "[0].arguments.value",
            "greetings are known in",
        ),
        ({"name": "count", "arguments": {"what": "words"}}, "[0].arguments", "`at_least`, `at_most`"),
    ],
)
def test_what_is_wrong_with_a_check_is_named_with_the_nearest(
    item: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidCheck) as caught:
        parse_checks([item])
    assert caught.value.param == param
    assert message in caught.value.message
    assert caught.value.message.startswith(param)


def test_a_message_repeats_no_value() -> None:
    with pytest.raises(InvalidCheck) as caught:
        parse_checks([{"name": "language", "arguments": {"value": "my secret"}}])
    assert "secret" not in caught.value.message


def test_a_reward_is_the_share_of_checks_that_pass() -> None:
    checks: list[dict[str, Any]] = [
        {"name": "punctuation:no_comma"},
        {"name": "format", "arguments": {"value": "bullets"}},
        {"name": "name", "arguments": {"value": "Ada"}},
        {"name": "units", "arguments": {"value": "metric"}},
    ]
    assert reward(checks, "Hello Ada!\n- It is 5 km away.\n- Take the bus.") == 1.0
    assert reward(checks, "It is three miles away.") == 0.25
    assert reward(parse_checks(checks), "") == 0.0
    with pytest.raises(InvalidCheck, match="at least one"):
        reward([], "anything")


def test_dimensions_imply_checks_where_a_program_can_decide() -> None:
    attributes = {
        "format": "bullets",
        "tone": "pirate",
        "language": "French",
        "greeting": "Elvish",
        "audience": "expert",
        "name": "Ada",
        "mood": "calm",
    }
    assert [(c.name, c.arguments.model_dump()) for c in checks_for(attributes)] == [
        ("format", {"value": "bullets"}),
        ("language", {"value": "fr"}),
        ("name", {"value": "Ada"}),
    ]
    closed = {(d.name, value) for d in DIMENSIONS.values() if d.pattern is None for value in d.values}
    assert all(checks_for({name: value}) for name, value in closed), (
        "every value of a closed dimension is decided"
    )


def test_a_short_text_is_in_no_language_of_another_script() -> None:
    for text in ("OK.", "Hi!", "P.S.", "code"):
        assert check("language", {"value": "English"}, text).passed
        assert not any(
            check("language", {"value": code}, text).passed for code in ("hi", "fa", "ko", "ru", "zh", "el")
        )
    assert check("language", {"value": "Russian"}, "Да.").passed
    assert not check("language", {"value": "English"}, "Да.").passed


def test_a_language_goes_by_code_name_and_variety() -> None:
    for name in ("pt", "PT-br", "Portuguese", "português", "Brazilian Portuguese", "Portuguese (Brazil)"):
        assert checks_for({"language": name})[0].arguments.model_dump() == {"value": "pt"}
    assert not checks_for({"language": "my own words"})


# --- hostile texts and schemas -------------------------------------------------------------------------------

SIZE = 200_000


def _hostile(size: int) -> dict[str, str]:
    return {
        "line breaks": "\n" * size + "x",
        "spaces": " " * size + "x",
        "stars": "*" * size,
        "angles": "<<" * (size // 2),
        "brackets": "[" * size,
        "round brackets": "(5 km" * (size // 5),
        "dots": "a." * (size // 2),
        "exclamations": "!" * size,
        "digits": "1" * size,
        "numbers": "1,1" * (size // 3),
        "one word": "a" * size,
        "names": "Ada" * (size // 3),
        "dashes": "- " * (size // 2),
        "pipes": "|-" * (size // 2),
        "fences": "```\n" * (size // 4),
        "objects": '{"a":' * (size // 5),
        "ticks": "`" * size,
        "addresses": "a@" * (size // 2),
        "vowels": "aeiou" * (size // 5),
        "capitals": "A'" * (size // 2),
        "words of number": "one " * (size // 4),
    }


@pytest.mark.timed
def test_no_text_keeps_a_check_busy() -> None:
    """Its time is in proportion to the text: a quarter takes more than an eighth of it. Of quadratic work, a sixteenth.

    Machines differ too much for seconds: below half a second nothing is judged, and quadratic work takes minutes.
    """
    arguments = {line["check"]: line["arguments"] for line in _labelled("checks.jsonl")}
    checks = parse_checks({"name": name, "arguments": arguments[name]} for name in CHECKS)
    check_all(checks, "What a check loads at its first use is loaded before the clock starts.")
    slow = {}
    shorter = _hostile(SIZE // 4)
    for name, text in _hostile(SIZE).items():
        for one in checks:
            if (took := _seconds(one, text)) > 0.5:
                quarter = _seconds(one, shorter[name])
                if took > 8 * quarter:
                    slow[one.name, name] = (round(quarter, 2), round(took, 2))
    assert not slow


def _seconds(one: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    one(text)
    return time.process_time() - start


@pytest.mark.timed
def test_quadratic_work_would_be_seen() -> None:
    def quadratic(text: str) -> int:
        return sum(text.count("b") for _ in range(len(text) // 16))

    text = "a" * SIZE
    assert _seconds(quadratic, text) > 8 * _seconds(quadratic, text[: SIZE // 4])


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "https://example.com/schema.json"}, "without references to other documents"),
        ({"$ref": "file:///etc/passwd"}, "without references to other documents"),
        (_nested(100), "at most 48 levels"),
        ({"enum": ["x" * 70_000]}, "at most 65536 bytes"),
        ({"pattern": "("}, "regular expressions that compile"),
        ({"pattern": "a" * 600}, "at most 512 characters"),
        ({"pattern": "x{999999999}"}, "at most 20000 steps"),
        ({"pattern": "(?:(?:x{65}){65}){65}"}, "at most 20000 steps"),
        ({"pattern": "(?:a?b?){9999}"}, "at most 20000 steps"),
        ({"patternProperties": {"x{999999999}": {}}}, "at most 20000 steps"),
        ({"pattern": "(a)\\1"}, "as in JavaScript"),
        ({"pattern": "a(?R)?b"}, "as in JavaScript"),
        ({"pattern": "(?i)a"}, "as in JavaScript"),
        ({"pattern": "(?:abc){e<=3}"}, "as in JavaScript"),
        ({"patternProperties": {"(": {}}}, "regular expressions that compile"),
        ({"type": "strnig"}, "a valid JSON Schema"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "without `unevaluatedProperties`"),
    ],
)
def test_a_schema_that_cannot_be_kept_in_bounds_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidCheck, match="must be") as caught:
        check("json_schema", {"schema": schema}, "{}")
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"^\d{4}-\d{2}-\d{2}$", "2026-11-26", "26-11-2026"),
        (r"^[^@\s]{1,64}@[\w.-]{1,255}$", "a@b.de", "a b@c"),
        (r"^(?:[0-9a-f]{8}-[0-9a-f]{4})$", "0123abcd-00ff", "0123abcd"),
        (r"^(?=.*\d)(?<year>\w+)$", "a1", "ab"),
        (r"^\p{Lu}[\]{}]+$", "Ä]{}", "ä]"),
        ("colou?r", "colour", "colon"),
    ],
)
def test_ordinary_patterns_are_taken(pattern: str, right: str, wrong: str) -> None:
    verdicts = [
        check("json_schema", {"schema": {"pattern": pattern}}, json.dumps(text)).passed
        for text in (right, wrong)
    ]
    assert verdicts == [True, False]


def _exponential(levels: int) -> dict[str, Any]:
    """A small schema with 4 to the power of `levels` ways through it."""
    definitions: dict[str, Any] = {"0": {"type": "string"}}
    for level in range(1, levels + 1):
        definitions[str(level)] = {"anyOf": [{"$ref": f"#/$defs/{level - 1}"}] * 4}
    return {"$ref": f"#/$defs/{levels}", "$defs": definitions}


@pytest.mark.timed
@pytest.mark.parametrize(
    ("schema", "text", "why"),
    [
        ({"pattern": "^(a+)+$"}, json.dumps("a" * 40 + "!"), "breaks `pattern`"),
        ({"patternProperties": {"^(a|aa)+$": {}}}, json.dumps({"a" * 60 + "!": 1}), "not decided"),
        (
            {"additionalProperties": False, "patternProperties": {"(x+x+)+y": {}}},
            json.dumps({"x" * 60: 1}),
            "breaks `additionalProperties`",
        ),
        ({"$ref": "#"}, "{}", "not decided"),
        ({"$ref": "#/$defs/none"}, "{}", "not decided"),
        (_exponential(14), "5", "not decided"),
        ({"uniqueItems": True}, json.dumps([[n, {"a": n}] for n in range(20_000)]), "valid"),
        ({"uniqueItems": True}, json.dumps([n % 2 or str(n) for n in range(40_000)]), "breaks `uniqueItems`"),
    ],
)
def test_no_schema_keeps_a_check_busy(schema: dict[str, Any], text: str, why: str) -> None:
    start = time.monotonic()
    verdict = check("json_schema", {"schema": schema}, text)
    assert time.monotonic() - start < SECONDS + 1.5
    assert verdict.why.startswith(why)
    assert verdict.passed is (why == "valid")


class PanicException(BaseException):
    """As the library's compiled maps raise it: not an `Exception`."""


def test_a_panic_in_the_librarys_maps_is_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: Any) -> None:
        raise PanicException

    monkeypatch.setattr("jsonschema.Draft202012Validator.iter_errors", panic)
    monkeypatch.setattr("metaalign.verifiers.schemas._bounded", lambda base: base)
    with pytest.raises(OutOfTime, match="round in circles or too deep"):
        first_error({"$ref": "#/$defs/a", "$defs": {"a": {}}}, {})


def test_a_document_that_nests_as_deep_as_people_write_is_decided() -> None:
    tree = {"properties": {"children": {"items": {"$ref": "#"}}}}
    document: dict[str, Any] = {}
    for _ in range(30):
        document = {"children": [document]}
    assert check("json_schema", {"schema": tree}, json.dumps(document)).passed
