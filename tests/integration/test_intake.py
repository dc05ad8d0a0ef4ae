"""An inbox over real folders, with real events and real writers in other processes."""
# ruff: noqa: ASYNC230, ASYNC240 (a test's own small files block nobody)

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tests.fakes import FastClock, MemoryClaims, eventually
from tnfd.clock import SystemClock
from tnfd.intake.candidates import Phase
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.lease import ignore_sigio
from tnfd.intake.mounts import read_mount
from tnfd.intake.options import IntakeOptions
from tnfd.model import FileRef, JobSettings, StatKey
from tnfd.ports.claims import Origin
from tnfd.ports.clock import Clock

SETTLE_S = 0.4
ORIGIN = Origin("inbox:test", "test", JobSettings(engines=()))
OPTIONS = IntakeOptions(settle_s=SETTLE_S)

Start = Callable[..., AbstractAsyncContextManager[InboxIntake]]


@pytest.fixture(autouse=True)
def _sigio() -> Iterator[None]:
    old = signal.getsignal(signal.SIGIO)
    ignore_sigio()
    yield
    signal.signal(signal.SIGIO, old)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    if read_mount(os.fsencode(tmp_path)).kind != "local":
        pytest.skip("the temporary folder does not lie on a local disk")
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
async def claims() -> MemoryClaims:
    return MemoryClaims()


@pytest.fixture
def start(inbox: Path, claims: MemoryClaims) -> Start:
    @contextlib.asynccontextmanager
    async def running(
        options: IntakeOptions = OPTIONS, clock: Clock | None = None
    ) -> AsyncIterator[InboxIntake]:
        intake = InboxIntake(ORIGIN, os.fsencode(inbox), options, claims, clock or SystemClock())
        ready = asyncio.Event()
        task = asyncio.get_running_loop().create_task(intake.run(ready))
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            yield intake
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait({task})

    return running


