"""Feedback that teaches: a user corrects one answer, and the next ones follow the correction.

Run it while `METAALIGN_FEEDBACK=true make serve` is running:  .venv/bin/python examples/09_feedback.py
"""

import os
import sys
from typing import Any

import httpx

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
headers = {"authorization": f"Bearer {os.environ.get('METAALIGN_API_KEY', 'unused')}"}
PROFILE = "example-learner"


def call(method: str, path: str, body: Any = None) -> Any:
    response = httpx.request(method, base_url + path, json=body, headers=headers, timeout=60)
    if response.is_error:
        sys.exit(f"{method} {path}: {response.status_code} {response.text}")
    return response.json() if response.content else None


def ask(user: str, query: str) -> str:
    messages = [{"role": "user", "content": query}]
    body = {"messages": messages, "user": user, "preferences": {"profile": PROFILE}, "temperature": 0}
    answer = call("POST", "/v1/chat/completions", body)
    print(f"{user}, learned examples: {answer['metaalign']['learned_examples']}")
    print(answer["choices"][0]["message"]["content"], "\n")
    return str(answer["id"])


learn = {"examples": 3, "scope": "user"}  # the last three answers that this user liked or corrected
call("POST", "/v1/profiles", {"name": PROFILE, "preferences": "Use a neutral tone.", "learn": learn})
try:
    first = ask("ada", "Tell me three things about the otter.")
    better = "- The otter lives in rivers.\n- The otter eats fish.\n- The otter uses stones as tools."
    call("POST", "/v1/feedback", {"id": first, "chosen": better})
    ask("ada", "Tell me three things about the wolf.")
    ask("bob", "Tell me three things about the wolf.")
    print("erased:", call("POST", "/v1/feedback/erase", {"user": "ada"}))
finally:
    call("DELETE", f"/v1/profiles/{PROFILE}")
