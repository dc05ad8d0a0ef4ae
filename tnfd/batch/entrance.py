"""How a batch takes files in: looked at until they are finished, hashed two at a time, claimed as they come.

Owns the open folders. Whoever runs the batch hears what became of each file, and says how long to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from tnfd import faultpoints
from tnfd.batch.board import Board, Item, Result
from tnfd.batch.plan import Plan, former_of, outputs_wanted
from tnfd.intake.once import LOOKS_AT_ONCE, Hashed, Left, OnceIntake, Refused, Rests
from tnfd.model import FileRef, Job, StatKey
from tnfd.ports.batch import BatchStore, Take, Taking
from tnfd.ports.claims import Found, Origin
from tnfd.ports.clock import Clock
from tnfd.ports.store import IntakeStore, ViewStore
from tnfd.rules.settle import Settling

_HASHERS = 2
_GROUP = 200

_LEFT = {
    "vanished": "it was removed before it could be read",
    "lost": "its folder was removed before it could be read",
    "link": "it is a link; name the file itself",
    "folder": "it is a folder",
    "online_only": "its content is not on this machine; make it available offline first",
    "left_out": "its folder holds a .tnfdignore",
    "growing": "somebody still writes to it",
}


class EntranceStore(BatchStore, IntakeStore, ViewStore, Protocol):
    """What is asked of the store here."""


class Ended(Protocol):
    """Hears that nothing more happens to a file."""

    def __call__(self, item: Item, result: Result, job: Job | None = None, reason: str = "") -> None:
        """Take note."""
        ...


class Entrance:
    """Takes in the files of a plan. ``live``: scopes of inboxes that a running daemon works on.

    ``redo_since``: transcriptions begun before are made anew. ``taken`` hears of each file that has a job,
    ``ended`` of each that needs none; ``patient`` says whether a file that is still being written is waited
    for.
    """

    def __init__(
        self,
        store: EntranceStore,
        clock: Clock,
        plan: Plan,
        board: Board,
        scope: str,
        taken: Callable[[Item, str, Taking], Awaitable[None]],
        ended: Ended,
        patient: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._plan = plan
        self._board = board
        self._scope = scope
        self._on_taken = taken
        self._on_ended = ended
        self._patient = patient
        self._found: asyncio.Queue[tuple[Item, Hashed]] = asyncio.Queue()
        self._rested: asyncio.Queue[tuple[Item, Rests]] = asyncio.Queue()
        self._waiters: asyncio.TaskGroup | None = None
        self._folders: dict[bytes, OnceIntake] = {}
        self.live: frozenset[str] = frozenset()
        self.redo_since: float | None = None

    async def run(self) -> None:
        """Take files in until cancelled."""
        by_root: dict[bytes, list[Item]] = {}
        for item in self._plan.items:
            by_root.setdefault(item.ref.root, []).append(item)
        async with contextlib.AsyncExitStack() as stack:
            for root, items in by_root.items():
                folder = OnceIntake(root, self._clock, settle_s=self._plan.settle_s[root])
                try:
                    self._folders[root] = await stack.enter_async_context(folder)
                except OSError as error:
                    for item in items:
                        self._on_ended(item, Result.WAITING, None, error.strerror or "the folder is gone")
            async with asyncio.TaskGroup() as group:
                self._waiters = group
                group.create_task(self._claim())
                for _ in range(_HASHERS):
                    group.create_task(self._hash())
                for root, folder in self._folders.items():
                    group.create_task(self._look_at(folder, by_root[root]))

    def settle(self, item: Item, settling: Settling | None = None) -> None:
        """Look at a file, from now on, until it is finished."""
        assert self._waiters is not None  # noqa: S101  it runs
        self._board.at(item, "settling")
        self._waiters.create_task(self._settle(item, settling))

    async def take(self, item: Item, stat: StatKey, sha256: str) -> None:
        """Claim a file whose content is known."""
        await self._found.put((item, Hashed(stat, sha256)))

    # -- looking and hashing -------------------------------------------------------------------------

    async def _look_at(self, folder: OnceIntake, items: list[Item]) -> None:
        rest = []
        for item in items:
            former = former_of(item, item.ref.stat, None)
            if former is None:
                rest.append(item)
            else:  # it was hashed as it is
                await self.take(item, item.ref.stat, former.sha256)
        for start in range(0, len(rest), LOOKS_AT_ONCE):
            group = rest[start : start + LOOKS_AT_ONCE]
            verdicts = await folder.look([item.ref.rel for item in group])
            for item, verdict in zip(group, verdicts, strict=True):
                if isinstance(verdict, Settling):
                    self.settle(item, verdict)
                else:
                    await self._judged(item, verdict)

    async def _settle(self, item: Item, settling: Settling | None) -> None:
        folder = self._folders[item.ref.root]
        await self._judged(item, await folder.settle(item.ref.rel, settling, self._patient))

    async def _judged(self, item: Item, verdict: Rests | Refused | Left | Hashed) -> None:
        if isinstance(verdict, Rests):
            await self._rested.put((item, verdict))
        elif isinstance(verdict, Hashed):
            await self._found.put((item, verdict))
        elif isinstance(verdict, Left):
            result = Result.GROWING if verdict.reason == "growing" else Result.VANISHED
            self._on_ended(item, result, None, _LEFT.get(verdict.reason, verdict.reason))
        else:
            ref = FileRef(item.ref.root, item.ref.rel, verdict.stat)
            claim = await self._store.refuse(self._origin(item), ref, self._clock.now(), verdict.fault)
            self._on_ended(item, Result.FAILED, await self._store.job(claim.job))

    async def _hash(self) -> None:
        while True:
            item, rests = await self._rested.get()
            self._board.at(item, "hashing")
            folder = self._folders[item.ref.root]
            verdict = await folder.identify(item.ref.rel, rests, self._patient)
            self._board.at(item, "")
            await self._judged(item, verdict)

    # -- claiming ------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        """Take what was found, as many files in one commit as have come together."""
        while True:
            group = [await self._found.get()]
            while len(group) < _GROUP and not self._found.empty():
                group.append(self._found.get_nowait())
            wanted = [await self._wanted(item, hashed) for item, hashed in group]
            taken = await self._store.take(wanted, self.live)
            faultpoints.reach("batch.taken")
            for (item, _), one in zip(group, taken, strict=True):
                await self._on_taken(item, one.job, one.how)

    async def _wanted(self, item: Item, hashed: Hashed) -> Take:
        now = self._clock.now()
        ref = FileRef(item.ref.root, item.ref.rel, hashed.stat)
        former = former_of(item, hashed.stat, hashed.sha256)
        present: frozenset[str] = frozenset()
        if former is not None:
            places = outputs_wanted(item, former)
            there = await self._folders[item.ref.root].present(list(places.values()))
            present = frozenset(format for format, here in zip(places, there, strict=True) if here)
        return Take(
            self._origin(item),
            Found(ref, hashed.sha256, now, now, item.flags),
            priority=item.priority,
            present=present,
            redo_since=self.redo_since,
            remember=item.inboxed,
        )

    def _origin(self, item: Item) -> Origin:
        return Origin(self._scope, item.origin.inbox, item.origin.settings)
