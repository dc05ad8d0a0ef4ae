"""Who sends next: gives an engine's slots to jobs in turn, so that one with much to send stops none."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class FairSlots:
    """``most`` slots, each given to the waiting job that holds fewest.

    Among equals, to the one that was not served for longest.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._served: dict[str, int] = {}  # of the jobs that wait or hold: when each was served last
        self._turns = 0

    @contextlib.asynccontextmanager
    async def turn(self, job: str) -> AsyncIterator[None]:
        """Hold a slot; a job's own requests get theirs in the order of asking."""
        await self._take(job)
        try:
            yield
        finally:
            self._give(job)

    async def _take(self, job: str) -> None:
        if self._free and not self._waiting:
            self._grant(job)
            return
        ours: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job, deque()).append(ours)
        try:
            await ours
        except asyncio.CancelledError:
            if ours.done() and not ours.cancelled():  # it had been granted meanwhile
                self._give(job)
            else:
                self._forget(job, ours)
            raise

    def _grant(self, job: str) -> None:
        self._free -= 1
        self._held[job] += 1
        self._turns += 1
        self._served[job] = self._turns

    def _give(self, job: str) -> None:
        self._free += 1
        self._held[job] -= 1
        if not self._held[job]:
            del self._held[job]
            if job not in self._waiting:
                self._served.pop(job, None)
        self._serve()

    def _serve(self) -> None:
        while self._free and self._waiting:
            job = min(self._waiting, key=lambda one: (self._held[one], self._served.get(one, 0)))
            first = self._waiting[job][0]
            self._forget(job, first)
            self._grant(job)
            first.set_result(None)

    def _forget(self, job: str, one: asyncio.Future[None]) -> None:
        self._waiting[job].remove(one)
        if not self._waiting[job]:
            del self._waiting[job]
            if not self._held[job]:
                self._served.pop(job, None)
