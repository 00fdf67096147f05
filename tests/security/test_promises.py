"""The page about security names exactly the tests that prove it."""

from __future__ import annotations

import re

from tests.processes import ROOT


def test_each_promise_has_its_test() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    files = (ROOT / "tests/security").glob("test_*.py")
    written = {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named <= written
    unnamed = {
        "test_each_promise_has_its_test",
        "test_encoded_letters_are_letters",
        "test_junk",
        "test_labels",
    }
    unnamed |= {"test_malformed_keys_are_not_made", "test_numbers_in_paths", "test_repeated_keys"}
    assert written - named == unnamed
