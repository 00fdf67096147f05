"""Preferences through the package `openai`.

answer = client.chat.completions.create(model="…", messages=[…], **extra({"user": "I like bullet points."}))
receipt(answer)
"""

from __future__ import annotations

from typing import Any

from metaalign.client.exchange import PreferencesField
from metaalign.foreign import body, receipt

__all__ = ["extra", "receipt"]


def extra(preferences: PreferencesField) -> dict[str, Any]:
    """Keyword arguments of `chat.completions.create`, `completions.create` and `responses.create`."""
    return {"extra_body": body(preferences)}
