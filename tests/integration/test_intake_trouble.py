"""An inbox whose disk fails, whose share is missing, whose house cannot write, and whose jobs wait for it."""
# ruff: noqa: S607 (mount and umount lie where the system has them)

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.fakes import FastClock, MemoryClaims, eventually
from tnfd.clock import SystemClock
from tnfd.errors import Fault, StoreBusy
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.lease import ignore_sigio
from tnfd.intake.mounts import read_mount
from tnfd.intake.options import IntakeOptions
from tnfd.intake.probe import Probe
from tnfd.intake.roots import Roots
from tnfd.model import FileRef, JobSettings, StatKey
from tnfd.ports.claims import Found, Origin
from tnfd.ports.clock import Clock
from tnfd.root import Root
from tnfd.threads import FileThread

ORIGIN = Origin("inbox:test", "test", JobSettings(engines=()))
OPTIONS = IntakeOptions(settle_s=0.3)


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
def share(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be mounted on an inbox by ``bind``."""
    folder = tmp_path / "share"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "x", folder], check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def bind(share: Path, point: Path) -> None:
    subprocess.run(["mount", "--bind", share, point], check=True)


def make_read_only(point: Path) -> None:
    subprocess.run(["mount", "-o", "remount,bind,ro", str(point)], check=True)


def unbind(point: Path) -> None:
    subprocess.run(["umount", "-l", point], check=True)


class Running:
    """An inbox at work."""

    def __init__(
        self,
        inbox: Path,
        claims: MemoryClaims,
        *,
        clock: Clock | None = None,
        options: IntakeOptions = OPTIONS,
        roots: Roots | None = None,
    ) -> None:
        self.intake = InboxIntake(ORIGIN, os.fsencode(inbox), options, claims, clock or SystemClock(), roots)

    async def __aenter__(self) -> InboxIntake:
        ready = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self.intake.run(ready))
        async with asyncio.timeout(10):
            await ready.wait()
        return self.intake

    async def __aexit__(self, *_exc: object) -> None:
        crash = self._task.exception() if self._task.done() else None
        self._task.cancel()
        await asyncio.wait({self._task})
        assert crash is None, crash


def settles(claims: MemoryClaims, inbox: Path, rel: bytes) -> None:
    """Let the house have a job that says that a file settles; it need not be there."""
    path = inbox / os.fsdecode(rel)
    was = StatKey.of(os.lstat(path if os.path.lexists(path) else inbox))
    claims.growing[rel] = FileRef(os.fsencode(inbox), rel, was)


# -- jobs that wait for intake's word ------------------------------------------------------------------------


@pytest.mark.parametrize("now", ["missing", "folder", "link", "left_out", "excluded", "hidden"])
async def test_a_job_that_asks_for_a_file_that_cannot_be_taken_hears_that_it_is_gone(
    now: str, inbox: Path
) -> None:
    claims = MemoryClaims()
    rel = {"left_out": b"sub/a.mp3", "hidden": b".a.mp3"}.get(now, b"a.mp3")
    options = replace(OPTIONS, exclude=("a.mp3",) if now == "excluded" else ())
    if now == "folder":
        (inbox / "a.mp3").mkdir()
    elif now == "link":
        (inbox / "a.mp3").symlink_to(inbox)
    elif now == "left_out":
        (inbox / "sub").mkdir()
        (inbox / "sub" / "a.mp3").write_bytes(b"a")
        (inbox / "sub" / ".tnfdignore").touch()
    async with Running(inbox, claims, options=options) as intake:
        settles(claims, inbox, rel)
        intake.hint(rel)
        await claims.until(lambda: claims.left == [rel])
    assert not claims.claimed


async def test_a_known_file_whose_job_settles_at_a_restart_is_claimed_and_not_gone(inbox: Path) -> None:
    claims = MemoryClaims()
    (inbox / "a.mp3").write_bytes(b"a")
    settles(claims, inbox, b"a.mp3")
    claims.entries[b"a.mp3"] = claims.growing[b"a.mp3"].stat
    async with Running(inbox, claims):
        await claims.until(lambda: b"a.mp3" in claims.claimed)
    assert not claims.left


# -- a share that is missing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["", "sub"], ids=["the whole inbox", "a folder below it"])
@pytest.mark.parametrize("asked", [False, True], ids=["announced", "asked for"])
async def test_a_file_on_a_share_that_is_missing_at_the_start_is_not_gone_and_taken_when_it_is_back(
    point: str, asked: bool, inbox: Path, share: Path
) -> None:
    claims = MemoryClaims()
    mounted = inbox / point
    mounted.mkdir(exist_ok=True)
    rel = os.fsencode(os.path.join(point, "a.mp3"))
    (share / "a.mp3").write_bytes(b"a")
    bind(share, mounted)
    ref = FileRef(os.fsencode(inbox), rel, StatKey.of(os.stat(mounted / "a.mp3")))
    unbind(mounted)
    if not asked:
        claims.growing[rel] = ref
    (mounted / "a.mp3.status.json").touch()  # as the keeper of status files does
    # What is missing is looked for every 30 s; here that is every second.
    async with Running(inbox, claims, clock=FastClock(30)) as intake:
        if asked:
            claims.growing[rel] = ref
            intake.hint(rel)
        await eventually(
            lambda: (one := intake._candidates.get(rel)) is not None and one.looked_at > 0 and one.due < 1e300
        )
        assert not claims.left
        bind(share, mounted)
        try:
            await claims.until(lambda: rel in claims.claimed)
        finally:
            unbind(mounted)
    assert not claims.left


async def test_a_file_deleted_from_a_mounted_folder_is_gone(inbox: Path, share: Path) -> None:
    claims = MemoryClaims()
    (inbox / "sub").mkdir()
    bind(share, inbox / "sub")
    try:
        (share / "a.mp3").write_bytes(b"a")
        settles(claims, inbox, b"sub/a.mp3")
        (share / "a.mp3").unlink()
        async with Running(inbox, claims):
            await claims.until(lambda: claims.left == [b"sub/a.mp3"])
    finally:
        unbind(inbox / "sub")


async def test_a_read_only_inbox_is_watched_by_events_that_were_not_probed(inbox: Path, share: Path) -> None:
    claims = MemoryClaims()
    bind(share, inbox)
    try:
        make_read_only(inbox)
        async with Running(inbox, claims) as intake:
            assert intake.state.mode == "events"
            assert "not probed: it is read-only" in intake.state.why
            (share / "a.mp3").write_bytes(b"a")
            await claims.until(lambda: b"a.mp3" in claims.claimed)
    finally:
        unbind(inbox)


async def test_the_probe_tells_whether_events_come_and_leaves_nothing(inbox: Path) -> None:
    clock = FastClock(100)
    thread = FileThread("probe", clock)
    (inbox / ".tnfd-probe").touch()  # of a process that was killed
    with Root(os.fsencode(inbox)) as root:
        assert await Probe(root, thread, clock).ask() is None
        probe = Probe(root, thread, clock)
        probe.heard()
        assert await probe.ask() == "probed"
    assert not os.listdir(inbox)
    await thread.close()


async def test_an_inbox_inside_another_by_a_bind_mount_has_its_files_for_itself(inbox: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting is not permitted")
    inner, point = inbox / "inner", inbox.parent / "point"
    inner.mkdir()
    point.mkdir()
    try:
        bind(inner, point)
    except subprocess.CalledProcessError:
        pytest.skip("mounting is not permitted")
    try:
        roots = Roots([os.fsencode(inbox), os.fsencode(point)])
        outside, inside = MemoryClaims(), MemoryClaims()
        async with Running(inbox, outside, roots=roots), Running(point, inside, roots=roots):
            (inner / "a.mp3").write_bytes(b"a")
            await inside.until(lambda: b"a.mp3" in inside.claimed)
            (inbox / "b.mp3").write_bytes(b"b")
            await outside.until(lambda: b"b.mp3" in outside.claimed)
        assert set(outside.claimed) == {b"b.mp3"}
        assert set(inside.claimed) == {b"a.mp3"}
    finally:
        unbind(point)


# -- a disk that fails ---------------------------------------------------------------------------------------


async def test_a_disk_that_fails_delays_a_file_shows_it_and_is_logged_once(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = MemoryClaims()
    tries: list[float] = []
    broken = True
    readv = os.readv

    def failing(fd: int, buffers: Sequence[bytearray]) -> int:
        if broken:  # cannot be made to happen without a device of one's own
            tries.append(time.monotonic())
            raise OSError(errno.EIO, "Input/output error")
        return readv(fd, buffers)

    monkeypatch.setattr("tnfd.intake.identify.os.readv", failing)
    with capture_logs() as logs:
        async with Running(inbox, claims, clock=FastClock(50)):  # 5, 10, 20, 40 s are 1.5 s
            (inbox / "a.mp3").write_bytes(b"a")
            await claims.until(lambda: b"a.mp3" in claims.growing)
            await eventually(lambda: len(tries) == 5)
            assert not claims.refused
            broken = False
            await claims.until(lambda: b"a.mp3" in claims.claimed)
    assert not claims.refused
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits[3] > 4 * waits[0]
    assert [one["code"] for one in logs if one["event"] == "file.failing"] == ["source.io"]


# -- a house that cannot write -------------------------------------------------------------------------------


class Unwilling(MemoryClaims):
    """Refuses the first calls."""

    def __init__(self, trouble: Callable[[], Exception], times: int) -> None:
        super().__init__()
        self._trouble = trouble
        self._left = times

    def _refuse(self) -> None:
        if self._left > 0:
            self._left -= 1
            raise self._trouble()

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        self._refuse()
        return await super().known(root, after, limit)

    async def claim(self, origin: Origin, found: Sequence[Found]) -> None:
        self._refuse()
        await super().claim(origin, found)

    async def gone(self, origin: Origin, rels: Sequence[bytes]) -> None:
        self._refuse()
        await super().gone(origin, rels)


@pytest.mark.parametrize(
    "trouble", [lambda: Fault("output.disk_full", "state folder"), lambda: StoreBusy("held")]
)
async def test_a_full_disk_or_a_busy_database_delays_and_loses_nothing(
    trouble: Callable[[], Exception], inbox: Path
) -> None:
    claims = Unwilling(trouble, 1)
    with capture_logs() as logs:
        async with Running(inbox, claims, clock=FastClock(20)) as intake:
            await eventually(lambda: any(one["event"] == "inbox.goes_on" for one in logs))
            claims._left = 3
            for n in range(5):
                (inbox / f"{n}.mp3").write_bytes(b"%d" % n)
            settles(claims, inbox, b"left.mp3")
            intake.hint(b"left.mp3")
            await claims.until(lambda: len(claims.claimed) == 5 and claims.left == [b"left.mp3"])
    assert len(claims.claims) == 5
    assert len([one for one in logs if one["event"] == "inbox.waiting"]) == 2  # at the start, and then once


async def test_a_house_that_has_another_trouble_ends_the_inbox(inbox: Path) -> None:
    claims = Unwilling(lambda: Fault("internal.bug"), 1)
    intake = InboxIntake(ORIGIN, os.fsencode(inbox), OPTIONS, claims, SystemClock())
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(10):
            await intake.run()
    assert raised.group_contains(Fault, match=r"internal\.bug")
