"""One batch: works on its files in a scope of its own, and knows when nothing more can be done.

Owns the order of things from the first file to the last status file, and the signals meanwhile. The same
pipeline as the daemon's; what another process is at already is waited for, never done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from tnfd.batch.board import Board, Event, Item, Result, result_of
from tnfd.batch.entrance import Entrance
from tnfd.batch.halt import Halt, decide_halt
from tnfd.batch.plan import Plan, former_of
from tnfd.clock import SystemClock
from tnfd.intake.lease import ignore_sigio
from tnfd.model import Job, JobState
from tnfd.ports.batch import Taking
from tnfd.ports.clock import Clock
from tnfd.ports.progress import Stage
from tnfd.ports.queue import Adopted, LookAgain, Outcome, Retry
from tnfd.ports.store import Finished
from tnfd.rules.names import for_terminal
from tnfd.signals import heard
from tnfd.wiring import House, build_queue, open_house, scope_of

EXIT_FAILED = 1
EXIT_TRY_LATER = 75
EXIT_INTERRUPTED = 130

_GROUP = 200
_PATIENCE_S = 90.0  # a file that is still being written is waited for at least this long
_TICK_S = 0.5
_IMPORTS_S = 5.0  # they are over by then, in any case
_BURY_S = 5.0
_STATUS_S = 1.0
_LAST_WORDS_S = 3.0  # for status files of an interrupted batch


@dataclass(frozen=True, slots=True)
class Ending:
    """How a batch ended; ``halt`` says why it gave up although files wait."""

    exit_code: int
    took_s: float
    interrupted: bool
    halt: Halt | None


class Halter:
    """Hears the signals that stop a batch: the first lets what was sent come back, the second ends it all."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.stop = asyncio.Event()
        self.abort = asyncio.Event()

    def listen(self) -> contextlib.AbstractContextManager[None]:
        """Listen, from before there is a display until it is gone."""
        return heard({number: self._told for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)})

    def _told(self) -> None:
        if self.stop.is_set():
            self.abort.set()
            self._board.say(Event("Stopping at once.", "warning"))
            return
        self.stop.set()
        self._board.say(
            Event("Stopping: what has been sent is awaited; Ctrl-C once more stops at once.", "warning")
        )


async def run_batch(
    plan: Plan, environ: Mapping[str, str], board: Board, halter: Halter, clock: Clock | None = None
) -> Ending:
    """Do what was planned, until the halter says stop.

    Raises:
        StoreUnusable: the database cannot be used.
    """
    clock = clock or SystemClock()
    ignore_sigio()
    adopt = not plan.wishes.redo  # what is to be done again is not taken for done
    warm = {item.origin.settings.engines[0].name for item in plan.items if not _has_text(item)}
    async with open_house(
        plan.config, environ, clock, kind="batch", progress=board, adopt=adopt, warm=warm
    ) as house:
        return await _Batch(house, plan, board, halter).run()


