"""The daemon's pulse: what the service manager hears, and the figures in it.

Says READY, STATUS, WATCHDOG, RELOADING, STOPPING and EXTEND_TIMEOUT; asks the database for a sign of life.
A sign of life goes out only while every part has moved lately, so that a manager restarts a daemon that
merely exists.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from tnfd.errors import Fault
from tnfd.notify import Notifier
from tnfd.ports.clock import Clock
from tnfd.rules.health import describe
from tnfd.store.sqlite import SqliteStore

_log = structlog.get_logger("tnfd.daemon")

_EVERY_S = 15.0
_NEWS_GAP_S = 1.0  # between two lines of figures
_PING_S = 30.0
_EXTEND_EVERY_S, _EXTEND_S = 5.0, 20.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the daemon is at one moment; ``stale``: parts that have not moved for a while."""

    busy: int
    workers: int
    inboxes: int
    lost: int
    stale: tuple[str, ...]
    stopping: bool


class Pulse:
    """One service of the daemon; ``vitals`` says how it is."""

    def __init__(
        self, store: SqliteStore, clock: Clock, notifier: Notifier, vitals: Callable[[], Vitals]
    ) -> None:
        self._store = store
        self._clock = clock
        self._notifier = notifier
        self._vitals = vitals
        self._news = asyncio.Event()
        self._line = ""
        self._told: tuple[str, ...] = ()
        self._ready = False
        self.stored_at = clock.monotonic()  # when the database last answered

    def tell(self) -> None:
        """Something has changed that the figures show."""
        self._news.set()

    def ready(self) -> None:
        """Every inbox is watched or known to be lost."""
        self._ready = True
        self._notifier.send(READY=1)
        self.tell()

    def reloading(self) -> None:
        """The configuration is being read anew."""
        self._notifier.reloading()

    def reloaded(self) -> None:
        """The one that holds from now on holds."""
        if self._ready:  # else READY=1 would be said too early
            self._notifier.send(READY=1)
        self.tell()

    async def run(self) -> NoReturn:
        """Beat until cancelled."""
        every_s = _EVERY_S
        if self._notifier.watchdog_s is not None:
            every_s = min(every_s, self._notifier.watchdog_s / 2)
        next_at = self._clock.monotonic()
        while True:
            self._news.clear()
            if self._clock.monotonic() >= next_at:
                await self._ask_store(every_s)
                next_at = self._clock.monotonic() + every_s
                self._beat()
            await self._say()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_at - self._clock.monotonic())):
                    await self._news.wait()
                    await self._clock.sleep(_NEWS_GAP_S)

    async def drain(self, busy: Callable[[], bool]) -> NoReturn:
        """Ask for more time while something is in progress; until cancelled."""
        while True:
            if busy():
                self._notifier.send(EXTEND_TIMEOUT_USEC=int(_EXTEND_S * 1e6))
            await self._clock.sleep(_EXTEND_EVERY_S)

    def stopping(self) -> None:
        """No new work is begun from now on."""
        self._notifier.send(STOPPING=1)
        self.tell()

    async def _ask_store(self, every_s: float) -> None:
        """A store that does not answer is not waited for: the beat has to go on to say so."""
        try:
            async with asyncio.timeout(min(_PING_S, every_s)):
                await self._store.ping()
        except (TimeoutError, Fault):
            return
        self.stored_at = self._clock.monotonic()

    def _beat(self) -> None:
        vitals = self._vitals()
        if vitals.stale:
            if vitals.stale != self._told:
                _log.error("daemon.stale", parts=", ".join(vitals.stale))
        elif self._notifier.watchdog_s is not None:
            self._notifier.send(WATCHDOG=1)
        self._told = vitals.stale

    async def _say(self) -> None:
        if not self._notifier.heard:
            return
        vitals = self._vitals()
        if vitals.stale:
            line = f"not healthy: {', '.join(vitals.stale)} has not moved for a while"
        else:
            counts, spent = await self._store.counts(), await self._store.spent()
            line = describe(
                busy=vitals.busy, workers=vitals.workers, counts=counts, inboxes=vitals.inboxes,
                lost=vitals.lost, today_usd=spent.today_usd, stopping=vitals.stopping,
            )  # fmt: skip
        if line != self._line:
            self._line = line
            self._notifier.send(STATUS=line)
