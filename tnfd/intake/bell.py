"""Waiting for "somebody rang, or this much time has passed", by a Clock."""

from __future__ import annotations

import asyncio

from tnfd.ports.clock import Clock


class Bell:
    """Rings are not counted: whoever waits looks at everything after waking."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, or the next one."""
        self._rung.set()

    async def wait(self, delay_s: float | None = None) -> None:
        """Return when rung, or after ``delay_s`` seconds (None: never)."""
        if delay_s is None:
            await self._rung.wait()
        elif delay_s > 0 and not self._rung.is_set():
            async with asyncio.TaskGroup() as group:
                timer = group.create_task(self._ring_after(delay_s))
                await self._rung.wait()
                timer.cancel()
        self._rung.clear()

    async def _ring_after(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        self._rung.set()
