"""The one owner of long-lived tasks: restarts what crashes, ends the group when crashing does not stop.

A service that returns outside of draining has crashed as well: a silent task is the worst of failures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from tnfd.errors import StoreUnusable
from tnfd.ports.clock import Clock
from tnfd.rules.backoff import full_jitter_s
from tnfd.through import through

_log = structlog.get_logger("tnfd.supervise")

MAX_CRASHES = 5
WINDOW_S = 60.0


class TooManyCrashes(Exception):
    """Services crashed more often than restarting can mend; the process should end and be restarted."""


@dataclass(frozen=True, slots=True)
class Service:
    """A long-lived coroutine function; ``restart`` False: its crash ends the whole group."""

    name: str
    run: Callable[[], Awaitable[None]]
    restart: bool = True


class Supervisor:
    """Runs services until ``stop`` is called or crashing does not stop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._crashes: deque[float] = deque()
        self._draining = False
        self._closing = False
        self._ending: set[str] = set()  # what end() was called for
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self._alive = 0

    def drain(self) -> None:
        """From now on a service may return."""
        self._draining = True

    def end(self, *names: str) -> None:
        """Cancel services, each once."""
        for name in names:
            task = self._tasks.get(name)
            if task is not None and not task.done() and name not in self._ending:
                self._ending.add(name)
                task.cancel()

    async def ended(self, name: str) -> None:
        """Return once a service will not run again."""
        if (task := self._tasks.get(name)) is not None:
            await asyncio.wait({task})

    def add(self, *services: Service) -> None:
        """Run these from now on. Of one name only one may run: the former one has ended."""
        for service in services:
            self._ending.discard(service.name)
            task = asyncio.create_task(self._keep(service), name=service.name)
            self._tasks[service.name] = task
            self._alive += 1
            task.add_done_callback(self._ended.put_nowait)

    async def run(self, services: Iterable[Service]) -> None:
        """Run all services, and those that are added; return when each has ended after ``drain`` or ``end``.

        Raises:
            TooManyCrashes: more than 5 crashes within 60 s, or a service that must not be restarted crashed.
            StoreUnusable: the database is gone; restarting a part cannot mend that.
        """
        self.add(*services)
        try:
            while self._alive:
                task = await self._ended.get()
                self._alive -= 1
                if not (task.cancelled() and task.get_name() in self._ending):  # ended before it had begun
                    task.result()
        finally:
            self._closing = True
            await through(self._close())

    async def _close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            done, _ = await asyncio.wait(self._tasks.values())
            for task in done:
                if not task.cancelled():
                    task.exception()  # the first one is raised; the others were logged

    async def _keep(self, service: Service) -> None:
        attempt = 0
        while True:
            started = self._clock.monotonic()
            crash: BaseException | None = None
            try:
                await service.run()
            except asyncio.CancelledError as error:
                if self._closing or (not self._is_ending(service) and _is_cancelled()):
                    raise
                crash = error
            except Exception as error:
                if (unusable := _unusable(error)) is not None:
                    raise unusable from error
                crash = error
            if self._closing or self._was_to_end(service, crash):
                return
            _forget_cancels()
            attempt = 1 if self._clock.monotonic() - started > WINDOW_S else attempt + 1
            self._count(service, crash)
            await self._clock.sleep(full_jitter_s(attempt, 0.2, 10.0, 1.0))

    def _is_ending(self, service: Service) -> bool:
        return self._draining or service.name in self._ending

    def _was_to_end(self, service: Service, crash: BaseException | None) -> bool:
        """Log how a service ended; True if it need not run again."""
        if isinstance(crash, Exception):
            _log.error("service.crashed", service=service.name, exc_info=crash)
            return service.name in self._ending or (self._draining and service.restart)
        if not self._is_ending(service):
            reason = "it returned" if crash is None else "it cancelled itself"
            _log.error("service.crashed", service=service.name, reason=reason)
        return self._is_ending(service)

    def _count(self, service: Service, crash: BaseException | None) -> None:
        now = self._clock.monotonic()
        self._crashes.append(now)
        while self._crashes and now - self._crashes[0] > WINDOW_S:
            self._crashes.popleft()
        if not service.restart or len(self._crashes) > MAX_CRASHES:
            raise TooManyCrashes(
                f"{service.name}: {len(self._crashes)} crashes in {WINDOW_S:.0f} s"
            ) from crash


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _forget_cancels() -> None:
    """Before Python 3.13 the parent of a TaskGroup whose child crashed counts as cancelled for ever."""
    task = asyncio.current_task()
    while task is not None and task.uncancel():
        pass


def _unusable(error: BaseException) -> StoreUnusable | None:
    """The lost database in an error, or among those that a group of tasks raised together."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_unusable, error.exceptions)), None)
    return error if isinstance(error, StoreUnusable) else None


def dump_tasks() -> list[dict[str, Any]]:
    """All tasks of the running loop and the lines at which each waits, outermost first."""
    dump = [{"task": task.get_name(), "waits_at": _waits_at(task)} for task in asyncio.all_tasks()]
    return sorted(dump, key=lambda entry: str(entry["task"]))


def _waits_at(task: asyncio.Task[Any]) -> list[str]:
    # Task.get_stack() gives the outermost frame of a suspended coroutine alone.
    lines: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        kind = next((kind for kind in ("cr", "ag", "gi") if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            break
        if (frame := getattr(awaited, f"{kind}_frame")) is not None:
            code = frame.f_code
            lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return lines
