"""A job goes with its file when that is renamed or moved: found again by device, inode and content.

Whether the file has left its old path is found out by whoever asks; nothing here touches the disk. Units of
work for the writer thread.
"""

from __future__ import annotations

import os
import sqlite3

from tnfd.model import JobState
from tnfd.ports.claims import Found, Origin
from tnfd.ports.store import Claim, Kin
from tnfd.rules.profile import profile_of
from tnfd.store import jobs, records

_OPEN = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.VANISHED})
_ENDED = frozenset({JobState.DONE, JobState.PARTIAL, JobState.DUPLICATE})


def kin(connection: sqlite3.Connection, found: Found) -> list[Kin]:
    """Jobs that this file may have had under another path, newest first."""
    dev, ino, *_ = records.stat_values(found.ref.stat)
    rows = connection.execute(
        "SELECT id, path, state FROM job WHERE ino = ? AND dev = ? AND sha256 = ? AND size_bytes = ?"
        " AND path <> ? AND left_at IS NULL ORDER BY rowid DESC LIMIT 20",
        (ino, dev, found.sha256, found.ref.stat.size_bytes, found.ref.path),
    ).fetchall()
    return [
        Kin(row["id"], row["path"], row["state"] in _ENDED, _beside(connection, row["id"], row["path"]))
        for row in rows
        if row["state"] in _OPEN or row["state"] in _ENDED
    ]


def _beside(connection: sqlite3.Connection, job_id: str, path: bytes) -> tuple[tuple[bytes, str], ...]:
    rows = connection.execute(
        "SELECT name, sha256 FROM output WHERE job = ? AND folder = ? AND format <> 'status'"
        " AND sha256 IS NOT NULL",
        (job_id, os.path.dirname(path)),
    )
    return tuple((row["name"], row["sha256"]) for row in rows)


def follow(connection: sqlite3.Connection, origin: Origin, found: Found, now: float) -> Claim | None:
    """Bring a job to the path where its file is now; None: it cannot, the file has a job of its own."""
    row = connection.execute("SELECT * FROM job WHERE id = ?", (found.follows,)).fetchone()
    if row is None or row["state"] not in _OPEN | _ENDED or row["left_at"] is not None:
        return None
    state, ref = JobState(row["state"]), found.ref
    if row["profile"] != profile_of(origin.settings) and state not in _ENDED:
        return None  # where it is now, another transcript is wanted
    connection.execute(  # shown while it settled under its new name
        "DELETE FROM job WHERE path = ? AND state = 'settling' AND id <> ?", (ref.path, row["id"])
    )
    connection.execute("DELETE FROM sight WHERE root = ? AND rel = ?", (row["root"], row["rel"]))
    connection.execute(
        "UPDATE job SET root = ?, rel = ?, path = ?, moved_to = NULL WHERE id = ?",
        (ref.root, ref.rel, ref.path, row["id"]),
    )
    jobs.refresh_stat(connection, row["id"], ref.stat)
    if state in _ENDED:
        _take_along(connection, row["id"], row["path"], ref.path)
    else:
        _begin_anew(connection, row, origin)
    detail = f"from {os.fsencode(row['path']).decode('utf-8', 'backslashreplace')}"
    if state is JobState.VANISHED:
        jobs.move(connection, row["id"], JobState.QUEUED, now, "moved", detail)
    else:
        jobs.note(connection, row["id"], now, "moved", detail)
        jobs.touch(connection, row["id"], now)
    return Claim(row["id"], new=False)


def _begin_anew(connection: sqlite3.Connection, row: sqlite3.Row, origin: Origin) -> None:
    """Let names be chosen where the file is now, and do what is asked for there."""
    text = connection.execute("SELECT state FROM transcription WHERE id = ?", (row["transcription"],))
    state = text.fetchone()
    delivering = row["state"] == JobState.RUNNING and state is not None and state["state"] != "open"
    if not delivering:  # else it is being written under its old name this very moment
        connection.execute(
            "DELETE FROM output WHERE job = ? AND sha256 IS NULL AND format <> 'status'", (row["id"],)
        )
    if row["scope"].startswith("inbox:"):
        connection.execute(
            "UPDATE job SET scope = ?, inbox = ?, settings = ? WHERE id = ?",
            (origin.scope, origin.inbox, records.dump(origin.settings), row["id"]),
        )


def _take_along(connection: sqlite3.Connection, job_id: str, old: bytes, new: bytes) -> None:
    """The outputs lie beside it as before: whoever moved it took them along."""
    connection.execute(
        "UPDATE OR IGNORE output SET folder = ? WHERE job = ? AND folder = ?",
        (os.path.dirname(new), job_id, os.path.dirname(old)),
    )


def has_moved(connection: sqlite3.Connection, job_id: str, path: bytes) -> bool:
    """Whether the job's file is no longer where it was when its lease began."""
    row = connection.execute("SELECT path FROM job WHERE id = ?", (job_id,)).fetchone()
    return row is not None and bool(row["path"] != path)
