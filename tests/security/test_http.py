"""The wire: forged ids, injected headers, pipelined and ambiguous requests, pages of other sites."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest

from tests.processes import Server, free_port, running
from tests.security.world import CHAT, JSON, World, dumps

CANARY = "cinnamon6241canary"


def exchange(url: str, request: bytes, seconds: float = 5) -> bytes:
    """What the server sends back for these bytes, until it closes the connection or goes silent."""
    address = urlsplit(url)
    received = b""
    with socket.create_connection((str(address.hostname), address.port or 0)) as connection:
        connection.sendall(request)
        connection.settimeout(seconds)
        try:
            while more := connection.recv(65_536):
                received += more
                connection.settimeout(0.5)
        except TimeoutError:
            pass
    return received


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a", True), ("abc-1_2", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False),
        ("a;b", False), ("<script>", False), ("a\tb", False), ("é", False), ("a\\nb", False), ("%0d%0a", False),
    ],
)  # fmt: skip
def test_request_ids(world: World, sent: str, kept: bool) -> None:
    answer = world.client("acme").get("/version", headers={b"x-request-id": sent.encode()})
    got = answer.headers["x-request-id"]
    assert (got == sent) if kept else re.fullmatch("[0-9a-f]{32}", got)
    assert len(answer.headers.get_list("x-request-id")) == 1


INJECTIONS = [
    b"a\nX-Injected: yes", b"a\rX-Injected: yes", b"a\r\n X-Injected: yes", b"a\x00b", b"a\x0bX-Injected: yes",
    b"a\x85X-Injected: yes", b"\xff\xfe", b"\xe2\x80\xa8X-Injected: yes",
]  # fmt: skip


@pytest.mark.parametrize(
    "header", ["X-Request-Id", "X-MetaAlign-Profile", "Idempotency-Key", "If-Match", "traceparent"]
)
@pytest.mark.parametrize("value", INJECTIONS)
def test_header_injection(world: World, header: str, value: bytes) -> None:
    """Line breaks and odd bytes in header values are refused or ignored: no extra response header, no 500."""
    content = dumps(CHAT)
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
    )
    request = request % world.keys[
        "acme"
    ].encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(content)
    request += header.encode() + b": " + value + b"\r\n\r\n" + content
    answer = exchange(world.server.url, request)
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert b"X-Injected" not in head
    assert not answer or head.split(b" ")[1] in (b"200", b"400", b"404"), head
    assert world.ask("acme").status_code == 200


ODD_PROFILES = [
    b"\xff\xfe", b"a\xa0b", "é".encode(), b"support;x", b"a,b,", b",", b"a" * 500, b"a:1,a:x!", b"../../etc", b"A",
    b"a@", b"{{7*7}}",
]  # fmt: skip


@pytest.mark.parametrize("value", ODD_PROFILES)
def test_odd_profile_headers(world: World, value: bytes) -> None:
    answer = world.client("acme").post(
        "/v1/chat/completions", json=CHAT, headers={b"x-metaalign-profile": value}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "X-MetaAlign-Profile"
    assert "49" not in answer.text


def test_pipelining(world: World) -> None:
    """Two requests in one packet get two answers, in order, each with its own caller."""
    one = (
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n"
        % world.keys["acme"].encode()
    )
    two = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    statuses = re.findall(rb"HTTP/1.1 (\d+)", exchange(world.server.url, one + two))
    assert statuses == [b"200", b"401"]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5x\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
def test_ambiguous_framing(world: World, framing: bytes) -> None:
    """A body with an ambiguous end does not become a second request."""
    smuggled = (
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n"
        % world.keys["acme"].encode()
    )
    request = (
        b"POST /v1/align HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n" % world.keys["acme"].encode()
    )
    request += b"Content-Type: application/json\r\n" + framing + b"\r\n0\r\n\r\n" + smuggled
    statuses = re.findall(rb"HTTP/1.1 (\d+)", exchange(world.server.url, request, 2))
    assert b"200" not in statuses[:1]
    assert all(status[:1] in b"24" for status in statuses)
    assert world.ask("acme").status_code == 200


def test_junk(world: World) -> None:
    for junk in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"\x00" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
    ):
        exchange(world.server.url, junk, 1)
    upgrade = b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    assert b" 101 " not in exchange(world.server.url, upgrade, 2)
    assert world.client("acme").get("/livez").status_code == 200


def test_the_host_header_says_nothing(world: World) -> None:
    """Redirects and answers do not depend on the host name that the client sends, and proxy headers identify nobody."""
    for headers in (
        {"host": "evil.example"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-host": "evil.example"},
    ):
        answer = world.client("acme").get("/v1/profiles/a/versions/x", headers=headers)
        assert "evil" not in answer.text
        assert httpx.get(world.server.url + "/v1/models", headers=headers, timeout=60).status_code == 401


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_bodies_that_browsers_send_unasked(world: World, media: str) -> None:
    """No route accepts a body of a type that a page can send to another site without a preflight request."""
    headers = {"content-type": media} if media else {}
    for path, body in {
        "/v1/chat/completions": CHAT, "/v1/completions": {"prompt": "a"}, "/v1/responses": {"input": "a"},
        "/v1/messages": CHAT, "/v1/align": {"query": "a"}, "/v1/preferences/render": {},
        "/v1/profiles": {"name": "cross"}, "/v1/profiles:import": {"profiles": []}, "/v1/feedback": {"id": "a"},
        "/v1/feedback/erase": {"user": "a"}, "/v1/admin/tenants": {"name": "cross"},
        "/v1/admin/keys": {"scopes": ["admin"]}, "/v1/admin/users/erase": {"tenant": "acme", "user": "a"},
    }.items():  # fmt: skip
        answer = world.client("operator").post(path, content=dumps(body), headers=headers)
        assert answer.status_code == 400, (path, answer.text)
    answer = world.client("operator").post(
        "/v1/chat/completions", json=CHAT, headers={"origin": "https://evil.example"}
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = world.client("operator").options(
        "/v1/chat/completions", headers={"origin": "https://evil.example"}
    )
    assert preflight.status_code == 405


class _Collector(BaseHTTPRequestHandler):
    """Receives what an OpenTelemetry exporter sends."""

    received = b""

    def do_POST(self) -> None:
        type(self).received += self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without any key, on loopback, that sends traces to `_Collector`."""
    folder: Path = tmp_path_factory.mktemp("open")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        port = free_port()
        env = {
            "OMP_NUM_THREADS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        serve = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
        with running(serve, f"http://127.0.0.1:{port}", folder / "open.log", env=env) as server:
            yield server
        collector.shutdown()


def test_open_mode_is_for_this_machine(open_server: Server) -> None:
    """Without keys, a page of another site could misuse a browser: by form, by script, by DNS rebinding."""
    port = urlsplit(open_server.url).port
    chat = {"content": dumps(CHAT), "timeout": 60}
    url = open_server.url + "/v1/chat/completions"
    for origin in (
        "https://evil.example",
        "null",
        f"http://127.0.0.1:{(port or 0) + 1}",
        f"https://localhost:{port}",
    ):
        refused = httpx.post(url, headers=JSON | {"origin": origin}, **chat)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site")
    for host in (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "localhost.evil.example",
    ):
        refused = httpx.post(url, headers=JSON | {"host": host}, **chat)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site")
        assert (
            httpx.get(open_server.url + "/v1/profiles", headers={"host": host}, timeout=60).status_code == 403
        )
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost"):
        own = JSON | {"host": host, "origin": f"http://{host}"}
        assert httpx.post(url, headers=own, **chat).status_code == 200  # type: ignore[arg-type]
    forms = httpx.post(
        open_server.url + "/v1/profiles/a/labels/b/rollback", headers={"origin": "null"}, timeout=60
    )
    assert forms.status_code == 403


def test_nothing_private_in_traces(open_server: Server) -> None:
    """Spans have names, counts and hashes, but no text, no header value and no user id."""
    body = CHAT | {
        "messages": [{"role": "user", "content": CANARY}],
        "preferences": {"system": CANARY, "user": {"attributes": {"mood": CANARY}}},
        "user": CANARY,
    }
    for changes in ({}, {"temperature": -1}, {"model": CANARY}, {"preferences": {CANARY: 1}}):
        httpx.post(
            f"{open_server.url}/v1/chat/completions",
            json=body | changes,
            headers={"x-api-key": CANARY, "tracestate": f"vendor={CANARY}", "user-agent": CANARY},
            timeout=60,
        )
    httpx.get(f"{open_server.url}/v1/{CANARY}?{CANARY}", timeout=60)
    deadline = time.monotonic() + 20  # until the batch with these spans has arrived
    while b"unmatched" not in _Collector.received and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"/v1/chat/completions" in _Collector.received
    assert b"unmatched" in _Collector.received
    assert CANARY.encode() not in _Collector.received.replace(b"vendor=" + CANARY.encode(), b"")
    assert CANARY not in open_server.log_text()
