"""A small OpenAI-compatible endpoint whose answers and failures the test chooses; a real socket, real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FakeTeacher", "Page", "fake_teacher"]

Answer = Callable[[dict[str, Any]], "str | int | Page"]


@dataclass(frozen=True)
class Page:
    """A body that no OpenAI-compatible endpoint gives, with its content type."""

    body: str
    type: str = "text/html"


class FakeTeacher:
    """Where the endpoint is, and what it was asked.

    Attributes:
        url: Base URL, with /v1.
        bodies: Request bodies in the order of arrival.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[dict[str, Any]] = []


@contextmanager
def fake_teacher(answer: Answer, models: int | Page | tuple[str, ...] = ("m",)) -> Iterator[FakeTeacher]:
    """Serve `answer(body)`: a text, a status code to fail with, or a page. `models` answers `GET /models`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                teacher.bodies.append(body)
                reply = answer(body)
            if isinstance(reply, int | Page):
                self._fail(reply)
                return
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            self._send(
                200,
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                    "usage": usage,
                },
            )

        def do_GET(self) -> None:
            if isinstance(models, int | Page):
                self._fail(models)
                return
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in models]
            self._send(200, {"object": "list", "data": listed})

        def _fail(self, reply: int | Page) -> None:
            if isinstance(reply, Page):
                self._raw(200, reply.body.encode(), reply.type)
            else:
                self._send(reply, {"error": {"message": "no", "type": "test"}})

        def _send(self, status: int, tree: dict[str, Any]) -> None:
            self._raw(status, json.dumps(tree).encode(), "application/json")

        def _raw(self, status: int, raw: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 256  # the standard library's 5 refuses connections when many arrive at once

    lock = threading.Lock()
    server = Server(("127.0.0.1", 0), Handler)
    teacher = FakeTeacher(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield teacher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
