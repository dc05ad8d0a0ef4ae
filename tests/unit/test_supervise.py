"""Services crash, return, are stopped; the supervisor restarts them or ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tnfd.errors import StoreUnusable
from tnfd.supervise import MAX_CRASHES, Service, Supervisor, TooManyCrashes, dump_tasks
from tnfd.testing import FakeClock

Run = Callable[[], Awaitable[None]]


class Bench:
    """A supervisor on a clock that stands still, and services that do as they are told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.supervisor = Supervisor(self.clock)
        self.logs: list[MutableMapping[str, Any]] = []
        self.runs: dict[str, int] = {}
        self.task: asyncio.Task[None] | None = None

    def service(self, name: str, behave: Run, *, restart: bool = True) -> Service:
        async def run() -> None:
            self.runs[name] = self.runs.get(name, 0) + 1
            await behave()

        return Service(name, run, restart=restart)

    async def start(self, *services: Service) -> asyncio.Task[None]:
        self.task = asyncio.create_task(self.supervisor.run(services))
        await self.clock.settle()
        return self.task


async def forever() -> None:
    await asyncio.Event().wait()


async def returns() -> None:
    return


async def bug() -> None:
    raise ZeroDivisionError("a bug")


def raises(error: BaseException) -> Run:
    async def behave() -> None:
        raise error

    return behave


async def stubborn() -> None:
    """Fail while being stopped."""
    try:
        await asyncio.Event().wait()
    finally:
        raise OSError("while tidying up")


async def cancels_itself() -> None:
    raise asyncio.CancelledError


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    with capture_logs() as bench.logs:
        yield bench
    if bench.task is not None and not bench.task.done():
        bench.task.cancel()
        await asyncio.wait({bench.task})


@pytest.mark.parametrize(
    ("behave", "reason"), [(bug, None), (returns, "it returned"), (cancels_itself, "it cancelled itself")]
)
async def test_service_that_ends_is_restarted(bench: Bench, behave: Run, reason: str | None) -> None:
    task = await bench.start(bench.service("bad", behave), bench.service("good", forever))
    assert bench.runs == {"bad": 1, "good": 1}
    await bench.clock.advance(0.2)
    assert bench.runs == {"bad": 2, "good": 1}  # the others are left alone
    assert not task.done()
    said = bench.logs[0]
    assert (said["event"], said["service"], said["log_level"]) == ("service.crashed", "bad", "error")
    assert said.get("reason") == reason
    assert isinstance(said.get("exc_info"), ZeroDivisionError) is (reason is None)


async def test_restarts_come_later_each_time_and_early_again_after_a_good_run(bench: Bench) -> None:
    crash = asyncio.Event()

    async def behave() -> None:
        await crash.wait()
        raise ZeroDivisionError("a bug")

    await bench.start(bench.service("bad", behave))
    crash.set()
    await bench.clock.settle()
    for wait_s in (0.2, 0.4, 0.8):
        await bench.clock.advance(wait_s - 0.01)
        runs = bench.runs["bad"]
        await bench.clock.advance(0.01)
        assert bench.runs["bad"] == runs + 1
    crash.clear()
    await bench.clock.advance(1.6)
    await bench.clock.advance(61)  # runs well
    crash.set()
    await bench.clock.settle()
    runs = bench.runs["bad"]
    await bench.clock.advance(0.2)
    assert bench.runs["bad"] == runs + 1


async def test_more_than_five_crashes_in_a_minute_end_it(bench: Bench) -> None:
    bugs = [bench.service(f"bad-{number}", bug) for number in range(MAX_CRASHES)]
    crash = asyncio.Event()

    async def sixth() -> None:
        await crash.wait()
        raise ZeroDivisionError("a bug")

    async def tidies() -> None:
        try:
            await forever()
        finally:
            tidied.append(True)

    tidied: list[bool] = []
    task = await bench.start(*bugs, bench.service("sixth", sixth), bench.service("good", tidies))
    assert not task.done()
    crash.set()
    with pytest.raises(TooManyCrashes, match=r"sixth: 6 crashes in 60 s") as ended:
        await asyncio.wait_for(task, 5)
    assert isinstance(ended.value.__cause__, (ZeroDivisionError, ExceptionGroup))
    assert tidied == [True]


async def test_crashes_a_minute_apart_do_not_add_up(bench: Bench) -> None:
    waits = iter([asyncio.Event() for _ in range(30)])
    now: list[asyncio.Event] = []

    async def behave() -> None:
        now.append(next(waits))
        await now[-1].wait()
        raise ZeroDivisionError("a bug")

    task = await bench.start(bench.service("bad", behave))
    for _ in range(3 * MAX_CRASHES):
        now[-1].set()
        await bench.clock.settle()
        await bench.clock.advance(13)  # at most five within any minute
        assert not task.done()


