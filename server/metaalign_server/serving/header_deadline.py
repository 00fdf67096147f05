"""Closes HTTP connections that stay open for nothing: slow headers, endless headers, silence, answers not read.

uvicorn closes a connection that is idle between two requests. But it keeps a connection that never sends a complete
header forever, it reads a header of any size, and it waits forever for a client that reads nothing; a few thousand such
connections bring a server down.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["HEADER_BYTES", "HEADER_SECONDS", "GuardedProtocol"]

HEADER_SECONDS = 15.0
"""Deadline for a complete request header, from the connection or from the first byte of the next request."""
HEADER_BYTES = 64 * 1024
"""Maximum number of bytes read before a header must be complete."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline and a size limit for headers, and a deadline for reading answers.

    Attributes:
        write_seconds: Deadline for the client to read what waits for it, once that is more than uvicorn's 64 KiB.
    """

    write_seconds = 60.0
    _unread: asyncio.TimerHandle | None = None
    _timer: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: Any) -> None:
        """A client has connected and must send a header."""
        super().connection_made(transport)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        self._header_came()
        self._read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a header or a body have arrived."""
        super().data_received(data)
        if self._timer is not None:
            self._received += len(data)
            if self._received > HEADER_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request has arrived."""
        super().on_message_begin()
        if self._timer is None:
            self._expect_header()

    def on_headers_complete(self) -> None:
        """The header is complete; bodies are bounded elsewhere."""
        self._header_came()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is sent to, or not at all."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read nearly everything."""
        self._read()
        super().resume_writing()

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _expect_header(self) -> None:
        self._received = 0
        self._timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _header_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._expect_header()  # the previous response is still in flight, so this request is not late
        else:
            self.transport.close()
