"""What the suites of store, ledger and queue share: backends to run against, files as intake tells of them.

A backend joins by a class that satisfies ``Backend`` and a row in ``BACKENDS``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

from tnfd.model import ChunkResult, Cut, EngineChoice, FileRef, Job, JobSettings, StatKey, Transcript
from tnfd.ports.after import AfterStore
from tnfd.ports.claims import Found, Origin
from tnfd.ports.clock import Clock
from tnfd.ports.ledger import Ask, Granted, Ledger, Refused
from tnfd.ports.queue import Lease
from tnfd.ports.store import (
    ControlStore,
    IntakeStore,
    QueueStore,
    Skip,
    StatusStore,
    ViewStore,
    WorkStore,
)
from tnfd.store.ledger import Budget
from tnfd.store.sqlite import SqliteStore
from tnfd.testing import FakeClock

ROOT = b"/in"
SCOPE = "inbox:/in"
SCOPES = (SCOPE,)
ENGINE = EngineChoice("lan", "openai", "whisper-x")
TEXT = Transcript("words", (), 60.0, ("en",), "none")


class AnyStore(
    IntakeStore, QueueStore, WorkStore, StatusStore, ViewStore, ControlStore, Ledger, Protocol
):  # fmt: skip
    """All ports that a backend stands behind."""

    @property
    def after(self) -> AfterStore: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


class Backend(Protocol):
    """One kind of store."""

    name: str

    def make(self, place: Path, clock: Clock, owner: str, kind: str, budget: Budget) -> AnyStore:
        """Make the store of one process; all of a test's processes share ``place``."""
        ...

    async def kill(self, store: AnyStore) -> None:
        """Let go of a store as SIGKILL would: nothing is tidied up."""
        ...


class Sqlite:
    """A real database file."""

    name = "sqlite"

    def make(self, place: Path, clock: Clock, owner: str, kind: str, budget: Budget) -> AnyStore:
        return SqliteStore(place, clock, owner=owner, pid=os.getpid(), kind=kind, budget=budget)

    async def kill(self, store: AnyStore) -> None:
        assert isinstance(store, SqliteStore)
        await store._close()  # the kernel closes files and drops locks...
        store._presence._path(store._owner).touch()  # ...and leaves the lock's file


BACKENDS: list[Backend] = [Sqlite()]


class Stores:
    """The processes of one test, on one place and one clock."""

    def __init__(self, backend: Backend, place: Path) -> None:
        self.backend = backend
        self.place = place
        self.clock = FakeClock()
        self.alive: list[AnyStore] = []

    async def open(self, owner: str = "daemon-1", *, budget: Budget = Budget()) -> AnyStore:  # noqa: B008
        store = self.backend.make(self.place, self.clock, owner, owner.partition("-")[0], budget)
        await store.__aenter__()
        self.alive.append(store)
        return store

    async def close(self, store: AnyStore) -> None:
        self.alive.remove(store)
        await store.__aexit__(None, None, None)

    async def kill(self, store: AnyStore) -> None:
        self.alive.remove(store)
        await self.backend.kill(store)

    async def close_all(self) -> None:
        for store in list(self.alive):
            await self.close(store)

    @property
    def now(self) -> datetime:
        return self.clock.now()


# -- files -----------------------------------------------------------------------------------------


def origin(scope: str = SCOPE, engine: EngineChoice = ENGINE, **settings: Any) -> Origin:
    return Origin(scope, scope.rpartition("/")[2], JobSettings((engine,), **settings))


def stat(size_bytes: int = 1000, **numbers: int) -> StatKey:
    return StatKey(**{"dev": 1, "ino": 2, "size_bytes": size_bytes, "mtime_ns": 3, "ctime_ns": 4, **numbers})


def ref(rel: str = "talk.mp3", root: bytes = ROOT, **numbers: int) -> FileRef:
    return FileRef(root, os.fsencode(rel), stat(**numbers))


def found(rel: str, content: str, at: datetime, *, root: bytes = ROOT, **numbers: int) -> Found:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Found(ref(rel, root, **numbers), sha256, at - timedelta(seconds=6), at)


async def claim(
    stores: Stores, store: AnyStore, rel: str = "talk.mp3", content: str = "a", where: Origin | None = None
) -> str:
    """Claim one file; return its job's id. Time passes, so that ids sort as they were made."""
    await stores.clock.advance(0.01)
    where = where or origin()
    root = os.fsencode(where.scope.partition(":")[2]) if where.scope.startswith("inbox:") else ROOT
    (claim,) = await store.claim(where, [found(rel, content, stores.now, root=root)])
    return claim.job


# -- work ------------------------------------------------------------------------------------------


async def begin(store: AnyStore, job_id: str) -> Lease:
    """Lease a job that must be there to lease."""
    lease = await store.begin(job_id)
    assert isinstance(lease, Lease), lease
    return lease


async def skipped(store: AnyStore, job_id: str) -> str:
    """Fail to lease a job; return why."""
    skip = await store.begin(job_id)
    assert isinstance(skip, Skip), skip
    return skip.reason


async def transcribe(store: AnyStore, lease: Lease, text: Transcript = TEXT) -> None:
    """Do what a worker does up to the transcript: one cut, one answer."""
    cut = Cut(0, 0, 16_000 * 60, "0.ogg", 500)
    await store.restart_cuts(lease, "opus")
    await store.save_cut(lease, cut)
    await store.finish_cuts(lease, samples=cut.end_sample, bad_packets=0)
    await store.save_chunk(
        lease, 0, ENGINE, ChunkResult(text.text), uploaded_bytes=500, cost_usd=0.006, audio_s=60.0
    )
    await store.save_transcript(lease, text)


async def the_job(store: AnyStore, job_id: str) -> Job:
    job = await store.job(job_id)
    assert job is not None
    return job


async def ready(
    store: AnyStore,
    scopes: Sequence[str] = SCOPES,
    limit: int = 100,
    without: Sequence[str] = (),
    free: bool = False,
) -> list[str]:
    return await store.ready(scopes, limit=limit, without=without, free=free)


def ask(engine: str = "lan", usd: float = 0.0, most: int = 5) -> Ask:
    return Ask(engine, "job", "in", 60.0, usd, most)


async def granted(store: AnyStore, wish: Ask) -> Granted:
    answer = await store.reserve(wish)
    assert isinstance(answer, Granted), answer
    return answer


async def refused(store: AnyStore, wish: Ask) -> Refused:
    answer = await store.reserve(wish)
    assert isinstance(answer, Refused), answer
    return answer


async def known(store: IntakeStore, root: bytes, at_once: int = 2) -> dict[bytes, StatKey]:
    """All sights below a root, asked for as intake asks."""
    found: dict[bytes, StatKey] = {}
    last: bytes | None = b""
    while last is not None:
        some = await store.known(root, last, at_once)
        found |= dict(some)
        last = some[-1][0] if len(some) == at_once else None
    return found
