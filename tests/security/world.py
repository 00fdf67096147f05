"""What the attacks share: one real server with several tenants, their keys, and ways to ask it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from metaalign_server.callers import SCOPES
from tests.processes import Server, command, free_port, running

__all__ = ["CHAT", "HI", "JSON", "MODEL", "World", "dumps", "open_world"]

MODEL = "metaalign-demo"
JSON = {"content-type": "application/json"}
HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": HI, "max_tokens": 1, "temperature": 0}
EVERYTHING = ",".join(SCOPES)
# Everything but `admin`, which is the operator's.
TENANT_SCOPES = ("inference", "system", "profiles:read", "profiles:write")


def dumps(value: Any) -> bytes:
    """JSON of any texts, including lone surrogates."""
    return json.dumps(value).encode()


@dataclass
class World:
    """A running server, its store, and a key for each role.

    Attributes:
        keys: By `tenant` (all scopes but `admin`), `tenant/inference`, and `operator`.
    """

    server: Server
    store: Path
    keys: dict[str, str]
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def client(self, who: str) -> httpx.Client:
        """HTTP with the key of `who`."""
        if who not in self.clients:
            headers = {"authorization": f"Bearer {self.keys[who]}"}
            self.clients[who] = httpx.Client(base_url=self.server.url, headers=headers, timeout=60)
        return self.clients[who]

    def make_key(self, tenant: str, *scopes: str, **options: Any) -> dict[str, Any]:
        """A new key, as the admin route returns it."""
        body = {"tenant": tenant, "scopes": list(scopes), **options}
        response = self.client("operator").post("/v1/admin/keys", json=body)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    def ask(self, who: str, path: str = "/v1/chat/completions", **changes: Any) -> httpx.Response:
        """A chat request unless `path` names another; None removes a field."""
        body = {name: value for name, value in (CHAT | changes).items() if value is not None}
        if path not in ("/v1/chat/completions", "/v1/messages"):
            body.pop("messages", None) if "messages" not in changes else None
        return self.client(who).post(path, content=dumps(body), headers=JSON)

    def flushed(self) -> None:
        """Wait until exchanges that are to be kept are in the store."""
        time.sleep(1.2)

    def store_bytes(self) -> bytes:
        """Everything in the store's files as they are on the disk, its write-ahead log included."""
        return b"".join(file.read_bytes() for file in sorted(self.store.parent.glob(self.store.name + "*")))

    @contextmanager
    def stays_responsive(self, seconds: float = 2.0) -> Iterator[None]:
        """While the block runs, liveness and another tenant's requests are answered within `seconds`."""
        stop = threading.Event()
        slowest: tuple[float, str, str] = (0.0, "", "")
        failures: list[str] = []

        def probe() -> None:
            nonlocal slowest
            headers = {"authorization": f"Bearer {self.keys['other']}"}
            with httpx.Client(base_url=self.server.url, headers=headers, timeout=120) as client:
                while not stop.is_set():
                    for path in ("/livez", "/v1/chat/completions"):
                        started = time.monotonic()
                        response = client.get(path) if path == "/livez" else client.post(path, json=CHAT)
                        took = time.monotonic() - started
                        slowest = max(slowest, (took, path, response.headers.get("x-request-id", "")))
                        if response.status_code != 200:
                            failures.append(response.text)
                    time.sleep(0.02)

        prober = threading.Thread(target=probe)
        prober.start()
        try:
            yield
        finally:
            stop.set()
            prober.join()
        assert not failures
        assert slowest[0] < seconds, f"{slowest}, and at the end of the server's log:\n{self.log_end()}"

    def log_end(self) -> str:
        """The last lines of the server's log, which say how long each request took in the server."""
        return "\n".join(self.server.log_text().splitlines()[-40:])


def operate(url: str, *words: str) -> str:
    """Standard output of `metaalign-server WORDS`, which must succeed."""
    code, printed, said = command(url, *words)
    assert code == 0, said
    return printed


POLICY = {
    "info": "The word of the house is amaranth-policy-text.",
    "attributes": {"language": "French", "format": "bullets"},
    "locked": ["language", "format"],
}


@contextmanager
def open_world(folder: Path, tenants: Sequence[dict[str, Any]]) -> Iterator[World]:
    """Serve with feedback on, logging everything, for the tenants named."""
    store = folder / "store.db"
    url = f"sqlite:///{store}"
    operate(url, "migrate")
    operator = operate(url, "keys", "create", "--scopes", EVERYTHING).strip()
    port = free_port()
    env = {
        "METAALIGN_DATABASE_URL": url,
        "METAALIGN_FEEDBACK": "true",
        "METAALIGN_LIST_PROFILES": "true",
        "METAALIGN_STORE_RESPONSES": "true",
        "METAALIGN_LOG_LEVEL": "debug",
        "OMP_NUM_THREADS": "1",
    }
    serve = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
    with running(serve, f"http://127.0.0.1:{port}", folder / "server.log", env=env) as server:
        world = World(server, store, {"operator": operator})
        for tenant in tenants:
            made = world.client("operator").post("/v1/admin/tenants", json=tenant)
            assert made.status_code == 201, made.text
            name = tenant["name"]
            world.keys[name] = world.make_key(name, *TENANT_SCOPES)["key"]
            world.keys[f"{name}/inference"] = world.make_key(name, "inference")["key"]
        yield world
        for client in world.clients.values():
            client.close()
