"""What a queue owes its handler: each job once, to no more workers than there are, through stops and bugs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from tests.stores import (
    SCOPES,
    AnyStore,
    Sqlite,
    Stores,
    begin,
    claim,
    found,
    origin,
    ready,
    skipped,
    the_job,
    transcribe,
)
from tnfd.errors import LeaseLost, StoreUnusable
from tnfd.model import JobState, Waiting, WaitReason
from tnfd.ports.queue import Done, Fail, Lease, Outcome, Released, Retry, Wait
from tnfd.ports.store import Finished, Skip
from tnfd.queue.embedded import EmbeddedQueue
from tnfd.store.ledger import Budget
from tnfd.store.sqlite import SqliteStore

T = TypeVar("T")
Answer = Callable[[Lease], Awaitable[Outcome]]


class Bench:
    """A queue, what its handler does, and what came of it. ``until`` waits for a fact about that."""

    def __init__(self, stores: Stores, store: AnyStore) -> None:
        self.stores = stores
        self.store = store
        self.begun: list[str] = []  # by relative path, in order
        self.ended: list[tuple[str, Outcome, JobState]] = []
        self.at_work = 0
        self.most_at_work = 0
        self.answers: dict[str, Answer] = {}
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self, *, concurrency: int = 2, size: int = 4, scopes: Collection[str] = SCOPES, express: int = 0
    ) -> tuple[EmbeddedQueue, asyncio.Task[None]]:
        queue = EmbeddedQueue(
            self.store,
            self.stores.clock,
            scopes=scopes,
            concurrency=concurrency,
            size=size,
            express=express,
            on_finished=self.on_finished,
        )
        return queue, self.run(queue)

    def run(self, queue: EmbeddedQueue) -> asyncio.Task[None]:
        task = asyncio.create_task(queue.run(self.handle))
        self._tasks.append(task)
        return task

    async def handle(self, lease: Lease) -> Outcome:
        rel = lease.job.source.rel.decode()
        self.begun.append(rel)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await self.tell()
        try:
            return await self.answers[rel](lease) if rel in self.answers else Done()
        finally:
            self.at_work -= 1

    async def on_finished(self, outcome: Outcome, finished: Finished) -> None:
        self.ended.append((finished.job.source.rel.decode(), outcome, finished.job.state))
        await self.tell()

    async def tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(fact)

    async def claim(self, *names: str) -> list[str]:
        return [await claim(self.stores, self.store, name, name) for name in names]

    async def states(self) -> dict[str, str]:
        return {job.source.rel.decode(): str(job.state) for job in await self.store.jobs()}

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class Held:
    """An answer that waits until it is let go."""

    def __init__(self, outcome: Outcome | None = None) -> None:
        self.outcome = outcome or Done()
        self.go = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, _lease: Lease) -> Outcome:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.outcome


def always(outcome: Outcome) -> Answer:
    async def answer(_lease: Lease) -> Outcome:
        return outcome

    return answer


def raises(error: BaseException) -> Answer:
    async def answer(_lease: Lease) -> Outcome:
        raise error

    return answer


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    stores = Stores(Sqlite(), tmp_path)
    bench = Bench(stores, await stores.open())
    yield bench
    await bench.close()
    await stores.close_all()


async def stop(queue: EmbeddedQueue, task: asyncio.Task[None]) -> None:
    queue.drain()
    async with asyncio.timeout(20):
        await task


class Slow(SqliteStore):
    """A store whose answer to one kind of call takes until ``go``; what was asked is done by then."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores.place, stores.clock, owner="daemon-1", pid=1, kind="daemon", budget=Budget())
        self.slow = ""
        self.done, self.go = asyncio.Event(), asyncio.Event()

    async def ready(
        self, scopes: Collection[str], *, limit: int, without: Collection[str], free: bool = False
    ) -> list[str]:
        answer = await super().ready(scopes, limit=limit, without=without, free=free)
        return await self._late("ready", answer)

    async def begin(self, job_id: str) -> Lease | Skip:
        return await self._late("begin", await super().begin(job_id))

    async def finish(self, lease: Lease, outcome: Outcome) -> Finished | None:
        return await self._late("finish", await super().finish(lease, outcome))

    async def _late(self, name: str, answer: T) -> T:
        if self.slow == name:
            self.done.set()
            await self.go.wait()
        return answer


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Bench, Slow]]:
    stores = Stores(Sqlite(), tmp_path)
    async with Slow(stores) as store:
        bench = Bench(stores, store)
        yield bench, store
        store.go.set()
        await bench.close()
        await stores.close_all()


