"""The claims port, patient: a full disk or a busy database delays what is told and loses none of it.

Owns how long is waited between two tries; whatever else goes wrong is raised as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from tnfd.errors import Fate, Fault, StoreBusy
from tnfd.intake.status import Status
from tnfd.model import FileRef, StatKey
from tnfd.ports.claims import Claims, Found, Origin
from tnfd.ports.clock import Clock

T = TypeVar("T")

_FIRST_S = 1.0
_LONGEST_S = 30.0


class PatientClaims:
    """See ``ports.claims.Claims``; each call is made again until the house has taken it."""

    def __init__(self, claims: Claims, clock: Clock, status: Status) -> None:
        self._claims = claims
        self._clock = clock
        self._status = status
        self._waiting = 0  # calls that are being tried again

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        """See the port."""
        return await self._call(lambda: self._claims.known(root, after, limit))

    async def unsettled(self, root: bytes) -> dict[bytes, StatKey]:
        """See the port."""
        return await self._call(lambda: self._claims.unsettled(root))

    async def claim(self, origin: Origin, found: Sequence[Found]) -> None:
        """See the port."""
        await self._call(lambda: self._claims.claim(origin, found))

    async def refuse(self, origin: Origin, ref: FileRef, seen_at: datetime, fault: Fault) -> None:
        """See the port."""
        await self._call(lambda: self._claims.refuse(origin, ref, seen_at, fault))

    async def settling(self, origin: Origin, ref: FileRef, seen_at: datetime) -> None:
        """See the port."""
        await self._call(lambda: self._claims.settling(origin, ref, seen_at))

    async def gone(self, origin: Origin, rels: Sequence[bytes]) -> None:
        """See the port."""
        await self._call(lambda: self._claims.gone(origin, rels))

    async def first_start(self, root: bytes) -> bool:
        """See the port."""
        return await self._call(lambda: self._claims.first_start(root))

    async def skip(self, origin: Origin, refs: Sequence[FileRef]) -> None:
        """See the port."""
        await self._call(lambda: self._claims.skip(origin, refs))

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        delay_s, waits = _FIRST_S, False
        try:
            while True:
                try:
                    return await call()
                except (Fault, StoreBusy) as trouble:
                    if isinstance(trouble, Fault) and trouble.fate is not Fate.WAIT:
                        raise
                    if not waits:
                        waits = True
                        self._begin(trouble)
                await self._clock.sleep(delay_s)
                delay_s = min(_LONGEST_S, 2 * delay_s)
        finally:
            if waits:
                self._end()

    def _begin(self, trouble: Exception) -> None:
        self._waiting += 1
        if self._waiting == 1:
            self._status.waits(str(trouble))

    def _end(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._status.goes_on()
