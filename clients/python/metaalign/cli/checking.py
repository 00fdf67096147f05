"""`metaalign test`: queries, preferences and programmatic checks; the gate before a label moves.

cases:
  - name: pirates greet
    query: What does a fox eat?
    preferences: {system: Answer like a pirate.}
    contains: [Ahoy, mice]
  - query: Tell me three things about the otter.
    preferences: {user: {attributes: {format: bullets}}}
    checks: true            # those that the attributes imply; or a list, as `preferences.verify` takes it
    lacks: [fox]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metaalign.cli.arguments import client, read_document
from metaalign.cli.output import note, print_json, table
from metaalign.client import MetaAlign
from metaalign.errors import InvalidPreferences
from metaalign.intervals import wilson
from metaalign.preferences import describe_validation_error

__all__ = ["add_commands"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Case(_Strict):
    """One query and what its answer must be like."""

    name: str = ""
    query: str | None = None
    messages: list[dict[str, Any]] | None = None
    preferences: Any = None
    checks: bool | list[str | dict[str, Any]] = False
    contains: list[str] = []
    lacks: list[str] = []
    repeat: int = Field(1, ge=1, le=1000)

    @model_validator(mode="after")
    def _can_be_asked_and_fail(self) -> Case:
        if (self.query is None) == (self.messages is None):
            raise ValueError("give `query` or `messages`")
        if not (self.checks or self.contains or self.lacks):
            raise ValueError("give `checks`, `contains` or `lacks`: a case that checks nothing cannot fail")
        return self

    @property
    def title(self) -> str:
        return self.name or self.query or str((self.messages or [{}])[-1].get("content", ""))


class Suite(_Strict):
    """A file of cases, and what is the same for all of them."""

    model: str | None = None
    temperature: float = 0.0
    preferences: Any = None
    cases: list[Case] = Field(min_length=1)


@dataclass(slots=True)
class Outcome:
    """What became of one case: `faults` of each answer, and the seconds that they took."""

    case: Case
    answers: list[str] = field(default_factory=list)
    faults: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> int:
        return sum(not faults for faults in self.faults)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    test = commands.add_parser("test", help="check answers by a file of cases; exit code 1 if too many fail")
    test.add_argument("suite", type=Path, help="YAML or JSON; see `metaalign test --help`")
    test.add_argument(
        "--profile", help="ask for this profile in every case, for example before its label moves"
    )
    test.add_argument("--model", help="instead of the suite's")
    test.add_argument(
        "--least", type=float, default=1.0, metavar="SHARE", help="of answers that must pass; default: 1"
    )
    test.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report")
    test.set_defaults(run=_test)


def _test(options: argparse.Namespace) -> int:
    suite = read_suite(options.suite)
    with client(options) as server:
        outcomes = []
        for number, case in enumerate(suite.cases, 1):
            outcomes.append(_run(server, suite, case, options))
            note(f"{number} of {len(suite.cases)}: {case.title}")
    passed, asked = sum(o.passed for o in outcomes), sum(len(o.faults) for o in outcomes)
    share = passed / asked
    low, high = wilson(share, asked)
    if options.junit is not None:
        options.junit.write_bytes(junit(str(options.suite), outcomes))
    if options.json:
        cases = [
            {"case": o.case.title, "passed": o.passed, "answers": o.answers, "faults": o.faults}
            for o in outcomes
        ]
        print_json({"share": share, "low": low, "high": high, "cases": cases})
    else:
        rows = [(o.case.title, f"{o.passed} of {len(o.faults)}", _first_fault(o)) for o in outcomes]
        table(("case", "passed", "what failed"), rows)
        print(f"{passed} of {asked} passed: {share:.3f} [{low:.3f}, {high:.3f}]")
    return int(share < options.least)


def read_suite(path: Path) -> Suite:
    """The cases of a file.

    Raises:
        InvalidPreferences: the file is none, with the place that is wrong.
    """
    try:
        return Suite.model_validate(read_document(path))
    except ValidationError as error:
        message, param = describe_validation_error(error, "suite")
        raise InvalidPreferences(f"{path}: {message}", param=param) from error


def _run(server: MetaAlign, suite: Suite, case: Case, options: argparse.Namespace) -> Outcome:
    outcome, started = Outcome(case), time.monotonic()
    preferences = _together(suite.preferences, case.preferences, options.profile, case.checks)
    messages = case.messages or [{"role": "user", "content": case.query}]
    for number in range(case.repeat):
        # Another seed each time: a case that is repeated at temperature 0 asks for the same answer again.
        answer = server.chat.create(
            messages, preferences=preferences, model=options.model or suite.model,
            temperature=suite.temperature, seed=number,
        )  # fmt: skip
        outcome.answers.append(answer.text)
        verified = answer.metaalign.verified if answer.metaalign is not None else None
        checks = verified[0].checks if verified else ()
        faults = [f"{check.name}: {check.why}" for check in checks if not check.passed]
        if case.checks and not checks:
            faults.append(
                "checks: nothing was checked, because the preferences imply no check: name the checks"
            )
        faults += [f"lacks {text!r}" for text in case.contains if text.lower() not in answer.text.lower()]
        faults += [f"contains {text!r}" for text in case.lacks if text.lower() in answer.text.lower()]
        outcome.faults.append(faults)
    outcome.seconds = time.monotonic() - started
    return outcome


def _together(shared: Any, own: Any, profile: str | None, checks: bool | list[Any]) -> Any:
    """The preferences of a case: its own, or the suite's, with the profile and the checks."""
    chosen = own if own is not None else shared
    given: dict[str, Any] = {"system": chosen} if isinstance(chosen, str) else dict(chosen or {})
    if profile is not None:
        given["profile"] = profile
    if checks:
        given["verify"] = (
            True if checks is True else [{"name": c} if isinstance(c, str) else c for c in checks]
        )
    return given or None


def _first_fault(outcome: Outcome) -> str:
    for answer, faults in zip(outcome.answers, outcome.faults, strict=True):
        if faults:
            return f"{'; '.join(faults)} in {answer!r}"
    return ""


def junit(name: str, outcomes: Sequence[Outcome]) -> bytes:
    """A report as continuous integration reads it."""
    failures = sum(o.passed < len(o.faults) for o in outcomes)
    attributes: Mapping[str, str] = {"name": name, "tests": str(len(outcomes)), "failures": str(failures)}
    root = ElementTree.Element("testsuite", dict(attributes))
    for outcome in outcomes:
        case = ElementTree.SubElement(root, "testcase", name=outcome.case.title, classname=name)
        case.set("time", f"{outcome.seconds:.3f}")
        if outcome.passed < len(outcome.faults):
            fault = _first_fault(outcome)
            ElementTree.SubElement(case, "failure", message=_printable(fault)).text = _printable(fault)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _printable(text: str) -> str:
    """`text` without the characters that XML cannot hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
