"""The table of files that are not finished yet, ordered by when to look at them next."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from tnfd.intake.identify import Digest
from tnfd.model import StatKey
from tnfd.rules.settle import Settling


class Phase(Enum):
    """Who has a candidate in hand."""

    SETTLING = auto()  # looked at now and then
    READY = auto()  # finished; waits until it is hashed
    TOLD = auto()  # waits for the house to have recorded it


@dataclass(slots=True, eq=False)
class Candidate:
    """One file between being seen and being claimed. Changed in place by the tasks of one event loop."""

    rel: bytes
    seen_at: datetime
    first_at: float  # monotonic s
    due: float  # monotonic s
    phase: Phase = Phase.SETTLING
    settling: Settling | None = None  # None: not looked at yet
    flags: tuple[str, ...] = ()
    moved: bool = False  # events since the last look said that a temporary file turned into it
    forced: bool = False  # to be taken even if the house knows it
    again: bool = False  # something happened to it while it was in other hands
    again_forced: bool = False  # and it is to be taken even if the house knows it by then
    missed: bool = False  # a scan found it, and an event should have told of it
    seen: bool = False  # it was there, and unknown
    looked_at: float = 0.0  # monotonic s
    digest: Digest | None = None  # what was hashed, maybe ahead of time
    hashing: bool = False  # waits to be hashed, or is being hashed
    hashed_in_vain: int = 0  # ahead of time, and then it changed
    hash_failures: int = 0
    io_failures: int = 0
    was: StatKey | None = None  # as the house knows it, if it does
    announced_at: float | None = None  # monotonic s
    announced_size_bytes: int = -1

    @property
    def stat(self) -> StatKey | None:
        """The last stat key seen."""
        return self.settling.stat if self.settling else None

    @property
    def shown(self) -> bool:
        """Whether the house may have a job that says that it settles."""
        return self.announced_at is not None or self.forced


class Candidates:
    """Candidates by path, and a heap by the next look. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._by_rel: dict[bytes, Candidate] = {}
        self._heap: list[tuple[float, int, Candidate]] = []
        self._count = 0
        self.unlooked = 0  # never looked at so far

    def __len__(self) -> int:
        return len(self._by_rel)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._by_rel.values())

    def get(self, rel: bytes) -> Candidate | None:
        """Return the candidate for a path."""
        return self._by_rel.get(rel)

    def add(self, candidate: Candidate) -> None:
        """Take in a candidate whose path has none."""
        self._by_rel[candidate.rel] = candidate
        self.unlooked += 1
        self.schedule(candidate, candidate.due)

    def schedule(self, candidate: Candidate, at: float) -> None:
        """Set the next look."""
        candidate.due = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, candidate))

    def remove(self, candidate: Candidate) -> None:
        """Drop a candidate."""
        if self._by_rel.get(candidate.rel) is candidate:
            del self._by_rel[candidate.rel]
            if candidate.looked_at == 0.0:
                self.unlooked -= 1

    def looked(self, candidate: Candidate, at: float) -> None:
        """Note that a look ended."""
        if candidate.looked_at == 0.0:
            self.unlooked -= 1
        candidate.looked_at = at or 1e-9

    def take_due(self, now: float, limit: int) -> list[Candidate]:
        """Return up to ``limit`` candidates whose look is due; they have no next look until scheduled."""
        due: list[Candidate] = []
        while len(due) < limit and self.next_due() <= now:
            candidate = heapq.heappop(self._heap)[2]
            candidate.due = float("inf")
            due.append(candidate)
        return due

    def next_due(self) -> float:
        """Return when the next look is due; infinite if none is."""
        while self._heap:
            at, _, candidate = self._heap[0]
            current = self._by_rel.get(candidate.rel) is candidate
            if current and candidate.phase is Phase.SETTLING and candidate.due == at:
                return at
            heapq.heappop(self._heap)  # rescheduled, removed, or in other hands since
        return float("inf")
