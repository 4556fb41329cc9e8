"""Connections: the file, what must be true before it is used, and its errors in words.

A file is used only if it is new and empty, or carries our application id; nothing is changed in any other.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import apsw

from headgate.errors import StoreError

APPLICATION_ID = 0x68676174
"""``hgat``: marks a SQLite file as ours."""
CHECKED_UP_TO_BYTES = 64 * 1024 * 1024
"""Files up to this size are checked for damage as a whole when they are opened."""
PATIENCE = 15_000
"""How often a busy file is tried again, about every 2 ms, before the operation fails (30 s)."""

_never = threading.Event()


def pause(seconds: float) -> None:
    """Let another process have the file for a moment."""
    _never.wait(seconds)


def _busy(tries: int) -> bool:
    pause(0.0005 if tries < 8 else 0.002)
    return tries < PATIENCE


def create_file(path: Path) -> None:
    """Make the file if it is not there, readable by its owner only (SQLite gives its side files the same mode).

    Raises:
        StoreError: it cannot be made there.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"the store {path} cannot be opened: {error.strerror or error}") from error


def connect_writer(path: Path, *, synchronous: str) -> apsw.Connection:
    """The connection that writes.

    Raises:
        StoreError: the file is not ours, or damaged.
    """
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=256)
    try:
        _set_up(db)
        _check_ours(db, path)
        _switch_to_wal(db)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        db.execute("PRAGMA journal_size_limit = 67108864")
        db.execute("PRAGMA cache_size = -32768")
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> apsw.Connection:
    """A connection that only reads, and is not held up by writers."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=128)
    _set_up(db)
    db.execute("PRAGMA query_only = 1")
    db.execute("PRAGMA cache_size = -8192")
    return db


def _set_up(db: apsw.Connection) -> None:
    """What both connections have in common."""
    db.set_busy_handler(_busy)
    # One plan whatever is bound. Otherwise SQLite plans every statement on a partial index anew each time that it is
    # carried out, as a bound value might allow another index; that takes longer than most of them do.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    db.execute("PRAGMA temp_store = memory")


def _check_ours(db: apsw.Connection, path: Path) -> None:
    # One transaction, so that a new file is not seen half made by another process.
    db.execute("BEGIN")
    marked = db.pragma("application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_schema").get
    db.execute("COMMIT")
    if marked == 0 and tables == 0:
        return
    if marked != APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite file of another program (application id {marked}); it is left alone")
    if path.stat().st_size <= CHECKED_UP_TO_BYTES:
        found = db.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            raise StoreError(f"the store {path} is damaged ({found}); restore it from a backup")


def _switch_to_wal(db: apsw.Connection) -> None:
    # Two processes that switch a new file at once make SQLite answer "busy" without asking the busy handler.
    for tries in range(2000):
        try:
            if db.pragma("journal_mode", "wal") == "wal":
                return
        except (apsw.BusyError, apsw.LockedError):
            if tries == 1999:
                raise
        pause(0.005)
    raise StoreError("the file system under the store does not support SQLite's write-ahead log")


_WORDS: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.FullError, "there is no room left on its disk; it works again once there is"),
    (apsw.BusyError, "another process has kept it locked for too long"),
    (apsw.LockedError, "another process has kept it locked for too long"),
    (apsw.ReadOnlyError, "it cannot be written (read-only file or directory)"),
    (apsw.CantOpenError, "it cannot be opened; check its path, its directory and their permissions"),
    (apsw.CorruptError, "it is damaged; stop every process and restore it from a backup"),
    (apsw.NotADBError, "it is not a SQLite file, or it is damaged"),
    (apsw.IOError, "reading or writing its disk failed"),
    (apsw.NoMemError, "memory ran out"),
)


def in_words(error: Exception, url: str) -> Exception:
    """``error`` as a `StoreError` if it is SQLite's or comes from a damaged row, else unchanged."""
    if isinstance(error, UnicodeDecodeError):
        damaged = StoreError(f"the store {url}: a row cannot be read back ({error.reason})")
        damaged.__cause__ = error
        return damaged
    if not isinstance(error, apsw.Error):
        return error
    words = next((words for kind, words in _WORDS if isinstance(error, kind)), "SQLite refused")
    said = StoreError(f"the store {url}: {words} ({error})")
    said.__cause__ = error
    return said
