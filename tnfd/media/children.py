"""The daemon's media adapter: owns how many children run at once, how long each may take, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from tnfd import faultpoints
from tnfd.errors import Fault
from tnfd.media.keeper import Child, Keeper
from tnfd.media.preparation import Preparation
from tnfd.media.wire import Order
from tnfd.ports.clock import Clock
from tnfd.ports.media import MediaEvent, PrepareRequest

_LOOK_S = 60.0  # how often a child's time is looked at: it changes with the caller's pace and the header
_DYING_S = 10.0  # a killed child is reaped within milliseconds, unless it hangs in a dead network share


class ChildMedia:
    """``ports.Media`` with one child process a recording. An async context manager; it starts nothing itself.

    At most ``processes`` children run at once (default: one a core); ``prepare`` waits for its turn. A child
    that rests because nobody asks for more is not counted, and waits for its turn like a new one. After
    ``idle_s`` seconds without work the nursery ends and gives its memory back.
    """

    def __init__(self, *, clock: Clock, processes: int | None = None, idle_s: float = 60.0) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._places = asyncio.Semaphore(processes or os.cpu_count() or 1)
        self._keeper = Keeper()
        self._tasks = asyncio.TaskGroup()
        self._running = 0
        self._resting: asyncio.Task[None] | None = None
        self._open = False

    @property
    def nursery_pid(self) -> int | None:
        """The nursery's process id; None while there is none."""
        return self._keeper.pid

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """End all children and the nursery, and wait until the nursery is gone."""
        self._open = False
        self._stop_resting()
        try:
            await self._keeper.stop()
        finally:
            # Not our caller's exception: the group would wrap it.
            await self._tasks.__aexit__(None, None, None)

    async def warm(self) -> None:
        """Start the nursery ahead of the first recording; it ends with this context at the latest.

        Raises:
            Fault: ``media.crashed``.
        """
        await self._keeper.start()

    @contextlib.asynccontextmanager
    async def prepare(
        self, source_fd: int, request: PrepareRequest
    ) -> AsyncIterator[AsyncIterator[MediaEvent]]:
        """Prepare one recording; see ``ports.Media.prepare``.

        Leaving the context, cancelled or not, kills the child and waits until it is reaped.

        Raises:
            Fault: on entering, ``media.crashed`` or ``output.io``; while iterating, as the port says.
        """
        order = Order(
            request.encoding, request.max_bytes, request.limits, request.audio_languages, request.wanted,
            request.stretches, request.next_index, request.by_channel,
        )  # fmt: skip
        size_bytes = os.fstat(source_fd).st_size
        try:
            scratch_fd = os.open(request.scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Fault("output.io", f"{request.scratch}: {error.strerror}") from error
        try:
            turn = _Turn(self._places)
            child = await self._spawn(order.line(), source_fd, scratch_fd, turn)
            preparation = Preparation(
                child, order, scratch_fd, size_bytes, self._clock, rest=turn.give, wake=turn.take
            )
            watch = self._tasks.create_task(self._watch(child, preparation))
            try:
                yield preparation
            finally:
                watch.cancel()
                await self._end(child)
        finally:
            os.close(scratch_fd)

    async def _spawn(self, order: bytes, source_fd: int, scratch_fd: int, turn: _Turn) -> Child:
        await turn.take()
        self._running += 1
        self._stop_resting()
        try:
            child = await self._keeper.spawn(order, source_fd, scratch_fd, lambda _: self._ended(turn))
        except BaseException:
            self._ended(turn)
            raise
        faultpoints.reach("media.forked")
        return child

    def _ended(self, turn: _Turn) -> None:
        """Give a child's place to the next as soon as it is reaped, whatever its caller does meanwhile."""
        turn.end()
        self._running -= 1
        if not self._running and self._open:
            self._stop_resting()
            self._resting = self._tasks.create_task(self._rest())

    def _stop_resting(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    async def _rest(self) -> None:
        await self._clock.sleep(self._idle_s)
        await self._keeper.stop()

    async def _watch(self, child: Child, preparation: Preparation) -> None:
        """Kill a child that takes far too long."""
        while (patience_s := preparation.patience_s) > 0:
            await self._clock.sleep(min(max(patience_s, 1.0), _LOOK_S))
        preparation.timed_out = True
        self._keeper.kill(child)

    async def _end(self, child: Child) -> None:
        self._keeper.kill(child)
        child.reply.close()
        insist = self._tasks.create_task(self._insist())
        try:
            await asyncio.wait({child.ended})
        finally:
            insist.cancel()

    async def _insist(self) -> None:
        """Give up on a nursery that does not reap."""
        await self._clock.sleep(_DYING_S)
        self._keeper.abandon()


class _Turn:
    """One child's place among those that run."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False
        self._over = False

    async def take(self) -> None:
        """Wait for a place; none is needed once the child has ended."""
        if self._held or self._over:
            return
        await self._places.acquire()
        self._held = True
        if self._ended():
            self.give()

    def _ended(self) -> bool:
        return self._over

    def give(self) -> None:
        """Let another child run."""
        if self._held:
            self._held = False
            self._places.release()

    def end(self) -> None:
        """The child has ended."""
        self._over = True
        self.give()
