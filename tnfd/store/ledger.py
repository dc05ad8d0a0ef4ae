"""The ledger's units of work: who may send, what it cost, which engine is paused.

Decisions are pure functions over what the tables say; the writer thread makes each a transaction of its own.
An answer that was lost counts as spent.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from tnfd.errors import CODES, LOST, Fate, Fault
from tnfd.ports.ledger import Ask, Closed, EngineStatus, Granted, Refusal, Refused, Spending, Spent
from tnfd.rules.days import day_of, next_day, next_month
from tnfd.rules.pauses import is_charged, next_probe_s
from tnfd.rules.throttle import Stated
from tnfd.store import breaker, holds, rates, records, routes
from tnfd.store.breaker import Verdict
from tnfd.store.records import CLOCK_SLACK_S

_MOST = 1_000_000  # requests at once: none
_ROUNDING_USD = 1e-9  # three times 0.1 is more than 0.3


@dataclass(frozen=True, slots=True)
class Budget:
    """Dollars; 0 is no limit."""

    daily_usd: float = 0.0
    monthly_usd: float = 0.0


def reserve(
    connection: sqlite3.Connection, ask: Ask, owner: str, budget: Budget, now: datetime
) -> Granted | Refused:
    """Grant or refuse one request."""
    connection.execute("INSERT OR IGNORE INTO engine (name) VALUES (?)", (ask.engine,))
    refused = refusal(connection, ask, budget, now)
    if refused is not None:
        return refused
    engine = connection.execute("SELECT * FROM engine WHERE name = ?", (ask.engine,)).fetchone()
    rates.take(connection, engine, ask, now.timestamp())
    probe = engine["paused_at"] is not None
    cursor = connection.execute(
        "INSERT INTO reservation (engine, owner, job, inbox, at, day, audio_s, estimate_usd, most, probe)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (ask.engine, owner, ask.job, ask.inbox, now.timestamp(), day_of(now), ask.audio_s, ask.estimate_usd,
         min(ask.max_concurrency, _MOST), probe),
    )  # fmt: skip
    return Granted(int(cursor.lastrowid or 0), probe)


def refusal(connection: sqlite3.Connection, ask: Ask, budget: Budget, now: datetime) -> Refused | None:
    """Why this request could not be sent now, if it could not; changes nothing."""
    engine = connection.execute("SELECT * FROM engine WHERE name = ?", (ask.engine,)).fetchone()
    if engine is None:
        return _held(connection, ask.engine) or _over_budget(connection, ask.estimate_usd, budget, now)
    at, probe = now.timestamp(), engine["paused_at"] is not None
    if (refused := _held(connection, ask.engine)) is not None:
        return refused
    if probe:
        probing = connection.execute(
            "SELECT 1 FROM reservation WHERE engine = ? AND probe = 1", (ask.engine,)
        ).fetchone()
        if probing or (engine["probe_at"] > at and not _set_back(engine, at)):
            return Refused(Refusal.PAUSED, records.moment(engine["probe_at"]), engine["code"])
    if engine["blocked_until"] > at and not _set_back(engine, at):
        return Refused(Refusal.BLOCKED, records.moment(engine["blocked_until"]), "the server asked to wait")
    (in_flight,) = connection.execute(
        "SELECT count(*) FROM reservation WHERE engine = ?", (ask.engine,)
    ).fetchone()
    if in_flight >= rates.most_now(engine, ask.max_concurrency, at):
        return Refused(Refusal.FULL, None, f"{in_flight} requests in flight")
    if (refused := _over_budget(connection, ask.estimate_usd, budget, now)) is not None:
        return refused
    if paced_s := rates.wait_s(connection, engine, ask, at):
        return Refused(Refusal.PACED, records.moment(at + paced_s), "the rate of requests is used up")
    return None


def _held(connection: sqlite3.Connection, engine: str) -> Refused | None:
    held = holds.on(connection, engine)
    if held is None:
        return None
    return Refused(Refusal.PAUSED, None, holds.CODE) if held else Refused(Refusal.HELD, None, holds.DETAIL)


def _set_back(engine: sqlite3.Row, at: float) -> bool:
    """Whether the clock was set back since the engine's moments were set; they say nothing then."""
    return bool(engine["set_at"] > at + CLOCK_SLACK_S)


