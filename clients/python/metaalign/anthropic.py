"""Preferences through the package `anthropic`.

answer = client.messages.create(
    model="…", max_tokens=200, messages=[…], **extra({"user": "I like bullet points."})
)
receipt(answer)
"""

from __future__ import annotations

from typing import Any

from metaalign.client.exchange import PreferencesField
from metaalign.foreign import body, receipt

__all__ = ["extra", "receipt"]


def extra(preferences: PreferencesField) -> dict[str, Any]:
    """Keyword arguments of `messages.create`, `messages.stream` and `messages.count_tokens`."""
    return {"extra_body": body(preferences)}
