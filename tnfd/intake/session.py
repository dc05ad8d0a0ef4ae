"""One inbox from the moment its folder was opened until it is lost: guard, watch, scan.

Events only say where to look; a scan says what is there; the settler looks and hashes. All work over one
table of candidates. Owns no root and no thread; whoever starts a session closes them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

from tnfd.intake.bell import Bell
from tnfd.intake.desk import Desk
from tnfd.intake.inotify import InotifyWatcher, is_available
from tnfd.intake.look import Looker
from tnfd.intake.mounts import Mount, decide_mode
from tnfd.intake.moves import Moves
from tnfd.intake.probe import PROBE, Probe
from tnfd.intake.scan import SLICE, Entry, Walk
from tnfd.intake.settler import Settler
from tnfd.intake.watch import Hint, Watcher, WatcherDied, decide_restart
from tnfd.model import FileRef
from tnfd.root import Root
from tnfd.rules.ignore import IGNORE_FILE, Ignore, decide_folder, decide_name

GUARD_EVERY_S = 2.0
CROWD = 2000  # files between scan and hash; beyond it the scan waits, so that memory stays bounded
MOST_PENDING = 20_000  # files between being seen and being claimed, for the same reason
_SECOND_WALK_S = 1.0  # without inotify: events from inside a folder that is filled as it appears are lost
_AFTER_LOSS_S = 0.5  # from lost events to the scan that makes up for them
_MISSED_AGE_NS = 2_000_000_000
_SCAN_SHARE = 20  # without events: scan at most this part of the time
_CHECK_SHARE = 250  # with events, where a scan only makes up for what nobody noticed


class Session:
    """Runs until cancelled or until the root is lost."""

    def __init__(self, desk: Desk, root: Root, mount: Mount) -> None:
        self._desk = desk
        self._root = root
        self._mount = mount
        self._clock = desk.clock
        self._thread = desk.thread
        local = mount.kind == "local"
        self._looker = Looker(root, desk.clock, local=local, fs_type=mount.fs_type)
        self._settler = Settler(
            desk, root, self._looker, local=local, on_change=self._update_room, on_folder=self._walk_soon,
            on_missed=self._missed,
        )  # fmt: skip
        self._scan_bell = Bell(desk.clock)
        self._guard_bell = Bell(desk.clock)
        self._armed = asyncio.Event()
        self._room = asyncio.Event()
        self._watcher: InotifyWatcher | Watcher | None = None
        self._inotify = is_available()
        self._events = False
        self._lossy = False  # events were lost, and it is known that they were
        self._scan_due = 0.0
        self._scan_took_s = 0.0
        self._scans = 0
        self._maybe_folders: list[bytes] = []
        self._subtrees: dict[bytes, tuple[float, bool]] = {}  # folder: when, and whether once more after that
        self._reported: set[bytes] = set()
        self._moves = Moves()

    async def run(self, ready: asyncio.Event) -> NoReturn:
        """Work until cancelled; ``ready`` is set once changes are noticed.

        Raises:
            ExceptionGroup: with RootLost, if the root is not there any more; with what Claims raised.
        """
        self._scan_due = self._clock.monotonic()
        self._settler.take_over()
        self._update_room()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._guard())
            group.create_task(self._watch(ready))
            await self._desk.loaded.wait()
            group.create_task(self._scan())
            for work in self._settler.loops():
                group.create_task(work)
        raise AssertionError("an inbox's loop ended")

    # -- is the root still there -----------------------------------------------------------------------

    async def _guard(self) -> None:
        while True:
            await self._thread.run(self._looker.check_root)
            self._desk.status.beat()
            await self._guard_bell.wait(GUARD_EVERY_S)

    # -- watch: events are hints -------------------------------------------------------------------------

    async def _watch(self, ready: asyncio.Event) -> None:
        mode, why = decide_mode(self._desk.options.watch_mode, self._mount)
        if mode == "scan":
            self._desk.status.watching("scan", why)
            self._armed.set()
            ready.set()
            return
        deaths: list[float] = []
        unreadable = False
        while True:
            try:
                async with self._new_watcher(skip_unreadable=unreadable) as watcher:
                    self._watcher = watcher
                    self._switch("events", why, known=self._desk.options.watch_mode != "auto")
                    await self._follow(watcher, why, ready)
            except WatcherDied as died:
                self._watcher = None
                if died.unreadable and not unreadable:
                    unreadable = True
                    continue
                now = self._clock.monotonic()
                deaths = [*deaths[-20:], now]
                self._armed.set()  # without events a scan is all there is
                ready.set()
                restart = decide_restart(deaths, now, hopeless=died.hopeless)
                if restart.degraded:
                    self._switch("scan", died.why if died.unproven else f"events failed: {died.why}")
            await self._clock.sleep(restart.delay_s)

    def _new_watcher(self, *, skip_unreadable: bool) -> InotifyWatcher | Watcher:
        desk = self._desk
        if self._inotify:
            return InotifyWatcher(
                desk.path,
                recursive=desk.options.recursive,
                skip=lambda rel: decide_folder(rel, desk.names) is not None,
            )
        return Watcher(desk.path, recursive=desk.options.recursive, skip_unreadable=skip_unreadable)

    async def _follow(self, watcher: InotifyWatcher | Watcher, why: str, ready: asyncio.Event) -> NoReturn:
        """Take hints for as long as there are any; first of all see that there are.

        Raises:
            WatcherDied: there will be no more, or there never were.
        """
        probe = Probe(self._root, self._thread, self._clock)
        died = WatcherDied("")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prove(probe, watcher, why, ready))
                while True:
                    hints = await watcher.hints()
                    probe.heard()
                    self._take_hints(hints)
        except* WatcherDied as deaths:
            died = next(death for death in deaths.exceptions if isinstance(death, WatcherDied))
        raise died

    async def _prove(
        self, probe: Probe, watcher: InotifyWatcher | Watcher, why: str, ready: asyncio.Event
    ) -> None:
        """Write a hidden file and await its event, where that is asked for and permitted."""
        if self._desk.options.watch_mode == "auto":
            found = await probe.ask()
            if found is None:
                watcher.abandon(f"no event came for a file that was written there ({why})", unproven=True)
                return
            self._desk.status.watching("events", f"{why}, {found}")
        ready.set()

    def _switch(self, mode: str, why: str, *, known: bool = True) -> None:
        """Go on by events or by scans; what happened in between is found by a scan now.

        Not ``known``: whether it works is being found out, and said then.
        """
        self._events = mode == "events"
        self._desk.status.watching("events" if self._events else "scan", why, said=known)
        self._armed.set()
        self._scan_soon(0.0)

    def _take_hints(self, hints: list[Hint]) -> None:
        moved = set() if self._inotify else self._moves.take(hints, self._clock.monotonic())
        desk = self._desk
        for hint in hints:
            folder, _, name = hint.rel.rpartition(b"/")
            if hint.kind == "overflow":
                self._lossy = True
                desk.status.overflowed()
                self._scan_soon(_AFTER_LOSS_S)
                continue
            if not hint.rel:
                self._guard_bell.ring()
                continue
            if hint.kind == "folder":
                self._walk_soon(hint.rel)
                continue
            taken = decide_name(hint.rel, desk.names)
            if not isinstance(taken, Ignore):
                self._touch(hint, taken.flags, moved=hint.moved or hint.rel in moved)
            elif name == IGNORE_FILE and hint.kind == "deleted":
                self._walk_soon(folder)
            elif hint.kind == "added" and name != PROBE:
                desk.status.ignored(hint.rel, taken.reason)
                if not self._inotify:
                    self._maybe_folders.append(hint.rel)
                    self._scan_bell.ring()

    def _touch(self, hint: Hint, flags: tuple[str, ...], *, moved: bool) -> None:
        candidates = self._desk.candidates
        pending = candidates.get(hint.rel) is not None
        if hint.kind == "deleted" and not pending:
            return
        if not pending and len(candidates) >= MOST_PENDING:
            self._lossy = True  # a scan finds it when there is room
            self._scan_soon(_AFTER_LOSS_S)
            return
        closed = self._inotify and hint.kind == "modified"
        self._desk.touch(hint.rel, flags, moved=moved, closed=closed)

    def _missed(self) -> None:
        """Take note of a finished file that a scan found and no event told of."""
        watcher = self._watcher
        if self._events and watcher is not None and not self._lossy:
            self._watcher = None
            watcher.abandon("a file came without an event")

    def _walk_soon(self, folder: bytes) -> None:
        if self._desk.options.recursive or not folder:
            self._subtrees[folder] = self._clock.monotonic(), not self._inotify
            self._scan_bell.ring()

    def _scan_soon(self, delay_s: float) -> None:
        self._scan_due = min(self._scan_due, self._clock.monotonic() + delay_s)
        self._scan_bell.ring()

    # -- scan: the truth -----------------------------------------------------------------------------------

    async def _scan(self) -> None:
        await self._armed.wait()
        await self._desk.roots.known()
        while True:
            maybe, self._maybe_folders = self._maybe_folders, []
            if maybe:
                for folder in await self._thread.run(self._looker.folders, maybe):
                    self._walk_soon(folder)
            now = self._clock.monotonic()
            due = [folder for folder, (at, _) in self._subtrees.items() if at <= now]
            if self._scan_due <= now:
                await self._scan_all()
            elif due:
                for folder in due:
                    _, again = self._subtrees.pop(folder)
                    if decide_folder(folder, self._desk.names) is None or not folder:
                        await self._walk(folder)
                    if again:
                        self._subtrees[folder] = self._clock.monotonic() + _SECOND_WALK_S, False
            else:
                earliest = min([self._scan_due, *(at for at, _ in self._subtrees.values())])
                await self._scan_bell.wait(earliest - now)

    async def _scan_all(self) -> None:
        desk = self._desk
        began_at = self._clock.monotonic()
        self._scan_due = float("inf")  # unless something asks for another one meanwhile
        lossy, self._lossy = self._lossy, False
        met, skipped, whole = await self._walk(b"", expected=self._scans == 0 or lossy)
        if desk.first_start:
            await desk.claims.skip(desk.origin, skipped)
            desk.first_start = False
        for ref in skipped:
            desk.known.add(ref.rel, ref.stat)
        if whole:
            desk.known.forget_old(met)
        self._scans += 1
        self._scan_took_s = self._clock.monotonic() - began_at
        desk.status.scanned(len(met), self._scan_took_s)
        self._scan_soon(self._scan_delay_s())

    def _scan_delay_s(self) -> float:
        options = self._desk.options
        if self._events:
            return max(options.check_interval_s, self._scan_took_s * _CHECK_SHARE)
        return max(options.scan_interval_s, self._scan_took_s * _SCAN_SHARE)

    async def _walk(self, start: bytes, *, expected: bool = True) -> tuple[set[int], list[FileRef], bool]:
        """Walk below ``start``: marks met, files to skip, was all read.

        ``expected``: it is no wonder that it finds files of which no event told.
        """
        desk, options = self._desk, self._desk.options
        walk = Walk(
            self._root, desk.names, start, recursive=options.recursive, explain=not self._scans,
            others=desk.roots.others(desk.path), fs_type=self._mount.fs_type,
        )  # fmt: skip
        met: set[int] = set()
        skipped: list[FileRef] = []
        old_ns = int(self._clock.now().timestamp() * 1e9) - _MISSED_AGE_NS
        try:
            entries: list[Entry] | None = None
            while entries is None or len(entries) == SLICE:
                await self._room.wait()
                entries = await self._thread.run(walk.next_slice)
                for entry in entries:
                    mark = desk.known.mark(entry.rel, entry.stat)
                    met.add(mark)
                    if desk.known.has_mark(mark) or desk.candidates.get(entry.rel) is not None:
                        continue
                    if desk.first_start and options.existing == "skip":
                        skipped.append(desk.ref(entry.rel, entry.stat))
                        continue
                    missed = not expected and entry.stat.ctime_ns < old_ns
                    desk.touch(entry.rel, entry.flags, missed=missed)
                if not start:
                    desk.status.walked(len(met))
                desk.status.beat()
                self._update_room()
        finally:
            self._thread.post(walk.close)
        self._report(walk, start)
        return met, skipped, not walk.unreadable

    def _report(self, walk: Walk, start: bytes) -> None:
        desk = self._desk
        for rel, reason in walk.ignored:
            desk.status.ignored(rel, reason)
        for folder in walk.foreign:
            desk.names = replace(desk.names, skip_dirs=(*desk.names.skip_dirs, folder))
            desk.status.foreign(folder)
        for folder, why in walk.unreadable.items():
            if folder not in self._reported:
                desk.status.unreadable(folder, why)
        if not start:
            self._reported = set(walk.unreadable)

    def _update_room(self) -> None:
        candidates = self._desk.candidates
        crowded = candidates.unlooked + self._settler.to_hash > CROWD
        if crowded or len(candidates) >= MOST_PENDING:
            self._room.clear()
        else:
            self._room.set()
