"""The embedded queue: a bounded ``asyncio.Queue`` of job ids, N workers, and a feeder that asks the store.

Owns who works on what in this process. Holds ids only; the store says what each is worth, and is asked again
when a worker takes one. A job that waits gives its worker up. What needs only to be written (copies, further
formats) has workers of its own, the express lane: it does not stand behind an engine that takes its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from tnfd import faultpoints
from tnfd.errors import LeaseLost, StoreUnusable
from tnfd.model import Waiting, WaitReason
from tnfd.ports.clock import Clock
from tnfd.ports.queue import Handler, Lease, Outcome, Released, Wait
from tnfd.ports.store import Finished, QueueStore, Skip
from tnfd.through import through

_log = structlog.get_logger("tnfd.queue")

OnFinished = Callable[[Outcome, Finished], Awaitable[None]]

_AFTER_BUG_S = 30.0  # until a job is delivered again whose handler raised what no handler may
_IDLE_LOOK_S = 5.0  # the command line wakes us by a control row; this only mends what a bug forgot


class _Bounded(asyncio.Queue[str | None]):
    """A queue whose bound may change while others wait at it."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self.bound = max(1, bound)

    def full(self) -> bool:
        """Whether nothing more fits in."""
        return self.qsize() >= self.bound


@dataclass(slots=True)
class _InWork:
    task: asyncio.Task[Outcome]
    scope: str
    cancelled: bool = field(default=False)  # by command: the command has written the state already