class _Batch:
    def __init__(self, house: House, plan: Plan, board: Board, halter: Halter) -> None:
        self._house = house
        self._store = house.store
        self._clock = house.clock
        self._plan = plan
        self._board = board
        self._scope = f"batch:{house.store.owner}"
        inboxes = plan.config.inboxes
        self._inbox_scopes = frozenset(scope_of(inbox) for inbox in inboxes)
        workers = plan.config.daemon.workers
        self._queue = build_queue(house, (self._scope,), self._on_finished, ahead=workers)
        self._entrance = Entrance(
            house.store, self._clock, plan, board, self._scope, self._taken, self._end, self._patient
        )
        self._coming = len(plan.items)  # files that have neither a job nor a result yet
        self._open: dict[str, Item] = {}
        self._followed: dict[str, Item] = {}
        self._early: dict[str, tuple[Outcome, Finished]] = {}  # ended before they were noted here
        self._over = asyncio.Event()
        self._stop, self._abort = halter.stop, halter.abort
        self._status_due = asyncio.Event()
        self._halt: Halt | None = None
        self._began = self._clock.monotonic()
        self._stuck_since: float | None = None

    async def run(self) -> Ending:
        """Run to the end."""
        if self._plan.wishes.redo:
            self._entrance.redo_since = await self._store.redo_begin(self._plan.wishes.fingerprint())
        await self._look_around()
        await self._store.resume()
        self._check_over()
        try:
            async with asyncio.TaskGroup() as group:
                await self._go(group)
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        if self._plan.wishes.redo and not self._left():
            await self._store.redo_end(self._plan.wishes.fingerprint())
        self._close_books()
        took_s = self._clock.monotonic() - self._began
        return Ending(self._exit_code(), took_s, self._stop.is_set(), self._halt)

    async def _go(self, group: asyncio.TaskGroup) -> None:
        aside = [
            group.create_task(self._entrance.run(), name="batch.intake"),
            group.create_task(self._keep_status(), name="batch.status"),
            group.create_task(self._tick(), name="batch.tick"),
            group.create_task(self._listen(), name="batch.listen"),
        ]
        work = group.create_task(self._queue.run(self._house.handler), name="batch.queue")
        await _first_of(self._over, self._stop)
        await self._drain(work)
        for task in aside:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S if self._stop.is_set() else None):
                await self._write_down()

    async def _write_down(self) -> None:
        """Status files of what has ended; then what is to become of the recordings."""
        while await self._house.keeper.catch_up((self._scope,)):
            pass
        while await self._house.mover.catch_up((self._scope,)):
            pass

    async def _drain(self, work: asyncio.Task[None]) -> None:
        """Let what has been sent come back, and begin nothing new."""
        self._board.before_sending = self._queue.release
        self._queue.drain()
        self._house.transcriber.drain(strict=True)
        for job in self._queue.in_work:
            self._let_go(job)
        grace_s = self._plan.config.daemon.shutdown_grace_s
        aborted = asyncio.ensure_future(self._abort.wait())  # noqa: TID251 - ends right below
        await asyncio.wait({work, aborted}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        aborted.cancel()
        if not work.done():
            self._store.hurry()
            work.cancel()
        await asyncio.wait({work})

    def _let_go(self, job: str) -> None:
        item = self._board.item_of(job)
        if item is None or item.stage not in (Stage.TRANSCRIBING, Stage.WRITING):
            self._queue.release(job)

    # -- taking in -----------------------------------------------------------------------------------

    def _patient(self) -> bool:
        """Whether a file that is still being written is waited for."""
        others = bool(self._open or self._followed)
        return others or self._clock.monotonic() - self._began < _PATIENCE_S

    async def _taken(self, item: Item, job: str, how: Taking) -> None:
        self._board.at(item, "")
        self._board.taken(item, job)
        if how is Taking.ALREADY:
            self._end(item, Result.ALREADY, await self._store.job(job))
            return
        self._coming -= 1
        if how is Taking.FOLLOW:
            self._followed[job] = item
            self._board.at(item, "elsewhere")
            return
        item.rendered = how is Taking.RENDER
        self._open[job] = item
        self._queue.wake()
        early = self._early.pop(job, None)
        if early is not None:
            self._heard(item, *early)

    # -- what happens to jobs ------------------------------------------------------------------------

    async def _on_finished(self, outcome: Outcome, finished: Finished) -> None:
        job = finished.job
        self._house.keeper.hurry(job.id)
        self._status_due.set()
        if finished.released:
            self._queue.wake()
        item = self._open.get(job.id)
        if item is None:
            self._early[job.id] = outcome, finished
        else:
            self._heard(item, outcome, finished)

    def _heard(self, item: Item, outcome: Outcome, finished: Finished) -> None:
        job = finished.job
        if isinstance(outcome, Retry):
            text = f"{_name(item)}: {outcome.message} Again in {outcome.after_s:.0f} s."
            self._board.say(Event(text, "warning", item))
        item.adopted = isinstance(outcome, Adopted)
        if isinstance(outcome, LookAgain) and not self._stop.is_set():
            del self._open[job.id]
            self._coming += 1
            self._entrance.settle(item)
        elif job.state.final:
            self._end(item, result_of(job.state), job)
        else:
            self._board.at(item, "")

    def _end(self, item: Item, result: Result, job: Job | None = None, reason: str = "") -> None:
        if item.job is not None and (item.job in self._open or item.job in self._followed):
            self._open.pop(item.job, None)
            self._followed.pop(item.job, None)
        elif item.result is None:
            self._coming -= 1
        self._status_due.set()
        self._board.end(item, result, job, reason)
        self._check_over()

    def _check_over(self) -> None:
        if not self._coming and not self._open and not self._followed:
            self._over.set()

    # -- beside the work -----------------------------------------------------------------------------

    async def _keep_status(self) -> None:
        while True:
            self._status_due.clear()
            await self._write_down()
            behind = await self._store.status_behind((self._scope,))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_S if behind else None):
                    await self._status_due.wait()

    async def _listen(self) -> None:
        """Obey commands that concern work of this process."""
        seen = await self._store.last_command()
        while True:
            await self._clock.sleep(1.0)
            for command in await self._store.commands(seen):
                seen = command.id
                if command.command == "cancel":
                    self._queue.cancel(command.argument)
                self._queue.wake()

    async def _tick(self) -> None:
        buried_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(_TICK_S)
            self._collect_garbage()
            bury = self._clock.monotonic() - buried_at > _BURY_S
            if bury:
                buried_at = self._clock.monotonic()
                await self._store.bury_dead()
                await self._look_around()
            self._board.engines = tuple(await self._store.engines())
            await self._follow(again=bury)
            if not self._queue.in_work:
                await self._take_stock()
            else:
                self._stuck_since, self._board.waits = None, ""

    def _collect_garbage(self) -> None:
        """Begin with it, once the imports are done: what they made stays for good."""
        begun = self._board.begun is not None or self._clock.monotonic() - self._began > _IMPORTS_S
        if begun and not gc.isenabled():
            gc.freeze()
            gc.enable()

    async def _look_around(self) -> None:
        """Find out whether a daemon works on the inboxes."""
        self._entrance.live = self._inbox_scopes if await self._store.daemon_works() else frozenset()

    async def _follow(self, *, again: bool) -> None:
        """See how jobs fare that others work on."""
        for job_id, item in list(self._followed.items())[:_GROUP]:
            job = await self._store.job(job_id)
            if job is None:
                self._end(item, Result.CANCELLED, reason="its job was forgotten")
            elif job.state.final:
                self._end(item, result_of(job.state), job)
            elif job.state is JobState.QUEUED and again:  # whoever meant to do it may be gone
                del self._followed[job_id]
                self._coming += 1
                await self._entrance.take(item, job.source.stat, job.sha256 or "")
            elif job.state is JobState.SETTLING:
                del self._followed[job_id]
                self._coming += 1
                self._entrance.settle(item)

    async def _take_stock(self) -> None:
        """Nothing is in work: see whether anything can come of waiting."""
        for job_id, item in list(self._open.items())[:_GROUP]:  # others may have acted on our jobs
            job = await self._store.job(job_id)
            if job is None:
                self._end(item, Result.CANCELLED, reason="its job was forgotten")
            elif job.state.final:
                self._end(item, result_of(job.state), job)
            elif job.scope != self._scope:
                del self._open[job_id]
                self._followed[job_id] = item
        waits = await self._store.waits(self._scope)
        if any(wait.reason == "original" for wait in waits):
            self._queue.wake()
        now = self._clock.monotonic()
        self._stuck_since = self._stuck_since if self._stuck_since is not None else now
        halt = decide_halt(waits, now - self._stuck_since)
        self._board.waits = f"{halt.text} {halt.hint}" if halt is not None else ""
        if halt is not None and halt.final and not self._queue.in_work and not self._coming:
            self._halt = halt
            self._over.set()

    # -- the end -------------------------------------------------------------------------------------

    def _left(self) -> int:
        return sum(1 for item in self._plan.items if item.result is None)

    def _close_books(self) -> None:
        for item in self._plan.items:
            if item.result is None:
                self._board.end(item, Result.WAITING)

    def _exit_code(self) -> int:
        counts = self._board.counts
        if self._stop.is_set():
            return EXIT_INTERRUPTED
        if counts.get(Result.WAITING) or counts.get(Result.GROWING):
            return EXIT_TRY_LATER
        bad = (Result.FAILED, Result.PARTIAL, Result.CANCELLED, Result.VANISHED)
        return EXIT_FAILED if self._plan.left_out or any(counts.get(result) for result in bad) else 0


def _has_text(item: Item) -> bool:
    former = former_of(item, item.ref.stat, None)
    return former is not None and former.transcribed


def _name(item: Item) -> str:
    return for_terminal(item.ref.rel)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _first_of(*events: asyncio.Event) -> None:
    waits = {asyncio.ensure_future(event.wait()) for event in events}  # noqa: TID251 - end right below
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
