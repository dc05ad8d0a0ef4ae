"""How an inbox is doing, for people, for ``tnfd status`` and for the watchdog; and its log lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog

from tnfd.errors import Fault
from tnfd.ports.clock import Clock
from tnfd.rules.names import for_terminal

_TRIED_AGAIN = "Check the disk or the share that it lies on; it is tried again by itself."

_PROGRESS_EVERY_S = 10.0

Mode = Literal["", "events", "scan"]  # "" until the folder was opened once


@dataclass(frozen=True, slots=True)
class InboxState:
    """One inbox at one moment. ``heartbeat`` is the monotonic second of the last sign of life."""

    name: str
    path: bytes
    mode: Mode
    why: str
    state: Literal["watching", "scanning", "lost"]
    pending: int  # files seen and not yet told to the house
    walked: int  # files that the scan under way has met so far, or the last one in all
    last_scan_at: datetime | None
    heartbeat: float
    paused: tuple[str, ...] = ()  # folders whose settings have a mistake, with it


class Status:
    """The current state; each change that matters is logged once."""

    def __init__(self, name: str, path: bytes, clock: Clock) -> None:
        self._log = structlog.get_logger("tnfd.intake").bind(inbox=name)
        self._name = name
        self._path = path
        self._clock = clock
        self._mode: Mode = ""
        self._why = ""
        self._said: tuple[Mode, str] = "", ""
        self._lost = ""
        self._silent = ""
        self._scanning = True
        self._scanned = False  # at least once
        self._walked = 0
        self._scanning_said = False
        self._paused: dict[bytes, str] = {}
        self._walked_at = clock.monotonic()
        self.last_scan_at: datetime | None = None
        self.heartbeat = clock.monotonic()

    def snapshot(self, pending: int) -> InboxState:
        """Return the state as it is now."""
        lost = self._lost or self._silent
        return InboxState(
            name=self._name,
            path=self._path,
            mode=self._mode,
            why=lost or self._why,
            state="lost" if lost else "scanning" if self._scanning else "watching",
            pending=pending,
            walked=self._walked,
            last_scan_at=self.last_scan_at,
            heartbeat=self.heartbeat,
            paused=tuple(self._paused.values()),
        )

    @property
    def lost(self) -> bool:
        """Whether the folder is known not to be there."""
        return bool(self._lost)

    def beat(self) -> None:
        """Give a sign of life."""
        self.heartbeat = self._clock.monotonic()

    def watching(self, mode: Mode, why: str, *, said: bool = True) -> None:
        """Note how the folder is watched from now on; not ``said``: it is logged with the next news."""
        self._mode, self._why = mode, why
        if said and (mode, why) != self._said:
            self._said = mode, why
            self._log.info("inbox.watching", path=for_terminal(self._path), mode=mode, why=why)

    def lose(self, why: str) -> None:
        """Note that the folder is not there."""
        if not self._lost:
            self._log.warning("inbox.lost", path=for_terminal(self._path), why=why)
        self._lost = why
        self._scanning = True

    def find(self) -> None:
        """Note that the folder is there."""
        if self._lost:
            self._log.info("inbox.back", path=for_terminal(self._path))
        self._lost = ""

    def hang(self, silent_s: float) -> None:
        """Note that the file system has not answered for so long."""
        if not self._silent:
            self._silent = f"the file system does not answer (for {silent_s:.0f} s when noticed)"
            self._log.warning("inbox.lost", path=for_terminal(self._path), why=self._silent)

    def answer(self) -> None:
        """Note that the file system answers."""
        if self._silent:
            self._silent = ""
            self._log.info("inbox.back", path=for_terminal(self._path))

    def walked(self, files: int) -> None:
        """Note how far the scan under way has come."""
        self._walked = files
        now = self._clock.monotonic()
        if now - self._walked_at >= _PROGRESS_EVERY_S and not self._scanned:
            self._walked_at, self._scanning_said = now, True
            self._log.info("inbox.scanning", files=files)

    def scanned(self, files: int, took_s: float) -> None:
        """Note the end of a whole scan."""
        log = self._log.info if self._scanning_said else self._log.debug
        self._scanning_said = False
        log("inbox.scanned", files=files, took_s=round(took_s, 3))
        self._scanning, self._scanned = False, True
        self._walked = files
        self.last_scan_at = self._clock.now()

    def overflowed(self) -> None:
        """Note that events were lost."""
        self._log.warning(
            "inbox.overflow", reason="more events than the kernel keeps; a scan makes up for it"
        )

    def pause(self, folder: bytes, why: str) -> None:
        """Note that files of a folder wait until its settings are mended."""
        if self._paused.get(folder) != why:
            self._paused[folder] = why
            self._log.warning("folder.paused", folder=for_terminal(folder), reason=why)

    def mended(self, folder: bytes) -> None:
        """Note that a folder's settings are sound."""
        if self._paused.pop(folder, None) is not None:
            self._log.info("folder.resumed", folder=for_terminal(folder))

    def foreign(self, folder: bytes) -> None:
        """Note a folder that is left to another inbox, whose folder it is."""
        reason = "another inbox's folder"
        self._log.info("file.ignored", file=for_terminal(folder), reason=reason)

    def unreadable(self, folder: bytes, why: str) -> None:
        """Note a folder that is left out because it cannot be read."""
        self._log.warning("file.ignored", file=for_terminal(folder), reason="unreadable_folder", why=why)

    def file(self, event: str, rel: bytes, **fields: Any) -> None:
        """Log what happened to a file."""
        self._log.info(event, file=for_terminal(rel), **fields)

    def failing(self, rel: bytes, fault: Fault) -> None:
        """Log that a file cannot be read at the moment."""
        self._log.warning(
            "file.failing", file=for_terminal(rel), code=fault.code, reason=fault.message, hint=_TRIED_AGAIN
        )

    def waits(self, why: str) -> None:
        """Log that the house cannot take what it is told at the moment."""
        self._log.warning("inbox.waiting", reason=why)

    def goes_on(self) -> None:
        """Log that it can again."""
        self._log.info("inbox.goes_on")

    def ignored(self, rel: bytes, reason: str) -> None:
        """Log a file that is passed by, for whoever wonders."""
        self._log.debug("file.ignored", file=for_terminal(rel), reason=reason)
