"""The daemon's end of the reply socket, with the test as a child that a stranger's file took over."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tnfd.errors import Fault
from tnfd.media.keeper import Child, Ended
from tnfd.media.preparation import Preparation
from tnfd.media.wire import Order
from tnfd.model import Cut
from tnfd.ports.media import Decoded, Probed
from tnfd.rules.cuts import Limits
from tnfd.testing import FakeClock

PROBED = {
    "event": "probed", "container": "mp3", "codec": "mp3", "duration_s": 1.0, "audio_streams": 1,
    "channels": 1, "recorded_at": None,
}  # fmt: skip
CUT = {"event": "cut", "index": 0, "start": 0, "end": 16000, "file": "0000.ogg", "torn": [False, False]}
DECODED = {"event": "decoded", "samples": 16000, "bad_packets": 0}


class Rig:
    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.child = Child(1, theirs, asyncio.get_running_loop().create_future())
        self.scratch_fd = os.open(scratch, os.O_RDONLY)
        order = Order("opus", 1000, Limits(60.0))
        self.events = Preparation(self.child, order, self.scratch_fd, 10_000, FakeClock())

    def say(self, *lines: dict[str, Any] | bytes) -> None:
        for line in lines:
            self.ours.sendall(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

    def end(self, how: Ended) -> None:
        self.ours.close()
        self.child.ended.set_result(how)

    def close(self) -> None:
        self.ours.close()
        self.child.reply.close()
        os.close(self.scratch_fd)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


async def test_events_arrive_however_the_bytes_do(rig: Rig) -> None:
    (rig.scratch / "0000.ogg").write_bytes(bytes(77))
    stream = b"".join(json.dumps(line).encode() + b"\n" for line in (PROBED, CUT, DECODED))

    async def drip() -> None:
        for index in range(0, len(stream), 7):
            rig.say(stream[index : index + 7])
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(drip())
        events = [event async for event in rig.events]
    assert isinstance(events[0], Probed)
    assert events[1:] == [Cut(0, 0, 16000, "0000.ogg", 77), Decoded(16000, 0)]


async def nonsense(rig: Rig) -> None:
    with pytest.raises(Fault, match=r"media\.crashed.*the decoder sent") as caught:
        async for _ in rig.events:
            pass
    assert caught.value.retryable
    with pytest.raises(StopAsyncIteration):
        await anext(rig.events)


async def test_line_without_end_is_refused(rig: Rig) -> None:
    rig.say(b"x" * 20_000)
    await nonsense(rig)


async def test_cut_that_is_not_there_is_refused(rig: Rig) -> None:
    rig.say(PROBED, CUT)
    await nonsense(rig)


@pytest.mark.parametrize("size_bytes", [0, 1001])
async def test_cut_of_impossible_size_is_refused(rig: Rig, size_bytes: int) -> None:
    (rig.scratch / "0000.ogg").write_bytes(bytes(size_bytes))
    rig.say(PROBED, CUT)
    await nonsense(rig)


async def test_cut_that_is_a_link_is_refused(rig: Rig) -> None:
    (rig.scratch / "secret").write_bytes(bytes(10))
    (rig.scratch / "0000.ogg").symlink_to("secret")
    rig.say(PROBED, CUT)
    await nonsense(rig)


async def test_cut_that_is_a_pipe_is_refused(rig: Rig) -> None:
    os.mkfifo(rig.scratch / "0000.ogg")
    rig.say(PROBED, CUT)
    await nonsense(rig)


@pytest.mark.parametrize(
    ("ended", "code", "words"),
    [
        (Ended(status=9), "media.crashed", "SIGKILL (short of memory?)"),
        (Ended(status=11), "media.crashed", "SIGSEGV"),
        (Ended(status=24), "media.timeout", "processor time"),
        (Ended(status=1 << 8), "media.crashed", "exit status 1"),
        (Ended(status=0), "media.crashed", "exit status 0"),
        (Ended(errno=11), "media.crashed", "no process could be made"),
        (Ended(errno=0), "media.crashed", "PyAV cannot be loaded"),
        (Ended(), "media.crashed", "the media process ended"),
    ],
)
async def test_end_without_a_last_word(rig: Rig, ended: Ended, code: str, words: str) -> None:
    rig.say(PROBED, b'{"event": "dec')
    assert isinstance(await anext(rig.events), Probed)
    rig.end(ended)
    with pytest.raises(Fault) as caught:
        await anext(rig.events)
    assert caught.value.code == code
    assert words in caught.value.detail


async def test_waiting_can_be_cancelled_and_taken_up_again(rig: Rig) -> None:
    (rig.scratch / "0000.ogg").write_bytes(bytes(77))
    rig.say(PROBED, CUT)
    assert isinstance(await anext(rig.events), Probed)
    assert isinstance(await anext(rig.events), Cut)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(rig.events)
    with pytest.raises(StopAsyncIteration):  # a cancelled iteration is over
        await anext(rig.events)
