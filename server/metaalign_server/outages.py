"""Services that the server can do without: a gauge says whether each is up, and the log has two lines for an outage."""

from __future__ import annotations

import logging
import time

from prometheus_client import Gauge

__all__ = ["Dependency"]

logger = logging.getLogger(__name__)

UP = Gauge(
    "metaalign_dependency_up", "1 while a service that the server uses answers, else 0.", ["dependency"]
)


class Dependency:
    """A service that the server uses and can do without for a while.

    However many requests miss it, the log says once that it is away, and once how long that was.

    Args:
        name: `store`, `redis` or `trace_collector`.
        meanwhile: What the server does without it, for the log.
    """

    def __init__(self, name: str, meanwhile: str) -> None:
        self._name = name
        self._meanwhile = meanwhile
        self._answered_at = time.monotonic()
        self._away = False
        self._missed = 0
        self._up = UP.labels(name)
        self._up.set(1)

    def missed(self, count: int = 1) -> None:
        """Count what had to go on, or was refused, without it."""
        self._missed += count

    def away(self, cause: str) -> None:
        """Note that it does not answer.

        Args:
            cause: The type of an error or a code; never its text, which may quote a request.
        """
        if self._away:
            return
        self._away = True
        self._up.set(0)
        logger.warning(
            "%s is away: %s",
            self._name,
            self._meanwhile,
            extra={"fields": {"dependency": self._name, "cause": cause}},
        )

    def answered(self) -> None:
        """Note that it answers."""
        now = time.monotonic()
        if self._away:
            self._away = False
            self._up.set(1)
            seconds = round(now - self._answered_at, 1)
            logger.warning(
                "%s is back",
                self._name,
                extra={"fields": {"dependency": self._name, "seconds": seconds, "missed": self._missed}},
            )
        self._answered_at = now
        self._missed = 0
