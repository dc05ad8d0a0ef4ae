"""The clock that tests hold still."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tnfd.testing import FakeClock


async def test_sleepers_wake_in_order_each_at_its_moment() -> None:
    clock = FakeClock()
    begin = clock.monotonic()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *delays: float) -> None:
        for delay in delays:
            await clock.sleep(delay)
            woken.append((name, round(clock.monotonic() - begin, 6)))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("late", 5))
        group.create_task(sleeper("twice", 1, 1))
        group.create_task(sleeper("same", 2))
        await clock.until_sleeping(3)
        await clock.advance(3)
        assert woken == [("twice", 1.0), ("same", 2.0), ("twice", 2.0)]
        assert clock.sleepers == 1
        await clock.advance(2)
    assert woken[-1] == ("late", 5.0)


async def test_ten_tenths_are_one() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    for _ in range(9):
        await clock.advance(0.1)
    assert not task.done()
    await clock.advance(0.1)
    assert task.done()


async def test_wall_time_moves_along_and_can_jump_alone() -> None:
    clock = FakeClock()
    wall, mono = clock.now(), clock.monotonic()
    await clock.advance(1.5)
    assert clock.now() - wall == timedelta(seconds=1.5)
    clock.jump_wall(-3600)
    assert clock.now() < wall
    assert clock.monotonic() == mono + 1.5


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.until_sleeping()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleepers == 0
    await clock.advance(2)


async def test_no_delay_yields_once() -> None:
    clock = FakeClock()
    await clock.sleep(0)
    with pytest.raises(ValueError, match="backwards"):
        await clock.advance(-1)
