"""The names and hashes of the files that a job writes. Units of work for the writer."""

from __future__ import annotations

import sqlite3

from tnfd.ports.queue import (
    Lease,
)
from tnfd.rules.names import fold
from tnfd.store import leases


def reserve_output(
    connection: sqlite3.Connection, lease: Lease, format: str, folder: bytes, name: bytes
) -> bool:
    """Reserve a name; False where another job, or another format of this one, has it."""
    leases.hold(connection, lease)
    return _reserve(connection, lease.job.id, format, folder, name)


def _reserve(connection: sqlite3.Connection, job_id: str, format: str, folder: bytes, name: bytes) -> bool:
    taken = connection.execute(
        "SELECT 1 FROM output WHERE folder = ? AND folded = ? AND NOT (job = ? AND format = ?)",
        (folder, _folded(name), job_id, format),
    ).fetchone()
    if taken:
        return False
    connection.execute(
        "INSERT OR REPLACE INTO output (job, format, folder, name, folded, sha256)"
        " VALUES (?, ?, ?, ?, ?, NULL)",
        (job_id, format, folder, name, _folded(name)),
    )
    return True


def _folded(name: bytes) -> str:
    """How names are compared, as a text that SQLite takes: bytes that are not UTF-8 are spelt out."""
    return fold(name).encode("utf-8", "backslashreplace").decode()


def release_output(connection: sqlite3.Connection, lease: Lease, format: str) -> None:
    """Give a reserved name back."""
    leases.hold(connection, lease)
    connection.execute("DELETE FROM output WHERE job = ? AND format = ?", (lease.job.id, format))


def output_written(connection: sqlite3.Connection, lease: Lease, format: str, sha256: str) -> None:
    """Record what lies on disk."""
    leases.hold(connection, lease)
    connection.execute(
        "UPDATE output SET sha256 = ? WHERE job = ? AND format = ?", (sha256, lease.job.id, format)
    )


def reserve_status(connection: sqlite3.Connection, job_id: str, folder: bytes, name: bytes) -> bool:
    """Reserve a status file's name; the former job of the same path hands it over."""
    connection.execute(
        "DELETE FROM output WHERE folder = ? AND folded = ? AND format = 'status' AND job IN"
        " (SELECT o.id FROM job AS o JOIN job AS j ON j.path = o.path"
        "  WHERE j.id = ? AND o.rowid < j.rowid)",  # not by id: a clock may be set back
        (folder, _folded(name), job_id),
    )
    return _reserve(connection, job_id, "status", folder, name)
