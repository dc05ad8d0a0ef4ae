"""Pauses by command: of everything, or of one engine. They end by command alone, no probe lifts them.

Independent of the pauses that failures bring (``ledger``): an engine may be under both. Units of work.
"""

from __future__ import annotations

import sqlite3

ALL = ""  # the row that holds everything
CODE = "engine.by_hand"  # a code of tnfd.errors
DETAIL = "by command, until: tnfd resume"

# A job whose text is stored sends nothing, so it goes on. Who waits for an original says so: it is the nearer
# reason. All other reasons are covered, and tried anew when the hold ends.
_SENDS = (
    "state = 'queued' AND coalesce(waiting_reason, '') NOT IN ('original', 'config')"
    " AND coalesce((SELECT t.state FROM transcription AS t WHERE t.id = job.transcription), '') <> 'done'"
)


def on(connection: sqlite3.Connection, engine: str) -> str | None:
    """What holds an engine: ALL before its own name; None: nothing does."""
    row = connection.execute(
        "SELECT engine FROM hold WHERE engine IN ('', ?) ORDER BY engine LIMIT 1", (engine,)
    ).fetchone()
    return None if row is None else str(row["engine"])


def all_of(connection: sqlite3.Connection) -> list[str]:
    """Everything that is held, by engine."""
    return [row["engine"] for row in connection.execute("SELECT engine FROM hold ORDER BY engine")]


def put(connection: sqlite3.Connection, engine: str, now: float) -> bool:
    """Hold an engine, or ALL; its queued jobs say so. False: it was held already."""
    if engine != ALL:
        connection.execute("INSERT OR IGNORE INTO engine (name) VALUES (?)", (engine,))
    added = connection.execute("INSERT OR IGNORE INTO hold VALUES (?, ?)", (engine, now)).rowcount
    tell_all(connection)
    return bool(added)


def lift(connection: sqlite3.Connection, engine: str | None) -> list[str]:
    """End the hold of an engine, or all holds (None); return what was held. Jobs wait for what else holds."""
    rows = connection.execute(
        "DELETE FROM hold WHERE ?1 IS NULL OR engine = ?1 RETURNING engine", (engine,)
    ).fetchall()
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_detail = '', waiting_until = NULL, not_before = 0,"
        " revision = revision + 1 WHERE state = 'queued'"
        " AND (waiting_reason = 'paused' OR waiting_reason = 'engine_paused' AND waiting_detail = ?)",
        (CODE,),
    )
    connection.execute(
        "UPDATE job SET waiting_reason = 'engine_paused', waiting_detail = e.code, waiting_until = e.probe_at"
        " FROM engine AS e WHERE e.name = job.engine AND e.paused_at IS NOT NULL"
        " AND job.state = 'queued' AND job.waiting_reason IS NULL"
    )
    tell_all(connection)
    return [row["engine"] for row in rows]


def tell_all(connection: sqlite3.Connection) -> None:
    """Let all queued jobs that are held say so."""
    for held in reversed(all_of(connection)):  # ALL comes last, and covers the others
        _tell(connection, "engine = ?1 OR ?1 = ''", held)


def tell(connection: sqlite3.Connection, job_id: str) -> bool:
    """Let one queued job say that it is held, if it is."""
    row = connection.execute("SELECT engine FROM job WHERE id = ?", (job_id,)).fetchone()
    held = None if row is None else on(connection, row["engine"])
    return held is not None and _tell(connection, "id = ?2", held, job_id) > 0


def _tell(connection: sqlite3.Connection, which: str, held: str, *more: object) -> int:
    reason, detail = ("engine_paused", CODE) if held else ("paused", DETAIL)
    return connection.execute(
        f"UPDATE job SET waiting_reason = '{reason}', waiting_detail = '{detail}', waiting_until = NULL,"
        f" revision = revision + 1 WHERE ({which}) AND {_SENDS}",
        (held, *more),
    ).rowcount