def _over_budget(
    connection: sqlite3.Connection, estimate_usd: float, budget: Budget, now: datetime
) -> Refused | None:
    if estimate_usd <= 0:
        return None
    spent = spent_of(connection, now)
    request = f"the next request may cost ${estimate_usd:.2f}"
    limits = [limit for limit in (budget.daily_usd, budget.monthly_usd) if limit]
    if limits and estimate_usd > min(limits):
        request += ", more than the whole budget: raise it"
    if budget.monthly_usd and spent.month_usd + estimate_usd > budget.monthly_usd + _ROUNDING_USD:
        detail = f"${spent.month_usd:.2f} of ${budget.monthly_usd:.2f} a month are spent, {request}"
        return Refused(Refusal.BUDGET, next_month(now), detail)
    if budget.daily_usd and spent.today_usd + estimate_usd > budget.daily_usd + _ROUNDING_USD:
        detail = f"${spent.today_usd:.2f} of ${budget.daily_usd:.2f} a day are spent, {request}"
        return Refused(Refusal.BUDGET, next_day(now), detail)
    return None


def spent_of(connection: sqlite3.Connection, now: datetime) -> Spent:
    """Dollars of this local day and month, what is set aside included."""
    day = day_of(now)
    (today, month) = connection.execute(
        "SELECT coalesce(sum(CASE WHEN day = :day THEN usd END), 0), coalesce(sum(usd), 0) FROM"
        " (SELECT day, usd FROM spend WHERE substr(day, 1, 7) = substr(:day, 1, 7)"
        "  UNION ALL SELECT day, estimate_usd FROM reservation WHERE substr(day, 1, 7) = substr(:day, 1, 7))",
        {"day": day},
    ).fetchone()
    return Spent(float(today), float(month))


def close(
    connection: sqlite3.Connection,
    reservation: int,
    cost_usd: float,
    fault: Fault | None,
    now: datetime,
    stated: Stated | None = None,
) -> Closed:
    """End a request: book its cost, and draw for the engine what its end means."""
    row = connection.execute("SELECT * FROM reservation WHERE id = ?", (reservation,)).fetchone()
    if row is None:
        return Closed()  # another process took this one for dead and booked it
    connection.execute("DELETE FROM reservation WHERE id = ?", (reservation,))
    # A price that is no amount of money came from outside; what was set aside stands in for it.
    _book(connection, row, cost_usd if 0 <= cost_usd < math.inf else row["estimate_usd"])
    rates.heard(connection, row, stated, fault, now.timestamp())
    if fault is None or fault.fate in LOST:  # the server works: it answered, or found fault with the audio
        breaker.passed(connection, row["engine"], row["job"])
        return _well(connection, row["engine"], now)
    if fault.fate is Fate.THROTTLE:
        return _be_patient(connection, row, fault, now)
    if fault.fate is Fate.ENGINE:
        return pause(connection, row["engine"], fault, now, probe=bool(row["probe"]))
    if fault.fate is Fate.ATTEMPT:
        return _stumble(connection, row, fault, now)
    return Closed()  # says nothing about the engine


def _be_patient(connection: sqlite3.Connection, row: sqlite3.Row, fault: Fault, now: datetime) -> Closed:
    at = now.timestamp()
    until = at + rates.patience_s(connection, row, fault, at)
    connection.execute(
        "UPDATE engine SET set_at = :at, blocked_until = CASE WHEN set_at > :at + :slack THEN :until"
        " ELSE max(blocked_until, :until) END WHERE name = :engine",
        {"at": at, "slack": CLOCK_SLACK_S, "until": until, "engine": row["engine"]},
    )
    return Closed(throttled_until=records.moment(until))