def sha256(path: Path | bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def run_writer(code: str, *args: object) -> None:
    """Run a writer in another process, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import mmap, os, sys, time\n" + textwrap.dedent(code), *map(str, args)
    )
    try:
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


WRITERS = {
    "held open": """
        with open(sys.argv[1], "wb", buffering=0) as file:
            for n in range(3):
                file.write(bytes([n]) * 5000)
                time.sleep(0.9)
            file.write(b"end")
    """,
    "reopens with pauses shorter than the quiet time": """
        for n in range(8):
            with open(sys.argv[1], "ab") as file:
                file.write(bytes([n]) * 5000)
            time.sleep(0.15)
        with open(sys.argv[1], "ab") as file:
            file.write(b"end")
    """,
    "mapped": """
        with open(sys.argv[1], "w+b") as file:
            file.truncate(100_000)
            with mmap.mmap(file.fileno(), 100_000) as area:
                for n in range(3):
                    time.sleep(0.9)
                    area[n * 1000:n * 1000 + 3] = b"abc"
    """,
    "mapped with the descriptor closed": """
        with open(sys.argv[1], "w+b") as file:
            file.truncate(100_000)
            area = mmap.mmap(file.fileno(), 100_000)
        for n in range(3):
            time.sleep(0.9)
            area[n * 1000:n * 1000 + 3] = b"abc"
        area.close()
    """,
    "reserves, then fills": """
        with open(sys.argv[1], "wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, 200_000)
            for n in range(3):
                time.sleep(0.9)
                os.pwrite(file.fileno(), bytes([n + 1]) * 1000, n * 50_000)
    """,
    "temporary file, then rename": """
        with open(sys.argv[1] + ".part", "wb", buffering=0) as file:
            for n in range(3):
                file.write(bytes([n]) * 5000)
                time.sleep(0.4)
        os.rename(sys.argv[1] + ".part", sys.argv[1])
    """,
    "link from outside": """
        other = os.path.join(os.path.dirname(os.path.dirname(sys.argv[1])), "elsewhere.mp3")
        with open(other, "wb", buffering=0) as file:
            file.write(b"begin")
            os.link(other, sys.argv[1])
            time.sleep(1.2)
            file.write(b"end")
    """,
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
@pytest.mark.parametrize("mode", ["events", "scan"])
async def test_a_file_is_taken_once_and_whole_whatever_writes_it(
    writer: str, mode: Literal["events", "scan"], inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    options = replace(OPTIONS, watch_mode=mode, scan_interval_s=0.2)
    async with start(options):
        await run_writer(writer, inbox / "talk.mp3")
        await claims.until(lambda: b"talk.mp3" in claims.claimed)
    assert [(found.ref.rel, found.sha256) for found in claims.claims] == [
        (b"talk.mp3", sha256(inbox / "talk.mp3"))
    ]
    assert not claims.refused


PAUSING = {
    "writes and changes the mode, as cp does": """
        with open(sys.argv[1], "wb", buffering=0) as file:
            file.write(b"begin")
            time.sleep(0.02)
            os.fchmod(file.fileno(), 0o640)
    """,
    "writes and sets the times, as cp -p does": """
        with open(sys.argv[1], "wb", buffering=0) as file:
            file.write(b"begin")
        os.utime(sys.argv[1], (1e9, 1e9))
    """,
    "removes what is left of another try, then writes": """
        open(sys.argv[1] + ".part", "wb").close()
        time.sleep(0.3)
        os.unlink(sys.argv[1] + ".part")
        with open(sys.argv[1], "wb", buffering=0) as file:
            file.write(b"begin")
    """,
    "writes under the name while another file gets its own": """
        other = os.path.join(os.path.dirname(sys.argv[1]), "other.mp3")
        open(other + ".part", "wb").close()
        with open(sys.argv[1], "wb", buffering=0) as file:
            file.write(b"begin")
            time.sleep(0.02)
        os.rename(other + ".part", other)
        os.chmod(sys.argv[1], 0o640)
    """,
}


@pytest.mark.parametrize("writer", PAUSING.values(), ids=PAUSING.keys())
async def test_a_writer_that_comes_back_within_the_quiet_time_is_waited_for(
    writer: str, inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    writer = textwrap.dedent(writer) + textwrap.dedent("""
        time.sleep(1.0)
        with open(sys.argv[1], "ab") as file:
            file.write(b"end")
    """)
    async with start(replace(OPTIONS, settle_s=2.0)):
        await run_writer(writer, inbox / "talk.mp3")
        await claims.until(lambda: b"talk.mp3" in claims.claimed)
    talk = [found.sha256 for found in claims.claims if found.ref.rel == b"talk.mp3"]
    assert talk == [sha256(inbox / "talk.mp3")]


@pytest.mark.parametrize(
    "temporary", ["talk.mp3.part", ".talk.mp3.Ab3dE9", "~syncthing~talk.mp3.tmp", "talk.tmp"]
)
async def test_a_temporary_file_that_gets_its_name_is_taken_at_once(
    temporary: str, inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    code = """
        with open(sys.argv[1], "wb") as file:
            file.write(b"whole")
        time.sleep(0.05)
        os.rename(sys.argv[1], sys.argv[2])
    """
    async with start(replace(OPTIONS, settle_s=30.0)):
        await run_writer(code, inbox / temporary, inbox / "talk.mp3")
        renamed_at = (inbox / "talk.mp3").stat().st_ctime
        await claims.until(lambda: b"talk.mp3" in claims.claimed)
        took_s = claims.claimed[b"talk.mp3"].settled_at.timestamp() - renamed_at
    assert 0.2 < took_s < 2.0  # 0.4 on an idle machine


async def test_a_moved_in_folder_is_walked(inbox: Path, claims: MemoryClaims, start: Start) -> None:
    deep = inbox.parent / "series" / "deep"
    deep.mkdir(parents=True)
    for n in range(3):
        (deep / f"{n}.mp3").write_bytes(bytes([n]) * 10)
    async with start():
        (inbox.parent / "series").rename(inbox / "series")
        await claims.until(lambda: len(claims.claimed) == 3)
    assert set(claims.claimed) == {f"series/deep/{n}.mp3".encode() for n in range(3)}


async def test_files_written_into_a_folder_just_made_are_found(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    code = """
        for n in range(100):
            folder = f"{sys.argv[1]}/{n}/e"
            os.makedirs(folder)
            with open(f"{folder}/talk.mp3", "wb") as file:
                file.write(b"%d" % n)
    """
    async with start():
        await run_writer(code, inbox)
        await claims.until(lambda: len(claims.claimed) == 100)


async def test_500_small_files_come_in_groups_and_each_once(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    async with start():
        for n in range(500):
            (inbox / f"{n}.mp3").write_bytes(b"%d" % n)
        await claims.until(lambda: len(claims.claimed) == 500)
    assert len(claims.claims) == 500
    assert max(claims.groups) <= 200
    assert len(claims.groups) < 100
    assert all(found.sha256 == sha256(inbox / os.fsdecode(rel)) for rel, found in claims.claimed.items())


async def test_files_that_rested_before_the_start_are_taken_at_once(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    (inbox / "old.mp3").write_bytes(b"old")
    (inbox / "notes.txt").write_bytes(b"no recording")
    async with start(replace(OPTIONS, settle_s=0.3)):
        await claims.until(lambda: b"old.mp3" in claims.claimed)
    assert set(claims.entries) == {b"old.mp3"}
    found = claims.claimed[b"old.mp3"]
    assert found.seen_at <= found.settled_at
    assert found.ref.path == os.fsencode(inbox / "old.mp3")


async def test_what_is_known_is_not_told_again_and_a_change_is(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    (inbox / "talk.mp3").write_bytes(b"first")
    async with start():
        await claims.until(lambda: len(claims.claims) == 1)
    async with start():
        (inbox / "other.mp3").write_bytes(b"other")
        await claims.until(lambda: b"other.mp3" in claims.claimed)
        assert len(claims.claims) == 2
        (inbox / "talk.mp3").write_bytes(b"second")
        await claims.until(lambda: len(claims.claims) == 3)
    assert claims.claimed[b"talk.mp3"].sha256 == hashlib.sha256(b"second").hexdigest()


async def test_hint_has_a_known_file_told_again(inbox: Path, claims: MemoryClaims, start: Start) -> None:
    (inbox / "talk.mp3").write_bytes(b"first")
    async with start() as intake:
        await claims.until(lambda: len(claims.claims) == 1)
        intake.hint(b"talk.mp3")
        await claims.until(lambda: len(claims.claims) == 2)
        intake.hint(b"missing.mp3")
        intake.hint(b"talk.mp3")
        await claims.until(lambda: len(claims.claims) == 3 and claims.left == [b"missing.mp3"])


async def test_a_change_while_the_house_records_the_claim_is_told_afterwards(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    claims.hold = asyncio.Event()
    (inbox / "talk.mp3").write_bytes(b"first")
    async with start() as intake:
        await claims.until(lambda: claims.claiming == 1)
        (inbox / "talk.mp3").write_bytes(b"second")
        (inbox / "after.mp3").write_bytes(b"after")
        await eventually(lambda: intake.state.pending == 2)
        claims.hold.set()
        await claims.until(lambda: len(claims.claims) == 3)
    assert [found.sha256 for found in claims.claims if found.ref.rel == b"talk.mp3"] == [
        hashlib.sha256(content).hexdigest() for content in (b"first", b"second")
    ]


async def test_a_name_that_is_not_utf8_ends_the_watcher_and_nothing_is_lost(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    odd = os.fsencode(inbox) + b"/caf\xe9.mp3"
    async with start(replace(OPTIONS, check_interval_s=1.0)):
        with open(odd, "wb") as file:
            file.write(b"coffee")
        (inbox / "beside.mp3").write_bytes(b"beside")
        await claims.until(lambda: len(claims.claimed) == 2)
        (inbox / "later.mp3").write_bytes(b"later")
        await claims.until(lambda: len(claims.claimed) == 3)
    assert claims.claimed[b"caf\xe9.mp3"].sha256 == sha256(odd)


async def test_a_replaced_root_is_opened_again(inbox: Path, claims: MemoryClaims, start: Start) -> None:
    async with start() as intake:
        (inbox / "growing.mp3").write_bytes(b"x")
        shutil.rmtree(inbox)
        inbox.mkdir()
        (inbox / "new.mp3").write_bytes(b"new")
        await claims.until(lambda: b"new.mp3" in claims.claimed)
        assert intake.state.state in ("scanning", "watching")
        (inbox / "event.mp3").write_bytes(b"event")
        await claims.until(lambda: b"event.mp3" in claims.claimed)
    assert not claims.left


async def test_a_missing_root_is_lost_until_it_comes(inbox: Path, claims: MemoryClaims, start: Start) -> None:
    inbox.rmdir()
    async with start() as intake:
        lost = intake.state
        assert lost.state == "lost"
        assert "No such file" in lost.why
        inbox.mkdir()
        (inbox / "talk.mp3").write_bytes(b"talk")
        await claims.until(lambda: b"talk.mp3" in claims.claimed)
        back = intake.state
        assert (back.state, back.mode) in (("scanning", "events"), ("watching", "events"))


async def test_what_is_no_regular_file_is_refused_or_passed_by(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    os.mkfifo(inbox / "pipe.mp3")
    (inbox / "folder.mp3").mkdir()
    (inbox / "folder.mp3" / "inside.mp3").write_bytes(b"inside")
    (inbox / "link.mp3").symlink_to(inbox / "folder.mp3" / "inside.mp3")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(inbox / "socket.mp3"))
        async with start():
            (inbox / "late").symlink_to(inbox / "folder.mp3")
            await claims.until(lambda: len(claims.refused) == 2 and len(claims.claimed) == 1)
            os.mkfifo(inbox / "late.mp3")
            await claims.until(lambda: len(claims.refused) == 3)
    assert {rel: fault.code for rel, fault in claims.refused.items()} == {
        b"pipe.mp3": "source.not_regular",
        b"socket.mp3": "source.not_regular",
        b"late.mp3": "source.not_regular",
    }
    assert set(claims.claimed) == {b"folder.mp3/inside.mp3"}


async def test_left_out_folders_stay_left_out_for_scans_and_events(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    for folder in ("done", "drafts", "private/deep", ".hidden", "@eaDir"):
        (inbox / folder).mkdir(parents=True)
        (inbox / folder / "before.mp3").write_bytes(folder.encode())
    (inbox / "private" / ".tnfdignore").touch()
    options = replace(OPTIONS, exclude=("drafts/**",), skip_dirs=(b"done",))
    async with start(options):
        for folder in ("done", "drafts", "private/deep", ".hidden", "@eaDir"):
            (inbox / folder / "after.mp3").write_bytes(folder.encode() + b"2")
        (inbox / "mark.mp3").write_bytes(b"mark")
        await claims.until(lambda: b"mark.mp3" in claims.claimed)
        assert set(claims.claimed) == {b"mark.mp3"}
        (inbox / "private" / ".tnfdignore").unlink()
        await claims.until(lambda: len(claims.claimed) == 3)
    assert set(claims.claimed) == {b"mark.mp3", b"private/deep/before.mp3", b"private/deep/after.mp3"}


async def test_not_recursive_means_the_top_folder_alone(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    (inbox / "sub").mkdir()
    (inbox / "sub" / "a.mp3").write_bytes(b"a")
    async with start(replace(OPTIONS, recursive=False)):
        (inbox / "sub" / "b.mp3").write_bytes(b"b")
        (inbox / "new").mkdir()
        (inbox / "new" / "c.mp3").write_bytes(b"c")
        (inbox / "top.mp3").write_bytes(b"top")
        await claims.until(lambda: b"top.mp3" in claims.claimed)
    assert set(claims.claimed) == {b"top.mp3"}


async def test_existing_files_are_skipped_at_the_first_start_only(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    options = replace(OPTIONS, existing="skip")
    (inbox / "old.mp3").write_bytes(b"old")
    async with start(options):
        await claims.until(lambda: claims.skipped == [b"old.mp3"])
        (inbox / "new.mp3").write_bytes(b"new")
        await claims.until(lambda: b"new.mp3" in claims.claimed)
    (inbox / "downtime.mp3").write_bytes(b"downtime")
    async with start(options):
        await claims.until(lambda: b"downtime.mp3" in claims.claimed)
    assert set(claims.claimed) == {b"new.mp3", b"downtime.mp3"}


async def test_a_download_beside_its_part_file_is_held(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    (inbox / "film.mp4.part").write_bytes(b"x")
    (inbox / "film.mp4").write_bytes(b"placeholder")
    async with start():
        (inbox / "other.mp3").write_bytes(b"other")
        await claims.until(lambda: b"other.mp3" in claims.claimed)
        assert b"film.mp4" not in claims.claimed
        (inbox / "film.mp4.part").rename(inbox / "film.mp4")
        await claims.until(lambda: b"film.mp4" in claims.claimed)
    assert claims.claimed[b"film.mp4"].sha256 == hashlib.sha256(b"x").hexdigest()


async def test_a_growing_file_is_announced_and_gone_when_it_leaves(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    # 10 s pass in 0.5 s.
    async with start(clock=FastClock(20)) as intake:
        with open(inbox / "long.mp3", "wb", buffering=0) as file:
            file.write(b"begin")
            await claims.until(lambda: b"long.mp3" in claims.growing)
            assert claims.growing[b"long.mp3"].stat.size_bytes == 5
            file.write(b"more")
            await claims.until(lambda: claims.growing[b"long.mp3"].stat.size_bytes == 9)
            assert claims.announcements == [b"long.mp3"] * 2
            (inbox / "long.mp3").unlink()
            await claims.until(lambda: claims.left == [b"long.mp3"])
        assert intake.state.pending == 0
    assert not claims.claimed


async def test_a_file_announced_before_a_restart_that_left_since_is_gone(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    (inbox / "stays.mp3").write_bytes(b"stays")
    stat = StatKey.of(os.stat(inbox / "stays.mp3"))
    for name in (b"stays.mp3", b"left.mp3"):
        claims.growing[name] = FileRef(os.fsencode(inbox), name, stat)
    async with start():
        await claims.until(lambda: claims.left == [b"left.mp3"] and b"stays.mp3" in claims.claimed)


async def test_an_empty_file_is_refused_after_a_minute_and_taken_when_it_is_filled(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    # 60 s pass in 1 s.
    async with start(clock=FastClock(60)):
        (inbox / "empty.mp3").touch()
        await claims.until(lambda: b"empty.mp3" in claims.refused)
        assert claims.refused[b"empty.mp3"].code == "media.empty"
        (inbox / "empty.mp3").write_bytes(b"now")
        await claims.until(lambda: b"empty.mp3" in claims.claimed)


async def test_the_run_ends_soon_when_cancelled_while_hashing(
    inbox: Path, claims: MemoryClaims, start: Start
) -> None:
    with open(inbox / "large.wav", "wb") as file:
        file.write(b"begin")
        file.truncate(20 * 1024**3)  # sparse; 14 s of hashing
    async with start(replace(OPTIONS, settle_s=0.3)) as intake:
        await eventually(lambda: intake._candidates.get(b"large.wav") is not None)
        await eventually(lambda: [one.phase for one in intake._candidates] == [Phase.READY])
        (inbox / "small.mp3").write_bytes(b"small")
        await claims.until(lambda: b"small.mp3" in claims.claimed)
        began_at = time.monotonic()
    assert time.monotonic() - began_at < 1.0
    assert b"large.wav" not in claims.claimed
    await eventually(lambda: not any(name.name == "inbox-test" for name in threading.enumerate()))
    assert os.fsencode(inbox / "large.wav") not in open_files()


def open_files() -> set[bytes]:
    files = set()
    for fd in os.listdir(b"/proc/self/fd"):
        with contextlib.suppress(OSError):
            files.add(os.readlink(b"/proc/self/fd/" + fd))
    return files


async def test_a_broken_store_ends_the_run(inbox: Path, claims: MemoryClaims) -> None:
    class Broken(MemoryClaims):
        async def claim(self, origin: object, found: object) -> None:
            raise OSError("disk I/O error")

    (inbox / "talk.mp3").write_bytes(b"talk")
    intake = InboxIntake(ORIGIN, os.fsencode(inbox), OPTIONS, Broken(), SystemClock())
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(10):
            await intake.run()
    assert caught.group_contains(OSError, match="disk I/O error")


@pytest.mark.parametrize("scenario", ["locked files", "a locked root"])
def test_a_folder_and_a_file_that_cannot_be_read(scenario: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.test_intake", str(tmp_path / "inbox"), scenario]
    if os.geteuid() == 0:
        # Root reads everything by two capabilities; without them it is a user like any other.
        if shutil.which("setpriv") is None:
            pytest.skip("root, and no setpriv to become less")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=50, check=False)
    assert done.returncode == 0


async def _with_a_locked_root(inbox: Path) -> None:
    """Take the permission to read an inbox away under a file that settles, and give it back."""
    ignore_sigio()
    inbox.mkdir()
    claims = MemoryClaims()
    intake = InboxIntake(ORIGIN, os.fsencode(inbox), replace(OPTIONS, settle_s=1.0), claims, SystemClock())
    task = asyncio.get_running_loop().create_task(intake.run())
    await eventually(lambda: intake.state.state == "watching")
    (inbox / "a.mp3").write_bytes(b"a")
    await eventually(lambda: intake.state.pending == 1)
    inbox.chmod(0)
    await eventually(lambda: intake.state.state == "lost")
    assert "permi" in intake.state.why.lower()
    assert not claims.refused
    assert not claims.left
    inbox.chmod(0o700)
    await claims.until(lambda: b"a.mp3" in claims.claimed)
    assert intake.state.state != "lost"
    task.cancel()
    await asyncio.wait({task})


async def _with_locked_files(inbox: Path) -> None:
    """Run an inbox over a file and a folder that are locked, then opened."""
    ignore_sigio()
    for name in ("open.mp3", "locked.mp3", "sub/inside.mp3"):
        path = inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (inbox / "locked.mp3").chmod(0)
    (inbox / "sub").chmod(0)
    claims = MemoryClaims()
    options = replace(OPTIONS, check_interval_s=0.5)
    intake = InboxIntake(ORIGIN, os.fsencode(inbox), options, claims, SystemClock())
    task = asyncio.get_running_loop().create_task(intake.run())
    await claims.until(lambda: b"open.mp3" in claims.claimed and b"locked.mp3" in claims.refused)
    assert claims.refused[b"locked.mp3"].code == "source.unreadable"
    assert intake.state.mode == "events"
    assert set(claims.claimed) == {b"open.mp3"}
    watchers = {thread.native_id for thread in threading.enumerate() if thread.name == "watch"}
    await eventually(lambda: time.time() > (inbox / "open.mp3").stat().st_ctime + 2.5)
    (inbox / "locked.mp3").chmod(0o600)
    (inbox / "sub").chmod(0o700)
    await claims.until(lambda: {b"locked.mp3", b"sub/inside.mp3"} <= set(claims.claimed))
    # No event told of what lies in the folder: the watcher was blind there and is made anew.
    await eventually(
        lambda: any(one.name == "watch" and one.native_id not in watchers for one in threading.enumerate())
    )
    task.cancel()
    await asyncio.wait({task})


if __name__ == "__main__":
    play = {"locked files": _with_locked_files, "a locked root": _with_a_locked_root}[sys.argv[2]]
    asyncio.run(play(Path(sys.argv[1])))
