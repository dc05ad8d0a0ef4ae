"""The watcher on inotify: what it tells, and that it can be made to say that events were lost."""
# ruff: noqa: ASYNC230, ASYNC240 (a test's own small files block nobody)

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tnfd.intake.inotify import InotifyWatcher, is_available
from tnfd.intake.watch import Hint, WatcherDied

pytestmark = pytest.mark.skipif(not is_available(), reason="there is no inotify here")


class Heard:
    """Collects hints until some have come."""

    def __init__(self, watcher: InotifyWatcher) -> None:
        self._watcher = watcher
        self.hints: list[Hint] = []

    async def until(self, *wanted: Hint) -> None:
        async with asyncio.timeout(60):
            while not set(wanted) <= set(self.hints):
                self.hints += await self._watcher.hints()


async def test_it_tells_of_every_way_a_file_comes_and_goes(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    inbox = tmp_path / "in"
    (inbox / "deep").mkdir(parents=True)
    async with InotifyWatcher(os.fsencode(inbox)) as watcher:
        heard = Heard(watcher)
        with (inbox / "a.mp3").open("wb") as file:
            await heard.until(Hint(b"a.mp3", "added"))
            file.write(b"x" * 100_000)
        await heard.until(Hint(b"a.mp3", "modified"))
        (inbox / "a.mp3").rename(inbox / "deep" / "b.mp3")
        await heard.until(Hint(b"a.mp3", "deleted"), Hint(b"deep/b.mp3", "added", moved=True))
        (tmp_path / "outside").rename(inbox / "c.mp3")
        await heard.until(Hint(b"c.mp3", "added", moved=True))
        os.link(inbox / "c.mp3", inbox / "d.mp3")
        await heard.until(Hint(b"d.mp3", "added"))
        (inbox / "d.mp3").unlink()
        await heard.until(Hint(b"d.mp3", "deleted"))
        with open(os.fsencode(inbox) + b"/caf\xe9\n.mp3", "wb"):
            pass
        await heard.until(Hint(b"caf\xe9\n.mp3", "modified"))


async def test_a_folder_that_comes_is_watched_before_it_is_told_of(tmp_path: Path) -> None:
    async with InotifyWatcher(os.fsencode(tmp_path)) as watcher:
        heard = Heard(watcher)
        (tmp_path / "d" / "e").mkdir(parents=True)
        await heard.until(Hint(b"d", "folder"))
        (tmp_path / "d" / "e" / "a.mp3").touch()
        await heard.until(Hint(b"d/e/a.mp3", "modified"))


async def test_a_folder_that_was_renamed_reports_under_its_new_name(tmp_path: Path) -> None:
    (tmp_path / "old" / "deep").mkdir(parents=True)
    async with InotifyWatcher(os.fsencode(tmp_path)) as watcher:
        heard = Heard(watcher)
        (tmp_path / "old").rename(tmp_path / "new")
        await heard.until(Hint(b"old", "deleted"), Hint(b"new", "folder"))
        (tmp_path / "new" / "deep" / "a.mp3").touch()
        await heard.until(Hint(b"new/deep/a.mp3", "modified"))
        assert not [hint for hint in heard.hints if hint.rel.startswith(b"old/")]


async def test_links_and_folders_left_out_are_not_followed(tmp_path: Path) -> None:
    inbox, other = tmp_path / "in", tmp_path / "other"
    for folder in (inbox / ".hidden", other / "deep"):
        folder.mkdir(parents=True)
    (inbox / "link").symlink_to(other)
    async with InotifyWatcher(os.fsencode(inbox), skip=lambda rel: rel.startswith(b".")) as watcher:
        heard = Heard(watcher)
        (other / "deep" / "a.mp3").touch()
        (other / "b.mp3").touch()
        (inbox / ".hidden" / "c.mp3").touch()
        (inbox / "later").symlink_to(other)
        (inbox / "last.mp3").touch()
        await heard.until(Hint(b"last.mp3", "modified"))
    assert {hint.rel for hint in heard.hints} == {b"later", b"last.mp3"}


async def test_lost_events_are_told_and_new_folders_are_watched_all_the_same(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 50_000:
        pytest.skip("the queue of this machine takes too long to fill")
    gate = threading.Event()  # holds the watcher's thread, which asks about each folder
    async with InotifyWatcher(os.fsencode(tmp_path), skip=lambda _rel: not gate.wait(60)) as watcher:
        heard = Heard(watcher)
        (tmp_path / "first").mkdir()
        for n in range(most):  # each is created, closed and deleted
            path = tmp_path / f"{n}.mp3"
            path.touch()
            path.unlink()
        (tmp_path / "d").mkdir()
        gate.set()
        await heard.until(Hint(b"", "overflow"))
        (tmp_path / "d" / "a.mp3").touch()
        await heard.until(Hint(b"d/a.mp3", "modified"))


@pytest.mark.parametrize("way", ["removed", "renamed"])
async def test_a_root_that_leaves_is_told(way: str, tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    async with InotifyWatcher(os.fsencode(inbox)) as watcher:
        heard = Heard(watcher)
        if way == "removed":
            inbox.rmdir()
        else:
            inbox.rename(tmp_path / "other")
        await heard.until(Hint(b"", "deleted"))


async def test_over_nothing_it_dies(tmp_path: Path) -> None:
    with pytest.raises(WatcherDied, match="No such file"):
        async with InotifyWatcher(os.fsencode(tmp_path / "missing")):
            raise AssertionError("it started")


async def test_abandoned_it_dies_with_the_reason(tmp_path: Path) -> None:
    async with asyncio.timeout(10), InotifyWatcher(os.fsencode(tmp_path)) as watcher:
        watcher.abandon("blind")
        with pytest.raises(WatcherDied, match="blind"):
            await watcher.hints()


async def test_its_thread_ends_with_it(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with InotifyWatcher(os.fsencode(tmp_path)):
        (thread,) = set(threading.enumerate()) - before
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
