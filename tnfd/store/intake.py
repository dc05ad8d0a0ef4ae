"""What intake writes: sights, settling files, claims. Units of work for the writer thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence

from tnfd.errors import Fault
from tnfd.model import ContentKey, ErrorInfo, FileRef, JobState, StatKey
from tnfd.ports.claims import Found, Origin
from tnfd.ports.store import Claim
from tnfd.rules.profile import profile_of
from tnfd.rules.ulid import new_ulid
from tnfd.store import follow, jobs, records

_SIGHT = "INSERT OR REPLACE INTO sight VALUES (?, ?, ?, ?, ?, ?, ?)"


def known(
    connection: sqlite3.Connection, root: bytes, after: bytes, limit: int
) -> list[tuple[bytes, StatKey]]:
    """The next sights below a root, in the order of their paths."""
    rows = connection.execute(
        "SELECT rel, dev, ino, size_bytes, mtime_ns, ctime_ns FROM sight WHERE root = ? AND rel > ?"
        " ORDER BY rel LIMIT ?",
        (root, after, limit),
    )
    rows.row_factory = None
    return [(rel, records.stat_key(stat)) for rel, *stat in rows]


def remember(connection: sqlite3.Connection, ref: FileRef) -> None:
    """Record that intake has dealt with the file as it is."""
    connection.execute(_SIGHT, (ref.root, ref.rel, *records.stat_values(ref.stat)))


def forget_sight(connection: sqlite3.Connection, ref: FileRef) -> None:
    """Let intake look at the file anew."""
    connection.execute("DELETE FROM sight WHERE root = ? AND rel = ?", (ref.root, ref.rel))


def claim(connection: sqlite3.Connection, origin: Origin, found: Found, now: float) -> Claim:
    """Make, find or revive the job for a finished file; the transcription is made where it is new."""
    ref = found.ref
    remember(connection, ref)
    if found.follows and not _has_job(connection, found):
        claim = follow.follow(connection, origin, found, now)
        if claim is not None:
            return claim
    elif (moved := _moved_here(connection, found)) is not None:
        return Claim(moved, new=False)
    open_job, same = None, None
    for row in connection.execute(
        # Jobs whose file was moved or deleted have no part in what comes to its place.
        "SELECT * FROM job WHERE path = ? AND left_at IS NULL ORDER BY rowid DESC",
        (ref.path,),
    ):
        refused = row["state"] == JobState.FAILED and row["sha256"] is None
        if row["state"] == JobState.SETTLING or refused:  # a refused file that is whole now
            open_job = open_job or row
        elif (row["sha256"], row["size_bytes"]) == (found.sha256, ref.stat.size_bytes) or _given_up(row, ref):
            same = same or row
    if same is not None:
        # Seen before with this content: touched, moved away and back, or under changed settings, which
        # never re-transcribe by themselves.
        if open_job is not None:
            connection.execute("DELETE FROM job WHERE id = ?", (open_job["id"],))
        # The status file on disk may speak of another content that lay here meanwhile.
        connection.execute(
            "DELETE FROM output WHERE format = 'status'"
            " AND job IN (SELECT id FROM job WHERE path = ? AND id <> ?)",
            (ref.path, same["id"]),
        )
        jobs.touch(connection, same["id"], now)
        jobs.refresh_stat(connection, same["id"], ref.stat)
        connection.execute("UPDATE job SET sha256 = ? WHERE id = ?", (found.sha256, same["id"]))
        _take_over(connection, origin, ref, same)
        if same["state"] == JobState.VANISHED:
            jobs.move(connection, same["id"], JobState.QUEUED, now, "back", "")
        return Claim(same["id"], new=False)
    return Claim(make(connection, open_job["id"] if open_job else None, origin, found, now), new=True)


def _has_job(connection: sqlite3.Connection, found: Found) -> bool:
    """Whether this path had a job with this content before: the file is back."""
    row = connection.execute(
        "SELECT 1 FROM job WHERE path = ? AND sha256 = ? AND left_at IS NULL", (found.ref.path, found.sha256)
    ).fetchone()
    return row is not None


def _moved_here(connection: sqlite3.Connection, found: Found) -> str | None:
    """The job of a recording that ``after`` has put here, in whatever folder that counted as done then."""
    row = connection.execute(
        "SELECT id FROM job WHERE moved_to = ? AND sha256 = ?", (found.ref.path, found.sha256)
    ).fetchone()
    return None if row is None else str(row["id"])


def _given_up(row: sqlite3.Row, ref: FileRef) -> bool:
    """Whether this job was cancelled while this very file was still settling."""
    early = row["state"] == JobState.CANCELLED and row["sha256"] is None
    return early and records.stat_of(row).ino == ref.stat.ino


def make(
    connection: sqlite3.Connection, settling: str | None, origin: Origin, found: Found, now: float
) -> str:
    """Queue a job for a finished file, from the settling one if there is one; return its id."""
    ref, profile = found.ref, profile_of(origin.settings)
    job_id = _job_for(connection, settling, origin, ref, found, now, profile)
    content = ContentKey(found.sha256, ref.stat.size_bytes, profile)
    transcription = newest_transcription(connection, content) or add_transcription(
        connection, content, job_id, now
    )
    connection.execute("UPDATE job SET transcription = ? WHERE id = ?", (transcription, job_id))
    jobs.move(connection, job_id, JobState.QUEUED, now, "queued", f"sha256 {found.sha256[:12]}")
    return job_id


def newest_transcription(connection: sqlite3.Connection, content: ContentKey) -> int | None:
    """The transcription that files with this content and profile use; None: there is none yet."""
    row = connection.execute(
        "SELECT id FROM transcription WHERE sha256 = ? AND size_bytes = ? AND profile = ?"
        " ORDER BY generation DESC LIMIT 1",
        (content.sha256, content.size_bytes, content.profile),
    ).fetchone()
    return None if row is None else int(row["id"])


def add_transcription(
    connection: sqlite3.Connection, content: ContentKey, owner: str, now: float, *, generation: int = 0
) -> int:
    """Begin a transcription, of the next generation where there are some, else of this; return its id."""
    key = (content.sha256, content.size_bytes, content.profile)
    cursor = connection.execute(
        "INSERT INTO transcription (sha256, size_bytes, profile, generation, owner_job, created_at)"
        " SELECT ?1, ?2, ?3, coalesce(max(generation) + 1, ?6), ?4, ?5 FROM transcription"
        " WHERE sha256 = ?1 AND size_bytes = ?2 AND profile = ?3",
        (*key, owner, now, generation),
    )
    return int(cursor.lastrowid or 0)


def _take_over(connection: sqlite3.Connection, origin: Origin, ref: FileRef, row: sqlite3.Row) -> None:
    """Bring a job into this inbox that another one made, which may be configured no longer.

    What a batch is about to do stays with it; in the end it gives back what it has not done.
    """
    if row["state"] == JobState.RUNNING or _is_live_batch(connection, row["scope"]):
        return
    connection.execute(
        "UPDATE job SET scope = ?, inbox = ?, root = ?, rel = ? WHERE id = ?",
        (origin.scope, origin.inbox, ref.root, ref.rel, row["id"]),
    )


def _is_live_batch(connection: sqlite3.Connection, scope: str) -> bool:
    owner = scope.removeprefix("batch:")
    return connection.execute("SELECT 1 FROM process WHERE owner = ?", (owner,)).fetchone() is not None


def _job_for(
    connection: sqlite3.Connection,
    settling: str | None,
    origin: Origin,
    ref: FileRef,
    found: Found,
    now: float,
    profile: str,
) -> str:
    job_id = settling or insert(connection, origin, ref, found.seen_at.timestamp(), profile, now)
    jobs.refresh_stat(connection, job_id, ref.stat)
    # It may have begun to settle under another configuration, or have failed with another content.
    connection.execute(
        "UPDATE job SET sha256 = ?, settled_at = ?, scope = ?, inbox = ?, root = ?, rel = ?, settings = ?,"
        " profile = ?, engine = ?, flags = ?, failures = 0, error = NULL WHERE id = ?",
        (found.sha256, found.settled_at.timestamp(), origin.scope, origin.inbox, ref.root, ref.rel,
         records.dump(origin.settings), profile, origin.settings.engines[0].name,
         records.dump(found.flags), job_id),
    )  # fmt: skip
    return job_id


def insert(
    connection: sqlite3.Connection, origin: Origin, ref: FileRef, seen_at: float, profile: str, now: float
) -> str:
    """Insert a job in state ``settling``; return its id."""
    job_id = new_ulid(now, os.urandom(10))
    settings = origin.settings
    connection.execute(
        "INSERT INTO job (id, scope, inbox, root, rel, path, dev, ino, size_bytes, mtime_ns, ctime_ns,"
        " settings, profile, engine, state, state_since, seen_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'settling', ?, ?, ?)",
        (job_id, origin.scope, origin.inbox, ref.root, ref.rel, ref.path, *records.stat_values(ref.stat),
         records.dump(settings), profile, settings.engines[0].name, seen_at, seen_at, now),
    )  # fmt: skip
    jobs.note(connection, job_id, seen_at, "seen", f"{ref.stat.size_bytes} bytes")
    return job_id


def _open_job(connection: sqlite3.Connection, path: bytes) -> str | None:
    row = connection.execute(
        "SELECT id FROM job WHERE path = ? AND state = 'settling' ORDER BY rowid DESC", (path,)
    ).fetchone()
    return None if row is None else str(row["id"])


def settling(connection: sqlite3.Connection, origin: Origin, ref: FileRef, seen_at: float, now: float) -> str:
    """Show a file that may still be growing."""
    job_id = _open_job(connection, ref.path)
    if job_id is None:
        last = connection.execute(
            "SELECT * FROM job WHERE path = ? ORDER BY rowid DESC LIMIT 1", (ref.path,)
        ).fetchone()
        if last is not None and _given_up(last, ref):
            return str(last["id"])
        return insert(connection, origin, ref, seen_at, profile_of(origin.settings), now)
    jobs.refresh_stat(connection, job_id, ref.stat)
    jobs.touch(connection, job_id, now)
    return job_id


def refuse(
    connection: sqlite3.Connection, origin: Origin, ref: FileRef, seen_at: float, fault: Fault, now: float
) -> Claim:
    """Record a file that failed before its content was known; looked at again once its stat changes."""
    remember(connection, ref)
    job_id = _open_job(connection, ref.path)
    if job_id is None:
        row = connection.execute(
            "SELECT id, error FROM job WHERE path = ? AND state = 'failed' AND sha256 IS NULL"
            " AND left_at IS NULL"
            " ORDER BY rowid DESC",
            (ref.path,),
        ).fetchone()
        error = None if row is None else records.load_error(row["error"])
        if error is not None and error.code == fault.code:
            return Claim(str(row["id"]), new=False)  # still the same trouble: one job, one line in the log
        job_id = insert(connection, origin, ref, seen_at, profile_of(origin.settings), now)
    jobs.refresh_stat(connection, job_id, ref.stat)
    jobs.fail(connection, job_id, ErrorInfo(fault.code, fault.message, fault.hint, fault.retryable), now)
    return Claim(job_id, new=True)


def gone(connection: sqlite3.Connection, root: bytes, rels: Sequence[bytes], now: float) -> list[str]:
    """Files that left while settling."""
    ids = []
    for rel in rels:
        job_id = _open_job(connection, os.path.join(root, rel))
        if job_id is not None:
            jobs.move(connection, job_id, JobState.VANISHED, now, "vanished", "")
            ids.append(job_id)
    return ids


def leave(connection: sqlite3.Connection, ref: FileRef, why: str, now: float) -> None:
    """Remember a finished file that is nobody's business; a job that shows it settling ends."""
    remember(connection, ref)
    job_id = _open_job(connection, ref.path)
    if job_id is not None:
        jobs.refresh_stat(connection, job_id, ref.stat)
        jobs.move(connection, job_id, JobState.CANCELLED, now, "ignored", why)


def first_start(connection: sqlite3.Connection, root: bytes) -> bool:
    """Whether no first scan below a root was ever finished."""
    return connection.execute("SELECT 1 FROM started WHERE root = ?", (root,)).fetchone() is None


def started(connection: sqlite3.Connection, root: bytes, now: float) -> None:
    """Note that a first scan below a root was finished."""
    connection.execute("INSERT OR IGNORE INTO started VALUES (?, ?)", (root, now))


def unsettled(connection: sqlite3.Connection, root: bytes) -> dict[bytes, StatKey]:
    """The jobs below a root that are still settling: relative path -> the stat seen last."""
    rows = connection.execute(
        "SELECT rel, dev, ino, size_bytes, mtime_ns, ctime_ns FROM job WHERE root = ? AND state = 'settling'",
        (root,),
    )
    return {row["rel"]: records.stat_of(row) for row in rows}
