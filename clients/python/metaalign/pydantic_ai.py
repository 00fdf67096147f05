"""Preferences through `pydantic-ai` and an OpenAI model; what it keeps of the receipt is little, or nothing.

result = agent.run_sync("…", model_settings=extra({"user": "I like bullet points."}))
"""

from __future__ import annotations

from typing import Any

from metaalign.client.exchange import PreferencesField
from metaalign.foreign import body, receipt

__all__ = ["extra", "receipt"]


def extra(preferences: PreferencesField) -> dict[str, Any]:
    """Settings of a model, an agent or a run."""
    return {"extra_body": body(preferences)}
