"""Preferences through `litellm`, with a model `openai/…`.

answer = litellm.completion(
    model="openai/…", api_base="…/v1", messages=[…], **extra({"user": "I like bullet points."})
)
receipt(answer)
"""

from __future__ import annotations

from typing import Any

from metaalign.client.exchange import PreferencesField
from metaalign.foreign import body, receipt

__all__ = ["extra", "receipt"]


def extra(preferences: PreferencesField) -> dict[str, Any]:
    """Keyword arguments of `completion`, with a model `openai/…`."""
    return {"extra_body": body(preferences)}