async def turns_until(fact: Callable[[], bool]) -> None:
    """Let the loop turn until a fact that passes too quickly to be told of."""
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def at_rest(queue: EmbeddedQueue) -> None:
    """Return once the feeder waits, having seen everything."""
    wake: Any = queue._wake
    await turns_until(lambda: not wake.is_set() and bool(wake._waiters))


# -- delivering ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("concurrency", "size"), [(1, 1), (3, 1), (2, 50)])
async def test_every_job_is_done_once(bench: Bench, concurrency: int, size: int) -> None:
    group = [found(f"{number}.mp3", str(number), bench.stores.now) for number in range(40)]
    await bench.store.claim(origin(), group)
    queue, task = bench.start(concurrency=concurrency, size=size)
    await bench.until(lambda: len(bench.ended) == 40)
    await stop(queue, task)
    assert set(Counter(bench.begun).values()) == {1}
    assert bench.most_at_work <= concurrency
    assert await bench.store.counts() == {"done": 40}


async def test_workers_work_at_once(bench: Bench) -> None:
    await bench.claim("a", "b", "c", "d")
    held = bench.answers["a"] = bench.answers["b"] = bench.answers["c"] = Held()
    queue, task = bench.start(concurrency=3)
    await bench.until(lambda: bench.at_work == 3)
    assert len(queue.in_work) == 3
    held.go.set()
    await bench.until(lambda: len(bench.ended) == 4)
    await stop(queue, task)


async def test_job_that_comes_later_is_delivered_when_told(bench: Bench) -> None:
    queue, task = bench.start()
    await bench.claim("a")
    queue.wake()
    await bench.until(lambda: len(bench.ended) == 1)
    await stop(queue, task)


async def test_other_scopes_are_left_alone(bench: Bench) -> None:
    await claim(bench.stores, bench.store, "x", "x", where=origin("inbox:/other"))
    await bench.claim("a")
    queue, task = bench.start()
    await bench.until(lambda: len(bench.ended) == 1)
    await stop(queue, task)
    assert bench.begun == ["a"]


async def test_waiting_job_gives_its_worker_up(bench: Bench) -> None:
    await bench.claim("a", "b")
    until = bench.stores.now + timedelta(hours=1)
    bench.answers["a"] = always(Wait(Waiting(WaitReason.DISK, until, "full")))
    queue, task = bench.start(concurrency=1)
    await bench.until(lambda: len(bench.ended) == 2)
    assert (await bench.states()) == {"a": "queued", "b": "done"}
    bench.answers.clear()
    await bench.stores.clock.advance(3601)
    queue.wake()
    await bench.until(lambda: len(bench.ended) == 3)
    await stop(queue, task)
    assert bench.begun == ["a", "b", "a"]


async def test_retry_comes_again_by_itself(bench: Bench) -> None:
    await bench.claim("a")
    bench.answers["a"] = always(Retry(0.05, "engine.timeout", "m", "h"))
    queue, task = bench.start()
    await bench.until(lambda: len(bench.ended) == 1)
    bench.answers["a"] = always(Done())
    await at_rest(queue)
    await bench.stores.clock.advance(0.1)
    await bench.until(lambda: len(bench.ended) == 2)  # nobody woke it
    await stop(queue, task)
    assert (await the_job(bench.store, (await bench.store.jobs())[0].id)).failures == 1


