"""Signals as an event loop hears them: no moment in which one of them would be a KeyboardInterrupt."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def heard(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Have the running loop call these; afterwards signals do what they did before.

    The loop's own way to remove a handler puts Python's default there, which raises KeyboardInterrupt
    wherever the program happens to be.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
        try:
            for number, earlier in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, earlier)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
