"""Intake for one go: files below one folder, each looked at until it is finished, then hashed.

The same looks, the same rules and the same hashing as for an inbox; only nobody watches, and whoever asks
decides how long a file that is still being written is waited for. Owns the open folder and its thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from tnfd.errors import Fault, SourceChanged, SourceVanished
from tnfd.intake.identify import identify
from tnfd.intake.look import Looker, NotAFile, RootLost
from tnfd.intake.mounts import read_mount
from tnfd.model import StatKey
from tnfd.ports.clock import Clock
from tnfd.root import Root
from tnfd.rules.settle import (
    IO_QUIET_S,
    Gone,
    Observation,
    Policy,
    Ready,
    Refuse,
    Settling,
    Wait,
    decide_settled,
)
from tnfd.rules.whole import BLANK_BYTES, Proof
from tnfd.threads import FileThread

LOOKS_AT_ONCE = 64
_AGED_NETWORK_S = 3600.0  # the clocks of two machines may differ, not by this much
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Rests:
    """Finished, as this stat says; ``settling``: what the looks added up to."""

    stat: StatKey
    settling: Settling | None = None

    @property
    def proof(self) -> Proof | None:
        """The proof that is still to be held against the content."""
        one = self.settling
        return one.proof if one is not None and one.proven and not one.renamed_in else None


@dataclass(frozen=True, slots=True)
class Hashed:
    """Finished, and what is in it."""

    stat: StatKey
    sha256: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Cannot be taken; ``stat`` as it was seen last."""

    stat: StatKey
    fault: Fault


@dataclass(frozen=True, slots=True)
class Left:
    """Not taken: ``reason`` is vanished, growing, lost, link or another word of ``look.NotAFile``."""

    reason: str


@dataclass(slots=True)
class _Watch:
    settling: Settling | None = None
    due: float = 0.0


class OnceIntake:
    """One folder. An async context manager; ``path`` is absolute."""

    def __init__(self, path: bytes, clock: Clock, *, settle_s: float) -> None:
        self._path = path
        self._clock = clock
        self._settle_s = settle_s
        self._thread = FileThread(os.fsdecode(path), clock)

    async def __aenter__(self) -> Self:
        """Open the folder.

        Raises:
            OSError: it is missing, no folder, or not permitted.
        """
        await self._thread.run(self._open)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Let go of the folder."""
        self._thread.post(self._root.close)
        await self._thread.close()

    def _open(self) -> None:
        self._root = Root(self._path)
        mount = read_mount(self._path)
        self._local = mount.kind == "local"
        policy = (Policy.local if self._local else Policy.network)(self._settle_s)
        # Nobody waits for an empty file to grow in a batch, nor for one that has rested for long.
        aged_s = policy.blind_s if self._local else _AGED_NETWORK_S
        self._policy = replace(policy, empty_s=0.0, io_s=IO_QUIET_S, aged_s=aged_s)
        self._looker = Looker(self._root, self._clock, local=self._local, fs_type=mount.fs_type)

    async def look(self, rels: Sequence[bytes]) -> list[Rests | Refused | Left | Settling]:
        """Look once at some files; a Settling is to be handed to ``settle``."""
        seen = await self._look(rels)
        found: list[Rests | Refused | Left | Settling] = []
        for one in seen:
            watch = _Watch()
            verdict = self._judge(watch, one)
            if verdict is not None:
                found.append(verdict)
            else:
                found.append(watch.settling or Left("vanished"))
        return found

    async def settle(
        self, rel: bytes, before: Settling | None, patient: Callable[[], bool]
    ) -> Rests | Refused | Left:
        """Look until the file is finished; ``patient`` is asked before each wait whether to go on."""
        watch = _Watch(before)
        if before is not None:
            await self._clock.sleep(min(self._settle_s / 3, 1.0))
        while True:
            verdict = self._judge(watch, (await self._look([rel]))[0])
            if verdict is not None:
                return verdict
            if not patient():
                return Left("growing")
            await self._clock.sleep(max(0.02, watch.due - self._clock.monotonic()))

    async def identify(
        self, rel: bytes, rests: Rests, patient: Callable[[], bool]
    ) -> Hashed | Refused | Left:
        """Hash a finished file; one that changed meanwhile is settled again.

        So is one that was taken for finished because its container is whole, and that has stretches in it
        which nobody seems to have written yet.
        """
        failures, before = 0, None
        while True:
            stat, proof = rests.stat, rests.proof
            blank_bytes = BLANK_BYTES if proof is None else proof.blank_bytes
            try:
                digest = await identify(
                    self._thread, self._root, rel, stat, leases=self._local, blank_bytes=blank_bytes
                )
                if proof is None or not digest.blank or rests.settling is None:
                    return Hashed(stat, digest.sha256)
                before = rests.settling.evolve(doubted=True)
            except (SourceChanged, SourceVanished):
                pass
            except Fault as fault:
                failures += 1
                if failures >= _TRIES:
                    return Refused(stat, fault)
            verdict = await self.settle(rel, before, patient)
            before = None
            if not isinstance(verdict, Rests):
                return verdict
            rests = verdict

    async def present(self, paths: Sequence[bytes]) -> list[bool]:
        """Whether something lies at each of these absolute paths."""
        return await self._thread.run(lambda: [os.path.lexists(path) for path in paths])

    async def _look(self, rels: Sequence[bytes]) -> list[Observation | NotAFile]:
        try:
            return await self._thread.run(self._looker.look_all, rels)
        except RootLost:
            return [NotAFile("lost") for _ in rels]

    def _judge(self, watch: _Watch, seen: Observation | NotAFile) -> Rests | Refused | Left | None:
        if isinstance(seen, NotAFile):
            return Left(seen.reason)
        watch.settling, verdict = decide_settled(watch.settling, seen, self._policy)
        if isinstance(verdict, Gone):
            return Left("vanished")
        if isinstance(verdict, Wait):
            watch.due = verdict.look_again_at
            return None
        if seen.stat is None:
            return Left("vanished")
        if isinstance(verdict, Refuse):
            return Refused(seen.stat, Fault(verdict.code))
        assert isinstance(verdict, Ready)  # noqa: S101  there is no other verdict
        return Rests(seen.stat, watch.settling)
