"""Every route requires its scope; no other route, method or spelling of a path answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from metaalign_server.callers import SCOPES
from tests.security.world import CHAT, JSON, World, dumps

PUBLIC, ANY_KEY = "public", "any key"
NAME, LABEL, KEY_ID = "no-such-thing", "stable", "a" * 24

ROUTES: dict[tuple[str, str], str] = {
    ("get", "/livez"): PUBLIC,
    ("get", "/readyz"): PUBLIC,
    ("get", "/health"): PUBLIC,
    ("get", "/metrics"): "metrics",
    ("get", "/version"): ANY_KEY,
    ("get", "/v1/models"): ANY_KEY,
    ("get", "/v1/models/{model}"): ANY_KEY,
    ("post", "/v1/chat/completions"): "inference",
    ("post", "/v1/completions"): "inference",
    ("post", "/v1/responses"): "inference",
    ("get", "/v1/responses/{response_id}"): "inference",
    ("get", "/v1/responses/{response_id}/input_items"): "inference",
    ("delete", "/v1/responses/{response_id}"): "inference",
    ("post", "/tokenize"): "inference",
    ("post", "/detokenize"): "inference",
    ("post", "/v1/messages"): "inference",
    ("post", "/v1/messages/count_tokens"): "inference",
    ("post", "/v1/align"): "inference",
    ("post", "/v1/preferences/render"): "inference",
    ("post", "/v1/feedback"): "inference",
    ("post", "/v1/feedback/erase"): "profiles:write",
    ("post", "/v1/profiles"): "profiles:write",
    ("get", "/v1/profiles"): "profiles:read",
    ("get", "/v1/profiles:export"): "profiles:read",
    ("post", "/v1/profiles:import"): "profiles:write",
    ("get", "/v1/profiles/{name}"): "profiles:read",
    ("patch", "/v1/profiles/{name}"): "profiles:write",
    ("delete", "/v1/profiles/{name}"): "profiles:write",
    ("get", "/v1/profiles/{name}/versions"): "profiles:read",
    ("post", "/v1/profiles/{name}/versions"): "profiles:write",
    ("get", "/v1/profiles/{name}/versions/{number}"): "profiles:read",
    ("get", "/v1/profiles/{name}/diff"): "profiles:read",
    ("put", "/v1/profiles/{name}/labels/{label}"): "profiles:write",
    ("delete", "/v1/profiles/{name}/labels/{label}"): "profiles:write",
    ("post", "/v1/profiles/{name}/labels/{label}/rollback"): "profiles:write",
    ("post", "/v1/admin/tenants"): "admin",
    ("get", "/v1/admin/tenants"): "admin",
    ("get", "/v1/admin/tenants/{name}"): "admin",
    ("patch", "/v1/admin/tenants/{name}"): "admin",
    ("post", "/v1/admin/keys"): "admin",
    ("get", "/v1/admin/keys"): "admin",
    ("post", "/v1/admin/keys/{key_id}/revoke"): "admin",
    ("post", "/v1/admin/keys/{key_id}/rotate"): "admin",
    ("get", "/v1/admin/audit"): "admin",
    ("post", "/v1/admin/users/erase"): "admin",
}
"""The scope that each route of the OpenAPI document requires; a new route must be added here on purpose."""

STOCK_ROUTES = """
/invocations /ping /load /tokenizer_info /pooling /classify /score /v1/score /rerank
/v1/rerank /v2/rerank /v1/embeddings /v2/embed /v1/audio/transcriptions /v1/audio/translations
/v1/load_lora_adapter /v1/unload_lora_adapter /server_info /reset_prefix_cache /reset_mm_cache
/reset_encoder_cache /sleep /wake_up /is_sleeping /collective_rpc /start_profile /stop_profile
/scale_elastic_ep /is_scaling_elastic_ep /inference/v1/generate /abort_requests /pause /resume /is_paused
/init_weight_transfer_engine /update_weights /get_world_size /v1/realtime
/v1/responses/resp_1/cancel /v1/chat/completions/render /v1/completions/render /v1/chat/completions/batch
/shutdown /debug /v1 / /.env /static/../.env
""".split()


def address(path: str) -> str:
    return path.format(
        name=NAME, number=1, label=LABEL, key_id=KEY_ID, model="metaalign-demo", response_id=NAME
    )


@pytest.fixture(scope="module")
def keys(world: World) -> dict[frozenset[str], str]:
    """A key for each scope alone, and one for each set of all but one."""
    wanted = {frozenset({scope}) for scope in SCOPES} | {frozenset(SCOPES) - {scope} for scope in SCOPES}
    return {scopes: world.make_key("acme", *sorted(scopes))["key"] for scopes in wanted}


def ask(world: World, method: str, path: str, key: str | None) -> httpx.Response:
    headers = JSON | ({"authorization": f"Bearer {key}"} if key else {})
    content = b"{}" if method not in ("get", "delete") else None
    return httpx.request(method, world.server.url + path, headers=headers, content=content, timeout=60)


def test_every_route_is_in_the_table(world: World) -> None:
    document = world.client("acme").get("/openapi.json").json()
    served = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert served == ROUTES.keys()


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_a_route_asks_for_its_scope(
    world: World, keys: dict[frozenset[str], str], method: str, path: str
) -> None:
    scope = ROUTES[method, path]
    without_key = ask(world, method, address(path), None)
    if scope == PUBLIC:
        assert without_key.status_code == 200
        return
    assert without_key.status_code == 401
    if scope == ANY_KEY:
        for key in keys.values():
            assert ask(world, method, address(path), key).status_code == 200
        return
    lacking = ask(world, method, address(path), keys[frozenset(SCOPES) - {scope}])
    assert (lacking.status_code, lacking.json()["error"]["code"]) == (403, "missing_scope")
    having = ask(world, method, address(path), keys[frozenset({scope})])
    assert having.status_code in (200, 400, 404), having.text
    if having.status_code != 200:  # /metrics counts refusals by their code
        assert "missing_scope" not in having.text


@pytest.mark.parametrize(
    "spelling", ["{}%0A", "{}%0D", "{}%00", "{}%E2%80%A8", "{}/", "{}//", "/{}", "{}%2F", "{}.", "{};a"]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/align"])
def test_a_path_has_one_spelling(
    world: World, keys: dict[frozenset[str], str], path: str, spelling: str
) -> None:
    """The gate and the router must agree on which path a request has."""
    target = spelling.format(path)
    for scope in ("profiles:read", "inference"):
        answer = httpx.post(
            world.server.url + target,
            headers=JSON | {"authorization": f"Bearer {keys[frozenset({scope})]}"},
            json=CHAT | {"query": "hi"},
            timeout=60,
        )
        assert answer.status_code in (307, 400, 403, 404), answer.text
    assert ask(world, "get", "/livez" + target[-3:], None).status_code in (401, 404)


def test_encoded_letters_are_letters(world: World, keys: dict[frozenset[str], str]) -> None:
    encoded = "/v1/%63hat/completions"
    lacking = ask(world, "post", encoded, keys[frozenset({"profiles:read"})])
    assert (lacking.status_code, lacking.json()["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("path", STOCK_ROUTES)
def test_no_other_route(world: World, path: str) -> None:
    """Other routes of the engine's own server: 404 with the operator's key, 401 without one."""
    for method in ("get", "post"):
        assert ask(world, method, path, world.keys["operator"]).status_code in (404, 405)
        assert ask(world, method, path, None).status_code == 401


@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "GET", "POST", "PROPFIND"]
)
def test_other_methods(world: World, method: str) -> None:
    for path in {path for _, path in ROUTES}:
        if (method.lower(), path) in ROUTES:
            continue
        answer = ask(world, method.lower(), address(path), world.keys["operator"])
        assert answer.status_code in (200, 400, 404, 405), (path, answer.status_code)
        if answer.status_code == 200:
            assert method == "HEAD"
        assert ask(world, method.lower(), address(path), None).status_code in (200, 400, 401, 405)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=201", "limit=1e9", "limit=99999999999999999999999", "limit=NaN", "limit=",
        "after=" + "a" * 64, "after=%00", "after=%FF", "after=';DROP TABLE profiles;--", "after=" + quote("é\u202e"),
        "limit=1&limit=2", "archived=maybe", "after[]=1",
    ],
)  # fmt: skip
def test_pages(world: World, query: str) -> None:
    """Odd page parameters get a 400 or a page, but never another tenant's data."""
    for path in ("/v1/profiles", "/v1/admin/tenants", "/v1/admin/keys", "/v1/admin/audit"):
        answer = world.client("operator").get(f"{path}?{query}")
        assert answer.status_code in (200, 400), (path, answer.text)
    mine = world.client("other").get(f"/v1/profiles?{query}")
    assert mine.status_code == 400 or mine.json()["data"] == []


