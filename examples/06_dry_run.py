"""See what the model would be told, without asking it: /v1/preferences/render.

Run it while `make serve` is running:  .venv/bin/python examples/06_dry_run.py
"""

import os
import sys

import httpx

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
key = os.environ.get("METAALIGN_API_KEY", "unused")
body = {
    "messages": [{"role": "user", "content": "How heavy is a zebra?"}],
    "preferences": {
        "system": {"info": "You guide visitors of a zoo.", "attributes": {"tone": "cheerful"}},
        "user": {
            "attributes": {"units": "imperial"},
            "examples": [{"query": "How heavy is an otter?", "preferred": "An otter weighs 22 pounds."}],
        },
    },
}
response = httpx.post(
    f"{base_url}/v1/preferences/render", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
)
if response.is_error:
    sys.exit(f"{response.status_code}: {response.text}")
rendered = response.json()
print(f"System Info:\n{rendered['system_info']}\n\nUser Info:\n{rendered['user_info']}")
print(f"\nThe prompt, {rendered['tokens']} tokens:\n{rendered['prompt']}")
