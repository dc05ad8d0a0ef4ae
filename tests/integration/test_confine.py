"""The walls round decoders, tried from inside: on a process of its own, and by a child that does its work."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.integration import media_files as make
from tnfd import confine
from tnfd.clock import SystemClock
from tnfd.doctor.finding import Mark
from tnfd.doctor.media import check_media, finding_of
from tnfd.media import ChildMedia
from tnfd.ports.media import Decoded, PrepareRequest
from tnfd.rules.cuts import Limits

needs_seccomp = pytest.mark.skipif(
    confine._machine() is None or not sys.platform.startswith("linux"),
    reason="no seccomp filter for this machine",
)
needs_landlock = pytest.mark.skipif(not confine.offers_landlock(), reason="this kernel has no Landlock")


def inside(body: str, *arguments: str) -> list[str]:
    """Run ``body`` in a process of its own; return the lines that it printed."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body), *arguments], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__, "../../..").resolve())},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


ATTEMPTS = """
    import errno, os, signal, socket, subprocess, sys, threading
    from tnfd import confine
    assert confine.shut_off(forks=False) is None
    def refused(attempt):
        try:
            attempt()
        except OSError as error:
            return error.errno in (errno.EPERM, errno.EACCES)
        return False
    parent = os.getppid()
    attempts = {
        "inet": lambda: socket.socket(socket.AF_INET),
        "inet6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "fork": os.fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "program": lambda: subprocess.run(["/bin/true"]),
        "kill": lambda: os.kill(parent, 0),
        "pidfd": lambda: os.pidfd_open(parent),
        "symlink": lambda: os.symlink("/etc/passwd", sys.argv[1]),
        "link": lambda: os.link(__file__ if "__file__" in globals() else sys.executable, sys.argv[1]),
        "fifo": lambda: os.mkfifo(sys.argv[1]),
    }
    for name, attempt in attempts.items():
        print(name, refused(attempt))
    thread = threading.Thread(target=lambda: print("thread", True))
    thread.start(); thread.join()
    os.kill(os.getpid(), 0)
    print("self", True)
"""


@needs_seccomp
def test_a_process_that_was_shut_off_can_neither_talk_nor_start_nor_kill(tmp_path: Path) -> None:
    said = dict(line.split() for line in inside(ATTEMPTS, str(tmp_path / "made")))
    assert said == dict.fromkeys(said, "True")
    assert len(said) == 13
    assert list(tmp_path.iterdir()) == []


@needs_landlock
def test_a_process_that_is_kept_to_its_files_reads_and_writes_no_other(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given")
    (tmp_path / "other").write_text("other")
    (tmp_path / "scratch").mkdir()
    said = inside(
        """
        import os, sys
        from tnfd import confine
        base = sys.argv[1]
        given = os.open(base + "/given", os.O_RDONLY)
        scratch = os.open(base + "/scratch", os.O_RDONLY)
        assert confine.keep_to([given], [scratch]) is None
        print(open(f"/dev/fd/{given}").read())
        with open(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=scratch), "w") as new:
            new.write("made")
        os.rename("new", "named", src_dir_fd=scratch, dst_dir_fd=scratch)
        for attempt in (
            lambda: open(base + "/other"), lambda: open("/etc/passwd"), lambda: os.listdir(base),
            lambda: open(base + "/given", "w"), lambda: open(base + "/made", "w"),
            lambda: os.unlink(base + "/other"), lambda: os.rename(base + "/other", base + "/scratch/other"),
        ):
            try:
                attempt()
            except OSError:
                print("refused")
        """,
        str(tmp_path),
    )
    assert said == ["given", *["refused"] * 7]
    assert (tmp_path / "scratch/named").read_text() == "made"


async def prepare(media: ChildMedia, path: Path, scratch: Path) -> list[object]:
    fd = os.open(path, os.O_RDONLY)
    try:
        async with media.prepare(fd, PrepareRequest(scratch, "opus", 10**9, Limits(48 * 3600.0))) as events:
            return [event async for event in events]
    finally:
        os.close(fd)


@needs_seccomp
async def test_a_child_that_decodes_is_behind_the_walls(tmp_path: Path) -> None:
    """Looked at from outside, while it works: the kernel says that filters are in force."""
    (tmp_path / "scratch").mkdir()
    long = make.long_silence(tmp_path / "long.wav", 10.0)
    fd = os.open(long, os.O_RDONLY)
    request = PrepareRequest(tmp_path / "scratch", "pcm", 10**9, Limits(48 * 3600.0))
    async with ChildMedia(clock=SystemClock(), processes=1) as media, media.prepare(fd, request) as events:
        await anext(aiter(events))
        nursery = media.nursery_pid
        assert nursery is not None
        (child,) = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
        for pid, filters in ((nursery, 1), (int(child), 2)):
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            )
            assert status["Seccomp"].strip() == "2"
            assert int(status["Seccomp_filters"]) == filters
            assert status["NoNewPrivs"].strip() == "1"
    os.close(fd)


