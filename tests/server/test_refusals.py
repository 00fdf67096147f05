"""What an operator can allow, and what no setting allows."""

from __future__ import annotations

from typing import Any

import pytest

from metaalign import RefusedField
from metaalign_server.engine.refusals import Allowances, refuse_fields
from metaalign_server.engine.requests import ChatRequest
from metaalign_server.settings import Settings


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": "hi"}], **fields)


def test_only_named_engine_arguments_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vllm_xargs` reaches extensions of the engine: nothing passes unless the operator names it."""
    monkeypatch.setenv("METAALIGN_ALLOW_XARGS", "watermark, bias")
    allowances = Allowances.of(Settings(_env_file=None))
    assert allowances.xargs == {"watermark", "bias"}
    refuse_fields(chat(vllm_xargs={"watermark": 1, "bias": "x"}), allowances)
    refuse_fields(chat(vllm_xargs={}), allowances)
    refuse_fields(chat(), Allowances())
    with pytest.raises(RefusedField, match=r"vllm_xargs\.secret_role: .*METAALIGN_ALLOW_XARGS") as caught:
        refuse_fields(chat(vllm_xargs={"watermark": 1, "secret_role": 1}), allowances)
    assert caught.value.param == "vllm_xargs"
    for given in ({"watermark": 1}, {}):
        with pytest.raises(RefusedField, match="vllm_xargs"):
            refuse_fields(chat(vllm_xargs=given), Allowances())
