"""A tenant whose policy no request can override, and a key for browsers that cannot write the System tier.

It takes an operator's key. Make one in the server's working directory; from then on every request needs a key:
    export METAALIGN_API_KEY=$(.venv/bin/metaalign-server keys create \
        --scopes admin,inference,system,profiles:read,profiles:write)
    .venv/bin/python examples/08_tenant_policy.py
"""

import os
import secrets
import sys
from typing import Any

import httpx

base_url = os.environ.get("METAALIGN_BASE_URL", "http://127.0.0.1:8000")
operator = os.environ.get("METAALIGN_API_KEY") or sys.exit("set METAALIGN_API_KEY to an operator's key")


def post(path: str, key: str, body: Any, expected: int) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    response = httpx.post(f"{base_url}{path}", json=body, headers=headers, timeout=60)
    if response.status_code != expected:
        sys.exit(f"{path}: {response.status_code} {response.text}")
    return response.json()


tenant = f"zoo-{secrets.token_hex(3)}"  # a tenant cannot be deleted, so each run makes its own
policy = {"attributes": {"tone": "pirate"}, "locked": ["tone"]}
post("/v1/admin/tenants", operator, {"name": tenant, "policy": policy}, 201)
browser = post("/v1/admin/keys", operator, {"tenant": tenant, "scopes": ["inference"]}, 201)

query = {"query": "What does a fox eat?", "temperature": 0}
wish = {"user": {"attributes": {"tone": "formal", "format": "bullets"}}}
answer = post("/v1/align", browser["key"], {**query, "preferences": wish}, 200)
print(answer["text"])
for lost in answer["metaalign"]["overridden"]:
    print(f"{lost['dimension']}={lost['value']} lost to {lost['kept']} from {lost['by']}")
refused = post("/v1/align", browser["key"], {**query, "preferences": {"system": "Be brief."}}, 403)
print(f"403: {refused['error']['message']}")
post(f"/v1/admin/keys/{browser['id']}/revoke", operator, None, 200)
