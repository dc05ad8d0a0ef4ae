"""A job's turn: who may work on it, what is known of its transcription. Units of work for the writer."""

from __future__ import annotations

import sqlite3

from tnfd.errors import LeaseLost
from tnfd.model import (
    ContentKey,
    JobState,
    Waiting,
    WaitReason,
)
from tnfd.ports.queue import (
    Lease,
)
from tnfd.ports.store import Skip
from tnfd.ports.work import Transcription
from tnfd.store import holds, jobs, records, retention, routes

_ON_THE_WAY_S = 1.0  # until a job asks again whose files were being moved when it was to begin


def begin(connection: sqlite3.Connection, job_id: str, owner: str, now: float) -> Lease | Skip:
    """Lease a queued job, unless its transcription is being made for another one."""
    row = connection.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None or row["state"] != JobState.QUEUED or row["transcription"] is None:
        return Skip("not queued")
    if connection.execute("SELECT 1 FROM errand WHERE job = ?", (job_id,)).fetchone():
        until = records.some_moment(now + _ON_THE_WAY_S)
        jobs.wait(connection, job_id, Waiting(WaitReason.RETRY, until, "its files are being moved"))
        return Skip("its files are being moved")
    transcription = _transcription(connection, retention.revive(connection, row["transcription"], job_id))
    if transcription.transcript is None and holds.tell(connection, job_id):
        return Skip("paused by command")
    duplicate_of: str | None = None
    if transcription.owner_job != job_id:
        if transcription.transcript is not None:
            duplicate_of = transcription.owner_job
        elif _works(connection, transcription, row["scope"]):
            jobs.wait(connection, job_id, Waiting(WaitReason.ORIGINAL, None, transcription.owner_job))
            return Skip("the original is in work")
        else:  # the original failed, was cancelled or left: this copy tries
            connection.execute(
                "UPDATE transcription SET owner_job = ? WHERE id = ?", (job_id, transcription.id)
            )
            transcription = _transcription(connection, transcription.id)
    routes.settle(connection, job_id, now, begins=True)
    epoch = row["lease_epoch"] + 1
    jobs.move(connection, job_id, JobState.RUNNING, now, "started", f"attempt {epoch}")
    connection.execute(
        "UPDATE job SET lease_epoch = ?, lease_owner = ?, started_at = coalesce(started_at, ?), error = NULL,"
        " duplicate_of = ? WHERE id = ?",
        (epoch, owner, now, duplicate_of, job_id),
    )
    job = jobs.get(connection, job_id)
    if job is None:
        raise LeaseLost(job_id)
    return Lease(job, epoch, transcription)


def _works(connection: sqlite3.Connection, transcription: Transcription, scope: str) -> bool:
    """Whether the owner of a transcription makes it, or will before a copy in ``scope`` could.

    An owner that only queues in another scope does not count: that inbox may be configured no longer, that
    batch may have been interrupted, and then its turn never comes.
    """
    row = connection.execute(
        "SELECT state, transcription, scope FROM job WHERE id = ?", (transcription.owner_job,)
    ).fetchone()
    if row is None or row["transcription"] != transcription.id:
        return False
    state = JobState(row["state"])
    return state is JobState.RUNNING or (state is JobState.QUEUED and bool(row["scope"] == scope))


def _transcription(connection: sqlite3.Connection, number: int) -> Transcription:
    row = connection.execute("SELECT * FROM transcription WHERE id = ?", (number,)).fetchone()
    cuts, results, losses = [], {}, {}
    for chunk in connection.execute("SELECT * FROM chunk WHERE transcription = ? ORDER BY idx", (number,)):
        cuts.append(records.cut_of(chunk))
        if chunk["result"] is not None:
            results[chunk["idx"]] = records.load_result(chunk["result"])
        elif chunk["error"] is not None:
            losses[chunk["idx"]] = chunk["error"]
    return Transcription(
        id=row["id"],
        key=ContentKey(row["sha256"], row["size_bytes"], row["profile"]),
        owner_job=row["owner_job"] or "",
        engine=records.load_choice(row["engine"]),
        encoding=row["encoding"],
        media=records.load_media(row["media"]),
        cuts=tuple(cuts),
        cuts_complete=bool(row["cuts_complete"]),
        samples=row["samples"],
        bad_packets=row["bad_packets"] or 0,
        results=results,
        transcript=records.load_transcript(row["transcript"]),
        generation=row["generation"],
        losses=losses,
        max_s=row["max_s"],
    )


def hold(connection: sqlite3.Connection, lease: Lease) -> None:
    """Do nothing while the lease holds.

    Raises:
        LeaseLost: the job has another epoch or state now.
    """
    row = connection.execute("SELECT state, lease_epoch FROM job WHERE id = ?", (lease.job.id,)).fetchone()
    if row is None or row["state"] != JobState.RUNNING or row["lease_epoch"] != lease.epoch:
        raise LeaseLost(lease.job.id)
