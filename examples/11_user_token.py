"""A token with which a browser may ask for one user only, signed by the application without asking the server.

It takes an operator's key, as 08 does; an application has a key of its own with the scope `inference`:
    .venv/bin/python examples/11_user_token.py
"""

import os
import sys
from typing import Any

import httpx

from metaalign import user_token

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
operator = os.environ.get("METAALIGN_API_KEY") or sys.exit("set METAALIGN_API_KEY to an operator's key")


def post(path: str, key: str, body: Any, expected: int) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    response = httpx.post(f"{base_url}{path}", json=body, headers=headers, timeout=60)
    if response.status_code != expected:
        sys.exit(f"{path}: {response.status_code} {response.text}")
    return response.json()


application = post("/v1/admin/keys", operator, {"tenant": "default", "scopes": ["inference"]}, 201)

# In the application, once Ada has logged in. The key stays there; her browser gets the token.
token = user_token(application["key"], "ada", seconds=600)

# In the browser.
query = {"query": "What does a fox eat?", "temperature": 0}
print(post("/v1/align", token, query, 200)["text"])
refused = post("/v1/align", token, {**query, "user": "bob"}, 403)
print(f"403: {refused['error']['message']}")

post(f"/v1/admin/keys/{application['id']}/revoke", operator, None, 200)
refused = post("/v1/align", token, query, 401)
print(f"401: {refused['error']['message']}")
