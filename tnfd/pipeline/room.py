"""Places for files whose requests are being sent: a semaphore whose width can change while it is used."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque


class Room:
    """``acquire`` waits for a place, ``release`` gives it back; first come, first served. One event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def resize(self, size: int) -> None:
        """Have this many places from now on; nobody is turned out."""
        self._size = size
        self._admit()

    async def acquire(self) -> None:
        """Wait for a place; cancelled, none is held."""
        if self._inside < self._size and not self._waiting:
            self._inside += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the place came at the same moment: pass it on
                self._inside -= 1
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(place)
            self._admit()
            raise

    def release(self) -> None:
        """Give the place to whoever waits longest."""
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._inside < self._size:
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)
