"""The command line's way to the house: reads and commands through the database, without an event loop.

Works the same whether a daemon runs or not: a command changes the store in one transaction and leaves a
control row, which a running daemon sees within a second.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tnfd import beacon
from tnfd.config import Config
from tnfd.model import HistoryEntry, Job, JobState
from tnfd.ports.clock import Clock
from tnfd.ports.ledger import Spent
from tnfd.rules.names import name_base64, printable
from tnfd.rules.status import moment, status_object
from tnfd.store import database, ledger, views, work
from tnfd.store.presence import daemon_pid

SCHEMA = "tnfd.daemon/1"


class NoSuchJob(LookupError):
    """Nothing in the store answers to what the user named."""


class Ambiguous(LookupError):
    """Several jobs answer to what the user named."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What ``retry`` did for one job."""

    job: Job
    again: bool


class Control:
    """Reads and commands on one state folder; a context manager. ``empty``: there is no database yet."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._path = config.daemon.state_dir / database.FILE_NAME
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Control:
        if self._path.exists():
            self._connection = database.open_database(self._path, writable=False)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def empty(self) -> bool:
        """Whether no daemon and no batch has ever run here."""
        return self._connection is None

    # -- reading -----------------------------------------------------------------------------------

    def jobs(
        self, *, state: JobState | None = None, inbox: str | None = None, limit: int | None = None
    ) -> list[Job]:
        """Jobs, newest first."""
        if self._connection is None:
            return []
        return views.listing(self._connection, state, inbox, None, limit)

    def find(self, named: str) -> list[Job]:
        """Jobs that a path, a job's id or the beginning of one names, newest first.

        Raises:
            NoSuchJob: none does.
            Ambiguous: the beginning fits several ids.
        """
        if self._connection is not None:
            path = os.path.abspath(os.fsencode(named))
            for candidate in dict.fromkeys((path, os.path.realpath(path))):
                found = views.listing(self._connection, None, None, candidate, None)
                if found:
                    return found
            ids = views.by_prefix(self._connection, named) if len(named) >= 4 and named.isalnum() else []
            if len(ids) > 1:
                raise Ambiguous(f"{named!r} fits {len(ids)} jobs: {', '.join(ids[:3])}, ...")
            if ids and (job := views.job(self._connection, ids[0])) is not None:
                return [job]
        raise NoSuchJob(f"no job for {named!r}: it is neither a file that tnfd has seen nor a job's id")

    def history(self, job: Job) -> list[HistoryEntry]:
        """A job's story."""
        return [] if self._connection is None else views.history(self._connection, job.id)

    def job_object(self, job: Job) -> dict[str, Any]:
        """One job as ``jobs --json`` shows it: the status file's object, plus path and inbox."""
        shown = status_object(job, instance=socket.gethostname(), updated_at=job.updated_at)
        path = {"path": printable(job.source.path), "inbox": job.inbox}
        if (encoded := name_base64(job.source.path)) is not None:
            path["path_base64"] = encoded
        return path | shown

    # -- commands ----------------------------------------------------------------------------------

    def retry(self, jobs: Sequence[Job]) -> list[Retried]:
        """Queue jobs anew, failures counted from zero."""
        done = []
        with self._writing() as connection:
            now = self._clock.now().timestamp()
            for job in jobs:
                again = work.retry(connection, job.id, now)
                if again:
                    connection.execute(
                        "INSERT INTO control (at, command, argument) VALUES (?, 'retry', ?)", (now, job.id)
                    )
                done.append(Retried(job, again))
        return done

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(database.open_database(self._path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    # -- status ------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The whole of ``status --json`` (schema ``tnfd.daemon/1``)."""
        pid = daemon_pid(self._config.daemon.state_dir)
        live = beacon.ask(self._config.daemon.state_dir) if pid is not None else None
        live = live or {}
        connection = self._connection
        engines = self._engines(connection)
        counts = {str(state): 0 for state in JobState}
        counts.update({} if connection is None else views.counts(connection))
        waiting = {} if connection is None else views.waiting(connection)
        healthy = bool(live) and not live.get("stale")
        return {
            "schema": SCHEMA,
            "running": pid is not None,
            "healthy": healthy,
            "pid": pid or None,
            "since": live.get("since"),
            "instance": socket.gethostname(),
            "attention": self._attention(pid, live, engines, waiting, counts),
            "inboxes": live.get("inboxes") or self._inboxes(),
            "counts": counts,
            "waiting": waiting,
            "workers": live.get("workers") or {"busy": 0, "total": self._config.daemon.workers},
            "engines": engines,
            "spent": self._spent(connection),
        }

    def _inboxes(self) -> list[dict[str, Any]]:
        return [
            {"name": inbox.name, "path": str(inbox.path), "mode": "", "why": "", "state": "stopped"}
            for inbox in self._config.inboxes
        ]

    def _engines(self, connection: sqlite3.Connection | None) -> list[dict[str, Any]]:
        known = (
            {}
            if connection is None
            else {status.name: status for status in ledger.engines(connection, self._clock.now())}
        )
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
                }
            )
        return listed

    def _spent(self, connection: sqlite3.Connection | None) -> dict[str, Any]:
        now = self._clock.now()
        spent = Spent(0.0, 0.0) if connection is None else ledger.spent_of(connection, now)
        until = None if connection is None else ledger.budget_ends(spent, self._budget, now)
        return {
            "today_usd": round(spent.today_usd, 4),
            "month_usd": round(spent.month_usd, 4),
            "until": moment(until.astimezone(UTC)) if until else None,
        }

    @property
    def _budget(self) -> ledger.Budget:
        return ledger.Budget(self._config.budget.daily_usd, self._config.budget.monthly_usd)

    def _attention(
        self,
        pid: int | None,
        live: dict[str, Any],
        engines: list[dict[str, Any]],
        waiting: dict[str, int],
        counts: dict[str, int],
    ) -> list[str]:
        said = []
        if pid is None:
            said.append("the daemon is not running: start it with tnfd run")
        elif not live:
            said.append(f"the daemon (pid {pid}) does not answer; kill -USR1 {pid} writes what it waits for")
        said += [f"{part} has not moved for a while" for part in live.get("stale", ())]
        said += [
            f"inbox {inbox['name']} is lost: {inbox['why']}"
            for inbox in live.get("inboxes", ())
            if inbox["state"] == "lost"
        ]
        said += [
            f"engine {engine['name']} is paused: {engine['detail'] or engine['reason']}"
            for engine in engines
            if engine["state"] == "paused"
        ]
        if waiting.get("budget"):
            said.append(f"the budget is reached: {waiting['budget']} files wait")
        if counts.get("failed"):
            said.append(f"{counts['failed']} failed: tnfd jobs --state failed")
        return said


def age(at: datetime, now: datetime) -> str:
    """How long ago, in one unit: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    passed = max(0.0, (now - at).total_seconds())
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if passed < limit:
            return f"{int(passed / unit)} {name}"
    return f"{int(passed / 86400)} d"
