"""What outlives a session of an inbox: who asks, what is known, what is pending, and whom to tell.

Owns how a path becomes a candidate; nothing here touches a disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Candidates, Phase
from tnfd.intake.known import Known
from tnfd.intake.options import IntakeOptions
from tnfd.intake.outbox import Outbox
from tnfd.intake.roots import Roots
from tnfd.intake.status import Status
from tnfd.model import FileRef, StatKey
from tnfd.ports.claims import Claims, Origin
from tnfd.ports.clock import Clock
from tnfd.rules.ignore import Ignore, NameRules, decide_name
from tnfd.threads import FileThread

LOOK_GAP_S = 0.25  # a growing file may report itself 20 times a second
CLOSED_GAP_S = 0.05  # a writer has closed it: that may have been the end
_QUICK = 10_000


@dataclass(slots=True)
class Desk:
    """Shared by all sessions of one run of an inbox."""

    origin: Origin
    path: bytes
    options: IntakeOptions
    claims: Claims
    clock: Clock
    thread: FileThread
    status: Status
    known: Known
    candidates: Candidates
    asked: set[bytes]  # paths to look at whatever the house knows of them
    bell: Bell  # rings when a look may be due
    roots: Roots
    names: NameRules
    first_start: bool = False  # no scan of this folder has ever been finished
    loaded: asyncio.Event = field(default_factory=asyncio.Event)  # what the house knows is known here
    quick: dict[bytes, int] = field(default_factory=dict)  # path, inode: taken because it was proven whole
    outbox: Outbox = field(init=False)

    def ref(self, rel: bytes, stat: StatKey) -> FileRef:
        """Return the reference of a file below this inbox."""
        return FileRef(self.path, rel, stat)

    def resume(self, unsettled: Mapping[bytes, StatKey]) -> None:
        """Go on with files that were announced before a restart; those that left since turn out gone."""
        for rel, was in unsettled.items():
            taken = decide_name(rel, self.names)
            if isinstance(taken, Ignore):
                self.outbox.gone(rel)
            else:
                # Whatever the house knows of it, its job waits to be told what became of it.
                self.touch(rel, taken.flags, forced=True)
                if (candidate := self.candidates.get(rel)) is not None:
                    candidate.announced_at, candidate.was = candidate.first_at, was

    def remember_quick(self, rel: bytes, ino: int) -> None:
        """Note that a proof made this file be taken early; should it change after all, none counts again."""
        self.quick.pop(rel, None)
        self.quick[rel] = ino
        if len(self.quick) > _QUICK:
            del self.quick[next(iter(self.quick))]

    def touch(
        self,
        rel: bytes,
        flags: tuple[str, ...] = (),
        *,
        moved: bool = False,
        forced: bool = False,
        missed: bool = False,
        closed: bool = False,
    ) -> None:
        """See to it that a file is looked at soon; ``closed``: by whoever wrote to it."""
        now = self.clock.monotonic()
        candidate = self.candidates.get(rel)
        if candidate is None:
            candidate = Candidate(
                rel, self.clock.now(), now, now, flags=flags, moved=moved, forced=forced, missed=missed
            )
            self.candidates.add(candidate)
        else:
            candidate.moved |= moved
            if candidate.phase is not Phase.SETTLING or candidate.due == float("inf"):
                candidate.again = True  # in other hands; they give it back
                candidate.again_forced |= forced
            else:
                candidate.forced |= forced
                soon = max(now, candidate.looked_at + (CLOSED_GAP_S if closed else LOOK_GAP_S))
                if soon < candidate.due:
                    self.candidates.schedule(candidate, soon)
        self.bell.ring()
