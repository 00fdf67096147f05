"""The function that signs user tokens, and what it refuses to sign."""

from __future__ import annotations

import base64
import json
import time

import pytest

from metaalign import MetaAlignError, user_token
from metaalign.user_tokens import LONGEST_SECONDS, signing_key

KEY = f"ma_live_{'a' * 24}_{'B' * 43}"


def test_a_token_is_a_signed_json_web_token() -> None:
    before = int(time.time())
    signed, _, signature = user_token(KEY, "zoë", seconds=60).rpartition(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split("."))
    assert header == {"alg": "EdDSA", "kid": "a" * 24, "typ": "JWT"}
    assert claims["sub"] == "zoë"
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] == 60
    signing_key(KEY).public_key().verify(base64.urlsafe_b64decode(signature + "=="), signed.encode())


def test_the_derivation_is_fixed() -> None:
    """Applications in other languages derive the same key."""
    public = signing_key(KEY).public_key().public_bytes_raw().hex()
    assert public == "ac110d4ee664170b46ea1f9d22b39e826aa3d72dec9bae43c973bb158a338242"


@pytest.mark.parametrize(
    ("key", "user", "seconds", "param"),
    [
        ("my-own-key", "ada", 60, "api_key"), (KEY[:-1], "ada", 60, "api_key"), (KEY + "\n", "ada", 60, "api_key"),
        (KEY, "", 60, "user"), (KEY, "a" * 513, 60, "user"), (KEY, "\ud800", 60, "user"), (KEY, "ada", 0, "seconds"),
        (KEY, "ada", -1, "seconds"), (KEY, "ada", LONGEST_SECONDS + 1, "seconds"),
    ],
)  # fmt: skip
def test_what_is_not_signed(key: str, user: str, seconds: int, param: str) -> None:
    with pytest.raises(MetaAlignError) as caught:
        user_token(key, user, seconds)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")
    assert key not in caught.value.message