@pytest.mark.parametrize("number", ["0", "-1", "2147483648", "9" * 40, "1e3", "NaN", "%00", "١"])
def test_numbers_in_paths(world: World, number: str) -> None:
    for path in (f"/v1/profiles/{NAME}/versions/{number}", f"/v1/profiles/{NAME}/diff?from={number}&to=1"):
        assert world.client("acme").get(path).status_code in (400, 404)


@pytest.mark.parametrize(
    "body",
    [
        {"version": 0}, {"version": -1}, {"version": 2**31}, {"version": 2**63}, {"version": 1.5}, {"version": "1"},
        {"version": True}, {"versions": []}, {"versions": [{"version": 1, "weight": 0}]},
        {"versions": [{"version": 1, "weight": -5}]}, {"versions": [{"version": 1, "weight": 10**30}]},
        {"versions": [{"version": 1, "weight": float("nan")}]}, {"versions": [{"version": 1, "weight": float("inf")}]},
        {"versions": [{"version": 1}] * 2}, {"versions": [{"version": n} for n in range(1, 10)]},
        {"version": 1, "versions": [{"version": 1}]}, {"version": 1, "protected": True}, {"version": 77}, {},
    ],
)  # fmt: skip
def test_labels(world: World, body: dict[str, Any]) -> None:
    """Weights and versions out of range, and protection without `admin`, change nothing."""
    acme = world.client("acme")
    assert acme.post("/v1/profiles", json={"name": "labelled", "preferences": {"user": "a"}}).status_code in (
        201,
        409,
    )
    answer = acme.put("/v1/profiles/labelled/labels/canary", content=dumps(body), headers=JSON)
    assert answer.status_code in (400, 403, 404), answer.text
    assert acme.get("/v1/profiles/labelled").json()["labels"] == {}