WITHOUT = """
    import ctypes, errno, os, struct, sys
    from tnfd import confine
    # A kernel without either: both calls answer that they do not exist. Then go on as the program asked for.
    architecture, column = confine._machine()
    gone = [confine._op(0x20, 0)]
    for number in (confine._SECCOMP[column], confine._CREATE_RULESET):
        gone += [confine._op(0x15, number, 0, 1), confine._op(0x06, 0x00050000 | errno.ENOSYS)]
    confine._install(b"".join([*gone, confine._op(0x06, 0x7FFF0000)]), column)
    if sys.argv[1] == "missing":
        print("\\n".join(confine.missing()))
        raise SystemExit
    import asyncio
    from pathlib import Path
    from structlog.testing import capture_logs
    from tests.integration.test_confine import prepare
    from tnfd.clock import SystemClock
    from tnfd.media import ChildMedia
    async def main():
        base = Path(sys.argv[1])
        async with ChildMedia(clock=SystemClock()) as media:
            for n in range(2):
                (base / f"scratch{n}").mkdir()
                print(type((await prepare(media, base / "a.wav", base / f"scratch{n}"))[-1]).__name__)
                await media._keeper.stop()
    with capture_logs() as logs:
        asyncio.run(main())
    for log in logs:
        print(log["event"], log["missing"])
"""


@needs_seccomp
def test_without_walls_decoding_works_and_the_log_says_so_once(tmp_path: Path) -> None:
    make.wav(tmp_path / "a.wav", 0.5)
    said = inside(WITHOUT, str(tmp_path))
    assert said == ["Decoded", "Decoded", "media.unconfined seccomp, Landlock"]


@needs_seccomp
def test_without_walls_each_says_why(tmp_path: Path) -> None:
    seccomp, landlock = inside(WITHOUT, "missing")
    assert seccomp == "the kernel takes no seccomp filter: Function not implemented"
    assert landlock == "the kernel offers no Landlock: Function not implemented"


def test_doctor_tells_of_walls() -> None:
    found = check_media()
    assert found.mark is (Mark.OK if confine.offers_landlock() and confine._machine() else Mark.WARN)
    lacking = finding_of(["the kernel offers no Landlock: Function not implemented"])
    assert lacking.mark is Mark.WARN
    assert lacking.why
    assert lacking.mend


async def test_with_walls_nothing_is_said(tmp_path: Path) -> None:
    make.wav(tmp_path / "a.wav", 0.5)
    (tmp_path / "scratch").mkdir()
    with capture_logs() as logs:
        async with asyncio.timeout(60), ChildMedia(clock=SystemClock()) as media:
            events = await prepare(media, tmp_path / "a.wav", tmp_path / "scratch")
    assert isinstance(events[-1], Decoded)
    walled = confine.offers_landlock() and confine._machine()
    assert [log["event"] for log in logs] == ([] if walled else ["media.unconfined"])


@needs_seccomp
@pytest.mark.parametrize("architecture", sorted(confine._ARCHITECTURES))
def test_filters_are_whole_for_every_architecture(architecture: str) -> None:
    """Each jump lands inside, and each way ends with a verdict."""
    column = 0 if architecture == "x86_64" else 1
    for forks in (True, False):
        program = confine._program(confine._ARCHITECTURES[architecture], column, forks=forks)
        steps = [program[at : at + 8] for at in range(0, len(program), 8)]
        assert len(steps) < 4096  # BPF_MAXINSNS
        for at, step in enumerate(steps):
            if step[0] & 0x07 == 0x05:
                assert at + 1 + max(step[2], step[3]) < len(steps)
        assert int.from_bytes(steps[-1][:2], "little") == 0x06
