"""Small working stand-ins for ports: they remember what they were told and let a test wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tnfd.errors import Fault
from tnfd.model import FileRef, StatKey
from tnfd.ports.claims import Found, Origin


class MemoryClaims:
    """Claims in memory. ``until`` waits for something to become true of it."""

    def __init__(self) -> None:
        self.entries: dict[bytes, StatKey] = {}
        self.claimed: dict[bytes, Found] = {}
        self.claims: list[Found] = []  # all of them, in order
        self.groups: list[int] = []
        self.refused: dict[bytes, Fault] = {}
        self.growing: dict[bytes, FileRef] = {}
        self.announcements: list[bytes] = []
        self.left: list[bytes] = []
        self.skipped: list[bytes] = []
        self.started = False
        self.hold: asyncio.Event | None = None  # while set and not rung, claim() does not return
        self.claiming = 0  # calls of claim() under way
        self._changed = asyncio.Condition()

    async def until(self, fact: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Return once ``fact()`` holds; asked after every call."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(fact)

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        return [one for one in sorted(self.entries.items()) if one[0] > after][:limit]

    async def first_start(self, root: bytes) -> bool:
        return not self.started

    async def unsettled(self, root: bytes) -> dict[bytes, StatKey]:
        return {rel: ref.stat for rel, ref in self.growing.items()}

    async def claim(self, origin: Origin, found: Sequence[Found]) -> None:
        self.claiming += 1
        await self._tell()
        if self.hold is not None:
            await self.hold.wait()
        self.claiming -= 1
        self.groups.append(len(found))
        for one in found:
            self.entries[one.ref.rel] = one.ref.stat
            self.claimed[one.ref.rel] = one
            self.claims.append(one)
            self.growing.pop(one.ref.rel, None)
        await self._tell()

    async def refuse(self, origin: Origin, ref: FileRef, seen_at: datetime, fault: Fault) -> None:
        self.entries[ref.rel] = ref.stat
        self.refused[ref.rel] = fault
        self.growing.pop(ref.rel, None)
        await self._tell()

    async def settling(self, origin: Origin, ref: FileRef, seen_at: datetime) -> None:
        self.growing[ref.rel] = ref
        self.announcements.append(ref.rel)
        await self._tell()

    async def gone(self, origin: Origin, rels: Sequence[bytes]) -> None:
        for rel in rels:
            self.growing.pop(rel, None)
            self.left.append(rel)
        await self._tell()

    async def skip(self, origin: Origin, refs: Sequence[FileRef]) -> None:
        self.started = True
        for ref in refs:
            self.entries[ref.rel] = ref.stat
            self.skipped.append(ref.rel)
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class FastClock:
    """Real wall time, while spans pass ``factor`` times as fast."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() * self._factor

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / self._factor)


async def eventually(fact: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Return once ``fact()`` holds, for what nobody announces."""
    async with asyncio.timeout(timeout_s):
        while not fact():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)