def test_a_key_cannot_make_itself_stronger(world: World) -> None:
    """Only `admin` can make keys; a tenant's own key cannot, whatever it claims to be."""
    for who in ("acme", "acme/inference"):
        body = {"tenant": "acme", "scopes": ["admin"]}
        assert world.client(who).post("/v1/admin/keys", json=body).status_code == 403
        assert world.client(who).get("/v1/admin/audit").status_code == 403
    headers = {"x-metaalign-tenant": "other", "x-forwarded-user": "root", "x-scopes": "admin"}
    assert world.client("acme/inference").get("/v1/admin/keys", headers=headers).status_code == 403


def test_a_protected_label_is_the_operators(world: World) -> None:
    """Nor can it be changed by import, archiving or deletion."""
    admin = {"authorization": f"Bearer {world.make_key('acme', *SCOPES)['key']}"}
    acme = world.client("acme")
    assert acme.post("/v1/profiles", json={"name": "held", "preferences": {"user": "a"}}).status_code == 201
    path = "/v1/profiles/held/labels/stable"
    assert acme.put(path, json={"version": 1, "protected": True}, headers=admin).status_code == 200
    assert acme.post("/v1/profiles/held/versions", json={"preferences": {"user": "b"}}).status_code == 201
    exported = acme.get("/v1/profiles:export").json()["profiles"]
    document = next(profile for profile in exported if profile["name"] == "held")
    document["labels"]["stable"] = {"versions": [{"version": 2}], "protected": False}
    attempts = [
        acme.put(path, json={"version": 2}),
        acme.delete(path),
        acme.post(path + "/rollback"),
        acme.delete("/v1/profiles/held"),
        acme.patch("/v1/profiles/held", json={"archived": True}),
        acme.post("/v1/profiles:import", json={"profiles": [document]}),
    ]
    assert [attempt.status_code for attempt in attempts] == [403] * len(attempts)
    assert acme.get("/v1/profiles/held").json()["labels"]["stable"]["versions"][0]["version"] == 1