class EmbeddedQueue:
    """See ``ports.queue.Queue``. ``on_finished`` hears what ending a lease changed.

    ``express``: workers beside the ``concurrency``, for jobs whose transcript is stored.
    """

    def __init__(
        self,
        store: QueueStore,
        clock: Clock,
        *,
        scopes: Collection[str],
        concurrency: int,
        size: int,
        on_finished: OnFinished,
        express: int = 0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._scopes = scopes
        self._concurrency = concurrency
        self._ids = _Bounded(size)
        self._group: asyncio.TaskGroup | None = None
        self._workers = 0  # alive
        self._hired = 0  # ever
        self._surplus = 0  # workers that are to end
        self._handed: set[str] = set()  # in memory or in work
        self._express = express
        self._express_ids: asyncio.Queue[str | None] = asyncio.Queue()
        self._express_handed: set[str] = set()  # some may be in the other queue, too: begun only once
        self._in_work: dict[str, _InWork] = {}
        self._wake = asyncio.Event()
        self._draining = False
        self._on_finished = on_finished
        self._handler: Handler | None = None
        self.fed_at = clock.monotonic()  # the watchdog looks at this

    @property
    def in_work(self) -> list[str]:
        """Ids of the jobs that workers hold."""
        return list(self._in_work)

    @property
    def scopes_in_work(self) -> set[str]:
        """Scopes of the jobs that workers hold."""
        return {work.scope for work in self._in_work.values()}

    def resize(self, *, concurrency: int, size: int) -> None:
        """Work on more or fewer jobs at once; who is too many ends after the job at hand."""
        self._concurrency = concurrency
        self._ids.bound = size
        if self._group is not None and self._handler is not None and not self._draining:
            self._surplus = self._workers - concurrency
            for _ in range(-self._surplus):
                self._hire(self._group, self._handler)
        self._wake.set()

    def refresh(self) -> None:
        """Forget what nobody has begun, and ask the store anew: the scopes are others now."""
        kept = [self._ids.get_nowait() for _ in range(self._ids.qsize())]
        for job_id in kept:
            if job_id is None:
                self._ids.put_nowait(None)
            else:
                self._handed.discard(job_id)
        self._wake.set()

    def wake(self) -> None:
        """Say that there may be something to deliver."""
        self._wake.set()

    def drain(self) -> None:
        """Take nothing new; ``run`` returns when what is in progress has ended."""
        self._draining = True
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """End the work on one job."""
        work = self._in_work.get(job_id)
        if work is not None and not work.cancelled:
            work.cancelled = True
            work.task.cancel()

    def release(self, job_id: str) -> None:
        """Have one job handed back unfinished, for whoever has time for it."""
        work = self._in_work.get(job_id)
        if work is not None and not work.cancelled and not work.task.cancelling():
            work.task.cancel()

    async def run(self, handler: Handler) -> None:
        """Work until drained; cancelled, everything in progress is released first."""
        self._ids = _Bounded(self._ids.bound)
        self._handed.clear()
        self._express_ids = asyncio.Queue()
        self._express_handed.clear()
        self._handler, self._workers, self._hired, self._surplus = handler, 0, 0, 0
        await self._store.reclaim()  # if an earlier run crashed, its leases would be held for ever
        try:
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._feed(), name="queue.feed")
                for _ in range(self._concurrency):
                    self._hire(self._group, handler)
                for number in range(self._express):
                    worker = self._worker(handler, self._express_ids, self._express_handed)
                    self._group.create_task(worker, name=f"queue.express-{number + 1}")
        finally:
            self._group = None

    def _hire(self, group: asyncio.TaskGroup, handler: Handler) -> None:
        self._workers += 1
        self._hired += 1
        group.create_task(self._employ(handler), name=f"queue.worker-{self._hired}")

    async def _employ(self, handler: Handler) -> None:
        try:
            await self._worker(handler, self._ids, self._handed)
        finally:
            self._workers -= 1

    async def _feed(self) -> None:
        while not self._draining:
            self._wake.clear()
            self.fed_at = self._clock.monotonic()
            while self._surplus > 0 and not self._ids.full():
                self._surplus -= 1
                self._ids.put_nowait(None)
            free = max(0, self._ids.bound - self._ids.qsize())
            ids = await self._store.ready(self._scopes, limit=free, without=self._handed) if free else []
            for job_id in ids:
                self._handed.add(job_id)
                self._ids.put_nowait(job_id)
            await self._feed_express()
            due_s = await self._store.next_due(self._scopes)
            await self._rest(_IDLE_LOOK_S if due_s is None else min(_IDLE_LOOK_S, due_s + 0.01))
        while not self._ids.empty():  # what nobody has begun stays queued in the store
            self._handed.discard(self._ids.get_nowait() or "")
        for _ in range(self._workers):
            await self._ids.put(None)
        for _ in range(self._express):
            self._express_ids.put_nowait(None)

    async def _feed_express(self) -> None:
        """Hand out past the queue what needs no engine, while others stand in the queue."""
        free = self._express - len(self._express_handed)
        if self._ids.empty() or free <= 0:
            return
        busy = {*self._in_work, *self._express_handed}
        for job_id in await self._store.ready(self._scopes, limit=free, without=busy, free=True):
            self._express_handed.add(job_id)
            self._express_ids.put_nowait(job_id)

    async def _rest(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._wake.wait()

    async def _worker(self, handler: Handler, ids: asyncio.Queue[str | None], handed: set[str]) -> None:
        while (job_id := await ids.get()) is not None:
            try:
                if self._draining:
                    continue
                lease = await through(self._store.begin(job_id), self._give_back)
                if isinstance(lease, Skip):
                    _log.debug("job.skipped", job=job_id, reason=lease.reason)
                else:
                    faultpoints.reach("job.begun")
                    await self._work(handler, lease)
            finally:
                handed.discard(job_id)
                self._wake.set()

    async def _give_back(self, lease: Lease | Skip) -> None:
        """The worker was stopped while the store was giving it this lease."""
        if isinstance(lease, Lease):
            await self._finish(lease, Released())

    async def _work(self, handler: Handler, lease: Lease) -> None:
        """Run the handler in a task of its own, so that a command can end it without ending the worker."""
        task = asyncio.ensure_future(handler(lease))  # noqa: TID251 - awaited right below
        task.set_name(f"job {lease.job.id}")
        work = self._in_work[lease.job.id] = _InWork(task, lease.job.scope)
        stopped: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:  # the process stops: end the handler once, then finish
                if stopped is None and not work.cancelled:  # a second one would end its cleaning up
                    task.cancel()
                stopped = error
        del self._in_work[lease.job.id]
        await self._finish(lease, self._outcome(lease, work))
        if stopped is not None:
            raise stopped

    def _outcome(self, lease: Lease, work: _InWork) -> Outcome | None:
        if work.cancelled:
            return None  # whoever cancelled it has written the state
        if work.task.cancelled():
            return Released()
        error = work.task.exception()
        if error is None:
            return work.task.result()
        if isinstance(error, LeaseLost):
            _log.info("job.lease_lost", job=lease.job.id)
            return None
        if isinstance(error, StoreUnusable) or not isinstance(error, Exception):
            raise error
        _log.error("worker.bug", job=lease.job.id, exc_info=error)
        until = self._clock.now() + timedelta(seconds=_AFTER_BUG_S)  # at once would be round and round
        return Wait(Waiting(WaitReason.RETRY, until, "internal.bug"))

    async def _finish(self, lease: Lease, outcome: Outcome | None) -> None:
        if outcome is not None:
            await through(self._end(lease, outcome))

    async def _end(self, lease: Lease, outcome: Outcome) -> None:
        finished = await self._store.finish(lease, outcome)
        if finished is not None:
            await self._on_finished(outcome, finished)
