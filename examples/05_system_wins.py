"""Provider and user disagree: the provider (System tier) wins, and the receipt says what lost.

Run it while `make serve` is running:  .venv/bin/python examples/05_system_wins.py
"""

import os
import sys

import httpx

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
key = os.environ.get("METAALIGN_API_KEY", "unused")
preferences = {
    "system": {"attributes": {"tone": "pirate", "length": "short"}},
    "user": {"attributes": {"tone": "formal", "length": "long", "audience": "child"}},
}
response = httpx.post(
    f"{base_url}/v1/align",
    json={"query": "What does a fox eat?", "preferences": preferences, "temperature": 0},
    headers={"authorization": f"Bearer {key}"},
    timeout=60,
)
if response.is_error:
    sys.exit(f"{response.status_code}: {response.text}")
answer = response.json()
print(answer["text"], "\n")
for lost in answer["metaalign"]["overridden"]:
    print(f"{lost['tier']} {lost['dimension']}={lost['value']} lost to {lost['kept']} from {lost['by']}")
