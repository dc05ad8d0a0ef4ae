"""What the store forgets, and how: text that has been kept long enough. Units of work for the writer thread.

What is removed is overwritten in the file as well (``secure_delete`` in ``database.py``); the log of SQLite
keeps old pages until it is emptied, which ``empty_log`` does.
"""

from __future__ import annotations

import sqlite3

from tnfd.store.sqlerror import translate

# In place of the profile: no file that comes later finds the transcription any more.
_EXPIRED = "expired"


def expire(connection: sqlite3.Connection, before: float) -> list[int]:
    """Remove the text of transcriptions that were finished before a moment and that no work needs any more.

    What was counted (audio, requests, cost), the engine and the jobs stay. Returns the transcriptions.
    """
    rows = connection.execute(
        "UPDATE transcription SET transcript = NULL, state = 'open', cuts_complete = 0,"
        f" generation = id, profile = '{_EXPIRED} ' || profile"
        " WHERE transcript IS NOT NULL AND finished_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM job AS j WHERE j.transcription = transcription.id"
        "                 AND (j.state IN ('queued', 'running', 'settling')"
        "                      OR EXISTS (SELECT 1 FROM errand WHERE errand.job = j.id)))"
        " RETURNING id",
        (before,),
    ).fetchall()
    numbers = [row["id"] for row in rows]
    connection.executemany(
        "DELETE FROM chunk WHERE transcription = ?", [(number,) for number in numbers]
    )  # fmt: skip
    return numbers


def revive(connection: sqlite3.Connection, number: int, job_id: str) -> int:
    """Give work that begins again on an expired transcription one that copies can find; return its number.

    Where the content was transcribed anew meanwhile, under the same settings, that text serves this job too.
    """
    row = connection.execute(
        "SELECT sha256, size_bytes, profile FROM transcription WHERE id = ?", (number,)
    ).fetchone()
    if row is None or not row["profile"].startswith(f"{_EXPIRED} "):
        return number
    key = (row["sha256"], row["size_bytes"], row["profile"].removeprefix(f"{_EXPIRED} "))
    same = "sha256 = ? AND size_bytes = ? AND profile = ?"
    newer = connection.execute(
        f"SELECT id FROM transcription WHERE {same} ORDER BY generation DESC LIMIT 1",
        key,
    ).fetchone()
    if newer is not None:
        connection.execute("UPDATE job SET transcription = ? WHERE id = ?", (newer["id"], job_id))
        return int(newer["id"])
    # Not the first generation: what lies beside the file is this job's own, and was to be made anew.
    connection.execute("UPDATE transcription SET profile = ?, generation = 1 WHERE id = ?", (key[2], number))
    return number


def empty_log(connection: sqlite3.Connection) -> bool:
    """Bring the log of SQLite into the file and cut it to nothing; False: readers are in the way, try later.

    Raises:
        Exception: as ``sqlerror.translate`` has it.
    """
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if (getattr(error, "sqlite_errorname", "") or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return False
        raise translate(error) from error
    return not busy
