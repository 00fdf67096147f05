"""Preferences under a name: create a profile, add a version, label it, and use it in three ways.

Run it while `make serve` is running:  .venv/bin/python examples/07_profiles.py
Where the server has keys, this takes one with the scopes inference, system, profiles:read and profiles:write.
"""

import os
import sys
from typing import Any

import httpx

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
key = {"authorization": f"Bearer {os.environ.get('METAALIGN_API_KEY', 'unused')}"}
GUIDE = "/v1/profiles/example-guide"


def call(method: str, path: str, body: Any = None, **headers: str) -> Any:
    response = httpx.request(method, base_url + path, json=body, headers=key | headers, timeout=60)
    if response.is_error:
        sys.exit(f"{method} {path}: {response.status_code} {response.text}")
    return response.json() if response.content else None


def ask(how: str, body: dict[str, Any], **headers: str) -> None:
    answer = call("POST", "/v1/align", {"query": "What does a fox eat?", "temperature": 0, **body}, **headers)
    print(f"{how}: {answer['metaalign']['profiles']} {answer['text']!r}")


bullets = {"user": {"attributes": {"format": "bullets"}}}
first = call("POST", "/v1/profiles", {"name": "example-guide", "preferences": bullets})["latest"]
try:
    second = call("POST", f"{GUIDE}/versions", {"preferences": "Answer like a pirate."})["version"]
    call("PUT", f"{GUIDE}/labels/stable", {"version": first})
    ask("in the body", {"preferences": {"profile": "example-guide"}})  # means the label `stable`
    ask("in a header", {}, **{"x-metaalign-profile": f"example-guide:{second}"})
    ask("in the model name", {"model": "metaalign-demo@example-guide@stable"})
    call("PUT", f"{GUIDE}/labels/stable", {"version": second})
    ask("label moved", {"preferences": {"profile": "example-guide"}})
    call("POST", f"{GUIDE}/labels/stable/rollback")
    ask("rolled back", {"preferences": {"profile": "example-guide"}})
finally:
    call("DELETE", GUIDE)
