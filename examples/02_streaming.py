"""Stream an answer and read its receipt, which comes with the first event.

Run it while `make serve` is running:  .venv/bin/python examples/02_streaming.py
"""

import os
import sys

from openai import OpenAI

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
client = OpenAI(base_url=f"{base_url}/v1", api_key=os.environ.get("METAALIGN_API_KEY", "unused"))

stream = client.chat.completions.create(
    model="metaalign-demo",
    messages=[{"role": "user", "content": "Tell me three things about the wolf."}],
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
    extra_body={"preferences": {"user": {"info": "My name is Ada.", "attributes": {"format": "numbered"}}}},
)
receipt = None
for chunk in stream:
    receipt = receipt or (chunk.model_extra or {}).get("metaalign")
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\n\n{chunk.usage.prompt_tokens} prompt tokens, {chunk.usage.completion_tokens} answer tokens")
if receipt is None:
    sys.exit("the stream had no receipt; is this a MetaAlign server?")
print(f"applied: {receipt['applied']}; User Info took {receipt['tokens']['user_info']} of the prompt tokens")
print(f"spec: {receipt['spec_hash'][:12]}")
