"""Logging: one line per event, JSON by default. Ids, counts and milliseconds; never prompts, preferences or keys."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["configure_logging"]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["exception"] = _where(record.exc_info[1])
        return json.dumps(entry, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        fields = "".join(f" {key}={value}" for key, value in getattr(record, "fields", {}).items())
        line = f"{self.formatTime(record)} {record.levelname.lower()} {record.name}: {record.message}{fields}"
        return f"{line} exception={_where(record.exc_info[1])}" if record.exc_info else line


_PLACES = 40
# `aiosqlite` and `sqlalchemy` are not only chatty: at `debug` they log statements with their values, and rows.
_CHATTY = ("aiosqlite", "alembic", "asyncio", "filelock", "httpcore", "httpx", "sqlalchemy", "urllib3")


def _where(error: BaseException | None) -> str:
    """Return the type and location of an error and its causes, without their messages, which may quote a request."""
    if error is None:
        return "none"
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    where = f"{type(error).__name__} at {' > '.join(places[-_PLACES:])}"
    return f"{where} from {_where(error.__cause__)}" if error.__cause__ is not None else where


def configure_logging(style: str, level: str) -> None:
    """Send every logger of the process, vLLM's included, to standard error in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for quoting in ("vllm.entrypoints.openai", "vllm.entrypoints.anthropic", "vllm.entrypoints.serve"):
        logging.getLogger(quoting).setLevel(logging.CRITICAL)  # their errors repeat parts of requests
