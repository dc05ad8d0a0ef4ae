"""When a file counts as finished: pure decisions over a series of looks at it.

No "the file is closed" test survives a writer that closes and reopens, and no "nothing changed for a
while" test survives a writer that maps its file; only both together had no early take. A file that came by a
rename, or whose container proves that it is whole (``rules.whole``), needs less quiet. This module owns how
long the quiet must be on which kind of mount and when to look again. It never touches a disk or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tnfd.model import StatKey
from tnfd.rules.whole import Proof

NETWORK_QUIET_S = 15.0  # NFS caches attributes for 3 to 60 s; equal looks must span more than the usual few
NETWORK_LOOKS = 3
BLIND_QUIET_S = 60.0  # nobody can say whether a writer still has the file open
EMPTY_QUIET_S = 60.0
IO_QUIET_S = 60.0
LOST_STEP_S = 30.0
RENAMED_QUIET_S = 0.3  # also of a file that is proven whole
BLIND_WHOLE_QUIET_S = 10.0  # proven whole, and nobody can say whether a writer still has it open

_SHORTEST_STEP_S = 0.02
_LONGEST_STEP_S = 5.0
_BUSY_STEP_S = 1.0


class Lease(StrEnum):
    """What the kernel says about writers of a file."""

    FREE = "free"  # no process of this machine has it open for writing
    BUSY = "busy"  # one has, or a companion file says that one will
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a file must rest (seconds) before it is taken.

    ``trusted``: leases and file times of this mount mean what they say. ``looks``: equal looks asked for.
    """

    trusted: bool
    quiet_s: float  # no writer has it open
    blind_s: float = BLIND_QUIET_S  # unknown whether one has
    blind_whole_s: float = BLIND_WHOLE_QUIET_S  # the same, and it is proven whole
    short_s: float = RENAMED_QUIET_S  # renamed into place or proven whole, no writer has it open
    empty_s: float = EMPTY_QUIET_S
    io_s: float = float("inf")  # a disk or share that fails says nothing of the file: looked at for ever
    looks: int = 1
    aged_s: float = float("inf")  # a file this old by its own times rests, whoever may have it open unseen

    @classmethod
    def local(cls, settle_s: float) -> Policy:
        """Return the policy of a local disk."""
        return cls(
            trusted=True,
            quiet_s=settle_s,
            blind_s=max(BLIND_QUIET_S, settle_s),
            blind_whole_s=max(BLIND_WHOLE_QUIET_S, settle_s),
        )

    @classmethod
    def network(cls, settle_s: float) -> Policy:
        """Return the policy of shares, FUSE and every file system whose leases are not trusted."""
        quiet_s = max(NETWORK_QUIET_S, settle_s)
        return cls(
            trusted=False, quiet_s=quiet_s, blind_s=quiet_s, blind_whole_s=quiet_s, looks=NETWORK_LOOKS
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a file, by open and fstat where it could be opened.

    ``began_at`` and ``ended_at`` (monotonic seconds) enclose the look: on a share it can take long.
    ``problem`` is the error code that opening met; ``stat`` is None with a problem where not even stat
    worked, and None without one where nothing is there; "inbox.lost" is one where its file system is
    missing. ``moved``: since the last look a rename brought it here. ``proof``: that its container is whole,
    if it was ``asked`` (not, where nothing has changed since it was, or a writer has it open).
    """

    began_at: float
    ended_at: float
    wall_ns: int
    stat: StatKey | None
    lease: Lease = Lease.UNKNOWN
    links: int = 1
    moved: bool = False
    problem: str = ""
    asked: bool = False
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Settling:
    """What the looks so far add up to."""

    stat: StatKey
    first_at: float  # monotonic s
    quiet_since: float  # monotonic s; when the last change, or the end of the last writer, was noticed
    looks: int = 1  # equal ones in a row
    busy: bool = False  # the last look saw a writer
    renamed_in: bool = False
    asked: bool = False  # for a proof, since the last change
    proof: Proof | None = None
    doubted: bool = False  # a proof has lied once: none counts any more
    rested_s: float = 0.0  # how long it had rested before the first look, by its own times

    @property
    def short(self) -> bool:
        """Whether the short quiet is enough where no writer has it open."""
        return self.renamed_in or self.proven

    @property
    def proven(self) -> bool:
        """Whether it is proven whole, and the proof counts."""
        return self.proof is not None and not self.doubted

    def evolve(self, **changes: Any) -> Settling:
        """Return a copy with changes."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not finished, or not known to be: look again at this monotonic second.

    ``looks_finished``: nothing speaks against it but that it has not rested for long enough. What is free
    and takes time (hashing) may begin.
    """

    look_again_at: float
    looks_finished: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """Finished."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is there any more."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It rests, and cannot be taken: the error code."""

    code: str


Verdict = Wait | Ready | Gone | Refuse


def decide_settled(
    before: Settling | None, seen: Observation, policy: Policy
) -> tuple[Settling | None, Verdict]:
    """Add one look to what is known of a file and say what follows from it."""
    if seen.stat is None:
        if seen.problem:
            step_s = LOST_STEP_S if seen.problem == "inbox.lost" else _LONGEST_STEP_S
            return before, Wait(seen.ended_at + step_s)
        return None, Gone()
    now = _follow(before, seen, seen.stat, policy)
    if seen.problem == "source.not_regular":
        return now, Refuse(seen.problem)
    lease = seen.lease if policy.trusted or seen.lease is Lease.BUSY else Lease.UNKNOWN
    if lease is Lease.BUSY:
        return now, Wait(seen.ended_at + _busy_step_s(now, seen, policy))
    needed_s, code = _needed(now, seen.problem, lease, policy)
    quiet_s = seen.began_at - now.quiet_since
    aged = now.rested_s >= policy.aged_s
    if lease is Lease.FREE:
        quiet_s += now.rested_s
    if aged or (quiet_s >= needed_s and now.looks >= policy.looks):
        return now, Refuse(code) if code else Ready()
    # Looking in between sees a writer that changes neither size nor times (mmap on tmpfs).
    step_s = min(needed_s / 3, _LONGEST_STEP_S, max(needed_s - quiet_s, _SHORTEST_STEP_S))
    rests = not code and (now.short or now.looks > 1) and (lease is Lease.FREE or now.looks >= NETWORK_LOOKS)
    return now, Wait(seen.ended_at + max(step_s, _SHORTEST_STEP_S), looks_finished=rests)


def _follow(before: Settling | None, seen: Observation, stat: StatKey, policy: Policy) -> Settling:
    """Carry the quiet on, or start it anew."""
    if before is None or before.stat != stat:
        first = before is None
        now = Settling(
            stat,
            first_at=seen.began_at if before is None else before.first_at,
            quiet_since=seen.ended_at,
            renamed_in=first and policy.trusted and _renamed_in(seen, stat),
            rested_s=_rested_s(stat, seen.wall_ns) if first else 0.0,
            doubted=before is not None and (before.doubted or before.proof is not None),
        )
    elif before.busy:
        # The writer may have closed it only now; the look that still saw it says nothing of the time since.
        now = before.evolve(quiet_since=seen.ended_at, looks=1, busy=False)
    else:
        now = before.evolve(looks=before.looks + 1)
    if seen.asked:
        now = now.evolve(asked=True, proof=seen.proof)
    if seen.lease is Lease.BUSY:
        # Had it just been renamed into place, whoever writes to it now starts the long quiet.
        now = now.evolve(busy=True, rested_s=0.0, renamed_in=False)
    return now


def _renamed_in(seen: Observation, stat: StatKey) -> bool:
    """Whether the content was complete before the name was there.

    A write sets mtime and ctime to the same moment, a rename only ctime (in the same moment, too, where one
    follows the other at once); but so does a chmod, and cp ends with one (coreutils 9). So an event must
    have told of the rename. A second link may belong to a writer.
    """
    return seen.moved and seen.links == 1 and stat.size_bytes > 0 and stat.ctime_ns >= stat.mtime_ns


def _rested_s(stat: StatKey, wall_ns: int) -> float:
    """Return the file's age by mtime and ctime (nobody can set ctime); a moment in the future is now."""
    return max(0.0, (wall_ns - max(stat.mtime_ns, stat.ctime_ns)) / 1e9)


def _needed(now: Settling, problem: str, lease: Lease, policy: Policy) -> tuple[float, str]:
    """Return the quiet asked for in seconds and the error code to refuse with ("" is: take it)."""
    if problem:
        return (policy.quiet_s if problem == "source.unreadable" else policy.io_s), problem
    if now.stat.size_bytes == 0:
        return policy.empty_s, "media.empty"
    if lease is Lease.UNKNOWN:
        return (policy.blind_whole_s if now.proven else policy.blind_s), ""
    if now.short:
        return min(policy.short_s, policy.quiet_s), ""
    return policy.quiet_s, ""


def _busy_step_s(now: Settling, seen: Observation, policy: Policy) -> float:
    """Nothing tells when a writer closes, so ask: often at first, rarely after hours of recording."""
    waited_s = seen.ended_at - now.first_at
    return min(_LONGEST_STEP_S, max(min(_BUSY_STEP_S, policy.quiet_s / 3), waited_s / 20))
