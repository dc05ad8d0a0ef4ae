"""What needs a machine of its own: unmounting an inbox, and the limits of inotify.

Each scenario runs in a child process in namespaces of its own (unshare), so that nothing reaches the machine.
"""

# ruff: noqa: S607, ASYNC221, ASYNC240 (a child process of its own, that has nothing else to do)

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import MemoryClaims, eventually
from tnfd.clock import SystemClock
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.lease import ignore_sigio
from tnfd.intake.options import IntakeOptions
from tnfd.intake.watch import Watcher, WatcherDied
from tnfd.model import FileRef, JobSettings, StatKey
from tnfd.ports.claims import Origin

ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def run_apart(scenario: str, folder: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    command = [*UNSHARE, sys.executable, "-m", "tests.integration.test_intake_mounts", scenario, str(folder)]
    done = subprocess.run(command, cwd=ROOT, timeout=50, check=False)
    if done.returncode == 77:
        pytest.skip("the namespace does not allow it")
    assert done.returncode == 0


def test_an_unmounted_inbox_is_lost_and_nothing_below_it_is_gone(tmp_path: Path) -> None:
    run_apart("unmounted", tmp_path)


def test_at_the_limit_of_watches_the_inbox_is_scanned_and_says_why(tmp_path: Path) -> None:
    run_apart("watches", tmp_path)


def test_without_an_inotify_instance_the_inbox_is_scanned_and_says_why(tmp_path: Path) -> None:
    run_apart("instances", tmp_path)


async def test_a_watcher_over_nothing_dies(tmp_path: Path) -> None:
    with pytest.raises(WatcherDied):
        async with Watcher(os.fsencode(tmp_path / "missing")):
            raise AssertionError("it started")


async def test_an_abandoned_watcher_dies_with_the_reason(tmp_path: Path) -> None:
    async with asyncio.timeout(10), Watcher(os.fsencode(tmp_path)) as watcher:
        watcher.abandon("blind")
        with pytest.raises(WatcherDied, match="blind"):
            await watcher.hints()


def mount(inbox: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(inbox)], check=False).returncode:
        sys.exit(77)


async def unmounted(inbox: Path) -> None:
    """Unmount under an inbox that has an announced file, write below the mount point, mount again."""
    mount(inbox)
    (inbox / "growing.mp3").write_bytes(b"growing")
    claims = MemoryClaims()
    stat = StatKey.of(os.stat(inbox / "growing.mp3"))
    claims.growing[b"growing.mp3"] = FileRef(os.fsencode(inbox), b"growing.mp3", stat)
    intake = InboxIntake(ORIGIN, os.fsencode(inbox), IntakeOptions(settle_s=8.0), claims, SystemClock())
    task = asyncio.get_running_loop().create_task(intake.run())
    await eventually(lambda: intake.state.state == "watching" and intake.state.pending == 1)
    subprocess.run(["umount", "-l", str(inbox)], check=True)
    await eventually(lambda: intake.state.why == f"{inbox} is not mounted")
    assert intake.state.state == "lost"
    (inbox / "below.mp3").write_bytes(b"written to the wrong disk")
    assert intake.state.pending == 1
    assert claims.left == []
    mount(inbox)
    (inbox / "new.mp3").write_bytes(b"new")
    # It is back, with other content: only now is the file gone.
    await claims.until(lambda: claims.left == [b"growing.mp3"])
    await eventually(lambda: intake.state.state == "watching")
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})


async def limited(inbox: Path, knob: str, value: str, why: str) -> None:
    """Watch a folder with more below it than the namespace's own limit allows."""
    try:
        Path(f"/proc/sys/user/{knob}").write_text(value)
    except OSError:
        sys.exit(77)
    for n in range(50):
        (inbox / f"d{n}").mkdir()
    claims = MemoryClaims()
    intake = InboxIntake(ORIGIN, os.fsencode(inbox), IntakeOptions(settle_s=0.3, scan_interval_s=0.3), claims,
                         SystemClock())  # fmt: skip
    task = asyncio.get_running_loop().create_task(intake.run())
    await eventually(lambda: intake.state.mode == "scan" and why in intake.state.why)
    (inbox / "d49" / "talk.mp3").write_bytes(b"talk")
    await claims.until(lambda: b"d49/talk.mp3" in claims.claimed)
    task.cancel()
    await asyncio.wait({task})


ORIGIN = Origin("inbox:test", "test", JobSettings(engines=()))


def main(scenario: str, folder: Path) -> None:
    ignore_sigio()
    inbox = folder / "inbox"
    inbox.mkdir()
    if scenario == "unmounted":
        asyncio.run(unmounted(inbox))
    elif scenario == "watches":
        asyncio.run(limited(inbox, "max_inotify_watches", "20", "max_user_watches"))
    else:
        asyncio.run(limited(inbox, "max_inotify_instances", "0", "max_user_instances"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
