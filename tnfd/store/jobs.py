"""Job rows: the state moves that everything else is made of, and reading a row as a record."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable

from tnfd.model import (
    ErrorInfo,
    Job,
    JobState,
    OutputFile,
    StatKey,
    Transcript,
    Usage,
    Waiting,
)
from tnfd.rules.states import check_move
from tnfd.store import holds, records, routes

ENDED = frozenset({JobState.DONE, JobState.DUPLICATE, JobState.FAILED})  # after may act on these


def note(connection: sqlite3.Connection, job_id: str, at: float, event: str, detail: str) -> None:
    """Add a line to a job's story."""
    connection.execute(
        "INSERT INTO history (job, at, event, detail) VALUES (?, ?, ?, ?)",
        (job_id, at, event, records.plain(detail)),
    )


def touch(connection: sqlite3.Connection, job_id: str, now: float) -> None:
    """Say that something changed which a status file shows."""
    connection.execute("UPDATE job SET revision = revision + 1, updated_at = ? WHERE id = ?", (now, job_id))


def refresh_stat(connection: sqlite3.Connection, job_id: str, stat: StatKey) -> None:
    """Store the file's present stat."""
    connection.execute(
        "UPDATE job SET dev = ?, ino = ?, size_bytes = ?, mtime_ns = ?, ctime_ns = ? WHERE id = ?",
        (*records.stat_values(stat), job_id),
    )


def move(
    connection: sqlite3.Connection, job_id: str, new: JobState, now: float, event: str, detail: str
) -> None:
    """Change a job's state by the table of states; leaves nothing of a former wait or lease.

    Raises:
        ForbiddenMove: the table does not have this move.
    """
    (old,) = connection.execute("SELECT state FROM job WHERE id = ?", (job_id,)).fetchone()
    check_move(JobState(old), new)
    connection.execute(
        "UPDATE job SET state = ?, state_since = ?, updated_at = ?, revision = revision + 1,"
        " waiting_reason = NULL, waiting_until = NULL, waiting_detail = '', not_before = 0,"
        " lease_owner = NULL, finished_at = ?,"
        " after_at = CASE WHEN ? AND json_extract(settings, '$.after') <> 'keep' THEN ? END, after_tries = 0"
        " WHERE id = ?",
        (new, now, now, now if new.final else None, new in ENDED, now, job_id),
    )
    note(connection, job_id, now, event, detail)
    if new is JobState.QUEUED:
        routes.settle(connection, job_id, now)
        wait_for_paused_engine(connection, job_id)


def wait_for_paused_engine(connection: sqlite3.Connection, job_id: str) -> None:
    """Let a queued job say that its engine is paused, if it is, or that everything is."""
    if holds.tell(connection, job_id):
        return
    connection.execute(
        "UPDATE job SET waiting_reason = 'engine_paused', waiting_detail = e.code, waiting_until = e.probe_at"
        " FROM engine AS e WHERE job.id = ? AND e.name = job.engine AND e.paused_at IS NOT NULL",
        (job_id,),
    )


def waits(connection: sqlite3.Connection, job_id: str) -> bool:
    """Whether a job has a reason for waiting."""
    row = connection.execute("SELECT waiting_reason FROM job WHERE id = ?", (job_id,)).fetchone()
    return row is not None and row["waiting_reason"] is not None


def fail(connection: sqlite3.Connection, job_id: str, error: ErrorInfo, now: float) -> None:
    """Move to failed with an error."""
    move(connection, job_id, JobState.FAILED, now, "failed", f"{error.code}: {error.message}")
    connection.execute("UPDATE job SET error = ? WHERE id = ?", (records.dump(error), job_id))


def wait(connection: sqlite3.Connection, job_id: str, waiting: Waiting) -> None:
    """Give a queued job its reason for waiting."""
    until = records.seconds(waiting.until)
    connection.execute(
        "UPDATE job SET waiting_reason = ?, waiting_until = ?, waiting_detail = ?, not_before = ?,"
        " revision = revision + 1 WHERE id = ?",
        (waiting.reason, until, records.plain(waiting.detail), until or 0, job_id),
    )
    holds.tell(connection, job_id)