def _book(connection: sqlite3.Connection, row: sqlite3.Row, cost_usd: float) -> None:
    connection.execute(
        "INSERT INTO spend (day, engine, inbox, usd, audio_s, requests) VALUES (?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (day, engine, inbox) DO UPDATE SET usd = usd + excluded.usd,"
        " audio_s = audio_s + excluded.audio_s, requests = requests + 1",
        (row["day"], row["engine"], row["inbox"], cost_usd, row["audio_s"]),
    )


def _well(connection: sqlite3.Connection, engine: str, now: datetime) -> Closed:
    paused = connection.execute("SELECT paused_at FROM engine WHERE name = ?", (engine,)).fetchone()
    connection.execute(
        "UPDATE engine SET paused_at = NULL, code = '', detail = '', probe_at = NULL, probes = 0, streak = 0"
        " WHERE name = ?",
        (engine,),
    )
    if paused is None or paused["paused_at"] is None:
        return Closed()
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_until = NULL, waiting_detail = '',"
        " revision = revision + 1"
        " WHERE engine = ? AND state = 'queued' AND waiting_reason = 'engine_paused' AND waiting_detail <> ?",
        (engine, holds.CODE),
    )
    routes.settle_all(connection, now.timestamp())
    return Closed(resumed=True)


def _stumble(connection: sqlite3.Connection, row: sqlite3.Row, fault: Fault, now: datetime) -> Closed:
    name, at = row["engine"], now.timestamp()
    (paused,) = connection.execute(
        "SELECT paused_at IS NOT NULL FROM engine WHERE name = ?", (name,)
    ).fetchone()
    forgivable = not is_charged(fault, row["estimate_usd"])
    verdict = breaker.stumbled(connection, name, row["job"], at, forgivable=forgivable and not paused)
    if verdict is Verdict.CHOKES:
        return Closed(chokes=True)
    if not paused and verdict is Verdict.ATTEMPT:
        return Closed()
    if not paused:
        breaker.forgive(connection, name, row["job"] if forgivable else "")
    down = Fault("engine.down", fault.message, retry_after_s=fault.retry_after_s)
    return pause(connection, name, down, now, probe=bool(row["probe"]))


def pause(connection: sqlite3.Connection, engine: str, fault: Fault, now: datetime, *, probe: bool) -> Closed:
    """Pause an engine, or after a failed probe keep it paused; its queued jobs wait and say why."""
    at = now.timestamp()
    row = connection.execute("SELECT * FROM engine WHERE name = ?", (engine,)).fetchone()
    first = row["paused_at"] is None
    if not first and not probe:
        return Closed(down=True)  # requests that were in flight when it was paused
    probes = 0 if first else row["probes"] + 1
    paused_at = at if first else row["paused_at"]
    delay_s = max(next_probe_s(fault.code, at - paused_at, probes), fault.retry_after_s or 0)
    connection.execute(
        "UPDATE engine SET paused_at = ?, code = ?, detail = ?, probe_at = ?, probes = ?, set_at = ?"
        " WHERE name = ?",
        (paused_at, fault.code, records.plain(fault.message), at + delay_s, probes, at, engine),
    )
    connection.execute(
        "UPDATE job SET waiting_reason = 'engine_paused', waiting_detail = ?, waiting_until = ?,"
        " revision = revision + (waiting_reason IS NULL)"
        " WHERE engine = ? AND state = 'queued'"
        " AND (waiting_reason IS NULL OR waiting_reason = 'engine_paused' AND waiting_detail <> ?)",
        (fault.code, at + delay_s, engine, holds.CODE),
    )
    routes.settle_all(connection, at)
    return Closed(paused=first, code=fault.code, down=True, probe_at=records.moment(at + delay_s))


