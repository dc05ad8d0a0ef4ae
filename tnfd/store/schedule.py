"""Which jobs may run now, and when the next one may: what the queue's feeder asks. Changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from tnfd.model import WaitReason
from tnfd.store.records import CLOCK_SLACK_S
from tnfd.store.routes import NOBODY_PROBES, PROBE_BEGUN_S

# The row's reason to wait has passed. A clock that was set back must not prolong it.
_DUE = (
    "j.state = 'queued' AND (j.waiting_reason IS NULL OR j.waiting_reason NOT IN ('original', 'config'))"
    f" AND (j.not_before <= :now OR j.state_since > :now + {CLOCK_SLACK_S}"
    " OR j.waiting_reason = 'engine_paused')"
)
_BEST_FIRST = "ORDER BY j.priority DESC, j.failures, j.id"


# Rows of a kind come in the order of the index that holds them, so that asking for a few of 100,000 looks at
# a few. Jobs without a reason to wait come first; the others wait for a moment that has passed, or for an
# engine that a command or a failure has paused.
_LATER = (
    WaitReason.RETRY,
    WaitReason.RATE_LIMIT,
    WaitReason.BUDGET,
    WaitReason.DISK,
    WaitReason.INBOX_LOST,
    WaitReason.PAUSED,
)
_QUEUED = "j.state = 'queued' AND j.scope = :scope"
_KINDS = (
    ("job_ready", f"{_QUEUED} AND j.waiting_reason IS NULL AND j.not_before <= :now"),
    *(
        ("job_waiting", f"{_QUEUED} AND j.waiting_reason = '{reason}' AND j.not_before <= :now")
        for reason in _LATER
    ),
    ("job_waiting", f"{_QUEUED} AND j.waiting_reason = 'engine_paused'"),
    (  # another machine's work is looked after now and then; a copy's original lets it go by itself
        "job_waiting",
        f"{_QUEUED} AND j.waiting_reason = 'original' AND j.not_before > 0 AND j.not_before <= :now",
    ),
    (  # the clock was set back since
        "job_since",
        f"{_QUEUED} AND j.waiting_reason IS NOT NULL AND j.state_since > :now + {CLOCK_SLACK_S}"
        " AND j.waiting_reason NOT IN ('original', 'config', 'engine_paused')",
    ),
)
_MAY_RUN = (
    "j.id NOT IN (SELECT value FROM json_each(:without))"
    " AND (t.state = 'done' OR e.paused_at IS NULL AND j.engine NOT IN (SELECT engine FROM hold)"
    "      AND NOT EXISTS (SELECT 1 FROM hold WHERE engine = ''))"
)


def ready(
    connection: sqlite3.Connection, scopes: Collection[str], now: float, limit: int, without: Collection[str]
) -> list[str]:
    """Ids that may run now, best first. A paused engine lets one job through when its probe is due."""
    values: dict[str, Any] = {
        "now": now,
        "limit": limit,
        "scopes": json.dumps([*scopes]),
        "without": json.dumps([*without]),
        "begun": PROBE_BEGUN_S,
    }
    found: set[tuple[int, int, str]] = set()
    for scope in scopes:
        for index, which in _KINDS:
            rows = connection.execute(
                f"SELECT -j.priority, j.failures, j.id FROM job AS j INDEXED BY {index}"
                " JOIN transcription AS t ON t.id = j.transcription"
                f" LEFT JOIN engine AS e ON e.name = j.engine WHERE {which} AND {_MAY_RUN}"
                f" {_BEST_FIRST} LIMIT :limit",
                {**values, "scope": scope},
            )
            found.update(tuple(row) for row in rows)
    return [*_probes(connection, values), *(job_id for _, _, job_id in sorted(found))][:limit]


def ready_free(
    connection: sqlite3.Connection, scopes: Collection[str], now: float, limit: int, without: Collection[str]
) -> list[str]:
    """Ids of those among them whose transcript is stored: copies, and outputs in further formats."""
    rows = connection.execute(
        f"""
        SELECT j.id FROM job AS j JOIN transcription AS t ON t.id = j.transcription
        WHERE {_DUE} AND t.state = 'done' AND j.scope IN (SELECT value FROM json_each(:scopes))
          AND j.id NOT IN (SELECT value FROM json_each(:without))
        {_BEST_FIRST} LIMIT :limit
        """,
        {"now": now, "limit": limit, "scopes": json.dumps([*scopes]), "without": json.dumps([*without])},
    )
    return [row["id"] for row in rows]


def _probes(connection: sqlite3.Connection, values: dict[str, Any]) -> list[str]:
    """For each paused engine whose probe is due, and has nobody on the way, the job that shall find out.

    One on which the engine has not failed yet: a file that no server can do must not stop the others.
    """
    engines = connection.execute(
        f"""
        SELECT e.name FROM engine AS e
        WHERE e.paused_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hold AS h WHERE h.engine IN ('', e.name))
          AND (e.probe_at <= :now OR e.set_at > :now + {CLOCK_SLACK_S})
          AND {NOBODY_PROBES}
          AND NOT EXISTS (
            SELECT 1 FROM job AS j JOIN transcription AS t ON t.id = j.transcription
            WHERE j.engine = e.name AND t.state <> 'done'
              AND j.state = 'queued' AND j.id IN (SELECT value FROM json_each(:without)))
        """,
        values,
    ).fetchall()
    chosen = []
    for engine in engines:
        row = connection.execute(
            f"""
            SELECT j.id FROM job AS j JOIN transcription AS t ON t.id = j.transcription
            LEFT JOIN stumble AS s ON s.engine = j.engine AND s.job = j.id
            WHERE {_DUE} AND j.scope IN (SELECT value FROM json_each(:scopes))
              AND j.engine = :engine AND t.state <> 'done'
            ORDER BY coalesce(s.since, 0), j.priority DESC, j.failures, j.id LIMIT 1
            """,
            {**values, "engine": engine["name"]},
        ).fetchone()
        chosen += [] if row is None else [row["id"]]
    return chosen


def next_due(connection: sqlite3.Connection, scopes: Collection[str], now: float) -> float | None:
    """The next moment at which something becomes ready by itself."""
    due: list[float] = []
    for scope in scopes:
        for reason in (*_LATER, WaitReason.ORIGINAL):
            (at,) = connection.execute(
                "SELECT min(not_before) FROM job INDEXED BY job_waiting"
                " WHERE state = 'queued' AND scope = ? AND waiting_reason = ? AND not_before > ?",
                (scope, reason, now),
            ).fetchone()
            due += [] if at is None else [float(at)]
    (at,) = connection.execute(
        "SELECT min(e.probe_at) FROM engine AS e WHERE e.probe_at > :now AND EXISTS ("
        " SELECT 1 FROM json_each(:scopes) AS s JOIN job AS j INDEXED BY job_waiting ON j.scope = s.value"
        " WHERE j.state = 'queued' AND j.waiting_reason = 'engine_paused' AND j.engine = e.name)",
        {"scopes": json.dumps([*scopes]), "now": now},
    ).fetchone()
    due += [] if at is None else [float(at)]
    return min(due, default=None)
