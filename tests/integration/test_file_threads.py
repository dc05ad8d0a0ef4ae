"""The pipeline's file threads: one share that hangs, and everything that goes on nevertheless."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.fakes import eventually
from tnfd.clock import SystemClock
from tnfd.errors import Fault
from tnfd.pipeline.files import FileThreads
from tnfd.testing import FakeClock


class Share:
    """A file system that hangs until ``answer`` is set."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.entered = threading.Event()
        self.finished: list[int] = []

    def call(self, number: int = 0) -> int:
        self.entered.set()
        self.answer.wait(20)
        self.finished.append(number)
        return number


async def test_a_call_into_a_share_that_hangs_gives_up_and_others_fail_at_once() -> None:
    clock, share = FakeClock(), Share()
    files = FileThreads(clock, patience_s=0.2)
    with pytest.raises(Fault, match=r"inbox\.lost.*does not answer"):
        await files.run(b"/hung", share.call, 1)
    await clock.advance(0.3)
    async with asyncio.timeout(0.15):  # less than the patience
        with pytest.raises(Fault, match=r"inbox\.lost"):
            await files.run(b"/hung", share.call, 2)
    assert await files.run(b"/well", lambda: 7) == 7
    share.answer.set()
    await eventually(lambda: share.finished == [1])
    assert await files.run(b"/hung", share.call, 3) == 3
    assert share.finished == [1, 3]  # what never began never does
    await files.close()


async def test_a_call_that_waits_behind_one_that_hangs_gives_up_and_is_never_made() -> None:
    share = Share()
    files = FileThreads(SystemClock(), patience_s=0.2)
    results = await asyncio.gather(
        files.run(b"/hung", share.call, 1), files.run(b"/hung", share.call, 2), return_exceptions=True
    )
    assert [result.code for result in results if isinstance(result, Fault)] == ["inbox.lost"] * 2
    share.answer.set()
    await eventually(lambda: share.finished == [1])
    assert await files.run(b"/hung", share.call, 3) == 3
    assert share.finished == [1, 3]
    await files.close()


@pytest.mark.parametrize("how", ["given up", "cancelled"])
async def test_what_arrives_late_is_undone(how: str, tmp_path: Path) -> None:
    share, box = Share(), list[int]()
    (tmp_path / "a").touch()

    def opened() -> None:
        share.call()
        box.append(os.open(tmp_path / "a", os.O_RDONLY))

    def undo() -> None:
        while box:
            os.close(box.pop())
        share.finished.append(9)

    files = FileThreads(SystemClock(), patience_s=0.2 if how == "given up" else 20.0)
    task = asyncio.get_running_loop().create_task(files.run(b"/hung", opened, undo=undo))
    await eventually(share.entered.is_set)
    if how == "cancelled":
        task.cancel()
    await asyncio.wait({task})
    share.answer.set()
    await eventually(lambda: share.finished == [0, 9])
    assert not box
    await files.close()


async def test_an_error_of_the_call_itself_is_no_silence() -> None:
    def fail() -> None:
        raise TimeoutError("the server did not answer")

    files = FileThreads(SystemClock(), patience_s=5.0)
    with pytest.raises(TimeoutError, match="the server"):
        await files.run(b"/x", fail)
    await files.close()


async def test_without_a_bound_a_long_call_is_waited_for() -> None:
    clock, share = FakeClock(), Share()
    files = FileThreads(clock, patience_s=None)
    task = asyncio.get_running_loop().create_task(files.run(b"/disk", share.call, 1))
    await eventually(share.entered.is_set)
    await clock.advance(3600)
    behind = asyncio.get_running_loop().create_task(files.run(b"/disk", share.call, 2))
    await asyncio.sleep(0)
    assert not behind.done()
    share.answer.set()
    assert (await task, await behind) == (1, 2)
    await files.close()
