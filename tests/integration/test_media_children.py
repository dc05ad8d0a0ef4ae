"""ChildMedia with its real nursery and real children: who lives how long, what they see, how they end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration import media_files as make
from tnfd.clock import SystemClock
from tnfd.errors import Fault
from tnfd.media import ChildMedia
from tnfd.media.keeper import Ended, Keeper
from tnfd.media.wire import Order
from tnfd.model import Cut, Encoding
from tnfd.ports.media import Decoded, Media, MediaEvent, PrepareRequest, Probed
from tnfd.rules.cuts import Limits
from tnfd.testing import FakeClock

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc or needs prctl")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
async def media() -> AsyncIterator[ChildMedia]:
    async with ChildMedia(clock=SystemClock(), processes=4) as media:
        yield media


@pytest.fixture
def short_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(make.audio(tmp_path / "short.mp3", 2.0, "libmp3lame"), os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def long_fd(tmp_path: Path) -> Iterator[int]:
    """Ten hours: minutes of work for a child."""
    fd = os.open(make.long_silence(tmp_path / "long.wav", 10.0), os.O_RDWR)
    yield fd
    os.close(fd)


def request(scratch: Path, encoding: Encoding = "opus") -> PrepareRequest:
    return PrepareRequest(scratch, encoding, 10**9, Limits(48 * 3600.0))


async def events_of(media: ChildMedia, fd: int, wanted: PrepareRequest) -> list[MediaEvent]:
    async with media.prepare(fd, wanted) as events:
        return [event async for event in events]


def nursery_of(media: ChildMedia) -> psutil.Process:
    assert media.nursery_pid is not None
    return psutil.Process(media.nursery_pid)


def child_of(media: ChildMedia) -> psutil.Process:
    (child,) = nursery_of(media).children()
    return child


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


async def test_recording_is_prepared(media: ChildMedia, short_fd: int, scratch: Path) -> None:
    probed, cut, decoded = await events_of(media, short_fd, request(scratch))
    assert isinstance(probed, Probed)
    assert (probed.media.container, probed.media.codec) == ("mp3", "mp3")
    assert isinstance(cut, Cut)
    assert cut.size_bytes == (scratch / "0000.ogg").stat().st_size
    assert make.seconds_of(scratch / cut.file) == pytest.approx(2.0, abs=0.1)
    assert decoded == Decoded(cut.end_sample, 0)


def test_it_is_what_the_port_asks_for() -> None:
    port: Media = ChildMedia(clock=SystemClock())
    assert isinstance(port, ChildMedia)


async def test_child_s_fault_arrives(media: ChildMedia, tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "notes.mp3"
    path.write_text("only words")
    with path.open("rb") as source, pytest.raises(Fault, match=r"media\.not_media"):
        await events_of(media, source.fileno(), request(scratch))


async def test_too_long_comes_after_what_the_file_is(media: ChildMedia, long_fd: int, scratch: Path) -> None:
    os.truncate(f"/dev/fd/{long_fd}", 44 + 49 * 3600 * 16_000)
    os.pwrite(long_fd, make.wav_header(49 * 3600 * 16_000, 8000), 0)
    async with media.prepare(long_fd, request(scratch)) as events:
        assert isinstance(await anext(events), Probed)
        with pytest.raises(Fault, match=r"media\.too_long"):
            await anext(events)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_missing_scratch_folder(media: ChildMedia, short_fd: int, tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"output\.io"):
        await events_of(media, short_fd, request(tmp_path / "nowhere"))
    assert media.nursery_pid is None


async def test_body_s_exception_comes_out_as_it_is(short_fd: int, scratch: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ChildMedia(clock=SystemClock()) as media, media.prepare(short_fd, request(scratch)):
            raise ZeroDivisionError


async def test_many_at_once(media: ChildMedia, short_fd: int, tmp_path: Path) -> None:
    async def one(number: int) -> list[MediaEvent]:
        folder = tmp_path / str(number)
        folder.mkdir()
        return await events_of(media, short_fd, request(folder, "pcm"))

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(number)) for number in range(12)]
    assert len({tuple(task.result()) for task in running}) == 1


async def test_at_most_so_many_children_run(long_fd: int, scratch: Path) -> None:
    entered = asyncio.Event()

    async def second(media: ChildMedia) -> None:
        async with media.prepare(long_fd, request(scratch)):
            entered.set()

    async with (
        ChildMedia(clock=SystemClock(), processes=1) as media,
        asyncio.TaskGroup() as tasks,
    ):
        async with media.prepare(long_fd, request(scratch)) as events:
            await anext(events)
            tasks.create_task(second(media))
            for _ in range(50):  # turns of the loop; with the nursery running it would take three
                await asyncio.sleep(0)
            assert not entered.is_set()
            assert len(nursery_of(media).children()) == 1
        await entered.wait()


async def test_finished_child_s_place_is_free_before_its_caller_leaves(short_fd: int, scratch: Path) -> None:
    async with (
        ChildMedia(clock=SystemClock(), processes=1) as media,
        media.prepare(short_fd, request(scratch)) as events,
    ):
        assert len([event async for event in events]) == 3
        assert len(await events_of(media, short_fd, request(scratch))) == 3


@pytest.mark.parametrize("when", ["before the first event", "after it"])
async def test_cancelling_leaves_no_child(media: ChildMedia, long_fd: int, scratch: Path, when: str) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with media.prepare(long_fd, request(scratch)) as events:
            if when == "after it":
                await anext(events)
            started.set()
            async for _ in events:
                pass

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work())
        await started.wait()
        task.cancel()
    assert task.cancelled()
    assert nursery_of(media).children() == []


async def test_child_that_cannot_listen_is_killed(media: ChildMedia, long_fd: int, scratch: Path) -> None:
    async with media.prepare(long_fd, request(scratch)) as events:
        await anext(events)
        child = child_of(media)
        child.suspend()
    assert not child.is_running()


async def test_child_ends_when_nobody_listens(long_fd: int, scratch: Path) -> None:
    """What a dead daemon or nursery looks like where the kernel does not kill orphans (macOS)."""
    keeper, ended = Keeper(), asyncio.Event()
    scratch_fd = os.open(scratch, os.O_RDONLY)
    try:
        order = Order("opus", 10**9, Limits(48 * 3600.0)).line()
        child = await keeper.spawn(order, long_fd, scratch_fd, lambda _: ended.set())
        await asyncio.get_running_loop().sock_recv(child.reply, 1)
        child.reply.close()
        await ended.wait()
        assert child.ended.result() == Ended(status=1 << 8)
        assert os.listdir(scratch) == []
    finally:
        os.close(scratch_fd)
        await keeper.stop()


async def test_leaving_media_ends_everything(long_fd: int, scratch: Path) -> None:
    async with ChildMedia(clock=SystemClock()) as media:
        async with media.prepare(long_fd, request(scratch)) as events:
            await anext(events)
            processes = [nursery_of(media), child_of(media)]
        assert media.nursery_pid is not None
    assert not any(process.is_running() for process in processes)


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGKILL])
async def test_killed_child_is_a_crash(
    media: ChildMedia, long_fd: int, short_fd: int, scratch: Path, signum: signal.Signals
) -> None:
    async with media.prepare(long_fd, request(scratch)) as events:
        await anext(events)
        child_of(media).send_signal(signum)
        with pytest.raises(Fault, match=rf"media\.crashed.*{signum.name}"):
            await anext(events)
    assert len(await events_of(media, short_fd, request(scratch))) == 3


async def test_processor_time_used_up_is_a_timeout(media: ChildMedia, long_fd: int, scratch: Path) -> None:
    async with media.prepare(long_fd, request(scratch)) as events:
        await anext(events)
        child_of(media).send_signal(signal.SIGXCPU)
        with pytest.raises(Fault, match=r"media\.timeout.*processor"):
            await anext(events)


async def test_killed_nursery_is_a_crash_and_comes_back(
    media: ChildMedia, long_fd: int, short_fd: int, scratch: Path
) -> None:
    async with media.prepare(long_fd, request(scratch)) as events:
        await anext(events)
        nursery, child = nursery_of(media), child_of(media)
        nursery.kill()
        if sys.platform == "linux":
            with pytest.raises(Fault, match=r"media\.crashed.*media process ended"):
                await anext(events)
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()
    assert len(await events_of(media, short_fd, request(scratch))) == 3
    assert media.nursery_pid != nursery.pid


async def test_terminal_s_and_service_manager_s_signals_do_not_end_the_nursery(
    media: ChildMedia, short_fd: int, scratch: Path
) -> None:
    await events_of(media, short_fd, request(scratch))
    nursery = nursery_of(media)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        nursery.send_signal(signum)
    assert len(await events_of(media, short_fd, request(scratch))) == 3
    assert media.nursery_pid == nursery.pid
    assert os.getsid(nursery.pid) != os.getsid(0)


async def test_nursery_rests_after_a_while_and_comes_back(short_fd: int, scratch: Path) -> None:
    clock = FakeClock()
    async with ChildMedia(clock=clock, idle_s=60.0) as media:
        await events_of(media, short_fd, request(scratch))
        nursery = nursery_of(media)
        await clock.until_sleeping()
        await clock.advance(59.0)
        await events_of(media, short_fd, request(scratch))  # the minute starts anew
        await clock.advance(59.0)
        assert nursery.is_running()
        await clock.advance(2.0)
        assert media.nursery_pid is None
        assert len(await events_of(media, short_fd, request(scratch))) == 3
        assert not nursery.is_running()


async def test_nursery_does_not_rest_while_a_child_works(short_fd: int, long_fd: int, scratch: Path) -> None:
    clock = FakeClock()
    async with ChildMedia(clock=clock, idle_s=60.0) as media:
        await events_of(media, short_fd, request(scratch))
        await clock.until_sleeping()
        async with media.prepare(long_fd, request(scratch)) as events:
            await anext(events)
            await clock.advance(61.0)
            assert child_of(media).is_running()


async def test_child_that_takes_far_too_long_is_killed(long_fd: int, scratch: Path) -> None:
    clock = FakeClock()
    async with (
        ChildMedia(clock=clock) as media,
        media.prepare(long_fd, request(scratch)) as events,
    ):
        await anext(events)

        async def wait_for_more() -> None:
            with pytest.raises(Fault, match=r"media\.timeout"):
                await anext(events)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_more())
            await clock.advance(60.0 + 36_000 / 4)  # not yet: the file has a size, too
            assert child_of(media).is_running()
            await clock.advance(600.0)


async def test_time_that_the_caller_takes_does_not_count(short_fd: int, scratch: Path) -> None:
    clock = FakeClock()
    async with (
        ChildMedia(clock=clock) as media,
        media.prepare(short_fd, request(scratch)) as events,
    ):
        await anext(events)
        await clock.advance(1_000_000.0)
        assert len([event async for event in events]) == 2


@linux_only
async def test_nursery_that_hangs_is_given_up(long_fd: int, scratch: Path) -> None:
    clock, hung = FakeClock(), asyncio.Event()
    async with ChildMedia(clock=clock) as media:

        async def work() -> None:
            async with media.prepare(long_fd, request(scratch)) as events:
                await anext(events)
                nursery_of(media).suspend()
                hung.set()

        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(work())
            await hung.wait()
            await clock.advance(9.0)
            assert not leaving.done()
            await clock.advance(2.0)
        assert media.nursery_pid is None


@linux_only
async def test_children_see_no_secrets_and_are_bound(
    media: ChildMedia, long_fd: int, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    async with media.prepare(long_fd, request(scratch)) as events:
        await anext(events)
        nursery, child = nursery_of(media), child_of(media)
        for process in (nursery, child):
            assert "secret" not in str(process.environ())
        for limit in (
            psutil.RLIMIT_AS, psutil.RLIMIT_CPU, psutil.RLIMIT_FSIZE, psutil.RLIMIT_NOFILE, psutil.RLIMIT_CORE
        ):  # fmt: skip
            assert 0 <= child.rlimit(limit)[1] < 2 * 10**9
        assert child.nice() == nursery.nice() + 5
        # 0 1 2, reply, source, scratch, the source opened afresh, the cut: nothing of the daemon's
        assert child.num_fds() <= 8
        assert len(nursery.threads()) == 1
        assert "NoNewPrivs:\t1" in status_of(child.pid)


@linux_only
async def test_nothing_leaks(media: ChildMedia, short_fd: int, long_fd: int, scratch: Path) -> None:
    async def round_trip() -> None:
        await events_of(media, short_fd, request(scratch))
        async with media.prepare(long_fd, request(scratch)) as events:
            await anext(events)

    await round_trip()
    gc.collect()
    ours, theirs = len(os.listdir("/proc/self/fd")), nursery_of(media).num_fds()
    tasks = len(asyncio.all_tasks())
    for _ in range(10):
        await round_trip()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == ours
    assert nursery_of(media).num_fds() == theirs
    assert nursery_of(media).children() == []
    assert len(asyncio.all_tasks()) <= tasks


async def test_modules_in_the_working_folder_are_not_run(
    short_fd: int, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in ("json", "socket", "av", "tnfd"):
        (inbox / f"{name}.py").write_text("raise SystemExit('run by mistake')\n")
    monkeypatch.chdir(inbox)
    async with ChildMedia(clock=SystemClock()) as media:
        assert len(await events_of(media, short_fd, request(scratch))) == 3


async def test_broken_installation_is_said(
    short_fd: int, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "av.py").write_text("raise ImportError('libavcodec.so is missing')\n")
    monkeypatch.syspath_prepend(broken)
    async with ChildMedia(clock=SystemClock()) as media:
        with pytest.raises(Fault, match="PyAV cannot be loaded") as caught:
            await events_of(media, short_fd, request(scratch))
    assert "tnfd doctor" in caught.value.hint


PARENT = """
import asyncio, os, pathlib, sys
from tnfd.clock import SystemClock
from tnfd.media import ChildMedia
from tnfd.ports.media import PrepareRequest
from tnfd.rules.cuts import Limits

