"""Work of another machine is left to it until its status file has said the same for ten minutes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.daemon import of_another_machine, sha256
from tests.stores import SCOPE, AnyStore, Sqlite, Stores, begin, origin
from tnfd.model import FileRef, StatKey, WaitReason
from tnfd.outputs.local import LocalOutputs
from tnfd.pipeline.adopt import STALE_S, Adopter
from tnfd.pipeline.deliver import Deliverer
from tnfd.pipeline.files import FileThreads
from tnfd.pipeline.gate import MustWait
from tnfd.ports.claims import Found
from tnfd.ports.queue import Lease


class Machine:
    """A tnfd that has claimed one recording, at which another machine is at work."""

    def __init__(self, stores: Stores, store: AnyStore, files: FileThreads, talk: Path) -> None:
        self.stores, self.store, self.talk = stores, store, talk
        outputs = LocalOutputs(stores.clock)
        deliverer = Deliverer(store, outputs, files)
        self.adopter = Adopter(store, outputs, files, deliverer, stores.clock, instance="nas-1")

    async def lease(self) -> Lease:
        ref = FileRef(
            os.fsencode(self.talk.parent), os.fsencode(self.talk.name), StatKey.of(self.talk.stat())
        )
        now = self.stores.now
        (claim,) = await self.store.claim(origin(SCOPE), [Found(ref, sha256(self.talk), now, now)])
        return await begin(self.store, claim.job)

    async def waits(self, lease: Lease) -> bool:
        try:
            assert await self.adopter.adopt(lease) is None
        except MustWait as wait:
            told = wait.waiting.reason, wait.waiting.detail
            return told == (WaitReason.ORIGINAL, "nas-9 is at it (job 01JZZZZZZZZZZZZZZZZZZZZZZZ)")
        return False


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    stores = Stores(Sqlite(), tmp_path / "state")
    stores.place.mkdir()
    talk = tmp_path / "in" / "talk.wav"
    talk.parent.mkdir()
    talk.write_bytes(b"a recording")
    of_another_machine(talk)
    files = FileThreads(stores.clock)
    yield Machine(stores, await stores.open(), files, talk)
    await files.close()
    await stores.close_all()


async def test_a_machine_that_fell_silent_is_relieved(machine: Machine) -> None:
    lease = await machine.lease()
    assert await machine.waits(lease)
    await machine.stores.clock.advance(STALE_S - 1)
    assert await machine.waits(lease)
    await machine.stores.clock.advance(1)
    assert not await machine.waits(lease)


async def test_a_machine_that_goes_on_is_waited_for_however_long_it_takes(machine: Machine) -> None:
    lease = await machine.lease()
    for minute in range(0, 60, 5):
        of_another_machine(machine.talk, f"2026-11-25T00:{minute:02}:00Z")
        assert await machine.waits(lease)
        await machine.stores.clock.advance(STALE_S / 2)
    await machine.stores.clock.advance(STALE_S / 2)
    assert not await machine.waits(lease)


async def test_the_others_clock_says_nothing_of_its_silence(machine: Machine) -> None:
    # Ten years behind, or a century ahead: what counts is for how long it has said the same.
    lease = await machine.lease()
    for year in (2016, 2126):
        of_another_machine(machine.talk, f"{year}-11-25T00:00:00Z")
        assert await machine.waits(lease)
        machine.stores.clock.jump_wall(-86_400)
        await machine.stores.clock.advance(STALE_S - 1)
        assert await machine.waits(lease)


async def test_work_on_other_content_is_not_waited_for(machine: Machine) -> None:
    machine.talk.write_bytes(b"another recording of the same name")
    assert not await machine.waits(await machine.lease())
