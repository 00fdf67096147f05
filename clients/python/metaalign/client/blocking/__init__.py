"""The client that blocks.

Made of `awaiting/` by `scripts/blocking_client.py`; do not edit.

with MetaAlign() as client:
    answer = client.align("What does a fox eat?", preferences={"user": "I like bullet points."})
    print(answer.text, answer.metaalign.overridden)
    with client.chat.stream([{"role": "user", "content": "And a wolf?"}]) as stream:
        for text in stream:
            print(text, end="")
"""

from metaalign.client.blocking.client import MetaAlign
from metaalign.client.blocking.streams import ChatStream

__all__ = ["ChatStream", "MetaAlign"]