async def main(source, scratch, stay):
    fd = os.open(source, os.O_RDONLY)
    async with ChildMedia(clock=SystemClock()) as media:
        wanted = PrepareRequest(pathlib.Path(scratch), "opus", 10**9, Limits(1e6))
        async with media.prepare(fd, wanted) as events:
            await anext(events)
            if stay:
                print(media.nursery_pid, flush=True)
                await asyncio.Event().wait()
            async for _ in events:
                pass
    print(*(name for name in ("av", "numpy", "openai", "multiprocessing") if name in sys.modules))

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] == "stay"))
"""


def parent(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # coverage loads what the daemon never does
    command = [sys.executable, "-W", "error", "-c", PARENT, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_daemon_never_loads_what_decodes(short_fd: int, tmp_path: Path, scratch: Path) -> None:
    with parent(str(tmp_path / "short.mp3"), str(scratch), "go") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == "\n"


def test_killed_daemon_takes_all_with_it(long_fd: int, tmp_path: Path, scratch: Path) -> None:
    with parent(str(tmp_path / "long.wav"), str(scratch), "stay") as process:
        assert process.stdout is not None
        nursery = psutil.Process(int(process.stdout.readline()))
        processes = [nursery, *nursery.children()]
        assert len(processes) == 2
        process.kill()
        _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
