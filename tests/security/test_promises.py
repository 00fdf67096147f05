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
    unnamed |= {  # how stored and shared texts work
        "test_a_dialogue_goes_on_by_id",
        "test_a_forced_call_goes_on_by_id",
        "test_a_missing_link_is_named",
        "test_a_response_is_read_again_and_deleted",
        "test_each_request_brings_its_own_preferences_and_instructions",
        "test_items_come_in_pages",
        "test_items_of_odd_forms",
        "test_refusals_name_the_field",
        "test_sixteen_tenants_prefill_the_policy_once",
    }
    assert written - named == unnamed
