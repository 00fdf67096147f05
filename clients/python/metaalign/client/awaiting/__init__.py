"""The client that awaits. `blocking/` is made of this folder by `scripts/blocking_client.py`.

async with AsyncMetaAlign() as client:
    answer = await client.align("What does a fox eat?", preferences={"user": "I like bullet points."})
    print(answer.text, answer.metaalign.overridden)
    async with client.chat.stream([{"role": "user", "content": "And a wolf?"}]) as stream:
        async for text in stream:
            print(text, end="")
"""

from metaalign.client.awaiting.client import AsyncMetaAlign
from metaalign.client.awaiting.streams import AsyncChatStream

__all__ = ["AsyncChatStream", "AsyncMetaAlign"]
