"""What people and the keeper of status files ask the database. Reads only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from tnfd.model import HistoryEntry, Job, JobState, OutputFile
from tnfd.ports.claims import NAMELESS
from tnfd.store import jobs, records


def listing(
    connection: sqlite3.Connection,
    state: JobState | None,
    inbox: str | None,
    path: bytes | None,
    limit: int | None,
) -> list[Job]:
    """Jobs, newest first."""
    terms, values = ["1"], list[object]()
    if state is not None:
        terms.append("j.state = ?")
        values.append(state)
    if inbox is not None:
        terms.append("j.inbox = ?")
        values.append(inbox)
    if path is not None:
        terms.append("(j.path = ? OR j.moved_to = ?)")
        values += [path, path]
    values.append(-1 if limit is None else limit)
    return jobs.load(connection, f"WHERE {' AND '.join(terms)} ORDER BY j.id DESC LIMIT ?", values)


def by_prefix(connection: sqlite3.Connection, prefix: str) -> list[str]:
    """Job ids that begin with ``prefix``."""
    rows = connection.execute(
        "SELECT id FROM job WHERE id >= ?1 AND id < ?1 || 'a' ORDER BY id DESC LIMIT 20", (prefix.upper(),)
    )
    return [row["id"] for row in rows]


def history(connection: sqlite3.Connection, job_id: str) -> list[HistoryEntry]:
    """A job's story, oldest first."""
    rows = connection.execute("SELECT at, event, detail FROM history WHERE job = ? ORDER BY id", (job_id,))
    return [HistoryEntry(records.some_moment(row["at"]), row["event"], row["detail"]) for row in rows]


def outputs(connection: sqlite3.Connection, job_id: str) -> list[tuple[bytes, OutputFile]]:
    """A job's reserved and written outputs with their folders; the status file too (format ``status``)."""
    rows = connection.execute(
        "SELECT folder, format, name, sha256 FROM output WHERE job = ? ORDER BY format", (job_id,)
    )
    return [(row["folder"], OutputFile(row["format"], row["name"], row["sha256"])) for row in rows]


def reserved(connection: sqlite3.Connection, folder: bytes, folded: Collection[str]) -> frozenset[str]:
    """Those of these names in a folder that belong to jobs."""
    spelt = {records.plain(name): name for name in folded}
    rows = connection.execute(
        "SELECT folded FROM output WHERE folder = ? AND folded IN (SELECT value FROM json_each(?))",
        (folder, json.dumps([*spelt])),
    )
    return frozenset(spelt[row["folded"]] for row in rows)


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Jobs by state; states without jobs are left out."""
    return dict(connection.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())


def left_by_batches(connection: sqlite3.Connection) -> dict[str, int]:
    """Jobs that are queued for batches, by the owner's name; those of an inbox go back to it."""
    rows = connection.execute(
        "SELECT scope, count(*) AS jobs FROM job"
        " WHERE state = 'queued' AND scope LIKE 'batch:%' AND inbox = ? GROUP BY scope",
        (NAMELESS,),
    )
    return {row["scope"].removeprefix("batch:"): row["jobs"] for row in rows}


def waiting(connection: sqlite3.Connection) -> dict[str, int]:
    """Queued jobs by reason."""
    return dict(
        connection.execute(
            "SELECT waiting_reason, count(*) FROM job WHERE state = 'queued' AND waiting_reason IS NOT NULL"
            " GROUP BY waiting_reason"
        ).fetchall()
    )


def status_due(
    connection: sqlite3.Connection, scopes: Collection[str], now: float, limit: int, without: Collection[str]
) -> list[tuple[Job, int]]:
    """Jobs whose status file is behind: final ones at once, others after 10 s, then at most every 10 s."""
    rows = connection.execute(
        "SELECT id, revision FROM job WHERE revision <> status_revision"
        " AND scope IN (SELECT value FROM json_each(:scopes))"
        " AND id NOT IN (SELECT value FROM json_each(:without))"
        " AND (state NOT IN ('settling', 'queued', 'running')"
        "      OR ((state_since <= :now - 10 OR state_since > :now)"  # in the future: the clock was set back
        "          AND (status_at <= :now - 10 OR status_at > :now)))"
        " ORDER BY updated_at LIMIT :limit",
        {"scopes": json.dumps([*scopes]), "without": json.dumps([*without]), "now": now, "limit": limit},
    ).fetchall()
    ids = [row["id"] for row in rows]
    found = {job.id: job for job in jobs.load(connection, f"WHERE j.id IN ({records.marks(ids)})", ids)}
    return [(found[row["id"]], row["revision"]) for row in rows]


def status_behind(connection: sqlite3.Connection, scopes: Collection[str]) -> bool:
    """Whether some job's status file is behind."""
    query = "SELECT 1 FROM job WHERE revision <> status_revision AND scope IN"
    found = connection.execute(f"{query} ({records.marks(scopes)}) LIMIT 1", tuple(scopes))
    return found.fetchone() is not None


def job(connection: sqlite3.Connection, job_id: str) -> Job | None:
    """One job."""
    return jobs.get(connection, job_id)


def open_transcriptions(connection: sqlite3.Connection) -> set[int]:
    """Transcriptions without their whole text on which somebody will work by himself."""
    rows = connection.execute(
        "SELECT id FROM transcription AS t WHERE state <> 'done' AND EXISTS"
        " (SELECT 1 FROM job WHERE job.transcription = t.id AND job.state IN ('queued', 'running'))"
    )
    return {row["id"] for row in rows}
