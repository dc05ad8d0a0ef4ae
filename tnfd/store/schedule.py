"""Which jobs may run now, and when the next one may: what the queue's feeder asks. Changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from tnfd.store.records import CLOCK_SLACK_S
from tnfd.store.routes import NOBODY_PROBES, PROBE_BEGUN_S

# The row's reason to wait has passed. A clock that was set back must not prolong it.
_DUE = (
    "j.state = 'queued' AND (j.waiting_reason IS NULL OR j.waiting_reason NOT IN ('original', 'config'))"
    f" AND (j.not_before <= :now OR j.state_since > :now + {CLOCK_SLACK_S}"
    " OR j.waiting_reason = 'engine_paused')"
)
_BEST_FIRST = "ORDER BY j.priority DESC, j.failures, j.id"


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
    rows = connection.execute(
        f"""
        SELECT j.id FROM job AS j JOIN transcription AS t ON t.id = j.transcription
        LEFT JOIN engine AS e ON e.name = j.engine
        WHERE {_DUE} AND j.scope IN (SELECT value FROM json_each(:scopes))
          AND j.id NOT IN (SELECT value FROM json_each(:without))
          AND (t.state = 'done' OR e.paused_at IS NULL AND j.engine NOT IN (SELECT engine FROM hold)
               AND NOT EXISTS (SELECT 1 FROM hold WHERE engine = ''))
        {_BEST_FIRST} LIMIT :limit
        """,
        values,
    ).fetchall()
    return [*_probes(connection, values), *(row["id"] for row in rows)][:limit]


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
    """For each paused engine whose probe is due, and has nobody on the way, the job that shall find out."""
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
            WHERE {_DUE} AND j.scope IN (SELECT value FROM json_each(:scopes))
              AND j.engine = :engine AND t.state <> 'done'
            {_BEST_FIRST} LIMIT 1
            """,
            {**values, "engine": engine["name"]},
        ).fetchone()
        chosen += [] if row is None else [row["id"]]
    return chosen


def next_due(connection: sqlite3.Connection, scopes: Collection[str], now: float) -> float | None:
    """The next moment at which something becomes ready by itself."""
    (due,) = connection.execute(
        """
        SELECT min(at) FROM (
          SELECT CASE WHEN j.waiting_reason = 'engine_paused' THEN e.probe_at ELSE j.not_before END AS at
          FROM job AS j LEFT JOIN engine AS e ON e.name = j.engine
          WHERE j.state = 'queued' AND j.scope IN (SELECT value FROM json_each(:scopes))
        ) WHERE at > :now
        """,
        {"scopes": json.dumps([*scopes]), "now": now},
    ).fetchone()
    return None if due is None else float(due)
