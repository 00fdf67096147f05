"""What the gate counts about requests. Labels are routes, statuses and codes: never a tenant, a key or a text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from metaalign.errors import ERRORS
from metaalign.receipt import OverriddenEntry, VerifiedAnswer
from metaalign_server.alignment.context import Usage

__all__ = ["IN_FLIGHT", "count_overridden", "count_request", "count_tokens", "count_verdicts"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

IN_FLIGHT = Gauge("metaalign_requests_in_flight", "HTTP requests being answered.")
REQUESTS = Counter("metaalign_requests_total", "Answered HTTP requests.", ["route", "status"])
REFUSALS = Counter(
    "metaalign_refusals_total",
    "Requests that were answered with an error, by the code in it.",
    ["code"],
)
for _code, _kind in ERRORS.items():
    if _kind.status is not None:  # from the start, because a counter's first step from nothing is no increase
        REFUSALS.labels(_code)
DURATION = Histogram(
    "metaalign_request_duration_seconds",
    "Time from the arrival of a request to the end of its answer.",
    ["route", "status_class"],
    buckets=_SECONDS,
)
FIRST_BYTE = Histogram(
    "metaalign_stream_first_byte_seconds",
    "Time from the arrival of a request to the first byte of the stream that answers it.",
    ["route"],
    buckets=_SECONDS,
)
BROKEN_STREAMS = Counter(
    "metaalign_streams_failed_total",
    "Streams that failed after they had begun, so that their status says nothing of it.",
    ["route"],
)
APPLIED = Counter(
    "metaalign_preferences_applied_total", "Answers to which preferences were applied.", ["route"]
)
OVERRIDDEN = Counter(
    "metaalign_preferences_overridden_total",
    "Values of preferences that were not rendered, by their tier and by the tier and the kind of source that won.",
    ["tier", "by"],
)
VERDICTS = Counter(
    "metaalign_verdicts_total",
    "Checks of answers by `verify`, by the check and whether the answer passed.",
    ["check", "passed"],
)
PROMPT_TOKENS = Counter(
    "metaalign_prompt_tokens_total",
    "Tokens of prompts, by whether preferences were applied.",
    ["preferences"],
)
CACHED_TOKENS = Counter(
    "metaalign_prompt_cached_tokens_total",
    "Tokens of prompts that the engine had in its prefix cache, by whether preferences were applied.",
    ["preferences"],
)
OUTPUT_TOKENS = Counter(
    "metaalign_output_tokens_total",
    "Tokens of answers, by whether preferences were applied.",
    ["preferences"],
)


@cache  # finding a label's own counter takes longer than counting
def _answered(route: str, status: int) -> tuple[Counter, Histogram]:
    kind = f"{status // 100}xx" if status else "none"
    return REQUESTS.labels(route, str(status)), DURATION.labels(route, kind)


@cache
def _streamed(route: str) -> tuple[Histogram, Counter]:
    return FIRST_BYTE.labels(route), BROKEN_STREAMS.labels(route)


_overridden = cache(OVERRIDDEN.labels)
_verdicts = cache(VERDICTS.labels)


@cache
def _tokens(applied: bool) -> tuple[Counter, Counter, Counter]:
    label = "applied" if applied else "none"
    return PROMPT_TOKENS.labels(label), CACHED_TOKENS.labels(label), OUTPUT_TOKENS.labels(label)


def count_request(
    route: str,
    status: int,
    seconds: float,
    *,
    first_byte: float | None = None,
    error: str | None = None,
    broke_off: bool = False,
    applied: bool = False,
) -> None:
    """Count one answered request.

    Args:
        route: The pattern of its path.
        status: The HTTP status; 0 if the client left before there was one.
        seconds: How long it took.
        first_byte: For a stream, the seconds until it began.
        error: The code of the error that it was answered with.
        broke_off: Whether the answer is a stream that failed after it had begun.
        applied: Whether preferences were applied to the answer.
    """
    requests, duration = _answered(route, status)
    requests.inc()
    duration.observe(seconds)
    if first_byte is not None:
        begun, broken = _streamed(route)
        begun.observe(first_byte)
        broken.inc(broke_off)
    if error is not None:
        REFUSALS.labels(error).inc()
    if applied:
        APPLIED.labels(route).inc()


def count_tokens(usage: Usage, *, applied: bool) -> None:
    """Count the tokens of one request.

    Args:
        usage: The tokens.
        applied: Whether preferences were applied to the answer.
    """
    prompt, cached, output = _tokens(applied)
    prompt.inc(usage.prompt)
    cached.inc(usage.cached)
    output.inc(usage.output)


def count_overridden(entries: Iterable[OverriddenEntry]) -> None:
    """Count values of one request that lost to others, by what they lost to.

    `by` is for example `system:profile support:3`; the name of a profile is not for a label.
    """
    for entry in entries:
        _overridden(entry.tier, entry.by.partition(" ")[0]).inc()


def count_verdicts(answers: Iterable[VerifiedAnswer]) -> None:
    """Count the checks of one request's answers."""
    for answer in answers:
        for check in answer.checks:
            _verdicts(check.name, "yes" if check.passed else "no").inc()
