"""What remains of deleted rows in the files of an SQLite store, and how it is removed.

`secure_delete` overwrites a row where it is deleted. Copies remain in two places: in the write-ahead log, and in the
free space of pages from which SQLite had moved the row to another page. So the file is rewritten (VACUUM) and the log
is truncated. How many deletions that concerns is counted in the header of the file (`user_version`), in the
transaction of the deletion: a crash does not forget it, and every process that uses the file sees it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

from sqlalchemy.ext.asyncio import AsyncConnection

from metaalign import MetaAlignError

__all__ = ["ErasureIncomplete", "mark_deletion", "shred_file"]

_BUSY_SECONDS, _PAUSE_SECONDS = 0.25, 0.25
_MOST = 2**31 - 1
_STEPS = 100_000
"""Steps of SQLite's virtual machine between two looks at `stop`: a few milliseconds."""
_INCOMPLETE = "deleted, but copies of it are still in the store's files"


class ErasureIncomplete(MetaAlignError):
    """Rows are deleted, but copies of them are still in the store's files."""

    code = "erasure_incomplete"


async def mark_deletion(connection: AsyncConnection) -> None:
    """Note, in the transaction that deletes private data, that copies of them must be removed by `shred`."""
    if connection.dialect.name == "sqlite":
        count = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA user_version={count % _MOST + 1}")


def shred_file(path: str, patience: float, stop: threading.Event) -> float:
    """Remove what remains of deleted rows from the file and its log, unless no deletion was marked.

    Args:
        path: The SQLite file; it may be in use.
        patience: Seconds to wait for other connections, which may write or hold on to an old state.
        stop: Ends the work early when it is set.

    Returns:
        The seconds during which nobody else could write.

    Raises:
        ErasureIncomplete: the other connections took longer, or there is no room for the new file.
    """
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.set_progress_handler(stop.is_set, _STEPS)
            return _shred(connection, time.monotonic() + patience)
    except sqlite3.Error as error:
        raise ErasureIncomplete(f"{_INCOMPLETE}: {error}") from None


def _shred(connection: sqlite3.Connection, end: float) -> float:
    if not (deletions := _deletions(connection)):
        return 0.0
    connection.execute("PRAGMA secure_delete=ON")
    seconds = _rewrite(connection, end)
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        _wait(end)
    connection.execute("BEGIN IMMEDIATE")
    if (
        _deletions(connection) == deletions
    ):  # otherwise there were more meanwhile, and whoever made them calls us
        connection.execute("PRAGMA user_version=0")
    connection.execute("COMMIT")
    return seconds


def _deletions(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _rewrite(connection: sqlite3.Connection, end: float) -> float:
    while True:
        began = time.monotonic()
        try:
            connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            _wait(end)
        else:
            return time.monotonic() - began


def _wait(end: float) -> None:
    if time.monotonic() > end:
        raise ErasureIncomplete(f"{_INCOMPLETE}: another program is reading or writing them")
    time.sleep(_PAUSE_SECONDS)
