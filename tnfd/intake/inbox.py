"""One watched folder, from its opening to its loss and back: the long-running way to use intake.

Owns the thread, the open root, what is known and what is pending; sessions do the work between two losses.
Tells the house only through Claims. While the folder is lost nothing below it is declared gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NoReturn

from tnfd.errors import ConfigError
from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Candidates, Phase
from tnfd.intake.desk import Desk
from tnfd.intake.known import Known
from tnfd.intake.look import LOCKED, RootLost
from tnfd.intake.mounts import Mount, read_mount
from tnfd.intake.options import IntakeOptions
from tnfd.intake.outbox import Outbox
from tnfd.intake.patience import PatientClaims
from tnfd.intake.roots import Roots
from tnfd.intake.session import Session
from tnfd.intake.status import InboxState, Status
from tnfd.intake.subtree import FolderSettings
from tnfd.ports.claims import Claims, Origin, Subtrees
from tnfd.ports.clock import Clock
from tnfd.root import Root
from tnfd.rules.names import for_terminal
from tnfd.threads import FileThread

REOPEN_EVERY_S = 2.0
_KNOWN_AT_ONCE = 5000
_MENDED_S = 5.0  # until a folder is tried again that has a mistake in its settings
SILENT_S = 20.0  # a call into the file system that takes longer counts as hanging


class InboxIntake:
    """Finds the finished files of one inbox. ``root_path`` is absolute."""

    def __init__(
        self,
        origin: Origin,
        root_path: bytes,
        options: IntakeOptions,
        claims: Claims,
        clock: Clock,
        roots: Roots | None = None,
        subtrees: Subtrees | None = None,
    ) -> None:
        self._origin = origin
        self._path = root_path
        self._options = options
        self._claims = claims
        self._clock = clock
        self._roots = roots or Roots()
        self._subtrees = subtrees
        self._status = Status(origin.inbox, root_path, clock)
        self._bell = Bell(clock)
        self._asked: set[bytes] = set()
        self._candidates = Candidates()
        self._root: Root | None = None
        self._settings: tuple[Root, FolderSettings] | None = None
        self._mount: Mount | None = None

    @property
    def state(self) -> InboxState:
        """How it is doing."""
        return self._status.snapshot(len(self._candidates))

    def hint(self, rel: bytes) -> None:
        """Look at this path again, whatever the house knows of it (``tnfd retry``, a changed source)."""
        self._asked.add(rel)
        self._bell.ring()

    async def run(self, ready: asyncio.Event | None = None) -> NoReturn:
        """Work until cancelled. ``ready`` is set once changes are noticed or the folder is found missing.

        Raises:
            ExceptionGroup: with what Claims raised; running again starts from what the house knows.

        Cancellation loses nothing: what was not told is found again by the next start.
        """
        ready = ready or asyncio.Event()
        self._status.beat()
        self._candidates = Candidates()
        claims = PatientClaims(self._claims, self._clock, self._status)
        known = Known()
        thread = FileThread(self._origin.inbox, self._clock)
        desk = Desk(
            origin=self._origin,
            path=self._path,
            options=self._options,
            claims=claims,
            clock=self._clock,
            thread=thread,
            status=self._status,
            known=known,
            candidates=self._candidates,
            asked=self._asked,
            bell=self._bell,
            roots=self._roots,
            names=self._options.names,
        )

        def look_again(candidate: Candidate) -> None:
            desk.touch(candidate.rel, candidate.flags, moved=candidate.moved, forced=candidate.again_forced)

        def hold(candidate: Candidate) -> None:
            candidate.phase = Phase.SETTLING
            self._candidates.schedule(candidate, self._clock.monotonic() + _MENDED_S)
            self._bell.ring()

        async def origins(folders: Collection[bytes]) -> Mapping[bytes, Origin | None]:
            return await self._origins(desk, folders)

        desk.outbox = Outbox(
            claims, self._origin, self._candidates, known, self._clock, look_again, origins, hold
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(desk.outbox.run())
                group.create_task(self._pulse(thread, ready))
                group.create_task(self._sessions(desk, ready))
                await self._recall(desk)
        finally:
            await thread.close()
        raise AssertionError("an inbox's loop ended")

    async def _recall(self, desk: Desk) -> None:
        """Learn what the house knows, while the watcher starts already; nothing is looked at before."""
        last: bytes | None = b""
        while last is not None:
            known = await desk.claims.known(self._path, last, _KNOWN_AT_ONCE)
            desk.known.add_all(known)
            last = known[-1][0] if len(known) == _KNOWN_AT_ONCE else None
        desk.first_start = await desk.claims.first_start(self._path)
        desk.resume(await desk.claims.unsettled(self._path))
        desk.loaded.set()

    async def _origins(self, desk: Desk, folders: Collection[bytes]) -> Mapping[bytes, Origin | None]:
        """Say with which settings the files of some folders are claimed; None: not before they are mended."""
        if self._subtrees is None or self._root is None:
            return dict.fromkeys(folders, self._origin)
        if self._settings is None or self._settings[0] is not self._root:
            self._settings = self._root, FolderSettings(self._root, self._subtrees)
        found: dict[bytes, Origin | None] = {}
        for folder, settings in (await desk.thread.run(self._settings[1].of_all, folders)).items():
            if isinstance(settings, ConfigError):
                found[folder] = None
                self._status.pause(folder, str(settings))
            else:
                found[folder] = replace(self._origin, settings=settings)
                self._status.mended(folder)
        return found

    async def _sessions(self, desk: Desk, ready: asyncio.Event) -> None:
        while True:
            why = ""
            try:
                await desk.thread.run(self._open)
                self._roots.note(self._path, None if self._root is None else self._root.identity())
                if self._root is not None and self._mount is not None:
                    self._status.find()
                    await Session(desk, self._root, self._mount).run(ready)
            except* RootLost as lost:
                why = str(_first(lost))
                self._roots.note(self._path, None)
            finally:
                desk.thread.post(self._close)
            self._status.lose(why)
            self._status.beat()
            ready.set()
            await self._clock.sleep(REOPEN_EVERY_S)

    async def _pulse(self, thread: FileThread, ready: asyncio.Event) -> None:
        """Notice a file system that hangs; it is then lost, and restarting us would not help."""
        while True:
            since = thread.busy_since
            silent_s = 0.0 if since is None else self._clock.monotonic() - since
            if silent_s > SILENT_S:
                self._status.hang(silent_s)
                self._status.beat()
                ready.set()  # the other inboxes are not to wait for it
            else:
                self._status.answer()
            await self._clock.sleep(2.0)

    def _open(self) -> None:
        """Open the folder and see that it can be listed. Blocking.

        Raises:
            RootLost: it cannot; or what was mounted there is gone, and this is the empty folder below.
        """
        mount = read_mount(self._path)
        if self._mount is not None and len(mount.point) < len(self._mount.point):
            raise RootLost(f"{for_terminal(self._mount.point)} is not mounted")
        try:
            self._root = Root(self._path)
            with os.scandir(self._root.fd) as listing:
                next(listing, None)
            if not self._root.is_permitted():
                raise RootLost(LOCKED)
        except OSError as error:
            raise RootLost(error.strerror or str(error)) from error
        self._mount = mount

    def _close(self) -> None:
        root, self._root = self._root, None
        if root is not None:
            root.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one of the group's exceptions; they say the same."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
