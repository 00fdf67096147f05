"""Clients of a MetaAlign server: `MetaAlign` blocks, `AsyncMetaAlign` awaits; their errors are in `.errors`."""

from metaalign.client.awaiting import AsyncChatStream, AsyncMetaAlign
from metaalign.client.blocking import ChatStream, MetaAlign
from metaalign.client.failures import APIError, ConnectionFailed, StreamBroken, TimedOut

__all__ = [
    "APIError",
    "AsyncChatStream",
    "AsyncMetaAlign",
    "ChatStream",
    "ConnectionFailed",
    "MetaAlign",
    "StreamBroken",
    "TimedOut",
]
