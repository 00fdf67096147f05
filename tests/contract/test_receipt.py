"""Readers of a receipt tolerate what they do not know; what the server writes is what is documented."""

from __future__ import annotations

from metaalign import Receipt, parse_preferences
from metaalign.prompt import PromptAssembler
from metaalign_server.alignment.aligner import Aligner
from tests.contract.tokenizers_for_tests import ours

FUTURE = {
    "applied": True,
    "spec_hash": "2ebcdc13",
    "template": {"name": "metaalign", "version": "2", "sha256": "44", "dialect": "x"},
    "profiles": ["support:3"],
    "overridden": [
        {
            "dimension": "tone",
            "tier": "user",
            "value": "formal",
            "kept": "pirate",
            "by": "system:request",
            "why": 1,
        }
    ],
    "tokens": {"system_info": 5, "user_info": 15, "examples": 7},
    "weather": {"wind": 1.5},
}


def test_a_future_receipt_is_read() -> None:
    receipt = Receipt.model_validate(FUTURE)
    assert receipt.profiles == ("support:3",)
    assert receipt.overridden[0].kept == "pirate"
    assert receipt.tokens.user_info == 15
    assert receipt.model_extra == {"weather": {"wind": 1.5}}
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt, "nothing is lost on the way on"


def test_what_the_server_writes_has_no_field_that_is_not_declared() -> None:
    aligner = Aligner(PromptAssembler.from_tokenizer(ours()))
    receipt = aligner.apply(
        parse_preferences(
            {"system": {"attributes": {"tone": "pirate"}}, "user": {"attributes": {"tone": "formal"}}}
        )
    ).receipt
    parts = (receipt, receipt.template, receipt.tokens, *receipt.overridden)
    assert len(parts) == 4
    assert not any(part.model_extra for part in parts)
