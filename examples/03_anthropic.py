"""Preferences with the Anthropic client, on /v1/messages.

Run it while `make serve` is running:  .venv/bin/python examples/03_anthropic.py
This client adds `/v1` to the base URL itself. Its `system` argument becomes part of the System tier.
"""

import os

from anthropic import Anthropic

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
client = Anthropic(base_url=base_url, api_key=os.environ.get("METAALIGN_API_KEY", "unused"))

message = client.messages.create(
    model="metaalign-demo",
    max_tokens=120,
    system="Answer like a pirate.",
    messages=[{"role": "user", "content": "Tell me three things about the otter."}],
    extra_body={"temperature": 0, "preferences": {"user": {"attributes": {"format": "bullets"}}}},
)
for block in message.content:
    if block.type == "text":
        print(block.text)
tokens = (message.model_extra or {})["metaalign"]["tokens"]
print(f"\nSystem Info: {tokens['system_info']} tokens, User Info: {tokens['user_info']} tokens")
