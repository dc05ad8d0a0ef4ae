"""What a batch reads and writes of its own: former jobs of its files, taking files, and handing jobs back.

Units of work for the writer thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import replace

from tnfd.model import JobState
from tnfd.ports.batch import Former, Take, Taken, Taking, Waits
from tnfd.ports.claims import NAMELESS, inbox_scope
from tnfd.rules.profile import profile_of
from tnfd.store import commands, holds, intake, jobs, records, routes


def formers(connection: sqlite3.Connection, folder: bytes) -> dict[bytes, list[Former]]:
    """Jobs with a known content below an absolute folder, newest first, by absolute path."""
    low = folder.rstrip(b"/") + b"/"
    high = low[:-1] + b"0"  # the byte after the slash
    outputs: dict[str, list[tuple[str, bytes, bytes]]] = {}
    for row in connection.execute(
        "SELECT o.job, o.format, o.folder, o.name FROM output AS o JOIN job AS j ON j.id = o.job"
        " WHERE j.path > ? AND j.path < ? AND o.format <> 'status' AND o.sha256 IS NOT NULL",
        (low, high),
    ):
        outputs.setdefault(row["job"], []).append((row["format"], row["folder"], row["name"]))
    found: dict[bytes, list[Former]] = {}
    for row in connection.execute(
        "SELECT j.*, t.state AS t_state, t.created_at FROM job AS j"
        " JOIN transcription AS t ON t.id = j.transcription"
        " WHERE j.path > ? AND j.path < ? AND j.sha256 IS NOT NULL AND j.left_at IS NULL"
        " ORDER BY j.rowid DESC",
        (low, high),
    ):
        found.setdefault(row["path"], []).append(
            Former(
                job=row["id"],
                path=row["path"],
                stat=records.stat_of(row),
                sha256=row["sha256"],
                profile=row["profile"],
                state=JobState(row["state"]),
                transcribed=row["t_state"] == "done",
                begun_at=row["created_at"],
                outputs=tuple(outputs.get(row["id"], ())),
            )
        )
    return found


def take(connection: sqlite3.Connection, wanted: Take, live: Collection[str], now: float) -> Taken:
    """Make, find or take over the job of one file."""
    origin, found = wanted.origin, wanted.found
    profile = profile_of(origin.settings)
    if wanted.remember:
        intake.remember(connection, found.ref)
    settling, same = None, None
    for row in connection.execute(
        "SELECT * FROM job WHERE path = ? AND left_at IS NULL ORDER BY rowid DESC", (found.ref.path,)
    ).fetchall():
        ours = row["scope"] == origin.scope or not _lives(connection, row["scope"], live)
        content = (row["sha256"], row["size_bytes"], row["profile"])
        if row["state"] == JobState.SETTLING:
            settling = settling or (row["id"] if ours else None)
        elif content == (found.sha256, found.ref.stat.size_bytes, profile):
            same = same or row
    if same is None:
        job_id = intake.make(connection, settling, origin, found, now)
        connection.execute("UPDATE job SET priority = ? WHERE id = ?", (wanted.priority, job_id))
        return Taken(job_id, Taking.NEW)
    if settling is not None:
        connection.execute("DELETE FROM job WHERE id = ?", (settling,))
    jobs.refresh_stat(connection, same["id"], found.ref.stat)
    return _again(connection, wanted, same, live, now)


def _lives(connection: sqlite3.Connection, scope: str, live: Collection[str]) -> bool:
    """Whether somebody works on the jobs of a scope."""
    if not scope.startswith("batch:"):
        return scope in live
    owner = scope.removeprefix("batch:")
    return connection.execute("SELECT 1 FROM process WHERE owner = ?", (owner,)).fetchone() is not None


def _again(
    connection: sqlite3.Connection, wanted: Take, row: sqlite3.Row, live: Collection[str], now: float
) -> Taken:
    """Decide on a job that the path has already, with this content and these settings."""
    job_id, state, scope = row["id"], JobState(row["state"]), wanted.origin.scope
    if state is JobState.RUNNING:
        return Taken(job_id, Taking.FOLLOW)
    if state is JobState.QUEUED and row["scope"] != scope and _lives(connection, row["scope"], live):
        return Taken(job_id, Taking.FOLLOW)
    text = connection.execute(
        "SELECT id, state, created_at FROM transcription WHERE id = ?", (row["transcription"],)
    ).fetchone()
    redo = wanted.redo_since is not None and text["created_at"] < wanted.redo_since
    settings = wanted.origin.settings
    if (
        state in (JobState.DONE, JobState.DUPLICATE)
        and not redo
        and wanted.present.issuperset(settings.formats)
    ):
        return Taken(job_id, Taking.ALREADY)
    if redo:
        _redo(connection, wanted, row, now)
    _queue(connection, wanted, job_id, now)
    done = text["state"] == "done" and not redo
    return Taken(job_id, Taking.RENDER if done else Taking.NEW)


def _queue(connection: sqlite3.Connection, wanted: Take, job_id: str, now: float) -> None:
    """Bring a job that nobody works on into this scope, to be done with these settings."""
    origin, ref = wanted.origin, wanted.found.ref
    row = connection.execute("SELECT state, settings FROM job WHERE id = ?", (job_id,)).fetchone()
    former = records.load_settings(row["settings"])
    settings = origin.settings
    if former.output_dir == settings.output_dir:
        # What else was asked for and is there belongs to the job still.
        kept = [name for name in former.formats if name in wanted.present and name not in settings.formats]
        settings = replace(settings, formats=(*settings.formats, *kept))
    if JobState(row["state"]) is not JobState.QUEUED:
        jobs.move(connection, job_id, JobState.QUEUED, now, "queued", "by a batch")
    connection.execute(
        "UPDATE job SET scope = ?, inbox = ?, root = ?, rel = ?, settings = ?, engine = ?, priority = ?,"
        " failures = 0, error = NULL, not_before = 0, waiting_reason = NULL, waiting_until = NULL,"
        " waiting_detail = '' WHERE id = ?",
        (origin.scope, origin.inbox, ref.root, ref.rel, records.dump(settings), settings.engines[0].name,
         wanted.priority, job_id),
    )  # fmt: skip
    routes.settle(connection, job_id, now)
    jobs.wait_for_paused_engine(connection, job_id)
    holds.tell(connection, job_id)


def _redo(connection: sqlite3.Connection, wanted: Take, row: sqlite3.Row, now: float) -> None:
    """Begin a transcription anew, or join the one that this redo has begun for the same content."""
    begun = connection.execute(
        "SELECT id FROM transcription WHERE sha256 = ? AND created_at >= ?",
        (row["sha256"], wanted.redo_since),
    ).fetchall()
    settings = wanted.origin.settings
    commands.redo(connection, row["id"], settings, wanted.found.ref.stat, {one["id"] for one in begun}, now)


def hand_back(connection: sqlite3.Connection, owners: Collection[str]) -> None:
    """Give jobs that ended batches had taken from inboxes back to these, whose daemon goes on with them."""
    for owner in owners:
        taken = "scope = ? AND inbox <> ? AND state <> 'running'"
        values = (f"batch:{owner}", NAMELESS)
        roots = connection.execute(f"SELECT DISTINCT root FROM job WHERE {taken}", values).fetchall()
        for (root,) in roots:
            connection.execute(
                f"UPDATE job SET scope = ? WHERE {taken} AND root = ?", (inbox_scope(root), *values, root)
            )


def waits(connection: sqlite3.Connection, scope: str) -> list[Waits]:
    """Why the queued jobs of a scope wait."""
    rows = connection.execute(
        "SELECT coalesce(waiting_reason, '') AS reason, max(waiting_detail) AS detail, count(*) AS jobs"
        " FROM job WHERE scope = ? AND state = 'queued' GROUP BY 1",
        (scope,),
    )
    return [Waits(row["reason"], row["detail"] or "", row["jobs"]) for row in rows]


def daemon_works(connection: sqlite3.Connection) -> bool:
    """Whether a daemon has announced itself."""
    return connection.execute("SELECT 1 FROM process WHERE kind = 'daemon'").fetchone() is not None


def redo_begun(connection: sqlite3.Connection, fingerprint: str) -> float | None:
    """When the unfinished redo with this fingerprint was begun; None: there is none."""
    row = connection.execute("SELECT begun_at FROM redo WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return None if row is None else float(row["begun_at"])


def redo_begin(connection: sqlite3.Connection, fingerprint: str, now: float) -> float:
    """When the unfinished redo with this fingerprint was begun."""
    connection.execute("INSERT OR IGNORE INTO redo VALUES (?, ?)", (fingerprint, now))
    return redo_begun(connection, fingerprint) or now


def redo_end(connection: sqlite3.Connection, fingerprint: str) -> None:
    """Forget a redo."""
    connection.execute("DELETE FROM redo WHERE fingerprint = ?", (fingerprint,))
