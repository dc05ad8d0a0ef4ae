from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import MemoryClaims, eventually
from tnfd.clock import SystemClock
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.lease import ignore_sigio, probe_lease
from tnfd.intake.options import IntakeOptions
from tnfd.model import JobSettings
from tnfd.ports.claims import Origin
from tnfd.rules.settle import Lease
from tnfd.testing import FakeClock
from tnfd.threads import FileThread

HERE = Path(__file__).parents[2]


@pytest.fixture
def _sigio() -> Iterator[None]:
    old = signal.getsignal(signal.SIGIO)
    yield
    signal.signal(signal.SIGIO, old)


async def test_calls_run_in_order_and_hand_back_results_and_errors() -> None:
    thread = FileThread("t", SystemClock())
    order: list[int] = []

    def call(n: int) -> int:
        order.append(n)
        if n == 2:
            raise FileNotFoundError(n)
        return n * 10

    async with asyncio.TaskGroup() as group:
        first, third = group.create_task(thread.run(call, 1)), group.create_task(thread.run(call, 3))
        with pytest.raises(FileNotFoundError):
            await thread.run(call, 2)
    assert (first.result(), third.result()) == (10, 30)
    assert sorted(order) == [1, 2, 3]
    assert await thread.close()
    with pytest.raises(RuntimeError):
        await thread.run(call, 4)


async def test_a_hanging_call_keeps_neither_its_awaiter_nor_close() -> None:
    thread = FileThread("t", SystemClock())
    release, entered, skipped = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(20)

    async with asyncio.timeout(10):
        waiting = asyncio.get_running_loop().create_task(thread.run(hang))
        await eventually(entered.is_set)
        assert thread.busy_since is not None
        queued = asyncio.get_running_loop().create_task(thread.run(skipped.set))
        await asyncio.sleep(0)
        for task in (waiting, queued):
            task.cancel()
        await asyncio.wait({waiting, queued})
        assert not await thread.close(0.05)
    release.set()
    await eventually(lambda: not any(one.name == "inbox-t" for one in threading.enumerate()))
    assert not skipped.is_set()


def test_a_hanging_call_does_not_keep_the_process() -> None:
    code = """
        import asyncio, threading
        from tnfd.clock import SystemClock
        from tnfd.threads import FileThread
        async def main():
            thread = FileThread("t", SystemClock())
            task = asyncio.get_running_loop().create_task(thread.run(threading.Event().wait))
            while thread.busy_since is None:
                await asyncio.sleep(0.01)
            task.cancel()
            await thread.close(0.05)
        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=HERE, timeout=20, check=False)
    assert done.returncode == 0


async def test_a_file_system_that_hangs_is_lost_and_the_heart_goes_on() -> None:
    clock = FakeClock()
    origin = Origin("inbox:test", "test", JobSettings(engines=()))
    intake = InboxIntake(origin, b"/nowhere", IntakeOptions(), MemoryClaims(), clock)
    thread = FileThread("t", clock)
    release = threading.Event()
    loop = asyncio.get_running_loop()
    call = loop.create_task(thread.run(release.wait, 20))
    ready = asyncio.Event()
    pulse = loop.create_task(intake._pulse(thread, ready))
    await eventually(lambda: thread.busy_since is not None and clock.sleepers == 1)
    await clock.advance(22)
    await eventually(lambda: clock.sleepers == 1)
    assert intake.state.state == "lost"
    assert ready.is_set()  # the others are not to wait for it
    assert intake.state.heartbeat == clock.monotonic()
    release.set()
    await call
    await clock.advance(2)
    await eventually(lambda: clock.sleepers == 1)
    assert "does not answer" not in intake.state.why
    pulse.cancel()
    await asyncio.wait({pulse})
    await thread.close()


@pytest.mark.usefixtures("_sigio")
def test_lease_says_whether_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    try:
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        assert probe_lease(fd) is Lease.UNKNOWN  # a broken lease would end the process
        ignore_sigio()
        if probe_lease(fd) is Lease.UNKNOWN:
            pytest.skip("no leases on this file system")
        code = "import sys; f = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            assert probe_lease(fd) is Lease.BUSY
        assert probe_lease(fd) is Lease.FREE
    finally:
        os.close(fd)
    with open("/dev/null", "rb") as device:
        assert probe_lease(device.fileno()) is Lease.UNKNOWN