def resume(connection: sqlite3.Connection, engine: str | None, now: datetime) -> list[str]:
    """Let paused engines be probed at once, and what waited for money or a configuration ask again."""
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_until = NULL, waiting_detail = '', not_before = 0,"
        " revision = revision + 1"
        " WHERE state = 'queued' AND waiting_reason IN ('budget', 'config') AND (?1 IS NULL OR engine = ?1)",
        (engine,),
    )
    return [
        row["name"]
        for row in connection.execute(
            "UPDATE engine SET probe_at = ?1, probes = 0, blocked_until = 0, streak = 0, set_at = ?1"
            " WHERE paused_at IS NOT NULL AND (?2 IS NULL OR name = ?2) RETURNING name",
            (now.timestamp(), engine),
        ).fetchall()
    ]


def engines(connection: sqlite3.Connection, now: datetime) -> list[EngineStatus]:
    """All engines."""
    at = now.timestamp()
    found = []
    for row in connection.execute(
        "SELECT e.*, h.at AS held_at,"
        " (SELECT count(*) FROM reservation AS r WHERE r.engine = e.name) AS in_flight"
        " FROM engine AS e LEFT JOIN hold AS h ON h.engine = e.name ORDER BY name"
    ):
        if row["held_at"] is not None:
            said = (holds.CODE, CODES[holds.CODE].message)
            found.append(EngineStatus(row["name"], "paused", *said, None, row["in_flight"], *_pace(row, at)))
            continue
        if row["paused_at"] is not None:
            state, until = "paused", row["probe_at"]
        elif row["blocked_until"] > at and not _set_back(row, at):
            state, until = "throttled", row["blocked_until"]
        else:
            state, until = "ok", None
        found.append(
            EngineStatus(
                row["name"], state, row["code"], row["detail"], records.moment(until), row["in_flight"],
                *_pace(row, at),
            )
        )  # fmt: skip
    return found


def _pace(engine: sqlite3.Row, at: float) -> tuple[float | None, int | None]:
    """The server's own limit in requests a minute, and the requests at once where these were lowered."""
    per_minute = 60.0 / engine["interval_s"] if engine["interval_s"] else None
    return per_minute, None if engine["level"] is None else rates.most_now(engine, _MOST, at)


def spending(connection: sqlite3.Connection, now: datetime) -> list[Spending]:
    """This month's books, newest day first."""
    return [
        Spending(row["day"], row["engine"], row["inbox"], row["usd"], row["audio_s"], row["requests"])
        for row in connection.execute(
            "SELECT * FROM spend WHERE substr(day, 1, 7) = substr(?, 1, 7) ORDER BY day DESC, engine, inbox",
            (day_of(now),),
        )
    ]


def bury(connection: sqlite3.Connection, owners: Collection[str]) -> None:
    """Book the requests that dead processes left open as spent, and forget the processes."""
    for owner in owners:
        rows: Iterable[sqlite3.Row] = connection.execute(
            "SELECT * FROM reservation WHERE owner = ?", (owner,)
        ).fetchall()
        for row in rows:
            _book(connection, row, row["estimate_usd"])
        connection.execute("DELETE FROM reservation WHERE owner = ?", (owner,))
        connection.execute("DELETE FROM process WHERE owner = ?", (owner,))
    # Copies of what they were doing look again whether anybody still works on their original.
    connection.execute(
        "UPDATE job SET waiting_reason = NULL, waiting_detail = '', revision = revision + 1"
        " WHERE waiting_reason = 'original'"
    )


def budget_ends(spent: Spent, budget: Budget, now: datetime) -> datetime | None:
    """When money is there again, if a budget is reached to the cent; else None."""
    cent = 0.01
    if budget.monthly_usd and spent.month_usd + cent > budget.monthly_usd:
        return next_month(now)
    if budget.daily_usd and spent.today_usd + cent > budget.daily_usd:
        return next_day(now)
    return None
