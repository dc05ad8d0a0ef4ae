"""Is it the file, or is the engine down? What failures in a row say, over all files. Units of work.

A file that fails three times, each time with other files passing before the next, is one that the engine
cannot do (some servers answer 500 for audio that they cannot decode). Three failures in a row without any
success mean that the engine is down, whoever failed: several files, or one that has nothing beside it. Only
where one file alone fails and another one is about to be tried, that one is waited for.
"""

from __future__ import annotations

import sqlite3
from enum import Enum

from tnfd.rules.pauses import STREAK

STRIKES = 3


class Verdict(Enum):
    """What one more failure means."""

    ATTEMPT = "attempt"  # as yet nothing but that
    DOWN = "down"
    CHOKES = "chokes"  # on this file


def passed(connection: sqlite3.Connection, engine: str, job: str) -> None:
    """The engine answered for a job: the other files' failures were not the engine's."""
    connection.execute("DELETE FROM stumble WHERE engine = ? AND job = ?", (engine, job))
    connection.execute(
        "UPDATE stumble SET passed = 1, in_row = 0, forgivable = 0 WHERE engine = ?"
        " AND NOT (passed = 1 AND in_row = 0)",
        (engine,),
    )


def stumbled(
    connection: sqlite3.Connection, engine: str, job: str, now: float, *, forgivable: bool
) -> Verdict:
    """The engine failed on a job.

    ``forgivable``: whether that does not count against the file should the engine turn out to be down.
    """
    connection.execute("UPDATE engine SET streak = streak + 1 WHERE name = ?", (engine,))
    connection.execute(
        "INSERT INTO stumble VALUES (?1, ?2, 1, 0, 1, ?3, ?4) ON CONFLICT (engine, job) DO UPDATE SET"
        " strikes = strikes + passed, passed = 0, in_row = in_row + 1, forgivable = forgivable + ?3,"
        " since = CASE WHEN in_row = 0 THEN ?4 ELSE since END",
        (engine, job, forgivable, now),
    )
    (strikes,) = connection.execute(
        "SELECT strikes FROM stumble WHERE engine = ? AND job = ?", (engine, job)
    ).fetchone()
    if strikes >= STRIKES:
        connection.execute("DELETE FROM stumble WHERE engine = ? AND job = ?", (engine, job))
        connection.execute("UPDATE engine SET streak = streak - 1 WHERE name = ?", (engine,))
        return Verdict.CHOKES
    (streak,) = connection.execute("SELECT streak FROM engine WHERE name = ?", (engine,)).fetchone()
    if streak < STREAK or (_is_single(connection, engine) and _others_follow(connection, engine, job)):
        return Verdict.ATTEMPT
    return Verdict.DOWN


def _is_single(connection: sqlite3.Connection, engine: str) -> bool:
    (files,) = connection.execute(
        "SELECT count(*) FROM stumble WHERE engine = ? AND in_row > 0", (engine,)
    ).fetchone()
    return bool(files == 1)


def _others_follow(connection: sqlite3.Connection, engine: str, job: str) -> bool:
    """Whether another file is about to show how the engine is: queued, or sent since the failures began."""
    return bool(
        connection.execute(
            "SELECT EXISTS (SELECT 1 FROM job AS j JOIN transcription AS t ON t.id = j.transcription"
            " WHERE j.engine = ?1 AND j.id <> ?2 AND j.state = 'queued' AND j.waiting_reason IS NULL"
            " AND t.state <> 'done')"
            " OR EXISTS (SELECT 1 FROM reservation AS r WHERE r.engine = ?1 AND r.job <> ?2 AND r.at >"
            " (SELECT since FROM stumble WHERE engine = ?1 AND job = ?2))",
            (engine, job),
        ).fetchone()[0]
    )


def forgive(connection: sqlite3.Connection, engine: str, job: str) -> None:
    """The engine is down: the failures in a row were its own, and do not count against the files.

    That of ``job``, which has just noticed, was not counted yet ("": it has to be).
    """
    connection.execute(
        "UPDATE job SET failures = max(0, failures - s.forgivable + (id = ?2)) FROM stumble AS s"
        " WHERE s.engine = ?1 AND s.job = job.id AND s.forgivable - (id = ?2) > 0",
        (engine, job),
    )
    connection.execute("UPDATE stumble SET in_row = 0, forgivable = 0 WHERE engine = ?", (engine,))
