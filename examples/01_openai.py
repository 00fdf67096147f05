"""Preferences with the OpenAI client: as one sentence, and as an object with both tiers.

Run it while `make serve` is running:  .venv/bin/python examples/01_openai.py
The client does not know the field `preferences`, so it goes into `extra_body`.
"""

import os

from openai import OpenAI

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
client = OpenAI(base_url=f"{base_url}/v1", api_key=os.environ.get("METAALIGN_API_KEY", "unused"))


def ask(preferences: object) -> str:
    answer = client.chat.completions.create(
        model="metaalign-demo",
        messages=[{"role": "user", "content": "Tell me three things about the otter."}],
        temperature=0,
        extra_body={"preferences": preferences},
    )
    return answer.choices[0].message.content or ""


print("A sentence, which goes into the System tier:")
print(ask("Answer like a pirate."))
print("\nAn object with both tiers:")
print(ask({"system": {"attributes": {"tone": "pirate"}}, "user": {"attributes": {"format": "bullets"}}}))
