"""Finding jobs and doing something to them: one read connection, one short transaction for each command."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tnfd.config import Config
from tnfd.model import HistoryEntry, Job, JobState
from tnfd.ports.claims import NAMELESS, inbox_scope
from tnfd.ports.clock import Clock
from tnfd.rules.names import name_base64, printable
from tnfd.rules.status import status_object
from tnfd.store import database, views
from tnfd.store.presence import Presence

if TYPE_CHECKING:
    from tnfd.control.redo import RedoPlan


class NoSuchJob(LookupError):
    """Nothing in the store answers to what the user named."""


class Ambiguous(LookupError):
    """Several jobs answer to what the user named."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a command did with one job. ``before``: its state then (None: it was gone).

    ``served``: somebody works on such jobs, now or when the daemon is started.
    """

    job: Job
    before: JobState | None
    done: bool
    served: bool = True


@dataclass(frozen=True, slots=True)
class Resumed:
    """What ``resume`` did: holds that ended, engines that are probed now, whether all is held still."""

    lifted: tuple[str, ...]  # engines; "" stands for everything
    probed: tuple[str, ...]
    still_held: bool

    def __bool__(self) -> bool:
        """Whether anything was resumed."""
        return bool(self.lifted or self.probed)


class Control:
    """Reads and commands on one state folder; a context manager. ``empty``: there is no database yet."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self._path = config.daemon.state_dir / database.FILE_NAME
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Control:
        self._connection = database.open_to_read(self._path)
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
        moved_to = {"moved_to": None if job.moved_to is None else printable(job.moved_to)}
        return path | moved_to | shown

    def status(self) -> dict[str, Any]:
        """The whole of ``status --json`` (schema ``tnfd.daemon/1``)."""
        from tnfd.control.overview import Overview

        return Overview(self.config, self.clock, self._connection).whole()

    def engine_names(self) -> list[str]:
        """Engines that can be paused: those of the configuration, then others that have been used."""
        from tnfd.store import ledger

        used = [] if self._connection is None else ledger.engines(self._connection, self.clock.now())
        return list(dict.fromkeys((*self.config.engines, *(engine.name for engine in used))))

    # -- commands on jobs --------------------------------------------------------------------------

    def retry(self, jobs: Sequence[Job]) -> list[Dealt]:
        """Queue jobs anew, failures counted from zero; those are left that nobody would work on."""
        from tnfd.store import work

        done = []
        with self._writing() as connection:
            for job in jobs:
                served = self._served(job)
                again = served and work.retry(connection, job.id, self._now)
                if again:
                    self._post(connection, "retry", job.id)
                done.append(Dealt(job, job.state, again, served))
        return done

    def _served(self, job: Job) -> bool:
        """Whether a job belongs to a configured inbox, or to a batch that runs."""
        inboxes = {inbox_scope(os.fsencode(inbox.path)) for inbox in self.config.inboxes}
        if job.scope in inboxes:
            return True
        if not job.scope.startswith("batch:"):
            return False
        owner = job.scope.removeprefix("batch:")
        handed_back = job.inbox != NAMELESS and inbox_scope(job.source.root) in inboxes
        return handed_back or Presence(self.config.daemon.state_dir).lives(owner)

    def cancel(self, jobs: Sequence[Job]) -> list[Dealt]:
        """Take jobs out of the work; a running daemon ends the request of one that is running."""
        from tnfd.store import commands

        done = []
        with self._writing() as connection:
            for job in jobs:
                before = commands.cancel(connection, job.id, self._now)
                cancelled = before is not None and not before.final
                if cancelled:
                    self._post(connection, "cancel", job.id)
                done.append(Dealt(job, before, cancelled))
        return done

    def forget(self, jobs: Sequence[Job]) -> list[Dealt]:
        """Remove jobs, and transcripts that no other job uses; files beside the recordings stay.

        A job that runs or settles, or whose files are being moved, is left as it is.
        """
        from tnfd.store import commands

        done: list[Dealt] = []
        dropped: list[int] = []
        with self._writing() as connection:
            for job in jobs:
                before, numbers = commands.forget(connection, job.id)
                dropped += numbers or ()
                done.append(Dealt(job, before, numbers is not None))
            self._post(connection, "forget")
        for number in dropped:  # after the commit: what is left over here goes when the daemon starts
            shutil.rmtree(self.config.daemon.state_dir / "scratch" / f"t{number}", ignore_errors=True)
        return done

    def redo(self, plan: RedoPlan) -> list[Dealt]:
        """Queue what was planned for fresh transcriptions; copies of one content share one."""
        from tnfd.store import commands

        done = []
        begun: set[int] = set()
        with self._writing() as connection:
            for item in plan.items:
                number = commands.redo(
                    connection, item.job.id, item.settings, item.stat, frozenset(begun), self._now
                )
                begun.update(() if number is None else (number,))
                done.append(Dealt(item.job, item.job.state, number is not None))
            self._post(connection, "redo")
        return done

    # -- pauses ------------------------------------------------------------------------------------

    def pause(self, engine: str | None = None) -> bool:
        """Let no new request start, of one engine or at all; False: that is so already."""
        from tnfd.store import holds, routes

        with self._writing() as connection:
            added = holds.put(connection, engine or holds.ALL, self._now)
            routes.settle_all(connection, self._now)
            self._post(connection, "pause", engine or "")
        return added

    def resume(self, engine: str | None = None) -> Resumed:
        """End pauses by command, and have engines probed at once that are paused by their failures."""
        from tnfd.store import holds, ledger, routes

        with self._writing() as connection:
            lifted = holds.lift(connection, engine)
            probed = ledger.resume(connection, engine, self.clock.now())
            routes.settle_all(connection, self._now)
            still_held = holds.ALL in holds.all_of(connection)
            self._post(connection, "resume", engine or "")
        return Resumed(tuple(lifted), tuple(probed), still_held)

    # -- writing -----------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return self.clock.now().timestamp()

    def _post(self, connection: sqlite3.Connection, command: str, argument: str = "") -> None:
        connection.execute(
            "INSERT INTO control (at, command, argument) VALUES (?, ?, ?)", (self._now, command, argument)
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a pause before the first start
        with contextlib.closing(database.open_database(self._path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
