"""Which engine's turn it is for jobs that name several in order of preference. Units of work.

Keeps ``job.engine`` at the choice of ``rules.preference``, so that all else asks about one engine only.
Looked at whenever a job is queued or begun, and for all of them when a pause begins or ends.
"""

from __future__ import annotations

import json
import sqlite3

from tnfd.rules.preference import Paused, choose_engine
from tnfd.store import holds
from tnfd.store.records import CLOCK_SLACK_S

PROBE_BEGUN_S = 60.0  # a job begun as a probe reaches the engine in this time, or another one is tried

# Nobody is about to find out about the engine e at the moment :now.
NOBODY_PROBES = """
    NOT EXISTS (SELECT 1 FROM reservation AS r WHERE r.engine = e.name AND r.probe = 1)
    AND NOT EXISTS (
      SELECT 1 FROM job AS b JOIN transcription AS u ON u.id = b.transcription
      WHERE b.engine = e.name AND u.state <> 'done' AND b.state = 'running'
        AND b.state_since BETWEEN max(e.probe_at, :now - :begun) AND :now)
"""

_MANY = "json_array_length(j.settings, '$.engines') > 1"


def settle(connection: sqlite3.Connection, job_id: str, now: float, *, begins: bool = False) -> None:
    """Choose for one job; ``begins``: it is about to be worked on, and may probe."""
    rows = connection.execute(f"{_SELECT} WHERE j.id = ? AND {_MANY}", (job_id,)).fetchall()
    _settle(connection, rows, now, begins=begins)


def settle_all(connection: sqlite3.Connection, now: float) -> None:
    """Choose anew for all queued jobs: a pause has begun or ended."""
    rows = connection.execute(
        f"{_SELECT} WHERE j.state = 'queued' AND coalesce(t.state, '') <> 'done' AND {_MANY}"
    ).fetchall()
    _settle(connection, rows, now, begins=False)


_SELECT = """
SELECT j.id, j.engine, j.engine_why, json_extract(j.settings, '$.engines') AS engines,
       json_extract(t.engine, '$.name') AS paid
FROM job AS j LEFT JOIN transcription AS t ON t.id = j.transcription
"""


def _settle(connection: sqlite3.Connection, rows: list[sqlite3.Row], now: float, *, begins: bool) -> None:
    if not rows:
        return
    paused = _paused(connection, now)
    for row in rows:
        names = [choice["name"] for choice in json.loads(row["engines"])]
        name, why = choose_engine(names, row["paid"], paused, begins=begins)
        if (name, why) == (row["engine"], row["engine_why"]):
            continue
        connection.execute(
            "UPDATE job SET engine = ?, engine_why = ?, revision = revision + 1 WHERE id = ?",
            (name, why, row["id"]),
        )
        if name != row["engine"]:
            _tell(connection, row["id"])


def _tell(connection: sqlite3.Connection, job_id: str) -> None:
    """A queued job waits no longer for its former engine, but perhaps for the new one."""
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_until = NULL, waiting_detail = '', not_before = 0"
        " WHERE id = ? AND state = 'queued' AND waiting_reason = 'engine_paused'",
        (job_id,),
    )
    connection.execute(
        "UPDATE job SET waiting_reason = 'engine_paused', waiting_detail = e.code, waiting_until = e.probe_at"
        " FROM engine AS e WHERE job.id = ? AND e.name = job.engine AND e.paused_at IS NOT NULL"
        " AND job.state = 'queued' AND job.waiting_reason IS NULL",
        (job_id,),
    )
    holds.tell(connection, job_id)


def _paused(connection: sqlite3.Connection, now: float) -> dict[str, Paused]:
    found = {
        row["name"]: Paused(row["code"], row["probe_at"], bool(row["may_probe"]))
        for row in connection.execute(
            f"SELECT e.name, e.code, e.probe_at, {NOBODY_PROBES}"
            f" AND (e.probe_at <= :now OR e.set_at > :now + {CLOCK_SLACK_S}) AS may_probe"
            " FROM engine AS e WHERE e.paused_at IS NOT NULL",
            {"now": now, "begun": PROBE_BEGUN_S},
        )
    }
    for name in holds.all_of(connection):
        if name != holds.ALL:
            found[name] = Paused(holds.CODE, None)
    return found
