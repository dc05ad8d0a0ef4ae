"""How a job's turn ends, and what brings it back. Units of work for the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

from tnfd.errors import LeaseLost
from tnfd.model import (
    ErrorInfo,
    Job,
    JobState,
    Waiting,
    WaitReason,
)
from tnfd.ports.queue import (
    Adopted,
    Done,
    Fail,
    Lease,
    LookAgain,
    Outcome,
    Partial,
    Released,
    Retry,
    Vanished,
    Wait,
)
from tnfd.ports.store import Finished
from tnfd.store import holds, jobs, leases, records
from tnfd.store.follow import has_moved
from tnfd.store.intake import forget_sight

_NOT_PAUSED_S = 2.0  # until a job asks again whose engine turned out not to be paused


def finish(connection: sqlite3.Connection, lease: Lease, outcome: Outcome, now: float) -> Finished | None:
    """End a lease; None where it had been lost."""
    try:
        leases.hold(connection, lease)
    except LeaseLost:
        return None
    _END[type(outcome)](connection, lease, outcome, now)
    # An original that only waits holds back the copies in its own scope alone (see _works).
    waits = isinstance(outcome, (Retry, Wait, Released))
    released = _release_copies(connection, lease.job, lease.transcription.id, all_scopes=not waits)
    job = jobs.get(connection, lease.job.id)
    return None if job is None else Finished(job, released)


def _release_copies(
    connection: sqlite3.Connection, original: Job, transcription: int, *, all_scopes: bool
) -> int:
    released = connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_detail = '', not_before = 0, revision = revision + 1"
        " WHERE transcription = ? AND id <> ? AND waiting_reason = 'original' AND (? OR scope <> ?)",
        (transcription, original.id, all_scopes, original.scope),
    ).rowcount
    holds.tell_all(connection)
    return released


def _done(connection: sqlite3.Connection, lease: Lease, outcome: Done, now: float) -> None:
    duplicate = lease.job.duplicate_of is not None
    state = JobState.DUPLICATE if duplicate else JobState.DONE
    jobs.move(connection, lease.job.id, state, now, str(state), "")
    _set_flags(connection, lease, outcome.flags)


def _partial(connection: sqlite3.Connection, lease: Lease, outcome: Partial, now: float) -> None:
    detail = f"{len(outcome.gaps)} gaps"
    jobs.move(connection, lease.job.id, JobState.PARTIAL, now, "partial", detail)
    _set_flags(connection, lease, outcome.flags)


def _adopted(connection: sqlite3.Connection, lease: Lease, outcome: Adopted, now: float) -> None:
    detail = f"done by {outcome.adoption.instance}, job {outcome.adoption.job}"
    jobs.move(connection, lease.job.id, outcome.state, now, "adopted", detail)
    for output in outcome.outputs:
        connection.execute(
            "UPDATE output SET sha256 = ? WHERE job = ? AND format = ?",
            (output.sha256, lease.job.id, output.format),
        )
    _set_flags(connection, lease, outcome.flags)
    connection.execute(
        "UPDATE job SET adopted = ? WHERE id = ?", (records.dump(outcome.adoption), lease.job.id)
    )


def _set_flags(connection: sqlite3.Connection, lease: Lease, flags: tuple[str, ...]) -> None:
    union = tuple(dict.fromkeys((*lease.job.flags, *flags)))
    connection.execute(
        "UPDATE job SET flags = ?, adopted = NULL WHERE id = ?", (records.dump(union), lease.job.id)
    )


def _retry(connection: sqlite3.Connection, lease: Lease, outcome: Retry, now: float) -> None:
    jobs.move(connection, lease.job.id, JobState.QUEUED, now, "retry", f"{outcome.code}: {outcome.message}")
    error = ErrorInfo(outcome.code, outcome.message, outcome.hint, retryable=True)
    connection.execute(
        "UPDATE job SET failures = CASE WHEN ? THEN 0 ELSE failures END + 1, error = ? WHERE id = ?",
        (outcome.anew, records.dump(error), lease.job.id),
    )
    until = records.some_moment(now + outcome.after_s)
    jobs.wait(connection, lease.job.id, Waiting(WaitReason.RETRY, until, outcome.code))


def _wait(connection: sqlite3.Connection, lease: Lease, outcome: Wait, now: float) -> None:
    waiting = outcome.waiting
    before = _turn(connection, lease)
    jobs.move(
        connection, lease.job.id, JobState.QUEUED, now, "waiting", f"{waiting.reason}: {waiting.detail}"
    )
    if waiting.reason is WaitReason.ENGINE_PAUSED and _turn(connection, lease) != before:
        return  # another engine of its list does it
    if waiting.reason is WaitReason.ENGINE_PAUSED:
        # move() has seen whether the engine is still paused. If not, it has just come back, or nobody has
        # told the ledger; a moment's rest keeps the latter from going round and round.
        waiting = Waiting(WaitReason.RETRY, records.some_moment(now + _NOT_PAUSED_S), waiting.detail)
        if jobs.waits(connection, lease.job.id):
            return
    if waiting.reason is not WaitReason.PAUSED or waiting.until:  # move() has seen whether a hold still is
        jobs.wait(connection, lease.job.id, waiting)


def _turn(connection: sqlite3.Connection, lease: Lease) -> str:
    (engine,) = connection.execute("SELECT engine FROM job WHERE id = ?", (lease.job.id,)).fetchone()
    return str(engine)


def _fail(connection: sqlite3.Connection, lease: Lease, outcome: Fail, now: float) -> None:
    if outcome.counted:
        connection.execute("UPDATE job SET failures = failures + 1 WHERE id = ?", (lease.job.id,))
    error = ErrorInfo(outcome.code, outcome.message, outcome.hint, outcome.retryable)
    jobs.fail(connection, lease.job.id, error, now)


def _released(connection: sqlite3.Connection, lease: Lease, _outcome: Released, now: float) -> None:
    jobs.move(connection, lease.job.id, JobState.QUEUED, now, "released", "")


def _look_again(connection: sqlite3.Connection, lease: Lease, outcome: LookAgain, now: float) -> None:
    if has_moved(connection, lease.job.id, lease.job.source.path):
        _vanished(connection, lease, Vanished(), now)
        return
    jobs.move(connection, lease.job.id, JobState.SETTLING, now, "changed", outcome.why)
    connection.execute(
        "UPDATE job SET transcription = NULL, sha256 = NULL, settled_at = NULL WHERE id = ?", (lease.job.id,)
    )
    forget_sight(connection, lease.job.source)
    _drop_unpaid(connection, lease.transcription.id)


def _vanished(connection: sqlite3.Connection, lease: Lease, _outcome: Vanished, now: float) -> None:
    if has_moved(connection, lease.job.id, lease.job.source.path):
        jobs.move(connection, lease.job.id, JobState.QUEUED, now, "released", "its file was moved")
        return
    jobs.move(connection, lease.job.id, JobState.VANISHED, now, "vanished", "")
    forget_sight(connection, lease.job.source)


def _drop_unpaid(connection: sqlite3.Connection, transcription: int) -> None:
    """Remove a transcription that no job needs and nobody paid for."""
    connection.execute(
        "DELETE FROM transcription WHERE id = ? AND requests = 0 AND transcript IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM job WHERE job.transcription = transcription.id)",
        (transcription,),
    )


_END: dict[type, Any] = {
    Done: _done,
    Adopted: _adopted,
    Partial: _partial,
    Retry: _retry,
    Wait: _wait,
    Fail: _fail,
    Released: _released,
    LookAgain: _look_again,
    Vanished: _vanished,
}


def reap(connection: sqlite3.Connection, owners: Collection[str], now: float) -> list[str]:
    """Requeue what these processes left running, and what nobody answers for at all."""
    rows = connection.execute(
        f"SELECT id FROM job WHERE state = 'running' AND (lease_owner IN ({records.marks(owners)})"
        " OR lease_owner IS NULL OR lease_owner NOT IN (SELECT owner FROM process))",
        tuple(owners),
    ).fetchall()
    for row in rows:
        jobs.move(connection, row["id"], JobState.QUEUED, now, "released", "its process ended")
    return [row["id"] for row in rows]


def retry(connection: sqlite3.Connection, job_id: str, now: float) -> bool:
    """Queue a job anew, failures counted from zero; False where there is nothing to retry."""
    row = connection.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return False
    state = JobState(row["state"])
    if state is JobState.QUEUED:
        if row["waiting_reason"] == WaitReason.ORIGINAL:
            return False
        connection.execute(
            "UPDATE job SET waiting_reason = NULL, waiting_until = NULL, waiting_detail = '', not_before = 0,"
            " failures = 0, revision = revision + 1 WHERE id = ?",
            (job_id,),
        )
        jobs.wait_for_paused_engine(connection, job_id)
        jobs.note(connection, job_id, now, "retry", "by command")
        return True
    if state not in (JobState.FAILED, JobState.PARTIAL, JobState.CANCELLED, JobState.VANISHED):
        return False
    if row["transcription"] is None and row["left_at"] is not None:
        return False  # moved away with its content unknown; whoever wants it taken puts it back
    if row["transcription"] is None:  # it failed before its content was known: intake looks again
        jobs.move(connection, job_id, JobState.SETTLING, now, "retry", "by command")
        forget_sight(connection, records.ref_of(row))
    else:
        jobs.move(connection, job_id, JobState.QUEUED, now, "retry", "by command")
        _owe_gaps(connection, row["transcription"])
    connection.execute("UPDATE job SET failures = 0, error = NULL WHERE id = ?", (job_id,))
    return True


def _owe_gaps(connection: sqlite3.Connection, transcription: int) -> None:
    """Let what was given up be asked for again; a transcript with gaps is made anew."""
    connection.execute(
        "UPDATE chunk SET error = NULL WHERE transcription = ? AND result IS NULL", (transcription,)
    )
    connection.execute(
        "UPDATE transcription SET state = 'open', transcript = NULL, summary = NULL, finished_at = NULL"
        " WHERE id = ? AND state = 'partial'",
        (transcription,),
    )


def hold_scope(connection: sqlite3.Connection, scope: str) -> None:
    """Give the queued jobs of a lost inbox their reason for waiting."""
    connection.execute(
        "UPDATE job SET waiting_reason = 'inbox_lost', waiting_until = NULL, waiting_detail = '',"
        " not_before = 0, revision = revision + 1"
        " WHERE scope = ? AND state = 'queued' AND (waiting_reason IS NULL OR waiting_reason = 'inbox_lost')",
        (scope,),
    )


def release_scope(connection: sqlite3.Connection, scope: str) -> None:
    """Take that reason away again."""
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_until = NULL, waiting_detail = '', not_before = 0,"
        " revision = revision + 1 WHERE scope = ? AND state = 'queued' AND waiting_reason = 'inbox_lost'",
        (scope,),
    )
