"""Programmatic checks of real text: as scorer of an evaluation, as reward in training, as served check of an answer.

    verdict = check("length_constraints:number_words", {"relation": "at least", "num_words": 300}, answer)
    verdict.passed, verdict.why

`CHECKS` lists every check with its arguments: the 25 instructions of IFEval (arXiv 2311.07911) under their published
names and by their published definitions, quirks included, and the checks of a preference server, which judge as a
reader would.
"""

from metaalign.verifiers.registry import (
    CHECKS,
    Check,
    InvalidCheck,
    check,
    check_all,
    checks_for,
    loose_readings,
    parse_checks,
    prepare,
    published_checks,
    reward,
)
from metaalign.verifiers.verdict import Verdict

__all__ = [
    "CHECKS",
    "Check",
    "InvalidCheck",
    "Verdict",
    "check",
    "check_all",
    "checks_for",
    "loose_readings",
    "parse_checks",
    "prepare",
    "published_checks",
    "reward",
]
