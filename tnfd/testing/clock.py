"""A clock that moves only when told to. Owns its sleepers; never looks at the real time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

_NS = 1_000_000_000
_TURNS = 25  # loop turns that woken tasks get before the next sleeper wakes


class FakeClock:
    """A ``ports.Clock`` for tests. Time is kept in whole nanoseconds, so that ten times 0.1 s is 1 s.

    Belongs to the event loop that sleeps on it.
    """

    def __init__(
        self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), monotonic_s: float = 1000.0
    ) -> None:
        self._wall = start
        self._ns = round(monotonic_s * _NS)
        self._order = itertools.count()
        self._sleeping: list[tuple[int, int, asyncio.Future[None]]] = []
        self._watching: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """The wall time, UTC-aware."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._ns / _NS

    async def sleep(self, delay_s: float) -> None:
        """Return once the clock was advanced by ``delay_s`` seconds; at the next turn if that is none."""
        if delay_s <= 0:
            await _turn()
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self._ns + round(delay_s * _NS), next(self._order), woken))
        self._tell_watchers()
        await woken

    @property
    def sleepers(self) -> int:
        """How many tasks sleep on this clock now."""
        return sum(not woken.done() for _, _, woken in self._sleeping)

    async def until_sleeping(self, count: int = 1) -> None:
        """Return once at least ``count`` tasks sleep on this clock (waits in real time, without polling)."""
        if self.sleepers < count:
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watching.append((count, reached))
            await reached

    async def advance(self, seconds: float) -> None:
        """Move both times on, waking sleepers in the order of their deadlines, then of going to sleep.

        After each wake-up the loop turns a few times, so that what the woken task does (another sleep
        included) happens at its own moment. Work in threads and on sockets is not waited for.
        """
        if seconds < 0:
            raise ValueError("time does not run backwards; see jump_wall")
        target = self._ns + round(seconds * _NS)
        await self.settle()
        while self._sleeping and self._sleeping[0][0] <= target:
            deadline, _, woken = heapq.heappop(self._sleeping)
            if woken.done():  # cancelled while asleep
                continue
            self._move_to(deadline)
            woken.set_result(None)
            await self.settle()
        self._move_to(target)
        await self.settle()

    async def settle(self) -> None:
        """Let tasks that are ready run."""
        for _ in range(_TURNS):
            await _turn()

    def jump_wall(self, seconds: float) -> None:
        """Set the wall time forwards or backwards alone, as an administrator or NTP would."""
        self._wall += timedelta(seconds=seconds)

    def _move_to(self, ns: int) -> None:
        self._wall += timedelta(microseconds=(ns - self._ns) / 1000)
        self._ns = ns

    def _tell_watchers(self) -> None:
        waiting = []
        for count, reached in self._watching:
            if reached.done():
                continue
            if self.sleepers >= count:
                reached.set_result(None)
            else:
                waiting.append((count, reached))
        self._watching = waiting


async def _turn() -> None:
    await asyncio.sleep(0)  # noqa: TID251  # this is a clock
