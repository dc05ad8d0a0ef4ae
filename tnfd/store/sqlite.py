"""The store's face: every port method, each handed to the writer thread or to the reading connection."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from tnfd.errors import Fault, StoreUnusable
from tnfd.model import (
    ChunkResult,
    Cut,
    Encoding,
    EngineChoice,
    FileRef,
    HistoryEntry,
    Job,
    JobState,
    MediaInfo,
    OutputFile,
    StatKey,
    Transcript,
)
from tnfd.ports.batch import Take, Taken, Waits
from tnfd.ports.claims import Found, Origin
from tnfd.ports.clock import Clock
from tnfd.ports.ledger import Ask, Closed, EngineStatus, Granted, Refused, Spending, Spent
from tnfd.ports.queue import Lease, Outcome
from tnfd.ports.store import Claim, Command, Finished, Kin, Skip
from tnfd.rules.throttle import Stated
from tnfd.store import (
    answers,
    batch,
    database,
    follow,
    intake,
    leases,
    ledger,
    retention,
    schedule,
    views,
    work,
    written,
)
from tnfd.store.after import AfterRows
from tnfd.store.ledger import Budget
from tnfd.store.presence import Presence
from tnfd.store.sqlerror import translate
from tnfd.store.writer import Writer

T = TypeVar("T")
_STUCK_S = 60.0


class SqliteStore:
    """Store and ledger on one SQLite file; an async context manager.

    ``owner`` names this process in leases and reservations. A process that was killed is recognised by its
    lock: on opening, what dead ones left is requeued, and their open requests are booked as spent.
    """

    def __init__(
        self, state_dir: Path, clock: Clock, *, owner: str, pid: int, kind: str, budget: Budget
    ) -> None:
        self._path = state_dir / database.FILE_NAME
        self._clock = clock
        self._owner = owner
        self._process = (pid, kind)
        self.budget = budget
        self._presence = Presence(state_dir)
        self._writer = Writer(partial(database.open_database, self._path), clock)
        self.after = AfterRows(self._writer.run, self._read, self._now)
        self._readers = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="tnfd-read")
        self._reading: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        """Open, migrate, announce this process, bury dead ones.

        Raises:
            StoreUnusable: see ``open_database``.
        """
        await self._writer.open()
        try:
            self._presence.announce(self._owner)
            row = (self._owner, *self._process, self._now())
            await self._writer.run(lambda c: c.execute("INSERT INTO process VALUES (?, ?, ?, ?)", row))
            await self.bury_dead()
        except BaseException:
            await self._close()
            raise
        return self

    async def ping(self) -> None:
        """Return once the database has answered a question; and see that its writer is not stuck.

        Raises:
            TimeoutError: the writer has been at one commit for minutes, and not because the disk is full.
        """
        await self._read(lambda c: c.execute("SELECT max(id) FROM control").fetchone())
        if self._writer.stuck_s(self._clock.monotonic()) > _STUCK_S:
            raise TimeoutError

    def hurry(self) -> None:
        """Stop waiting for a full disk or a busy database: the process ends."""
        self._writer.hurry()

    async def __aexit__(self, *exc_info: object) -> None:
        """Commit what was handed over and close; leave nothing of this process behind."""
        self.hurry()
        # Where even this cannot be written, whoever opens the store next finds our lock free and does it.
        with contextlib.suppress(StoreUnusable, Fault):
            await self._writer.run(lambda c: self._bury(c, [self._owner]))
        await self._close()

    async def _close(self) -> None:
        # The writer last: the last connection folds the log into the database file, one that only reads
        # cannot, and a copy of that file alone would lack everything.
        await asyncio.get_running_loop().run_in_executor(self._readers, self._close_reading)
        self._readers.shutdown()
        await self._writer.close()
        self._presence.leave()
        self._presence.lives(self._owner)  # removes the lock file

    async def bury_dead(self) -> list[str]:
        """Requeue and book what dead processes left; return the jobs."""
        rows = await self._writer.run(lambda c: c.execute("SELECT owner FROM process").fetchall())
        owners = [row["owner"] for row in rows if row["owner"] != self._owner]
        dead = [owner for owner in owners if not self._presence.lives(owner)]
        self._presence.sweep()
        if not dead:
            return []

        return await self._writer.run(lambda c: self._bury(c, dead))

    def _bury(self, connection: sqlite3.Connection, owners: Collection[str]) -> list[str]:
        requeued = work.reap(connection, owners, self._now())
        batch.hand_back(connection, owners)
        ledger.bury(connection, owners)
        return requeued

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()

    async def _read(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if self._reading is None:
                self._reading = database.open_database(self._path, writable=False)
            try:
                return unit(self._reading)
            except sqlite3.Error as error:
                raise translate(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    # -- intake ------------------------------------------------------------------------------------

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        """See ``ports.store.IntakeStore``."""
        return await self._read(lambda c: intake.known(c, root, after, limit))

    async def unsettled(self, root: bytes) -> dict[bytes, StatKey]:
        """Relative paths of the jobs below a root that are still settling."""
        return await self._read(lambda c: intake.unsettled(c, root))

    async def claim(self, origin: Origin, found: Sequence[Found]) -> list[Claim]:
        """See ``ports.store.IntakeStore``."""
        now = self._now()
        return await self._writer.run(lambda c: [intake.claim(c, origin, one, now) for one in found])

    async def kin(self, found: Sequence[Found]) -> dict[int, list[Kin]]:
        """See ``ports.store.IntakeStore``."""
        return await self._read(
            lambda c: {at: rows for at, one in enumerate(found) if (rows := follow.kin(c, one))}
        )

    async def settling(self, origin: Origin, ref: FileRef, seen_at: datetime) -> str:
        """See ``ports.store.IntakeStore``."""
        return await self._writer.run(
            lambda c: intake.settling(c, origin, ref, seen_at.timestamp(), self._now())
        )

    async def refuse(self, origin: Origin, ref: FileRef, seen_at: datetime, fault: Fault) -> Claim:
        """See ``ports.store.IntakeStore``."""
        return await self._writer.run(
            lambda c: intake.refuse(c, origin, ref, seen_at.timestamp(), fault, self._now())
        )

    async def gone(self, root: bytes, rels: Sequence[bytes]) -> list[str]:
        """See ``ports.store.IntakeStore``."""
        return await self._writer.run(lambda c: intake.gone(c, root, rels, self._now()))

    async def first_start(self, root: bytes) -> bool:
        """See ``ports.store.IntakeStore``."""
        return await self._read(lambda c: intake.first_start(c, root))

    async def skip(self, root: bytes, refs: Sequence[FileRef]) -> None:
        """See ``ports.store.IntakeStore``."""

        def unit(connection: sqlite3.Connection) -> None:
            intake.started(connection, root, self._now())
            for ref in refs:
                intake.remember(connection, ref)

        await self._writer.run(unit)

    # -- batches -----------------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """This process's name."""
        return self._owner

    async def take(self, wanted: Sequence[Take], live: Collection[str]) -> list[Taken]:
        """See ``ports.batch.BatchStore``."""
        now = self._now()
        return await self._writer.run(lambda c: [batch.take(c, one, live, now) for one in wanted])

    async def waits(self, scope: str) -> list[Waits]:
        """See ``ports.batch.BatchStore``."""
        return await self._read(lambda c: batch.waits(c, scope))

    async def daemon_works(self) -> bool:
        """See ``ports.batch.BatchStore``."""
        return await self._read(batch.daemon_works)

    async def redo_begin(self, fingerprint: str) -> float:
        """See ``ports.batch.BatchStore``."""
        return await self._writer.run(lambda c: batch.redo_begin(c, fingerprint, self._now()))

    async def redo_end(self, fingerprint: str) -> None:
        """See ``ports.batch.BatchStore``."""
        await self._writer.run(lambda c: batch.redo_end(c, fingerprint))

    async def leave(self, ref: FileRef, why: str) -> None:
        """See ``ports.store.IntakeStore``."""
        await self._writer.run(lambda c: intake.leave(c, ref, why, self._now()))

    async def reserved(self, folder: bytes, folded: Collection[str]) -> frozenset[str]:
        """See ``ports.store.IntakeStore``."""
        return await self._read(lambda c: views.reserved(c, folder, folded))

    # -- queue -------------------------------------------------------------------------------------

    async def ready(
        self, scopes: Collection[str], *, limit: int, without: Collection[str], free: bool = False
    ) -> list[str]:
        """See ``ports.store.QueueStore``."""
        scopes, without = tuple(scopes), frozenset(without)  # they may change while the thread reads
        ready = schedule.ready_free if free else schedule.ready
        return await self._read(lambda c: ready(c, scopes, self._now(), limit, without))

    async def next_due(self, scopes: Collection[str]) -> float | None:
        """Seconds until the next waiting job becomes ready by itself; None: nothing waits for time."""
        scopes = tuple(scopes)  # they may change while the thread reads
        due = await self._read(lambda c: schedule.next_due(c, scopes, self._now()))
        return None if due is None else max(0.0, due - self._now())

    async def begin(self, job_id: str) -> Lease | Skip:
        """See ``ports.store.QueueStore``."""
        return await self._writer.run(lambda c: leases.begin(c, job_id, self._owner, self._now()))

    async def finish(self, lease: Lease, outcome: Outcome) -> Finished | None:
        """See ``ports.store.QueueStore``."""
        return await self._writer.run(lambda c: work.finish(c, lease, outcome, self._now()))

    async def reclaim(self) -> list[str]:
        """See ``ports.store.QueueStore``."""
        return await self._writer.run(lambda c: work.reap(c, [self._owner], self._now()))

    async def hold_scope(self, scope: str) -> None:
        """Let the queued jobs of a lost inbox say why they wait."""
        await self._writer.run(lambda c: work.hold_scope(c, scope))

    async def release_scope(self, scope: str) -> None:
        """The inbox is back: its jobs wait no longer for it."""
        await self._writer.run(lambda c: work.release_scope(c, scope))

    # -- work --------------------------------------------------------------------------------------

    async def save_media(self, lease: Lease, media: MediaInfo) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.save_media(c, lease, media, self._now()))

    async def restart_cuts(self, lease: Lease, encoding: Encoding) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.restart_cuts(c, lease, encoding))

    async def save_cut(self, lease: Lease, cut: Cut) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.save_cut(c, lease, cut))

    async def split_cuts(self, lease: Lease, indexes: Collection[int], max_s: float) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.split_cuts(c, lease, indexes, max_s))

    async def lose_chunk(self, lease: Lease, index: int, code: str) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.lose_chunk(c, lease, index, code, self._now()))

    async def finish_cuts(self, lease: Lease, *, samples: int, bad_packets: int) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.finish_cuts(c, lease, samples, bad_packets, self._now()))

    async def save_chunk(
        self,
        lease: Lease,
        index: int,
        engine: EngineChoice,
        result: ChunkResult,
        *,
        uploaded_bytes: int,
        cost_usd: float,
        audio_s: float,
    ) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(
            lambda c: answers.save_chunk(
                c, lease, index, engine, result, uploaded_bytes, cost_usd, audio_s, self._now()
            )
        )

    async def save_heard(self, lease: Lease, index: int, result: ChunkResult) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.save_heard(c, lease, index, result, self._now()))

    async def save_transcript(self, lease: Lease, transcript: Transcript) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: answers.save_transcript(c, lease, transcript, self._now()))

    async def reserve_output(self, lease: Lease, format: str, folder: bytes, name: bytes) -> bool:
        """See ``ports.store.WorkStore``."""
        return await self._writer.run(lambda c: written.reserve_output(c, lease, format, folder, name))

    async def release_output(self, lease: Lease, format: str) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: written.release_output(c, lease, format))

    async def output_written(self, lease: Lease, format: str, sha256: str) -> None:
        """See ``ports.store.WorkStore``."""
        await self._writer.run(lambda c: written.output_written(c, lease, format, sha256))

    # -- status files ------------------------------------------------------------------------------

    async def status_due(
        self, scopes: Collection[str], *, limit: int, without: Collection[str] = ()
    ) -> list[tuple[Job, int]]:
        """See ``ports.store.StatusStore``."""
        without = frozenset(without)
        return await self._read(lambda c: views.status_due(c, scopes, self._now(), limit, without))

    async def status_behind(self, scopes: Collection[str]) -> bool:
        """Whether some job's status file says less than the store; it may not be due yet."""
        return await self._read(lambda c: views.status_behind(c, scopes))

    async def status_written(self, job_id: str, revision: int, sha256: str | None) -> None:
        """See ``ports.store.StatusStore``."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE job SET status_revision = ?, status_at = ? WHERE id = ?",
                (revision, self._now(), job_id),
            )
            connection.execute(
                "UPDATE output SET sha256 = ? WHERE job = ? AND format = 'status'", (sha256, job_id)
            )

        await self._writer.run(unit)

    async def reserve_status(self, job_id: str, folder: bytes, name: bytes) -> bool:
        """See ``ports.store.StatusStore``."""
        return await self._writer.run(lambda c: written.reserve_status(c, job_id, folder, name))

    # -- views -------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> Job | None:
        """See ``ports.store.ViewStore``."""
        return await self._read(lambda c: views.job(c, job_id))

    async def jobs(
        self,
        *,
        state: JobState | None = None,
        inbox: str | None = None,
        path: bytes | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """See ``ports.store.ViewStore``."""
        return await self._read(lambda c: views.listing(c, state, inbox, path, limit))

    async def by_prefix(self, prefix: str) -> list[str]:
        """Job ids that begin with ``prefix``, at most 20."""
        return await self._read(lambda c: views.by_prefix(c, prefix))

    async def history(self, job_id: str) -> list[HistoryEntry]:
        """See ``ports.store.ViewStore``."""
        return await self._read(lambda c: views.history(c, job_id))

    async def outputs(self, job_id: str) -> list[tuple[bytes, OutputFile]]:
        """See ``ports.store.ViewStore``."""
        return await self._read(lambda c: views.outputs(c, job_id))

    async def counts(self) -> dict[str, int]:
        """See ``ports.store.ViewStore``."""
        return await self._read(views.counts)

    async def waiting(self) -> dict[str, int]:
        """See ``ports.store.ViewStore``."""
        return await self._read(views.waiting)

    async def open_transcriptions(self) -> set[int]:
        """Transcriptions whose encoded cuts are still needed."""
        return await self._read(views.open_transcriptions)

    async def expire(self, before: datetime) -> list[int]:
        """Remove the text of what was finished before a moment; return them (see ``retention``)."""
        numbers = await self._writer.run(lambda c: retention.expire(c, before.timestamp()))
        if numbers:
            await asyncio.to_thread(self._empty_log)
        return numbers

    def _empty_log(self) -> None:
        with contextlib.closing(database.open_database(self._path)) as connection:
            retention.empty_log(connection)  # with readers in the way, the next time

    # -- controls ----------------------------------------------------------------------------------

    async def retry(self, job_ids: Sequence[str]) -> list[str]:
        """See ``ports.store.ControlStore``."""

        def unit(connection: sqlite3.Connection) -> list[str]:
            return [job_id for job_id in job_ids if work.retry(connection, job_id, self._now())]

        return await self._writer.run(unit)

    async def post(self, command: str, argument: str = "") -> None:
        """Leave a command for whatever runs."""
        await self._writer.run(
            lambda c: c.execute(
                "INSERT INTO control (at, command, argument) VALUES (?, ?, ?)",
                (self._now(), command, argument),
            )
        )

    async def last_command(self) -> int:
        """The id of the newest command."""
        return await self._read(
            lambda c: int(c.execute("SELECT coalesce(max(id), 0) FROM control").fetchone()[0])
        )

    async def commands(self, after: int) -> list[Command]:
        """See ``ports.store.ControlStore``."""
        rows = await self._read(
            lambda c: c.execute(
                "SELECT id, command, argument FROM control WHERE id > ? ORDER BY id", (after,)
            ).fetchall()
        )
        return [Command(row["id"], row["command"], row["argument"]) for row in rows]

    # -- ledger ------------------------------------------------------------------------------------

    async def reserve(self, ask: Ask) -> Granted | Refused:
        """See ``ports.ledger.Ledger``."""
        return await self._writer.run(
            lambda c: ledger.reserve(c, ask, self._owner, self.budget, self._clock.now())
        )

    async def refusal(self, ask: Ask) -> Refused | None:
        """See ``ports.ledger.Ledger``."""
        return await self._read(lambda c: ledger.refusal(c, ask, self.budget, self._clock.now()))

    async def close(
        self, reservation: int, *, cost_usd: float, fault: Fault | None, stated: Stated | None = None
    ) -> Closed:
        """See ``ports.ledger.Ledger``."""
        return await self._writer.run(
            lambda c: ledger.close(c, reservation, cost_usd, fault, self._clock.now(), stated)
        )

    async def resume(self, engine: str | None = None) -> list[str]:
        """See ``ports.ledger.Ledger``."""
        return await self._writer.run(lambda c: ledger.resume(c, engine, self._clock.now()))

    async def engines(self) -> list[EngineStatus]:
        """See ``ports.ledger.Ledger``."""
        return await self._read(lambda c: ledger.engines(c, self._clock.now()))

    async def spent(self) -> Spent:
        """See ``ports.ledger.Ledger``."""
        return await self._read(lambda c: ledger.spent_of(c, self._clock.now()))

    async def spending(self) -> list[Spending]:
        """See ``ports.ledger.Ledger``."""
        return await self._read(lambda c: ledger.spending(c, self._clock.now()))
