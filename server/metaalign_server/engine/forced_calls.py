"""Calls that a request forces follow their tool's schema.

vLLM holds such a call to JSON, and to the schema only if the tool says `strict`, which hardly any client does. A small
model then writes a text where the client reads an object. Where the model chooses whether to call, nothing changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from vllm.tool_parsers import structural_tag_registry
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel

__all__ = ["hold_forced_calls"]

_PARAMETERS = ("tools", "tool_choice", "strict_level")
"""Of the function that is replaced, `resolve_tool_strictness`."""


def _is_forced(tool_choice: object) -> bool:
    """Whether the model must call a tool: `required`, or a named one."""
    return tool_choice not in (None, "auto", "none") and getattr(tool_choice, "mode", None) != "auto"


def hold_forced_calls() -> bool:
    """Let vLLM treat every tool as strict where a call is forced; return False if this vLLM decides it elsewhere."""
    stock = structural_tag_registry.resolve_tool_strictness
    if getattr(stock, "holds_forced_calls", False):
        return True
    if tuple(inspect.signature(stock).parameters) != _PARAMETERS:
        return False

    def resolve(
        tools: Sequence[Any], tool_choice: Any, strict_level: ToolStrictLevel
    ) -> Sequence[Any] | None:
        level = max(strict_level, ToolStrictLevel.PARAMETER) if _is_forced(tool_choice) else strict_level
        return stock(tools, tool_choice, level)

    resolve.holds_forced_calls = True  # type: ignore[attr-defined]
    structural_tag_registry.resolve_tool_strictness = resolve
    return True
