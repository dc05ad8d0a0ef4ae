"""What the command line does to jobs: cancel, forget, redo. Units of work; ``retry`` is in ``store.work``.

Each decides again on the row as it is inside the transaction, for the daemon may have been faster.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from tnfd.model import ContentKey, JobSettings, JobState, StatKey
from tnfd.rules.profile import profile_of
from tnfd.store import holds, intake, jobs, records

_REDONE = (JobState.DONE, JobState.PARTIAL, JobState.DUPLICATE, JobState.FAILED, JobState.CANCELLED)


def cancel(connection: sqlite3.Connection, job_id: str, now: float) -> JobState | None:
    """Take a job out of the work; return the state that it had, None where there is no such job.

    A final job is left as it is. Whoever works on a running one is fenced off at once.
    """
    row = connection.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return None
    state = JobState(row["state"])
    if not state.final:
        connection.execute("UPDATE job SET lease_epoch = lease_epoch + 1 WHERE id = ?", (job_id,))
        jobs.move(connection, job_id, JobState.CANCELLED, now, "cancelled", "by command")
        _release_copies(connection, row)
    return state


def forget(connection: sqlite3.Connection, job_id: str) -> tuple[JobState | None, list[int] | None]:
    """Remove all that is known of a job but that its file was seen; outputs stay on disk.

    Returns the state that it had (None: no such job) and the transcriptions that went with it, whose scratch
    nobody needs; None in their place: it is not at rest, and was left as it is.
    """
    row = connection.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return None, None
    state = JobState(row["state"])
    on_the_way = connection.execute("SELECT 1 FROM errand WHERE job = ?", (job_id,)).fetchone()
    if on_the_way or state in (JobState.RUNNING, JobState.SETTLING):
        return state, None
    _release_copies(connection, row)
    # The sight stays, and if there is none (an old file of a batch) nothing takes the file by itself anyway.
    connection.execute("DELETE FROM job WHERE id = ?", (job_id,))
    connection.execute(
        "UPDATE transcription SET owner_job = (SELECT min(j.id) FROM job AS j"
        " WHERE j.transcription = transcription.id) WHERE owner_job = ?",
        (job_id,),
    )
    return state, _drop_unneeded(connection, row["sha256"])


def redo(
    connection: sqlite3.Connection,
    job_id: str,
    settings: JobSettings,
    stat: StatKey,
    begun: Collection[int],
    now: float,
) -> int | None:
    """Queue a finished job for a fresh transcription under new settings; None where it is not finished.

    Copies share it: a transcription of ``begun`` with the same content and profile is joined, else a new
    generation begins, never the first: that one may be adopted from another tnfd. ``stat`` is the file's
    present one. Returns the transcription.
    """
    row = connection.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None or row["state"] not in _REDONE or row["sha256"] is None:
        return None
    profile = profile_of(settings)
    content = ContentKey(row["sha256"], row["size_bytes"], profile)
    number = intake.newest_transcription(connection, content)
    if number is None or number not in begun:
        number = intake.add_transcription(connection, content, job_id, now, generation=1)
    flags = _own_flags(connection, row)
    jobs.refresh_stat(connection, job_id, stat)
    # Before the move, which looks whether the engine is paused.
    connection.execute(
        "UPDATE job SET settings = ?, profile = ?, engine = ?, transcription = ?, duplicate_of = NULL,"
        " failures = 0, error = NULL, flags = ?, started_at = NULL, adopted = NULL WHERE id = ?",
        (records.dump(settings), profile, settings.engines[0].name, number, flags, job_id),
    )
    jobs.move(connection, job_id, JobState.QUEUED, now, "redo", "by command")
    return number


def _own_flags(connection: sqlite3.Connection, row: sqlite3.Row) -> str:
    """Flags of the file itself, without those of its text (draft, repetition, ...), as they are stored."""
    text = connection.execute(
        "SELECT transcript FROM transcription WHERE id = ?", (row["transcription"],)
    ).fetchone()
    transcript = None if text is None else records.load_transcript(text["transcript"])
    gone = () if transcript is None else transcript.flags
    return records.dump([flag for flag in json.loads(row["flags"]) if flag not in gone])


def _release_copies(connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Let go of the copies that wait for a job which will not make their text."""
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_detail = '', not_before = 0, revision = revision + 1"
        " WHERE transcription = ? AND id <> ? AND waiting_reason = 'original'",
        (row["transcription"], row["id"]),
    )
    holds.tell_all(connection)


def _drop_unneeded(connection: sqlite3.Connection, sha256: str | None) -> list[int]:
    """Remove the transcriptions of a content that no job uses any more."""
    rows = connection.execute(
        "DELETE FROM transcription WHERE sha256 = ?"
        " AND NOT EXISTS (SELECT 1 FROM job WHERE job.transcription = transcription.id) RETURNING id",
        (sha256,),
    ).fetchall()
    return [row["id"] for row in rows]
