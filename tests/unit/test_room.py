"""A semaphore whose width can change: nobody is turned out, nobody is let in twice, no place is lost."""

from __future__ import annotations

import asyncio

from tnfd.pipeline.room import Room


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Guests:
    """Tasks that stay in a room until told."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.inside: list[int] = []
        self._leave: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def _stay(self, number: int) -> None:
        await self.room.acquire()
        self.inside.append(number)
        try:
            await self._leave[number].wait()
        finally:
            self.inside.remove(number)
            self.room.release()

    async def come(self, *numbers: int) -> None:
        for number in numbers:
            self._leave[number] = asyncio.Event()
            self.tasks[number] = asyncio.create_task(self._stay(number))
            await settle()

    async def go(self, *numbers: int) -> None:
        for number in numbers:
            self._leave[number].set()
        await settle()


async def test_first_come_first_served_while_it_grows_and_shrinks() -> None:
    guests = Guests(Room(2))
    await guests.come(1, 2, 3, 4, 5)
    assert guests.inside == [1, 2]
    guests.room.resize(3)
    await settle()
    assert guests.inside == [1, 2, 3]
    guests.room.resize(1)
    await guests.go(1, 2)
    assert guests.inside == [3]
    await guests.go(3)
    assert guests.inside == [4]
    await guests.go(4)
    assert guests.inside == [5]
    await guests.go(5)


async def test_who_is_cancelled_leaves_no_place_taken() -> None:
    guests = Guests(Room(1))
    await guests.come(1, 2, 3)
    guests.tasks[2].cancel()  # while it waits
    await settle()
    await guests.go(1)
    assert guests.inside == [3]
    await guests.come(4)
    guests._leave[3].set()
    await asyncio.sleep(0)
    guests.tasks[4].cancel()  # perhaps just as its place comes
    await settle()
    await guests.come(5)
    assert guests.inside == [5]
    await guests.go(5)


async def test_a_place_that_comes_with_the_cancellation_is_passed_on() -> None:
    room = Room(1)
    guests = Guests(room)
    await guests.come(1, 2, 3)
    guests._leave[1].set()
    for _ in range(3):
        guests.tasks[2].cancel()
        await asyncio.sleep(0)
    await settle()
    assert guests.inside == [3]
    await guests.go(3)
