"""Preferences through `langchain-openai`, which drops the receipt: its headers say what was applied.

model = ChatOpenAI(
    base_url="…/v1", include_response_headers=True, **extra({"user": "I like bullet points."})
)
receipt(model.invoke("…"))
"""

from __future__ import annotations

from typing import Any

from metaalign.client.exchange import PreferencesField
from metaalign.foreign import body, receipt

__all__ = ["extra", "receipt"]


def extra(preferences: PreferencesField) -> dict[str, Any]:
    """Keyword arguments of `ChatOpenAI`, or of one call."""
    return {"extra_body": body(preferences)}
