"""From a candidate to a finished file that the house is told of: looks, and hashing.

A look decides by ``rules.settle``. What looks finished is hashed at once, while its quiet time goes on; what
is finished and hashed goes to the outbox. Owns no root and no thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from tnfd.errors import Fault, SourceChanged, SourceVanished
from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Phase
from tnfd.intake.desk import LOOK_GAP_S, Desk
from tnfd.intake.identify import identify
from tnfd.intake.look import Looker, NotAFile
from tnfd.model import StatKey
from tnfd.ports.claims import Found
from tnfd.root import Root
from tnfd.rules.ignore import Ignore, decide_name
from tnfd.rules.settle import Lease, Observation, Policy, Ready, Refuse, Settling, Wait, decide_settled
from tnfd.rules.whole import BLANK_BYTES

ANNOUNCE_AFTER_S = 10.0
LOOKS_AT_ONCE = 64
HASHERS = 2  # so that one very large file does not hold up all others
_HASH_TRIES = 3
_IN_VAIN = 2  # a file that keeps changing after it was hashed ahead of time is hashed when it has rested
_IO_FIRST_S = 5.0  # after a disk or share failed; then twice as long each time
_IO_LONGEST_S = 300.0


class Settler:
    """Works on the candidates of a desk.

    ``on_change`` hears that there are fewer of them in some way, ``on_folder`` of a name that turned out to
    be a folder, ``on_missed`` of a finished file of which an event should have told.
    """

    def __init__(
        self,
        desk: Desk,
        root: Root,
        looker: Looker,
        *,
        local: bool,
        on_change: Callable[[], None],
        on_folder: Callable[[bytes], None],
        on_missed: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._root = root
        self._looker = looker
        self._local = local
        self._policy = (Policy.local if local else Policy.network)(desk.options.settle_s)
        self._clock = desk.clock
        self._thread = desk.thread
        self._on_change = on_change
        self._on_folder = on_folder
        self._on_missed = on_missed
        self._to_hash: deque[Candidate] = deque()
        self._hash_bell = Bell(desk.clock)

    @property
    def to_hash(self) -> int:
        """How many files wait to be hashed."""
        return len(self._to_hash)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be run, until cancelled."""
        return [self._look(), *(self._hash() for _ in range(HASHERS))]

    def take_over(self) -> None:
        """Look anew at what an earlier session left."""
        candidates = self._desk.candidates
        for candidate in candidates:
            if candidate.phase is not Phase.TOLD:
                candidate.phase, candidate.hashing = Phase.SETTLING, False
                candidates.schedule(candidate, self._clock.monotonic())

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
            asked = [one.stat if one.settling is not None and one.settling.asked else None for one in due]
            seen = await self._thread.run(self._looker.look_all, rels, were, asked)
            for candidate, was_moved, one in zip(due, moved, seen, strict=True):
                candidates.looked(candidate, self._clock.monotonic())
                if isinstance(one, NotAFile):
                    self._drop(candidate, one.reason)
                else:
                    self._judge(candidate, replace(one, moved=was_moved))
            self._on_change()

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
            taken = decide_name(rel, self._desk.names)
            if isinstance(taken, Ignore):
                self._desk.status.ignored(rel, taken.reason)
                self._desk.outbox.gone(rel)
            else:
                self._desk.touch(rel, taken.flags, forced=True)

    def _judge(self, candidate: Candidate, seen: Observation) -> None:
        desk, rel, stat = self._desk, candidate.rel, seen.stat
        _merge_forced(candidate)
        if stat is not None and not candidate.forced and desk.known.has(rel, stat):
            self._drop(candidate)
            return
        if stat is not None and not candidate.seen:
            candidate.seen = True
            desk.status.file("file.seen", rel, size_bytes=stat.size_bytes)
        if candidate.missed and not seen.problem and seen.lease is Lease.FREE:
            self._on_missed()
        candidate.missed = False
        candidate.settling, verdict = decide_settled(candidate.settling, seen, self._policy)
        if candidate.settling is not None and desk.quick.get(rel) == candidate.settling.stat.ino:
            candidate.settling = candidate.settling.evolve(doubted=True)
        if isinstance(verdict, Wait):
            self._wait(candidate, seen, verdict)
        elif isinstance(verdict, Ready):
            candidate.phase = Phase.READY
            if candidate.digest is not None and candidate.digest.stat == stat:
                self._accept(candidate)
            else:
                self._begin_hash(candidate)
        elif isinstance(verdict, Refuse) and stat is not None:
            desk.outbox.refuse(candidate, desk.ref(rel, stat), Fault(verdict.code))
        else:
            self._drop(candidate)

    def _wait(self, candidate: Candidate, seen: Observation, verdict: Wait) -> None:
        at = verdict.look_again_at
        if seen.problem == "source.io":
            at = max(at, seen.ended_at + self._io_delay_s(candidate, Fault(seen.problem)))
        if candidate.again:
            at = min(at, seen.ended_at + LOOK_GAP_S)
        candidate.again = False
        self._desk.candidates.schedule(candidate, at)
        if candidate.settling is not None:
            self._announce(candidate, candidate.settling)
        if verdict.looks_finished and candidate.hashed_in_vain < _IN_VAIN:
            digest = candidate.digest
            if digest is None or digest.stat != seen.stat:
                self._begin_hash(candidate)

    def _io_delay_s(self, candidate: Candidate, fault: Fault) -> float:
        """Count a failure of the disk or share, for which no file is given up; return when to try again."""
        if candidate.io_failures == 0:
            self._desk.status.failing(candidate.rel, fault)
        candidate.io_failures += 1
        return min(_IO_LONGEST_S, _IO_FIRST_S * 2.0 ** min(candidate.io_failures - 1, 10))

    def _drop(self, candidate: Candidate, reason: str = "") -> None:
        _merge_forced(candidate)
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
            self._on_folder(candidate.rel)

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

    def _begin_hash(self, candidate: Candidate) -> None:
        if not candidate.hashing:
            candidate.hashing = True
            self._to_hash.append(candidate)
            self._hash_bell.ring()

    async def _hash(self) -> None:
        while True:
            if not self._to_hash:
                await self._hash_bell.wait()
                continue
            candidate = self._to_hash.popleft()
            self._on_change()
            if candidate.stat is None or self._desk.candidates.get(candidate.rel) is not candidate:
                candidate.hashing = False
                continue
            await self._identify(candidate, candidate.stat)

    async def _identify(self, candidate: Candidate, stat: StatKey) -> None:
        settling = candidate.settling
        proof = settling.proof if settling is not None else None
        try:
            candidate.digest = await identify(
                self._thread,
                self._root,
                candidate.rel,
                stat,
                leases=self._local,
                blank_bytes=BLANK_BYTES if proof is None else proof.blank_bytes,
            )
        except Fault as fault:
            candidate.hashing = False
            if candidate.phase is Phase.READY:
                self._failed(candidate, stat, fault)
            else:  # ahead of time: it is looked at as planned
                candidate.hashed_in_vain += 1
            return
        candidate.hashing = False
        if candidate.phase is Phase.READY:
            if candidate.stat == stat:
                self._accept(candidate)
            else:
                self._begin_hash(candidate)
        elif candidate.stat != stat:
            candidate.hashed_in_vain += 1

    def _failed(self, candidate: Candidate, stat: StatKey, fault: Fault) -> None:
        if isinstance(fault, SourceChanged | SourceVanished):
            self._settle_again(candidate, 0.0)
            return
        candidate.hash_failures += 1
        if fault.code == "source.io":
            self._settle_again(candidate, self._io_delay_s(candidate, fault))
            if candidate.settling is not None:
                self._announce(candidate, candidate.settling)
        elif candidate.hash_failures >= _HASH_TRIES:
            self._desk.outbox.refuse(candidate, self._desk.ref(candidate.rel, stat), fault)
        else:
            self._settle_again(candidate, 5.0 * candidate.hash_failures)

    def _accept(self, candidate: Candidate) -> None:
        """Tell the house of a file that is finished and hashed."""
        desk, rel, digest, settling = self._desk, candidate.rel, candidate.digest, candidate.settling
        if digest is None or settling is None:
            raise AssertionError("it was looked at, and hashed")
        if digest.blank and settling.proven and not settling.renamed_in:
            # It claims to be whole, and has stretches in it that nobody seems to have written yet.
            candidate.settling = settling.evolve(doubted=True)
            self._settle_again(candidate, 0.0)
            return
        if settling.proven:
            desk.remember_quick(rel, settling.stat.ino)
        now = self._clock.monotonic()
        desk.status.file(
            "file.settled",
            rel,
            size_bytes=digest.stat.size_bytes,
            settle_s=round(now - candidate.first_at, 3),
        )
        found = Found(
            desk.ref(rel, digest.stat), digest.sha256, candidate.seen_at, self._clock.now(), candidate.flags
        )
        desk.outbox.found(candidate, found)

    def _settle_again(self, candidate: Candidate, delay_s: float) -> None:
        candidate.phase = Phase.SETTLING
        candidate.again = False
        _merge_forced(candidate)
        self._desk.candidates.schedule(candidate, self._clock.monotonic() + delay_s)
        self._desk.bell.ring()


def _merge_forced(candidate: Candidate) -> None:
    candidate.forced |= candidate.again_forced
    candidate.again_forced = False
