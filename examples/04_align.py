"""One query, one answer over plain HTTP: /v1/align, its receipt headers, and what a typo gets you.

Run it while `make serve` is running:  .venv/bin/python examples/04_align.py
The same request with curl:

    curl -s http://127.0.0.1:8000/v1/align -H 'content-type: application/json' \
      -d '{"query": "What does a fox eat?", "preferences": "Answer like a pirate.", "temperature": 0}'
"""

import os
import sys

import httpx

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
headers = {"authorization": f"Bearer {os.environ.get('METAALIGN_API_KEY', 'unused')}"}


def align(preferences: object) -> httpx.Response:
    body = {"query": "What does a fox eat?", "preferences": preferences, "temperature": 0}
    return httpx.post(f"{base_url}/v1/align", json=body, headers=headers, timeout=60)


response = align("Answer like a pirate.")
if response.is_error:
    sys.exit(f"{response.status_code}: {response.text}")
print(response.json()["text"])
for name, value in response.headers.items():
    if name.startswith("x-metaalign-"):
        print(f"{name}: {value}")

refused = align({"sytem": "Answer like a pirate."})
if refused.status_code != 400:
    sys.exit(f"expected 400, got {refused.status_code}: {refused.text}")
print(f"\nWith `sytem` for `system`: 400 {refused.json()['error']['message']}")
