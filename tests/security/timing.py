"""Can times tell two kinds of requests apart? Samples in random order over one connection, and two tests on them.

The method is dudect's (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2017): Welch's t on all
samples and on those below several quantiles, since the upper tail is the machine's noise, and |t| < 4.5 for each.
The rank test of Mann and Whitney is added, which no outlier disturbs.
"""

from __future__ import annotations

import json
import math
import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

__all__ = ["LIMIT", "Connection", "Verdict", "compare", "judge"]

LIMIT = 4.5
"""A |t| or |z| beyond this is a difference: chance alone exceeds it once in 150,000 tests."""
_QUANTILES = (0.25, 0.5, 0.75, 0.9, 1.0)


class Connection:
    """One kept-alive HTTP connection without a client library, whose own times would be added to the server's."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname or "", where.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, request: bytes) -> tuple[float, int, bytes]:
        """Send a request; return the seconds until the whole response is there, its status and its body."""
        started = time.perf_counter()
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._received()
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._received()
        seconds = time.perf_counter() - started
        return seconds, int(head.split(b" ", 2)[1]), body

    def _received(self) -> bytes:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data


def http(method: str, path: str, key: str, body: object = None, header: str = "authorization") -> bytes:
    """Return the bytes of a request that sends its key in `header`; JSON if there is a body."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"{header}: Bearer {key}"]
    lines.append(f"content-length: {len(content)}")
    if body is not None:
        lines.append("content-type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True)
class Verdict:
    """What the samples of two kinds say; times in milliseconds.

    Attributes:
        t: Welch's t of largest absolute value over the quantiles.
        z: Of the rank test.
    """

    samples: int
    medians: tuple[float, float]
    t: float
    z: float

    @property
    def differ(self) -> bool:
        """Whether the two kinds can be told apart."""
        return abs(self.t) >= LIMIT or abs(self.z) >= LIMIT


def compare(
    connection: Connection,
    kinds: Sequence[Callable[[int], bytes]],
    samples: int,
    statuses: set[int],
    seed: int = 7,
) -> Verdict:
    """Send `samples` requests of each of two kinds in random order, and judge their times.

    Args:
        connection: Where to send them.
        kinds: Two functions, each of which makes its n-th request.
        samples: Requests of each kind.
        statuses: The expected statuses.
        seed: Of the order.
    """
    times: tuple[list[float], list[float]] = ([], [])
    draw = random.Random(seed)
    for number in range(samples):
        order = [0, 1]
        draw.shuffle(order)
        for kind in order:
            seconds, status, body = connection.send(kinds[kind](number))
            assert status in statuses, (status, body[:300])
            times[kind].append(seconds)
    return judge(*times)


def judge(first: Sequence[float], second: Sequence[float]) -> Verdict:
    """Judge the times, in seconds, of requests of two kinds."""
    a, b = np.asarray(first), np.asarray(second)
    both = np.concatenate([a, b])
    ts = [_welch(a[a <= limit], b[b <= limit]) for limit in np.quantile(both, _QUANTILES)]
    medians = (float(np.median(a)) * 1000, float(np.median(b)) * 1000)
    return Verdict(len(a), medians, max(ts, key=abs), _rank(a, b))


def _welch(a: np.ndarray, b: np.ndarray) -> float:
    if min(len(a), len(b)) < 10:
        return 0.0 if max(len(a), len(b)) < 30 else math.copysign(math.inf, len(a) - len(b))
    spread = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return float(a.mean() - b.mean()) / spread if spread else 0.0


def _rank(a: np.ndarray, b: np.ndarray) -> float:
    """Return z of the Mann-Whitney test; times of this resolution have no ties that matter."""
    ranks = np.concatenate([a, b]).argsort().argsort() + 1.0
    n, m = len(a), len(b)
    u = ranks[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))
