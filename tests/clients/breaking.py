"""A server that lets its clients down, in one of the ways in which ours can."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias

import httpx

from metaalign_server.engine.dialects import dialect_of

__all__ = ["Way", "breaking"]

Way: TypeAlias = Literal["failed", "broken", "slow", "stalled"]
"""What happens to an answer.

- `failed`: after the third event of a stream comes the one that the server sends when its engine has failed.
- `broken`: after the third event the connection ends, as when the server is killed.
- `slow`: nothing comes, as when the engine has much to do.
- `stalled`: after the third event nothing comes.
"""
_EVENTS = 3
_SILENCE = 25
"""Seconds after which a silent connection ends, for clients that would wait for hours."""


@contextmanager
def breaking(upstream: str, way: Way) -> Iterator[str]:
    """Serve what `upstream`, a real server, answers, but for what goes wrong; the URL."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if way == "slow":
                self.be_silent()
                return
            kept = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "accept-encoding")
            }
            answer = httpx.post(upstream + self.path, content=body, headers=kept, timeout=60)
            streamed = answer.headers["content-type"].startswith("text/event-stream")
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name == "content-type" or name.startswith("x-"):
                    self.send_header(name, value)
            if not streamed:
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)
                return
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            events = [f"{event}\n\n" for event in answer.text.split("\n\n")[:_EVENTS]]
            if way == "failed":
                events.append(dialect_of(self.path).error_event(events[-1]))
            for event in events:
                data = event.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if way == "failed":
                self.wfile.write(b"0\r\n\r\n")
            if way == "stalled":
                self.be_silent()
            self.close_connection = True

        def be_silent(self) -> None:
            over.wait(_SILENCE)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
