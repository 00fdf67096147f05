"""A server whose streams break after the third event, in one of the two ways in which ours can break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from metaalign_server.engine.dialects import dialect_of

__all__ = ["breaking"]

_EVENTS = 3


@contextmanager
def breaking(upstream: str, *, says_so: bool) -> Iterator[str]:
    """Serve what `upstream` answers; the URL.

    Args:
        upstream: A real server.
        says_so: Whether a stream ends with the event that the server sends when its engine has failed. Otherwise
            the connection ends, as when the server is killed.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
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
            if says_so:
                events.append(dialect_of(self.path).error_event(events[-1]))
            for event in events:
                data = event.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if says_so:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
