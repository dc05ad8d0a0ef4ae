"""Slots given in turn."""

from __future__ import annotations

import asyncio

import pytest

from tnfd.pipeline.slots import FairSlots


class Rig:
    def __init__(self, most: int) -> None:
        self.slots = FairSlots(most)
        self.served: list[str] = []
        self.ends: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, job: str, times: int = 1) -> list[asyncio.Task[None]]:
        asked = [asyncio.ensure_future(self._use(job)) for _ in range(times)]
        self.tasks += asked
        return asked

    async def _use(self, job: str) -> None:
        async with self.slots.turn(job):
            self.served.append(job)
            end = asyncio.Event()
            self.ends.setdefault(job, []).append(end)
            await end.wait()

    async def end(self, job: str) -> None:
        self.ends[job].pop(0).set()
        await settle()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_with_much_to_send_does_not_keep_others_waiting() -> None:
    rig = Rig(2)
    rig.ask("long", 5)
    await settle()
    rig.ask("short")
    rig.ask("other")
    await settle()
    assert rig.served == ["long", "long"]
    await rig.end("long")
    await rig.end("long")
    assert rig.served[2:] == ["short", "other"]
    await rig.end("short")
    assert rig.served[4:] == ["long"]
    await rig.close()


async def test_many_short_ones_never_stop_a_long_one() -> None:
    rig = Rig(1)
    rig.ask("long", 3)
    await settle()
    for number in range(6):
        rig.ask(f"short {number}")
    await settle()
    while len(rig.served) < 9:
        await rig.end(rig.served[-1])
    assert sum(job == "long" for job in rig.served) == 3
    assert rig.served[0] == "long"
    await rig.close()


async def test_alone_it_gets_every_slot() -> None:
    rig = Rig(3)
    rig.ask("long", 7)
    await settle()
    assert len(rig.served) == 3
    for _ in range(4):
        await rig.end("long")
    assert len(rig.served) == 7
    await rig.close()


@pytest.mark.parametrize("when", ["waiting", "just served"])
async def test_who_gives_up_takes_nothing_along(when: str) -> None:
    rig = Rig(1)
    rig.ask("a")
    await settle()
    (given_up,) = rig.ask("b")
    rig.ask("c")
    await settle()
    if when == "just served":
        rig.ends["a"].pop(0).set()
        await asyncio.sleep(0)  # a has left, b has been served and does not know it yet
        given_up.cancel()
    else:
        given_up.cancel()
        await settle()
        await rig.end("a")
    await settle()
    assert rig.served[-1] == "c"
    await rig.end("c")
    rig.ask("d")
    await settle()
    assert rig.served[-1] == "d"
    await rig.close()