async def test_service_that_must_not_crash_ends_it(bench: Bench) -> None:
    task = await bench.start(bench.service("good", forever), bench.service("conductor", bug, restart=False))
    with pytest.raises(TooManyCrashes, match="conductor"):
        await asyncio.wait_for(task, 5)
    assert bench.runs["conductor"] == 1


@pytest.mark.parametrize(
    "error",
    [
        StoreUnusable("corrupt"),
        ExceptionGroup("workers", [ValueError(), ExceptionGroup("deeper", [StoreUnusable("corrupt")])]),
    ],
    ids=["alone", "in a group"],
)
async def test_lost_database_ends_it_at_once(bench: Bench, error: Exception) -> None:
    task = await bench.start(bench.service("good", forever), bench.service("queue", raises(error)))
    with pytest.raises(StoreUnusable, match="corrupt"):
        await asyncio.wait_for(task, 5)
    assert bench.runs == {"good": 1, "queue": 1}


async def test_group_of_other_errors_is_a_crash(bench: Bench) -> None:
    task = await bench.start(bench.service("bad", raises(ExceptionGroup("tasks", [ValueError()]))))
    await bench.clock.advance(0.2)
    assert bench.runs == {"bad": 2}
    assert not task.done()


async def test_draining_ends_cleanly(bench: Bench) -> None:
    stop, drained = asyncio.Event(), asyncio.Event()

    async def conductor() -> None:
        await stop.wait()
        bench.supervisor.drain()
        drained.set()
        bench.supervisor.end("watcher", "watcher", "nobody")

    async def worker() -> None:
        await drained.wait()

    task = await bench.start(
        bench.service("watcher", forever),
        bench.service("worker", worker),
        bench.service("conductor", conductor, restart=False),
    )
    stop.set()
    await asyncio.wait_for(task, 5)
    assert bench.logs == []
    assert bench.runs == {"watcher": 1, "worker": 1, "conductor": 1}
    await bench.supervisor.ended("watcher")
    await bench.supervisor.ended("nobody")


async def test_service_that_fails_while_it_is_ended_is_not_restarted(bench: Bench) -> None:
    task = await bench.start(bench.service("bad", stubborn))
    bench.supervisor.drain()
    bench.supervisor.end("bad")
    await asyncio.wait_for(task, 5)
    assert [entry["event"] for entry in bench.logs] == ["service.crashed"]
    assert bench.runs == {"bad": 1}


async def test_service_that_crashes_while_draining_is_not_restarted(bench: Bench) -> None:
    crash = asyncio.Event()

    async def behave() -> None:
        await crash.wait()
        raise ZeroDivisionError("a bug")

    task = await bench.start(bench.service("bad", behave))
    bench.supervisor.drain()
    crash.set()
    await asyncio.wait_for(task, 5)
    assert bench.runs == {"bad": 1}


async def test_conductor_that_crashes_while_draining_still_ends_it(bench: Bench) -> None:
    async def conductor() -> None:
        bench.supervisor.drain()
        raise ZeroDivisionError("a bug")

    task = await bench.start(
        bench.service("good", forever), bench.service("conductor", conductor, restart=False)
    )
    with pytest.raises(TooManyCrashes):
        await asyncio.wait_for(task, 5)


async def test_service_that_fails_while_the_group_ends_does_not_hold_it_up(bench: Bench) -> None:
    task = await bench.start(
        bench.service("stubborn", stubborn), bench.service("queue", raises(StoreUnusable("corrupt")))
    )
    with pytest.raises(StoreUnusable):
        await asyncio.wait_for(task, 5)
    assert bench.runs["stubborn"] == 1


async def test_stop_from_outside_stops_all(bench: Bench) -> None:
    task = await bench.start(bench.service("a", forever), bench.service("b", bug))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_dump_tells_where_each_task_waits() -> None:
    task = asyncio.create_task(forever(), name="some job")
    await asyncio.sleep(0)
    entry = next(entry for entry in dump_tasks() if entry["task"] == "some job")
    assert "forever" in str(entry["waits_at"])
    task.cancel()
    await asyncio.wait({task})


async def test_a_service_made_of_tasks_is_restarted_after_a_crash() -> None:
    # Before Python 3.13 a TaskGroup whose child crashed leaves its parent counting as cancelled.
    clock = FakeClock()
    supervisor = Supervisor(clock)
    runs: list[int] = []

    async def child() -> None:
        raise ValueError("crashed")

    async def service() -> None:
        runs.append(1)
        if len(runs) > 1:
            supervisor.drain()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(child())  # it crashes while its parent waits for it at the end of the block

    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run([Service("group", service)]))
        await clock.until_sleeping(1)
        await clock.advance(60)
    assert len(runs) == 2
