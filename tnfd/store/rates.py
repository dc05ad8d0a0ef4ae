"""The rate and the number of requests at once, as the ledger keeps them for one engine. Units of work.

What the numbers mean is decided in ``rules.throttle``; here they are read, taken from and corrected.
"""

from __future__ import annotations

import random
import sqlite3

from tnfd.errors import Fault
from tnfd.ports.ledger import Ask
from tnfd.rules.backoff import full_jitter_s
from tnfd.rules.throttle import Bucket, Stated, careful_wait_s, learn, level_now, lowered, paced

_LEAST_S, _FIRST_S, _LONGEST_S = 1.0, 2.0, 60.0  # of patience that nobody has named
_FLOOR_S = 0.05  # of patience that was named, doubled for each refusal in a row: "at once" cannot be meant


def wait_s(connection: sqlite3.Connection, engine: sqlite3.Row, ask: Ask, at: float) -> float:
    """Seconds until the rate allows one more request; 0: now."""
    if ask.careful and not ask.requests_per_minute and not engine["heard"]:
        in_flight, first_at = connection.execute(
            "SELECT count(*), min(at) FROM reservation WHERE engine = ?", (ask.engine,)
        ).fetchone()
        return careful_wait_s(in_flight, first_at or at, at)
    return max((bucket.wait_s(at) for _, bucket in _buckets(engine, ask)), default=0.0)


def take(connection: sqlite3.Connection, engine: sqlite3.Row, ask: Ask, at: float) -> None:
    """Note that a request is sent."""
    for column, bucket in _buckets(engine, ask):
        connection.execute(
            f"UPDATE engine SET {column} = ? WHERE name = ?", (bucket.take(at).full_at, ask.engine)
        )


def _buckets(engine: sqlite3.Row, ask: Ask) -> list[tuple[str, Bucket]]:
    """The column of each bucket's moment, and the bucket."""
    found = []
    if (server := _server(engine)) is not None:
        found.append(("full_at", server))
    if ask.requests_per_minute:
        own = paced(ask.requests_per_minute)
        found.append(("paced_full_at", Bucket(own.interval_s, own.burst, engine["paced_full_at"])))
    return found


def _server(engine: sqlite3.Row) -> Bucket | None:
    if engine["interval_s"] is None:
        return None
    return Bucket(engine["interval_s"], engine["burst"], engine["full_at"])


def most_now(engine: sqlite3.Row, most: int, at: float) -> int:
    """How many requests may be in flight at once."""
    return level_now(engine["level"], engine["level_at"], at, most)


def heard(
    connection: sqlite3.Connection,
    reservation: sqlite3.Row,
    stated: Stated | None,
    fault: Fault | None,
    at: float,
) -> None:
    """Learn from a request's end. Its reservation is closed already, so it does not count as in flight."""
    name = reservation["engine"]
    engine = connection.execute("SELECT * FROM engine WHERE name = ?", (name,)).fetchone()
    if stated is not None:
        _learn(connection, engine, stated, answered=fault is None)
    # A refusal that states its rate is about the bucket, which has just been corrected: fewer at once would
    # only leave tokens unused. Any other complaint is about the load.
    about_load = fault is not None and fault.overloaded and not (stated and stated.refused)
    if about_load:
        level = lowered(engine["level"], engine["level_at"], reservation["at"], at, reservation["most"])
        if level is not None:
            connection.execute("UPDATE engine SET level = ?, level_at = ? WHERE name = ?", (level, at, name))
    elif fault is None and (engine["throttles"] or engine["level"] is not None):
        back = most_now(engine, reservation["most"], at) >= reservation["most"]
        connection.execute(
            "UPDATE engine SET throttles = 0, level = CASE WHEN ? THEN NULL ELSE level END WHERE name = ?",
            (back, name),
        )


def _learn(connection: sqlite3.Connection, engine: sqlite3.Row, stated: Stated, *, answered: bool) -> None:
    name = engine["name"]
    if not engine["heard"]:
        connection.execute("UPDATE engine SET heard = 1 WHERE name = ?", (name,))
    if stated.interval_s <= 0:
        if answered and engine["interval_s"] is not None:  # it has no limit any more, or is another server
            connection.execute("UPDATE engine SET interval_s = NULL WHERE name = ?", (name,))
        return
    if stated.refused and stated.at == engine["learned_at"]:
        return  # an engine states this until its next answer, and that may fail to come
    (later,) = connection.execute(
        "SELECT count(*) FROM reservation WHERE engine = ? AND at > ?", (name, stated.at)
    ).fetchone()
    known = _server(engine)
    bucket = learn(known, stated, later)
    if bucket is not None and bucket != known:
        connection.execute(
            "UPDATE engine SET interval_s = ?, burst = ?, full_at = ?, learned_at = ? WHERE name = ?",
            (bucket.interval_s, bucket.burst, bucket.full_at, stated.at, name),
        )


def patience_s(connection: sqlite3.Connection, reservation: sqlite3.Row, fault: Fault, at: float) -> float:
    """How long an engine is left alone that asks to slow down."""
    name = reservation["engine"]
    engine = connection.execute("SELECT * FROM engine WHERE name = ?", (name,)).fetchone()
    row = engine["throttles"]
    if (
        reservation["at"] > engine["set_at"] or not row
    ):  # what was sent before the last refusal counts with it
        row += 1
        connection.execute("UPDATE engine SET throttles = ? WHERE name = ?", (row, name))
    if fault.retry_after_s is not None:
        return float(max(fault.retry_after_s, min(_LONGEST_S, _FLOOR_S * 2 ** min(20, row - 1))))
    server = _server(engine)
    if server is not None and (next_s := server.wait_s(at)):
        return next_s
    chance = random.random()  # noqa: S311 - spreads requests, guards nothing
    return max(_LEAST_S, full_jitter_s(row, _FIRST_S, _LONGEST_S, chance))
