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


def test_only_named_template_arguments_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch or a number changes how a template writes; a text would be in the prompt, outside its tier."""
    with pytest.raises(RefusedField, match=r"^chat_template_kwargs: .*METAALIGN_ALLOW_TEMPLATE_ARGUMENTS"):
        refuse_fields(chat(chat_template_kwargs={"enable_thinking": False}), Allowances())
    monkeypatch.setenv("METAALIGN_ALLOW_TEMPLATE_ARGUMENTS", "enable_thinking, thinking_budget")
    allowances = Allowances.of(Settings(_env_file=None))
    accepted: list[dict[str, Any]] = [
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking_budget": 512},
        {},
    ]
    for given in accepted:
        refuse_fields(chat(chat_template_kwargs=given), allowances)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"enable_thinking": True, "system_message": "x"}, "system_message"),
        ({"enable_thinking": "<|system|>"}, "enable_thinking"),
        ({"thinking_budget": [1]}, "thinking_budget"),
        ({"thinking_budget": None}, "thinking_budget"),
    ]
    for given, name in refused:
        with pytest.raises(RefusedField, match=rf"^chat_template_kwargs\.{name}: ") as caught:
            refuse_fields(chat(chat_template_kwargs=given), allowances)
        assert caught.value.param == "chat_template_kwargs"