_SELECT = """
SELECT j.*, t.owner_job, t.engine AS t_engine, t.engine_why AS t_engine_why, t.media, t.samples, t.summary,
       t.audio_s, t.requests, t.uploaded_bytes, t.cost_usd, t.sha256 AS t_sha256,
       o.root AS o_root, o.rel AS o_rel,
       (SELECT count(*) FROM chunk AS c WHERE c.transcription = t.id) AS chunks_total,
       (SELECT count(*) FROM chunk AS c WHERE c.transcription = t.id AND c.result IS NOT NULL) AS chunks_done
FROM job AS j
LEFT JOIN transcription AS t ON t.id = j.transcription
LEFT JOIN job AS o ON o.id = coalesce(j.duplicate_of, '')
"""


def load(connection: sqlite3.Connection, where: str, values: Iterable[object] = ()) -> list[Job]:
    """Read jobs; ``where`` is SQL written in this package, over ``j``, ending the statement."""
    rows = connection.execute(f"{_SELECT} {where}", tuple(values)).fetchall()
    outputs: dict[str, list[OutputFile]] = {}
    for start in range(0, len(rows), 500):
        ids = [row["id"] for row in rows[start : start + 500]]
        for output in connection.execute(
            f"SELECT job, format, name, sha256 FROM output WHERE job IN ({records.marks(ids)})"
            " AND format <> 'status' AND sha256 IS NOT NULL ORDER BY format",
            ids,
        ):
            outputs.setdefault(output["job"], []).append(
                OutputFile(output["format"], output["name"], output["sha256"])
            )
    return [_job(row, tuple(outputs.get(row["id"], ()))) for row in rows]


def get(connection: sqlite3.Connection, job_id: str) -> Job | None:
    """One job, or None."""
    found = load(connection, "WHERE j.id = ?", (job_id,))
    return found[0] if found else None


def _job(row: sqlite3.Row, outputs: tuple[OutputFile, ...]) -> Job:
    state = JobState(row["state"])
    summary: Transcript | None = records.load_transcript(row["summary"])
    duplicate = row["duplicate_of"]
    flags = tuple(json.loads(row["flags"]))
    adopted = records.load_adoption(row["adopted"])
    written = (adopted or summary) if state.final else None
    return Job(
        id=row["id"],
        scope=row["scope"],
        inbox=row["inbox"],
        source=records.ref_of(row),
        settings=records.load_settings(row["settings"]),
        state=state,
        profile=row["profile"],
        seen_at=records.some_moment(row["seen_at"]),
        updated_at=records.some_moment(row["updated_at"]),
        sha256=row["sha256"],
        transcription=row["transcription"],
        waiting=records.waiting_of(row),
        error=records.load_error(row["error"]),
        failures=row["failures"],
        lease_epoch=row["lease_epoch"],
        media=adopted.media if adopted else records.load_media(row["media"], row["samples"]),
        engine=adopted.engine if adopted else records.load_choice(row["t_engine"]),
        engine_why="" if adopted else row["t_engine_why"] or "",
        turn=row["engine"],
        chunks_done=row["chunks_done"],
        chunks_total=row["chunks_total"],
        outputs=outputs,
        timestamps=written.timestamps if written else None,
        languages=written.languages if written else (),
        gaps=written.gaps if written else (),
        doubts=summary.doubts if state.final and summary and not adopted else (),
        flags=flags,
        duplicate_of=(duplicate, os.path.join(row["o_root"], row["o_rel"]))
        if duplicate and row["o_root"] is not None
        else None,
        usage=Usage()
        if duplicate or adopted or row["transcription"] is None
        else Usage(row["audio_s"], row["requests"], row["uploaded_bytes"], row["cost_usd"]),
        settled_at=records.moment(row["settled_at"]),
        started_at=records.moment(row["started_at"]),
        finished_at=records.moment(row["finished_at"]),
        moved_to=row["moved_to"],
        adopted=adopted,
    )
