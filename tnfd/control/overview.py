"""What ``tnfd status`` says: the running daemon's own answer, and the rest out of the database."""

from __future__ import annotations

import socket
import sqlite3
from datetime import UTC
from typing import Any

from tnfd import beacon
from tnfd.config import Config, EngineConfig
from tnfd.config.places import other_services
from tnfd.errors import CODES
from tnfd.model import JobState
from tnfd.ports.clock import Clock
from tnfd.ports.ledger import EngineStatus, Spent
from tnfd.rules.status import moment
from tnfd.store import holds, ledger, views
from tnfd.store.presence import Presence, daemon_pid

SCHEMA = "tnfd.daemon/1"
_USUAL_AT_ONCE = 5  # requests, where nobody has said how many


class Overview:
    """One look at a state folder; ``connection`` is None where there is no database yet."""

    def __init__(self, config: Config, clock: Clock, connection: sqlite3.Connection | None) -> None:
        self._config = config
        self._connection = connection
        self._now = clock.now()

    def whole(self) -> dict[str, Any]:
        """The whole of ``status --json`` (schema ``tnfd.daemon/1``)."""
        connection, state_dir = self._connection, self._config.daemon.state_dir
        pid = daemon_pid(state_dir)
        live = (beacon.ask(state_dir) if pid is not None else None) or {}
        counts = {str(state): 0 for state in JobState}
        counts.update({} if connection is None else views.counts(connection))
        waiting = {} if connection is None else views.waiting(connection)
        engines = self._engines(live.get("doing", {}))
        return {
            "schema": SCHEMA,
            "running": pid is not None,
            "healthy": bool(live) and not live.get("stale"),
            "pid": pid or None,
            "since": live.get("since"),
            "instance": socket.gethostname(),
            "attention": self._attention(pid, live, engines, waiting, counts),
            "inboxes": live.get("inboxes") or self._inboxes(),
            "counts": counts,
            "waiting": waiting,
            "workers": live.get("workers") or {"busy": 0, "total": self._config.daemon.workers},
            "engines": engines,
            "spent": self._spent(),
        }

    def _inboxes(self) -> list[dict[str, Any]]:
        return [
            {"name": inbox.name, "path": str(inbox.path), "mode": "", "why": "", "state": "stopped"}
            for inbox in self._config.inboxes
        ]

    def _engines(self, doing: dict[str, str]) -> list[dict[str, Any]]:
        found = [] if self._connection is None else ledger.engines(self._connection, self._now)
        known = {status.name: status for status in found}
        listed = []
        for engine in self._config.engines.values():
            status = known.get(engine.name)
            listed.append(
                {
                    "name": engine.name,
                    "type": engine.type,
                    "model": engine.model,
                    "state": status.state if status else "ok",
                    "reason": (status.code or None) if status else None,
                    "detail": (status.detail or None) if status else None,
                    "until": moment(status.until) if status and status.until else None,
                    "in_flight": status.in_flight if status else 0,
                    "requests_per_minute": _rate(engine, status),
                    "max_in_flight": _lowered(engine, status),
                    "doing": doing.get(engine.name),
                }
            )
        return listed

    def _spent(self) -> dict[str, Any]:
        connection, now = self._connection, self._now
        budget = ledger.Budget(self._config.budget.daily_usd, self._config.budget.monthly_usd)
        spent = Spent(0.0, 0.0) if connection is None else ledger.spent_of(connection, now)
        until = None if connection is None else ledger.budget_ends(spent, budget, now)
        return {
            "today_usd": round(spent.today_usd, 4),
            "month_usd": round(spent.month_usd, 4),
            "until": moment(until.astimezone(UTC)) if until else None,
            "by_day": [
                {
                    "day": row.day,
                    "engine": row.engine,
                    "inbox": row.inbox,
                    "usd": round(row.usd, 4),
                    "audio_s": round(row.audio_s, 1),
                    "requests": row.requests,
                }
                for row in ([] if connection is None else ledger.spending(connection, now))
            ],
        }

    def _left(self) -> int:
        """Files that batches have left which run no longer."""
        if self._connection is None:
            return 0
        presence = Presence(self._config.daemon.state_dir)
        found = views.left_by_batches(self._connection)
        return sum(number for owner, number in found.items() if not presence.lives(owner))

    def _attention(
        self,
        pid: int | None,
        live: dict[str, Any],
        engines: list[dict[str, Any]],
        waiting: dict[str, int],
        counts: dict[str, int],
    ) -> list[str]:
        said = []
        if pid is None and (others := other_services()):
            said.append(
                f"the system's service runs as {others[0]}, and its state is for {others[0]} alone to read:"
                f" sudo -u {others[0]} tnfd status"
            )
        elif pid is None:
            said.append(
                "the daemon is not running; start it with: tnfd run, or for good: tnfd service install"
            )
        elif not live:
            said.append(f"the daemon (pid {pid}) does not answer; kill -USR1 {pid} logs what it waits for")
        if self._connection is not None and holds.ALL in holds.all_of(self._connection):
            said.append("paused by command: no request starts until you run: tnfd resume")
        if refused := live.get("refused"):
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            said.append(f"the changed configuration was refused, the former one holds: {refused[0]}{more}")
        said += [f"{part} has not moved for a while" for part in live.get("stale", ())]
        said += [
            f"inbox {inbox['name']} is lost: {inbox['why']}"
            for inbox in live.get("inboxes", ())
            if inbox["state"] == "lost"
        ]
        said += [
            f"inbox {inbox['name']}: a folder waits until its settings are mended: {why}"
            for inbox in live.get("inboxes", ())
            for why in inbox.get("paused", ())
        ]
        said += [_paused(engine) for engine in engines if engine["state"] == "paused"]
        if waiting.get("budget"):
            said.append(f"the budget is reached: {_files(waiting['budget'])} until it is renewed")
        if waiting.get("config"):
            said.append(f"{_files(waiting['config'])} for an engine that is no longer configured")
        if left := self._left():
            said.append(f"{_files(left)} for a batch that was stopped; the same command goes on with them")
        if counts.get("failed"):
            said.append(f"{counts['failed']} failed: tnfd jobs --state failed says why")
        return said


def _lowered(engine: EngineConfig, status: EngineStatus | None) -> int | None:
    """How many requests there may be at once, while that is less than was asked for."""
    level = status.level if status else None
    return level if level is not None and level < (engine.max_concurrency or _USUAL_AT_ONCE) else None


def _rate(engine: EngineConfig, status: EngineStatus | None) -> float | None:
    """The lower of what the server states and what the configuration allows; None: neither is known."""
    stated = status.requests_per_minute if status else None
    rates = [rate for rate in (stated, engine.requests_per_minute or None) if rate is not None]
    return round(min(rates), 3) if rates else None


def _paused(engine: dict[str, Any]) -> str:
    if engine["reason"] == holds.CODE:
        return f"engine {engine['name']} is paused by command until you run: tnfd resume {engine['name']}"
    code = CODES.get(engine["reason"] or "")
    hint = f" {code.hint}" if code else ""
    return f"engine {engine['name']} is paused: {engine['detail'] or engine['reason']}{hint}"


def _files(number: int) -> str:
    return "1 file waits" if number == 1 else f"{number} files wait"
