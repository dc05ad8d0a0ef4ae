"""One inbox from the moment its folder was opened until it is lost: watch, scan, look, hash.

Four loops over one table of candidates. Events only say where to look; a scan says what is there; looks
decide by ``rules.settle``; a finished file is hashed and handed to the outbox. Owns no root and no thread;
whoever starts a session closes them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import NoReturn

from tnfd.errors import Fault, SourceChanged, SourceVanished
from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Phase
from tnfd.intake.desk import LOOK_GAP_S, Desk
from tnfd.intake.identify import identify
from tnfd.intake.look import Looker, NotAFile, RootLost
from tnfd.intake.mounts import Mount, decide_mode
from tnfd.intake.moves import Moves
from tnfd.intake.scan import SLICE, Entry, Walk
from tnfd.intake.watch import Hint, Watcher, WatcherDied, decide_restart
from tnfd.model import FileRef, StatKey
from tnfd.ports.claims import Found
from tnfd.root import Root
from tnfd.rules.ignore import IGNORE_FILE, Ignore, decide_folder, decide_name
from tnfd.rules.settle import Observation, Policy, Ready, Refuse, Settling, Wait, decide_settled

ANNOUNCE_AFTER_S = 10.0
GUARD_EVERY_S = 2.0
LOOKS_AT_ONCE = 64
HASHERS = 2  # so that one very large file does not hold up all others
CROWD = 2000  # files between scan and hash; beyond it the scan waits, so that memory stays bounded
_SECOND_WALK_S = (
    1.0  # a folder being filled as it appears: events from inside it are lost (rule of 49 in 500)
)
_MISSED_AGE_NS = 2_000_000_000
_FASTEST_SCAN_S = 5.0
_SCAN_SHARE = 20  # without events: scan at most this part of the time
_HASH_TRIES = 3
_IO_FIRST_S = 5.0  # after a disk or share failed; then twice as long each time
_IO_LONGEST_S = 300.0


class Session:
    """Runs until cancelled or until the root is lost."""

    def __init__(self, desk: Desk, root: Root, mount: Mount) -> None:
        self._desk = desk
        self._root = root
        self._mount = mount
        self._clock = desk.clock
        self._thread = desk.thread
        self._names = desk.options.names
        local = mount.kind == "local"
        self._policy = (Policy.local if local else Policy.network)(desk.options.settle_s)
        self._looker = Looker(root, desk.clock, leases=local)
        self._ready: deque[Candidate] = deque()
        self._hash_bell = Bell(desk.clock)
        self._scan_bell = Bell(desk.clock)
        self._guard_bell = Bell(desk.clock)
        self._armed = asyncio.Event()
        self._room = asyncio.Event()
        self._watcher: Watcher | None = None
        self._events = False
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
        self._take_over()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._guard())
            group.create_task(self._watch(ready))
            group.create_task(self._scan())
            group.create_task(self._look())
            for _ in range(HASHERS):
                group.create_task(self._hash())
        raise AssertionError("an inbox's loop ended")

    def _take_over(self) -> None:
        """Look anew at what an earlier session left."""
        for candidate in self._desk.candidates:
            if candidate.phase is not Phase.TOLD:
                candidate.phase = Phase.SETTLING
                self._desk.candidates.schedule(candidate, self._clock.monotonic())
        self._update_room()

    # -- is the root still there -----------------------------------------------------------------------

    async def _guard(self) -> None:
        while True:
            if not await self._thread.run(self._root.still_there):
                raise RootLost
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
                async with Watcher(
                    self._desk.path, recursive=self._desk.options.recursive, skip_unreadable=unreadable
                ) as watcher:
                    self._watcher = watcher
                    self._switch("events", why)
                    ready.set()
                    while True:
                        self._take_hints(await watcher.hints())
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
                    self._switch("scan", f"events failed: {died.why}")
            await self._clock.sleep(restart.delay_s)

    def _switch(self, mode: str, why: str) -> None:
        """Go on by events or by scans; what happened in between is found by a scan now."""
        self._events = mode == "events"
        self._desk.status.watching("events" if self._events else "scan", why)
        self._armed.set()
        self._scan_due = self._clock.monotonic()
        self._scan_bell.ring()

    def _take_hints(self, hints: list[Hint]) -> None:
        moved = self._moves.take(hints, self._clock.monotonic())
        for hint in hints:
            folder, _, name = hint.rel.rpartition(b"/")
            if not hint.rel:
                self._guard_bell.ring()
                continue
            taken = decide_name(hint.rel, self._names)
            if not isinstance(taken, Ignore):
                if hint.kind != "deleted" or self._desk.candidates.get(hint.rel) is not None:
                    self._desk.touch(hint.rel, taken.flags, moved=hint.rel in moved)
            elif name == IGNORE_FILE and hint.kind == "deleted":
                self._walk_soon(folder)
            elif hint.kind == "added":
                self._desk.status.ignored(hint.rel, taken.reason)
                self._maybe_folders.append(hint.rel)
                self._scan_bell.ring()

    def _walk_soon(self, folder: bytes) -> None:
        if self._desk.options.recursive or not folder:
            self._subtrees[folder] = self._clock.monotonic(), True
            self._scan_bell.ring()

    # -- scan: the truth -----------------------------------------------------------------------------------

    async def _scan(self) -> None:
        await self._armed.wait()
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
                    if decide_folder(folder, self._names) is None or not folder:
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
        met, missed, skipped, whole = await self._walk(b"")
        if desk.first_start:
            await desk.claims.skip(desk.origin, skipped)
            desk.first_start = False
        for ref in skipped:
            desk.known.add(ref.rel, ref.stat)
        if whole:
            desk.known.forget_old(met)
        if missed and self._scans and self._events and self._watcher is not None:
            self._watcher.abandon(f"{missed} files came without an event")
        self._scans += 1
        self._scan_took_s = self._clock.monotonic() - began_at
        desk.status.scanned()
        self._scan_due = min(self._scan_due, self._clock.monotonic() + self._scan_delay_s())

    def _scan_delay_s(self) -> float:
        longest_s = self._desk.options.scan_interval_s
        if self._events:
            return longest_s
        return min(longest_s, max(_FASTEST_SCAN_S, self._scan_took_s * _SCAN_SHARE))

    async def _walk(self, start: bytes) -> tuple[set[int], int, list[FileRef], bool]:
        """Walk below ``start``: marks met, files that no event told of, files to skip, was all read."""
        desk, options = self._desk, self._desk.options
        walk = Walk(self._root, self._names, start, recursive=options.recursive, explain=not self._scans)
        met: set[int] = set()
        skipped: list[FileRef] = []
        missed = 0
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
                    if desk.first_start and desk.options.existing == "skip":
                        skipped.append(desk.ref(entry.rel, entry.stat))
                        continue
                    missed += entry.stat.ctime_ns < old_ns
                    desk.touch(entry.rel, entry.flags)
                desk.status.beat()
                self._update_room()
        finally:
            self._thread.post(walk.close)
        for rel, reason in walk.ignored:
            desk.status.ignored(rel, reason)
        for folder, why in walk.unreadable.items():
            if folder not in self._reported:
                desk.status.unreadable(folder, why)
        if not start:
            self._reported = set(walk.unreadable)
        return met, missed, skipped, not walk.unreadable

    def _update_room(self) -> None:
        if self._desk.candidates.unlooked + len(self._ready) > CROWD:
            self._room.clear()
        else:
            self._room.set()

    # -- look: is it finished --------------------------------------------------------------------------------

    async def _look(self) -> None:
        candidates = self._desk.candidates
        while True:
            self._take_asked()
            now = self._clock.monotonic()
            due = candidates.take_due(now, LOOKS_AT_ONCE)
            if not due:
                delay_s = candidates.next_due() - now
                await self._desk.bell.wait(delay_s if delay_s != float("inf") else None)
                continue
            await self._recall(due)
            moved = []
            for candidate in due:
                moved.append(candidate.moved)
                candidate.moved = candidate.again = False
            rels = [candidate.rel for candidate in due]
            were = [(candidate.stat or candidate.was) if candidate.shown else None for candidate in due]
            seen = await self._thread.run(self._looker.look_all, rels, were)
            for candidate, was_moved, one in zip(due, moved, seen, strict=True):
                candidates.looked(candidate, self._clock.monotonic())
                if isinstance(one, NotAFile):
                    self._drop(candidate, one.reason)
                else:
                    self._judge(candidate, replace(one, moved=was_moved))
            self._update_room()

    async def _recall(self, due: list[Candidate]) -> None:
        """Ask the house how it knows the files that it asked for: should one not be there, that counts."""
        asked = [one for one in due if one.forced and one.stat is None and one.was is None]
        if asked:
            were = await self._desk.claims.unsettled(self._desk.path)
            for candidate in asked:
                candidate.was = were.get(candidate.rel)

    def _take_asked(self) -> None:
        while self._desk.asked:
            rel = self._desk.asked.pop()
            taken = decide_name(rel, self._names)
            if isinstance(taken, Ignore):
                self._desk.status.ignored(rel, taken.reason)
                self._desk.outbox.gone(rel)
            else:
                self._desk.touch(rel, taken.flags, forced=True)

    def _judge(self, candidate: Candidate, seen: Observation) -> None:
        desk, rel, stat = self._desk, candidate.rel, seen.stat
        self._merge_forced(candidate)
        if stat is not None and not candidate.forced and desk.known.has(rel, stat):
            self._drop(candidate)
            return
        if stat is not None and not candidate.seen:
            candidate.seen = True
            desk.status.file("file.seen", rel, size_bytes=stat.size_bytes)
        candidate.settling, verdict = decide_settled(candidate.settling, seen, self._policy)
        if isinstance(verdict, Wait):
            at = verdict.look_again_at
            if seen.problem == "source.io":
                at = max(at, seen.ended_at + self._io_delay_s(candidate, Fault(seen.problem)))
            if candidate.again:
                at = min(at, seen.ended_at + LOOK_GAP_S)
            candidate.again = False
            desk.candidates.schedule(candidate, at)
            if candidate.settling is not None:
                self._announce(candidate, candidate.settling)
        elif isinstance(verdict, Ready):
            candidate.phase = Phase.READY
            self._ready.append(candidate)
            self._hash_bell.ring()
        elif isinstance(verdict, Refuse) and stat is not None:
            desk.outbox.refuse(candidate, desk.ref(rel, stat), Fault(verdict.code))
        else:
            self._drop(candidate)

    def _merge_forced(self, candidate: Candidate) -> None:
        candidate.forced |= candidate.again_forced
        candidate.again_forced = False

    def _io_delay_s(self, candidate: Candidate, fault: Fault) -> float:
        """Count a failure of the disk or share, for which no file is given up; return when to try again."""
        if candidate.io_failures == 0:
            self._desk.status.failing(candidate.rel, fault)
        candidate.io_failures += 1
        return min(_IO_LONGEST_S, _IO_FIRST_S * 2.0 ** min(candidate.io_failures - 1, 10))

    def _drop(self, candidate: Candidate, reason: str = "") -> None:
        self._merge_forced(candidate)
        if candidate.again:  # an event came while we looked: what we saw may be the past
            candidate.again, candidate.settling = False, None
            self._desk.candidates.schedule(candidate, self._clock.monotonic() + LOOK_GAP_S)
            return
        self._desk.candidates.remove(candidate)
        if candidate.shown:
            self._desk.outbox.gone(candidate.rel)
        if reason:
            self._desk.status.ignored(candidate.rel, reason)
        if reason == "folder":
            self._walk_soon(candidate.rel)

    def _announce(self, candidate: Candidate, settling: Settling) -> None:
        now = self._clock.monotonic()
        size_bytes = settling.stat.size_bytes
        if candidate.announced_at is None:
            due = now - candidate.first_at >= ANNOUNCE_AFTER_S
        else:
            changed = size_bytes != candidate.announced_size_bytes
            due = changed and now - candidate.announced_at >= ANNOUNCE_AFTER_S
        if due:
            candidate.announced_at, candidate.announced_size_bytes = now, size_bytes
            self._desk.outbox.announce(candidate, self._desk.ref(candidate.rel, settling.stat))

    # -- hash: what is it ------------------------------------------------------------------------------------

    async def _hash(self) -> None:
        while True:
            if not self._ready:
                await self._hash_bell.wait()
                continue
            candidate = self._ready.popleft()
            self._update_room()
            if candidate.stat is not None and self._desk.candidates.get(candidate.rel) is candidate:
                await self._identify(candidate, candidate.stat)

    async def _identify(self, candidate: Candidate, stat: StatKey) -> None:
        desk, rel = self._desk, candidate.rel
        settled_at = self._clock.now()
        leases = self._mount.kind == "local"
        try:
            sha256 = await identify(self._thread, self._root, rel, stat, leases=leases)
        except (SourceChanged, SourceVanished):
            self._settle_again(candidate, 0.0)
        except Fault as fault:
            candidate.hash_failures += 1
            if fault.code == "source.io":
                self._settle_again(candidate, self._io_delay_s(candidate, fault))
                if candidate.settling is not None:
                    self._announce(candidate, candidate.settling)
            elif candidate.hash_failures >= _HASH_TRIES:
                desk.outbox.refuse(candidate, desk.ref(rel, stat), fault)
            else:
                self._settle_again(candidate, 5.0 * candidate.hash_failures)
        else:
            took_s = round(self._clock.monotonic() - candidate.first_at, 3)
            desk.status.file("file.settled", rel, size_bytes=stat.size_bytes, settle_s=took_s)
            desk.outbox.found(
                candidate,
                Found(desk.ref(rel, stat), sha256, candidate.seen_at, settled_at, candidate.flags),
            )

    def _settle_again(self, candidate: Candidate, delay_s: float) -> None:
        candidate.phase = Phase.SETTLING
        candidate.again = False
        self._merge_forced(candidate)
        self._desk.candidates.schedule(candidate, self._clock.monotonic() + delay_s)
        self._desk.bell.ring()
