"""What outlives a session of an inbox: who asks, what is known, what is pending, and whom to tell.

Owns how a path becomes a candidate; nothing here touches a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Candidates, Phase
from tnfd.intake.known import Known
from tnfd.intake.options import IntakeOptions
from tnfd.intake.outbox import Outbox
from tnfd.intake.status import Status
from tnfd.model import FileRef, StatKey
from tnfd.ports.claims import Claims, Origin
from tnfd.ports.clock import Clock
from tnfd.rules.ignore import Ignore, decide_name
from tnfd.threads import FileThread

LOOK_GAP_S = 0.25  # a growing file reports itself 20 times a second


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
    first_start: bool  # no scan of this folder has ever been finished
    bell: Bell  # rings when a look may be due
    outbox: Outbox = field(init=False)

    def ref(self, rel: bytes, stat: StatKey) -> FileRef:
        """Return the reference of a file below this inbox."""
        return FileRef(self.path, rel, stat)

    def resume(self, unsettled: Mapping[bytes, StatKey]) -> None:
        """Go on with files that were announced before a restart; those that left since turn out gone."""
        for rel, was in unsettled.items():
            taken = decide_name(rel, self.options.names)
            if isinstance(taken, Ignore):
                self.outbox.gone(rel)
            else:
                # Whatever the house knows of it, its job waits to be told what became of it.
                self.touch(rel, taken.flags, forced=True)
                if (candidate := self.candidates.get(rel)) is not None:
                    candidate.announced_at, candidate.was = candidate.first_at, was

    def touch(
        self, rel: bytes, flags: tuple[str, ...] = (), *, moved: bool = False, forced: bool = False
    ) -> None:
        """See to it that a file is looked at soon."""
        now = self.clock.monotonic()
        candidate = self.candidates.get(rel)
        if candidate is None:
            candidate = Candidate(rel, self.clock.now(), now, now, flags=flags, moved=moved, forced=forced)
            self.candidates.add(candidate)
        else:
            candidate.moved |= moved
            if candidate.phase is not Phase.SETTLING or candidate.due == float("inf"):
                candidate.again = True  # in other hands; they give it back
                candidate.again_forced |= forced
            else:
                candidate.forced |= forced
                soon = max(now, candidate.looked_at + LOOK_GAP_S)
                if soon < candidate.due:
                    self.candidates.schedule(candidate, soon)
        self.bell.ring()
