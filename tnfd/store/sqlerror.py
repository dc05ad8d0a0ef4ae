"""SQLite's errors in our words; apart from the writer, so that short commands need no event loop."""

from __future__ import annotations

import sqlite3

from tnfd.errors import Fault, StoreBusy, StoreUnusable


def translate(error: sqlite3.Error) -> Exception:
    """Say in our words what SQLite said."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")):
        return Fault("output.disk_full", "state folder")
    if name.startswith(
        ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR")
    ):
        return StoreUnusable(f"the database cannot be used: {error}")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy("the database is held by another program for too long")
    return error
