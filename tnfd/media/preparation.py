"""One recording being prepared, as the daemon sees it: reads what the child says, believes what it checked.

Owns the daemon's end of the reply socket; starts and ends no process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Self

from tnfd.errors import Fault
from tnfd.media.keeper import Child, Ended
from tnfd.media.limits import time_limit_s
from tnfd.media.wire import MAX_LINE_BYTES, Conversation, Nonsense, Order
from tnfd.model import Cut
from tnfd.ports.clock import Clock
from tnfd.ports.media import Decoded, MediaEvent, Probed


class Preparation:
    """The events of one child, as an async iterator (see ``ports.Media.prepare``).

    A child that has said a cut rests until the next event is asked for: ``rest`` is called then, and ``wake``
    before it goes on.
    """

    def __init__(
        self,
        child: Child,
        order: Order,
        scratch_fd: int,
        size_bytes: int,
        clock: Clock,
        *,
        rest: Callable[[], None] = lambda: None,
        wake: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._child = child
        self._max_bytes = order.max_bytes
        self._rest = rest
        self._wake = wake
        self._resting = False
        self._scratch_fd = scratch_fd
        self._size_bytes = size_bytes
        self._clock = clock
        self._talk = Conversation(order)
        self._heard = b""
        self._over = False
        self._waited_s = 0.0
        self._waiting_since: float | None = None
        self._limit_s = time_limit_s(size_bytes, None)
        self.timed_out = False

    @property
    def patience_s(self) -> float:
        """Seconds that the child may still take; time in which nobody asks for events does not count."""
        waited_s = self._waited_s
        if self._waiting_since is not None:
            waited_s += self._clock.monotonic() - self._waiting_since
        return self._limit_s - waited_s

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MediaEvent:
        """Return the next event.

        Raises:
            Fault: ``media.*``, ``output.*``, ``source.*``; iteration is over then.
        """
        if self._over:
            raise StopAsyncIteration
        self._over = True  # unless all goes well
        try:
            if self._resting:
                await self._go_on()
            line = await self._read_line()
            event = self._talk.hear(line)
            if isinstance(event, Cut):
                event = self._measured(event)
                self._resting = True
                self._rest()
        except Nonsense as error:
            raise Fault("media.crashed", f"the decoder sent {error}") from error
        if isinstance(event, Probed) and event.media.duration_s is not None:
            # Margins are wide enough for a header that promises thirty times too little.
            self._limit_s = time_limit_s(self._size_bytes, event.media.duration_s * event.media.channels)
        self._over = isinstance(event, Decoded)
        return event

    async def _go_on(self) -> None:
        """Let the child have its next turn."""
        if self._wake is not None:
            await self._wake()
        self._resting = False
        with contextlib.suppress(OSError):  # it has ended; reading says how
            await asyncio.get_running_loop().sock_sendall(self._child.reply, b"\n")

    def _measured(self, cut: Cut) -> Cut:
        """Look at the cut's file with our own eyes."""
        if cut.silent:
            return cut
        try:
            st = os.stat(cut.file, dir_fd=self._scratch_fd, follow_symlinks=False)
        except OSError as error:
            raise Nonsense("word of a cut that is not there") from error
        if not stat.S_ISREG(st.st_mode) or not 0 < st.st_size <= self._max_bytes:
            raise Nonsense("a cut of impossible size")
        return replace(cut, size_bytes=st.st_size)

    async def _read_line(self) -> bytes:
        loop = asyncio.get_running_loop()
        self._waiting_since = self._clock.monotonic()
        try:
            while (end := self._heard.find(b"\n")) < 0:
                if len(self._heard) > MAX_LINE_BYTES:
                    raise Nonsense("a line too long")
                try:
                    data = await loop.sock_recv(self._child.reply, MAX_LINE_BYTES)
                except ConnectionError:
                    data = b""
                if not data:
                    await asyncio.wait({self._child.ended})
                    raise self._fault_of(self._child.ended.result())
                self._heard += data
        finally:
            self._waited_s += self._clock.monotonic() - self._waiting_since
            self._waiting_since = None
        line, self._heard = self._heard[:end], self._heard[end + 1 :]
        return line

    def _fault_of(self, ended: Ended) -> Fault:
        """Say why the child ended without a last word."""
        if self.timed_out:
            return Fault("media.timeout", f"stopped after {self._limit_s / 60:.0f} minutes")
        if ended.errno == 0:
            return Fault(
                "media.crashed", "PyAV cannot be loaded", hint="Install tnfd anew; then run: tnfd doctor"
            )
        if ended.errno is not None:
            return Fault("media.crashed", f"no process could be made: {os.strerror(ended.errno)}")
        if ended.status is None:
            return Fault("media.crashed", "the media process ended")
        if os.WIFEXITED(ended.status):
            return Fault("media.crashed", f"exit status {os.WEXITSTATUS(ended.status)}")
        killer = os.WTERMSIG(ended.status)
        if killer == signal.SIGXCPU:
            return Fault("media.timeout", "its processor time is used up")
        name = signal.Signals(killer).name if killer in set(signal.Signals) else f"signal {killer}"
        return Fault("media.crashed", name + (" (short of memory?)" if killer == signal.SIGKILL else ""))
