"""One thread for all blocking file calls of one folder, so that a share that hangs stops nothing else.

Owns the thread and the order of its calls. It never joins a call that hangs: the thread is a daemon and
ends with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from tnfd.ports.clock import Clock

T = TypeVar("T")

_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any] | None"]


class FileThread:
    """Runs calls one after the other. Started by the first call; use from one event loop."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"files {name}", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closed = False
        self._busy_since: float | None = None

    @property
    def busy_since(self) -> float | None:
        """Monotonic second at which the call began that runs now; None while idle."""
        return self._busy_since

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Run ``call(*args)`` in the thread and return what it returns, or raise what it raises.

        Cancellation returns at once: a call that has not begun never does, the result of one that has is
        dropped. So a call must not return what needs closing; keep that in an object and ``post`` its
        closing.

        Raises:
            RuntimeError: the thread is closed.
        """
        if self._closed:
            raise RuntimeError("the folder's thread is closed")
        loop = self._start()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((call, args, future))
        return await future

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Run ``call`` after everything asked for so far; nobody hears of its result. For closing things."""
        if self._loop is not None and not self._closed:
            self._jobs.put((call, args, None))

    async def close(self, bound_s: float = 1.0) -> bool:
        """End the thread after the calls at hand; False if that took over ``bound_s`` and it was left."""
        self._closed = True
        if self._ended is None:
            return True
        self._jobs.put(None)
        done, _ = await asyncio.wait({self._ended}, timeout=bound_s)
        if not done:
            return False
        self._thread.join()  # its last statement has run
        return True

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._ended = self._loop.create_future()
            self._thread.start()
        return self._loop

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, args, future = job
            if future is not None and future.cancelled():
                continue
            self._busy_since = self._clock.monotonic()
            settle: Callable[..., None] = _succeed
            try:
                outcome = call(*args)
            except BaseException as error:  # noqa: BLE001 (belongs to whoever asked for the call)
                settle, outcome = _fail, error
            self._busy_since = None
            self._tell(settle, future, outcome)
            # What the call held must not live on while the thread waits.
            del job, call, args, future, outcome
        self._tell(_succeed, self._ended, None)

    def _tell(self, settle: Callable[..., None], future: asyncio.Future[Any] | None, value: object) -> None:
        if future is None or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle, future, value)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
