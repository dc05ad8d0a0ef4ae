"""Finds out whether file events come at all: writes a hidden file into the folder and listens.

A file system's name tells only what usually holds: containers on a Mac or on Windows show a share under a
local disk's name, and no event ever comes through. Owns that file and removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

from tnfd.ports.clock import Clock
from tnfd.root import Root
from tnfd.threads import FileThread

PROBE = b".tnfd-probe"

_PATIENCE_S = 10.0  # 25 ms on an idle machine
_REFUSED = {
    errno.EACCES: "not probed: it is not permitted to write there",
    errno.EPERM: "not probed: it is not permitted to write there",
    errno.EROFS: "not probed: it is read-only",
    errno.ENOSPC: "not probed: the disk is full",
    errno.EDQUOT: "not probed: the quota is reached",
}


class Probe:
    """One question to one watcher that stands already. ``heard`` is told of each batch of hints."""

    def __init__(self, root: Root, thread: FileThread, clock: Clock) -> None:
        self._root = root
        self._thread = thread
        self._clock = clock
        self._heard = asyncio.Event()

    def heard(self) -> None:
        """An event came: whatever it told, events come."""
        self._heard.set()

    async def ask(self) -> str | None:
        """Say in a few words why events are trusted; None: none came."""
        refused = await self._thread.run(self._write)
        if refused:
            return refused
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._clock.sleep(_PATIENCE_S))
            waiter = group.create_task(self._heard.wait())
            await asyncio.wait({timer, waiter}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            waiter.cancel()
        return "probed" if self._heard.is_set() else None

    def _write(self) -> str:
        """Make the file and remove it; return why it could not be made, or nothing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(PROBE, dir_fd=self._root.fd)  # of a process that was killed
            os.close(os.open(PROBE, flags, 0o600, dir_fd=self._root.fd))
            os.unlink(PROBE, dir_fd=self._root.fd)
        except OSError as error:
            return _REFUSED.get(error.errno or 0, f"not probed: {error.strerror}")
        return ""