async def test_id_is_held_in_memory_once(bench: Bench) -> None:
    first, second, third = await bench.claim("a", "b", "c")
    held = bench.answers["a"] = Held()
    queue, task = bench.start(concurrency=1, size=4)
    await bench.until(lambda: bench.at_work == 1)
    for _ in range(3):
        queue.wake()
        await at_rest(queue)
    assert [queue._ids.get_nowait() for _ in range(queue._ids.qsize())] == [second, third]
    assert queue.in_work == [first]
    held.go.set()
    await stop(queue, task)


async def test_copies_follow_their_original(bench: Bench) -> None:
    names = [f"{number}.mp3" for number in range(5)]
    for name in names:
        await claim(bench.stores, bench.store, name, "same")
    sent: list[bytes] = []

    async def work(lease: Lease) -> Outcome:
        if lease.transcription.transcript is None:
            sent.append(lease.job.source.rel)
            await transcribe(bench.store, lease)
        return Done()

    bench.answers.update(dict.fromkeys(names, work))
    queue, task = bench.start(concurrency=4)
    await bench.until(lambda: len(bench.ended) == 5)
    await stop(queue, task)
    assert len(sent) == 1
    assert await bench.store.counts() == {"done": 1, "duplicate": 4}


async def test_stale_id_is_not_worked_on_twice(slow: tuple[Bench, Slow]) -> None:
    bench, store = slow
    first, second = await bench.claim("a", "b")
    store.slow = "ready"
    queue, task = bench.start()
    await store.done.wait()
    other = await bench.stores.open("batch-1")  # another process takes it meanwhile
    await other.finish(await begin(other, first), Done())
    store.go.set()
    await bench.until(lambda: len(bench.ended) == 1)
    await stop(queue, task)
    assert bench.begun == ["b"]
    assert (await the_job(store, second)).state is JobState.DONE


async def test_copies_of_finished_work_do_not_wait_for_workers(bench: Bench) -> None:
    await bench.claim("a", "b", "c", "d")  # four contents
    await claim(bench.stores, bench.store, "a again", "a")

    async def work(lease: Lease) -> Outcome:
        if lease.transcription.transcript is None:
            await transcribe(bench.store, lease)
        return Done()

    held = Held()
    bench.answers.update({"a": work, "a again": work, "b": held, "c": held, "d": held})
    queue, task = bench.start(concurrency=1, express=1)
    await bench.until(lambda: len(bench.ended) == 2)  # while b is at work, and c waits in memory
    assert bench.begun == ["a", "b", "a again"] or bench.begun == ["a", "a again", "b"]
    assert bench.most_at_work <= 2
    held.go.set()
    await bench.until(lambda: len(bench.ended) == 5)
    await stop(queue, task)
    assert await bench.store.counts() == {"done": 4, "duplicate": 1}


async def test_express_lane_takes_nothing_that_is_to_be_sent(bench: Bench) -> None:
    await bench.claim("a", "b", "c")
    held = bench.answers["a"] = bench.answers["b"] = bench.answers["c"] = Held()
    queue, task = bench.start(concurrency=1, express=2)
    await bench.until(lambda: bench.at_work == 1)
    await at_rest(queue)
    assert bench.begun == ["a"]
    held.go.set()
    await bench.until(lambda: len(bench.ended) == 3)
    await stop(queue, task)


# -- stopping --------------------------------------------------------------------------------------------


async def test_draining_ends_what_is_in_progress_and_begins_nothing(bench: Bench) -> None:
    await bench.claim(*"abcdef")
    held = bench.answers["a"] = bench.answers["b"] = Held()
    queue, task = bench.start(concurrency=2, size=2)
    await bench.until(lambda: bench.at_work == 2)
    # The queue in memory is full as well.
    await turns_until(lambda: queue.wake() or queue._ids.qsize() == 2)  # type: ignore[func-returns-value]
    queue.drain()
    held.go.set()
    async with asyncio.timeout(20):
        await task
    assert sorted(bench.begun) == ["a", "b"]
    assert await ready(bench.store) == [job.id for job in reversed(await bench.store.jobs())][2:]


