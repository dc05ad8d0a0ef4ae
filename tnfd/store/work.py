"""What workers write: leases, the plan of cuts, answers, outputs, the end. Units of work for the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tnfd.errors import LeaseLost
from tnfd.model import (
    ChunkResult,
    ContentKey,
    Cut,
    Encoding,
    EngineChoice,
    ErrorInfo,
    Job,
    JobState,
    MediaInfo,
    Transcript,
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
from tnfd.ports.store import Finished, Skip
from tnfd.ports.work import Transcription
from tnfd.rules.names import fold
from tnfd.store import holds, jobs, records, retention, routes
from tnfd.store.follow import has_moved
from tnfd.store.intake import forget_sight

_ON_THE_WAY_S = 1.0  # until a job asks again whose files were being moved when it was to begin
_SILENCE = records.dump(ChunkResult(""))
_NOT_PAUSED_S = 2.0  # until a job asks again whose engine turned out not to be paused

# -- leases ----------------------------------------------------------------------------------------


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


# -- the plan and the answers ------------------------------------------------------------------------


def save_media(connection: sqlite3.Connection, lease: Lease, media: MediaInfo, now: float) -> None:
    """Store what probing found."""
    hold(connection, lease)
    connection.execute(
        "UPDATE transcription SET media = ? WHERE id = ?", (records.dump(media), lease.transcription.id)
    )
    jobs.touch(connection, lease.job.id, now)


def restart_cuts(connection: sqlite3.Connection, lease: Lease, encoding: Encoding) -> None:
    """Drop what was not answered of a plan: another kind of engine takes other files."""
    hold(connection, lease)
    number = lease.transcription.id
    connection.execute("DELETE FROM chunk WHERE transcription = ? AND result IS NULL", (number,))
    connection.execute(
        "UPDATE transcription SET encoding = ?, cuts_complete = 0, samples = NULL, max_s = NULL WHERE id = ?",
        (encoding, number),
    )


def save_cut(connection: sqlite3.Connection, lease: Lease, cut: Cut) -> None:
    """Add a row to the plan, or say how it is encoded now; silence needs no answer."""
    hold(connection, lease)
    connection.execute(
        "INSERT INTO chunk (transcription, idx, start_sample, end_sample, file, size_bytes, torn, silent,"
        " result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (transcription, idx)"
        " DO UPDATE SET file = excluded.file, size_bytes = excluded.size_bytes WHERE chunk.result IS NULL",
        (
            lease.transcription.id, cut.index, cut.start_sample, cut.end_sample, cut.file, cut.size_bytes,
            cut.torn_start + 2 * cut.torn_end, cut.silent, _SILENCE if cut.silent else None,
        ),
    )  # fmt: skip


def split_cuts(connection: sqlite3.Connection, lease: Lease, indexes: Collection[int], max_s: float) -> None:
    """Drop rows without answer that are too long; what they covered is owed in shorter ones."""
    hold(connection, lease)
    number = lease.transcription.id
    connection.execute(
        f"DELETE FROM chunk WHERE transcription = ? AND result IS NULL AND idx IN ({_marks(indexes)})",
        (number, *indexes),
    )
    connection.execute(
        "UPDATE transcription SET max_s = min(coalesce(max_s, ?), ?) WHERE id = ?", (max_s, max_s, number)
    )


def lose_chunk(connection: sqlite3.Connection, lease: Lease, index: int, code: str, now: float) -> None:
    """Give a row up: it becomes a gap, until somebody asks for it again."""
    hold(connection, lease)
    connection.execute(
        "UPDATE chunk SET error = ? WHERE transcription = ? AND idx = ? AND result IS NULL",
        (code, lease.transcription.id, index),
    )
    jobs.note(connection, lease.job.id, now, "gap", code)
    jobs.touch(connection, lease.job.id, now)


def finish_cuts(
    connection: sqlite3.Connection, lease: Lease, samples: int, bad_packets: int, now: float
) -> None:
    """The plan is whole."""
    hold(connection, lease)
    connection.execute(
        "UPDATE transcription SET cuts_complete = 1, samples = ?, bad_packets = ? WHERE id = ?",
        (samples, bad_packets, lease.transcription.id),
    )
    jobs.touch(connection, lease.job.id, now)


def save_chunk(
    connection: sqlite3.Connection,
    lease: Lease,
    index: int,
    engine: EngineChoice,
    result: ChunkResult,
    uploaded_bytes: int,
    cost_usd: float,
    audio_s: float,
    now: float,
) -> None:
    """Store an answer and its price."""
    hold(connection, lease)
    number = lease.transcription.id
    connection.execute(
        "UPDATE chunk SET result = ?, engine = ?, answered_at = ?, error = NULL"
        " WHERE transcription = ? AND idx = ?",
        (records.dump(result), records.dump(engine), now, number, index),
    )
    connection.execute(
        "UPDATE transcription SET engine_why = CASE WHEN engine IS NULL"
        "  THEN (SELECT engine_why FROM job WHERE id = ?1) ELSE engine_why END,"
        " engine = ?2, requests = requests + 1, uploaded_bytes = uploaded_bytes + ?3,"
        " cost_usd = cost_usd + ?4, audio_s = audio_s + ?5 WHERE id = ?6",
        (lease.job.id, records.dump(engine), uploaded_bytes, cost_usd, audio_s, number),
    )
    jobs.touch(connection, lease.job.id, now)


def save_heard(
    connection: sqlite3.Connection, lease: Lease, index: int, result: ChunkResult, now: float
) -> None:
    """Put a better known answer in the place of one that is stored."""
    hold(connection, lease)
    connection.execute(
        "UPDATE chunk SET result = ? WHERE transcription = ? AND idx = ? AND result IS NOT NULL",
        (records.dump(result), lease.transcription.id, index),
    )
    jobs.touch(connection, lease.job.id, now)


def save_transcript(connection: sqlite3.Connection, lease: Lease, transcript: Transcript, now: float) -> None:
    """The text is whole: from here on nothing is ever paid for it again."""
    hold(connection, lease)
    connection.execute(
        "UPDATE transcription SET transcript = ?, summary = ?, state = ?, finished_at = ? WHERE id = ?",
        (
            records.dump(transcript),
            records.dump(replace(transcript, text="", segments=())),
            "partial" if transcript.gaps else "done",
            now,
            lease.transcription.id,
        ),
    )


# -- outputs -----------------------------------------------------------------------------------------


def reserve_output(
    connection: sqlite3.Connection, lease: Lease, format: str, folder: bytes, name: bytes
) -> bool:
    """Reserve a name; False where another job, or another format of this one, has it."""
    hold(connection, lease)
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
    hold(connection, lease)
    connection.execute("DELETE FROM output WHERE job = ? AND format = ?", (lease.job.id, format))


def output_written(connection: sqlite3.Connection, lease: Lease, format: str, sha256: str) -> None:
    """Record what lies on disk."""
    hold(connection, lease)
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


# -- the end -----------------------------------------------------------------------------------------


def finish(connection: sqlite3.Connection, lease: Lease, outcome: Outcome, now: float) -> Finished | None:
    """End a lease; None where it had been lost."""
    try:
        hold(connection, lease)
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


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


def reap(connection: sqlite3.Connection, owners: Collection[str], now: float) -> list[str]:
    """Requeue what these processes left running, and what nobody answers for at all."""
    rows = connection.execute(
        f"SELECT id FROM job WHERE state = 'running' AND (lease_owner IN ({_marks(owners)})"
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
