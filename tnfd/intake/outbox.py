"""What intake tells the house, one call after the other, so that nothing overtakes anything.

Owns the order and the grouping of the calls to Claims, and what follows for the candidates once the house
knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping

from tnfd.errors import Fault
from tnfd.faultpoints import reach
from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Candidates, Phase
from tnfd.intake.known import Known
from tnfd.model import FileRef
from tnfd.ports.claims import Claims, Found, Origin
from tnfd.ports.clock import Clock

Origins = Callable[[Collection[bytes]], Awaitable[Mapping[bytes, Origin | None]]]

GROUP = 200
GROUP_EVERY_S = 0.05  # the first goes at once; what is found meanwhile shares the next commit


class Outbox:
    """Collects what there is to tell; ``run`` tells it.

    ``on_again`` gets candidates that need another look. ``origins`` says with which settings files of some
    folders are claimed; where it says nothing, because there is a mistake in them, ``on_hold`` gets them.
    """

    def __init__(
        self,
        claims: Claims,
        origin: Origin,
        candidates: Candidates,
        known: Known,
        clock: Clock,
        on_again: Callable[[Candidate], None],
        origins: Origins,
        on_hold: Callable[[Candidate], None],
    ) -> None:
        self._claims = claims
        self._origin = origin
        self._candidates = candidates
        self._known = known
        self._clock = clock
        self._on_again = on_again
        self._origins = origins
        self._on_hold = on_hold
        self._bell = Bell(clock)
        self._found: deque[tuple[Candidate, Found]] = deque()
        self._refused: deque[tuple[Candidate, FileRef, Fault]] = deque()
        self._growing: dict[bytes, tuple[Candidate, FileRef]] = {}
        self._gone: list[bytes] = []

    def found(self, candidate: Candidate, found: Found) -> None:
        """Tell of a finished file."""
        candidate.phase = Phase.TOLD
        self._found.append((candidate, found))
        self._bell.ring()

    def refuse(self, candidate: Candidate, ref: FileRef, fault: Fault) -> None:
        """Tell of a file that cannot be taken."""
        candidate.phase = Phase.TOLD
        self._refused.append((candidate, ref, fault))
        self._bell.ring()

    def announce(self, candidate: Candidate, ref: FileRef) -> None:
        """Tell of a file that has been growing for a while; only the newest stat of each is told."""
        self._growing[candidate.rel] = candidate, ref
        self._bell.ring()

    def gone(self, rel: bytes) -> None:
        """Tell that an announced file left."""
        self._growing.pop(rel, None)
        self._gone.append(rel)
        self._bell.ring()

    async def run(self) -> None:
        """Tell until cancelled. What Claims raises ends it: waiting would not mend that."""
        while True:
            await self._bell.wait()
            while await self._tell():
                pass

    async def _tell(self) -> bool:
        """Make one round; False if there was nothing to tell."""
        told = bool(self._gone or self._found or self._refused or self._growing)
        if self._gone:
            rels, self._gone = self._gone, []
            await self._claims.gone(self._origin, rels)
        if self._found:
            await self._claim()
        if self._refused:
            candidate, ref, fault = self._refused.popleft()
            await self._claims.refuse(self._origin, ref, candidate.seen_at, fault)
            self._done(candidate, ref)
        if self._growing:
            candidate, ref = self._growing.pop(next(iter(self._growing)))
            if candidate.phase is Phase.SETTLING and self._candidates.get(candidate.rel) is candidate:
                await self._claims.settling(self._origin, ref, candidate.seen_at)
        return told

    async def _claim(self) -> None:
        group = [self._found.popleft() for _ in range(min(GROUP, len(self._found)))]
        reach("intake.hashed")
        origins = await self._origins({_folder(found) for _, found in group})
        by_origin: dict[Origin, list[tuple[Candidate, Found]]] = {}
        for candidate, found in group:
            origin = origins[_folder(found)]
            if origin is None:
                self._on_hold(candidate)
            else:
                by_origin.setdefault(origin, []).append((candidate, found))
        for origin, some in by_origin.items():
            await self._claims.claim(origin, [found for _, found in some])
            for candidate, found in some:
                self._done(candidate, found.ref)
        if len(self._found) < GROUP:
            await self._clock.sleep(GROUP_EVERY_S)

    def _done(self, candidate: Candidate, ref: FileRef) -> None:
        self._known.add(ref.rel, ref.stat)
        self._candidates.remove(candidate)
        if candidate.again:
            self._on_again(candidate)


def _folder(found: Found) -> bytes:
    return found.ref.rel.rpartition(b"/")[0]