async def test_id_in_a_worker_s_hand_is_not_begun_while_draining(bench: Bench) -> None:
    await bench.claim("a")
    queue, task = bench.start()
    # The feeder has handed the id out; whoever takes it sees that it is too late.
    await turns_until(lambda: bool(queue._handed))
    queue.drain()
    async with asyncio.timeout(20):
        await task
    assert bench.begun == []
    assert await bench.states() == {"a": "queued"}


async def test_idle_queue_drains_at_once(bench: Bench) -> None:
    queue, task = bench.start()
    await stop(queue, task)
    assert bench.begun == []


async def test_stopping_hands_back_what_is_in_progress(bench: Bench) -> None:
    await bench.claim("a", "b", "c")
    held = bench.answers["a"] = bench.answers["b"] = Held()
    _, task = bench.start(concurrency=2)
    await bench.until(lambda: bench.at_work == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.cancelled == 2
    assert sorted(bench.ended) == [
        ("a", Released(), JobState.QUEUED),
        ("b", Released(), JobState.QUEUED),
    ]
    assert len(await ready(bench.store)) == 3


async def test_handler_that_ends_although_it_was_stopped_is_believed(bench: Bench) -> None:
    await bench.claim("a")

    async def last_words(_lease: Lease) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Done()
        raise AssertionError

    bench.answers["a"] = last_words
    _, task = bench.start()
    await bench.until(lambda: bench.at_work == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.states() == {"a": "done"}


async def test_lease_that_arrives_after_the_stop_is_given_back(slow: tuple[Bench, Slow]) -> None:
    bench, store = slow
    await bench.claim("a")
    store.slow = "begin"
    _, task = bench.start()
    await store.done.wait()
    task.cancel()
    await asyncio.sleep(0)
    store.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.begun == []
    assert bench.ended == [("a", Released(), JobState.QUEUED)]


async def test_stop_during_the_end_of_a_job_loses_neither_state_nor_word(slow: tuple[Bench, Slow]) -> None:
    bench, store = slow
    await bench.claim("a")
    store.slow = "finish"
    _, task = bench.start()
    await store.done.wait()
    task.cancel()
    await asyncio.sleep(0)
    store.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.ended == [("a", Done(), JobState.DONE)]


# -- commands --------------------------------------------------------------------------------------------


async def cancel_in_store(store: AnyStore, job_id: str) -> None:
    """What the command writes."""
    assert isinstance(store, SqliteStore)
    await store._writer.run(lambda c: c.execute("UPDATE job SET state = 'cancelled' WHERE id = ?", (job_id,)))


async def test_cancelled_job_ends_and_its_worker_goes_on(bench: Bench) -> None:
    first, _ = await bench.claim("a", "b")
    held = bench.answers["a"] = Held()
    queue, task = bench.start(concurrency=1)
    await bench.until(lambda: bench.at_work == 1)
    await cancel_in_store(bench.store, first)
    queue.cancel(first)
    queue.cancel(first)
    queue.cancel("NO-SUCH-JOB")
    await bench.until(lambda: len(bench.ended) == 1)
    await stop(queue, task)
    assert held.cancelled == 1
    assert bench.begun == ["a", "b"]
    assert await bench.states() == {"a": "cancelled", "b": "done"}


async def test_job_cancelled_after_its_end_stays_as_it_is(slow: tuple[Bench, Slow]) -> None:
    bench, store = slow
    (job,) = await bench.claim("a")
    store.slow = "finish"
    queue, task = bench.start()
    await store.done.wait()
    queue.cancel(job)
    store.go.set()
    await stop(queue, task)
    assert bench.ended == [("a", Done(), JobState.DONE)]


async def test_job_cancelled_before_its_end_is_not_ended_again(bench: Bench) -> None:
    (job,) = await bench.claim("a")
    held = bench.answers["a"] = Held()
    queue, task = bench.start()
    await bench.until(lambda: bench.at_work == 1)
    await cancel_in_store(bench.store, job)
    held.go.set()  # the worker does not know yet
    await turns_until(lambda: not queue.in_work)
    await stop(queue, task)
    assert await bench.states() == {"a": "cancelled"}
    assert bench.ended == []


async def test_stop_does_not_disturb_a_cancelled_handler_s_cleaning_up(bench: Bench) -> None:
    (job,) = await bench.claim("a")
    cleaning, clean = asyncio.Event(), asyncio.Event()
    cleaned: list[bool] = []

    async def tidy(_lease: Lease) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await clean.wait()
            cleaned.append(True)
        raise AssertionError

    bench.answers["a"] = tidy
    queue, task = bench.start()
    await bench.until(lambda: bench.at_work == 1)
    await cancel_in_store(bench.store, job)
    queue.cancel(job)
    await cleaning.wait()
    task.cancel()
    await asyncio.sleep(0)
    clean.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]


# -- bugs ------------------------------------------------------------------------------------------------


async def test_handler_s_bug_releases_its_job_and_the_worker_lives(bench: Bench) -> None:
    await bench.claim("a", "b")
    bench.answers["a"] = raises(ZeroDivisionError("a bug"))
    queue, task = bench.start(concurrency=1)
    with capture_logs() as logs:
        await bench.until(lambda: len(bench.ended) == 2)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["worker.bug"]
    assert await bench.states() == {"a": "queued", "b": "done"}
    assert await ready(bench.store) == []  # not at once: it would be round and round
    bench.answers.clear()
    await bench.stores.clock.advance(60)
    queue.wake()
    await bench.until(lambda: len(bench.ended) == 3)
    await stop(queue, task)
    assert await bench.store.counts() == {"done": 2}


async def test_lost_lease_writes_nothing(bench: Bench) -> None:
    await bench.claim("a", "b")
    bench.answers["a"] = raises(LeaseLost("a"))
    queue, task = bench.start(concurrency=1)
    await bench.until(lambda: len(bench.ended) == 1)
    await stop(queue, task)
    assert [rel for rel, _, _ in bench.ended] == ["b"]


async def test_lost_database_ends_the_queue(bench: Bench) -> None:
    await bench.claim("a", "b")
    held = bench.answers["b"] = Held()
    lost = asyncio.Event()

    async def lose(_lease: Lease) -> Outcome:
        await lost.wait()
        raise StoreUnusable("corrupt")

    bench.answers["a"] = lose
    _, task = bench.start()
    await bench.until(lambda: bench.at_work == 2)
    lost.set()
    with pytest.raises(ExceptionGroup) as group:
        await task
    assert isinstance(group.value.exceptions[0], StoreUnusable)
    assert held.cancelled == 1


async def test_queue_that_crashed_runs_again_with_everything(bench: Bench) -> None:
    await bench.claim(*"abc")
    bench.answers["a"] = raises(StoreUnusable("for a moment"))
    queue, task = bench.start(concurrency=1, size=2)
    with pytest.raises(ExceptionGroup):
        await task
    bench.answers.clear()
    task = bench.run(queue)
    await bench.until(lambda: len(bench.ended) == 3)
    await stop(queue, task)
    assert await bench.store.counts() == {"done": 3}


async def test_failed_job_is_not_delivered_again(bench: Bench) -> None:
    (job,) = await bench.claim("a")
    bench.answers["a"] = always(Fail("media.corrupt", "m", "h", retryable=False))
    queue, task = bench.start()
    await bench.until(lambda: len(bench.ended) == 1)
    await stop(queue, task)
    assert bench.begun == ["a"]
    assert await skipped(bench.store, job) == "not queued"
