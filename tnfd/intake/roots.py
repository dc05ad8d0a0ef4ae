"""Which folders the inboxes of one process have open, so that none takes what lies in another one's.

Paths tell of inboxes that lie in one another; what a bind mount hides from them, device and inode tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

Identity = tuple[int, int]  # device, inode

_PATIENCE_S = 2.0  # a share that hangs must not hold up the others


class Roots:
    """Shared by the inboxes of ``paths``; used from one event loop."""

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._missing = set(paths)
        self._found: dict[bytes, Identity] = {}
        self._all = asyncio.Event()

    def note(self, path: bytes, identity: Identity | None) -> None:
        """An inbox was opened, or could not be (None)."""
        if identity is not None:
            self._found[path] = identity
        self._missing.discard(path)
        if not self._missing:
            self._all.set()

    def forget(self, path: bytes) -> None:
        """An inbox is no longer watched."""
        self._found.pop(path, None)
        self.note(path, None)

    async def known(self) -> None:
        """Return once all inboxes were tried, or after a moment."""
        if not self._missing:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._all.wait()
        except TimeoutError:
            return

    def others(self, path: bytes) -> frozenset[Identity]:
        """The identities of all inboxes but this one."""
        return frozenset(found for other, found in self._found.items() if other != path)
