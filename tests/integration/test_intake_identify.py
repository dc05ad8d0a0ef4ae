from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tnfd.clock import SystemClock
from tnfd.errors import Fault, SourceChanged, SourceVanished
from tnfd.intake.identify import SLICE_BYTES, identify
from tnfd.model import StatKey
from tnfd.root import Root
from tnfd.threads import FileThread


@pytest.fixture
async def thread() -> AsyncIterator[FileThread]:
    thread = FileThread("t", SystemClock())
    yield thread
    await thread.close()


def make(tmp_path: Path, content: bytes) -> tuple[Root, StatKey, Path]:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    return Root(os.fsencode(tmp_path)), StatKey.of(path.stat()), path


@pytest.mark.parametrize("size_bytes", [0, 1, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 2 * SLICE_BYTES])
async def test_the_hash_is_that_of_the_whole_file(
    size_bytes: int, tmp_path: Path, thread: FileThread
) -> None:
    content = (b"0123456789abcde" * (size_bytes // 15 + 1))[:size_bytes]
    root, stat, _ = make(tmp_path, content)
    with root:
        digest = await identify(thread, root, b"a.mp3", stat)
        assert (digest.stat, digest.sha256) == (stat, hashlib.sha256(content).hexdigest())


async def test_a_file_that_is_not_the_settled_one_is_not_hashed(tmp_path: Path, thread: FileThread) -> None:
    root, stat, path = make(tmp_path, b"first")
    with root:
        path.write_bytes(b"longer")
        with pytest.raises(SourceChanged):
            await identify(thread, root, b"a.mp3", stat)
        path.unlink()
        with pytest.raises(SourceVanished):
            await identify(thread, root, b"a.mp3", stat)
        os.mkfifo(path)
        with pytest.raises(Fault, match=r"source\.not_regular"):
            await identify(thread, root, b"a.mp3", stat)


@pytest.mark.parametrize("how", ["append", "replace", "chmod"])
async def test_a_file_that_changes_between_two_slices_has_no_hash(
    how: str, tmp_path: Path, thread: FileThread
) -> None:
    root, stat, path = make(tmp_path, b"x" * (2 * SLICE_BYTES))
    entered, go_on = threading.Event(), threading.Event()

    def change() -> None:
        if how == "append":
            with open(path, "ab") as file:
                file.write(b"y")
        elif how == "replace":
            (tmp_path / "b.mp3").write_bytes(b"y")
            (tmp_path / "b.mp3").rename(path)
        else:
            path.chmod(0o600)

    def hold() -> None:
        entered.set()
        go_on.wait(10)

    with root:
        async with asyncio.timeout(20):
            # Calls of the thread run in order: the change comes after the first slice, before the second.
            holding = asyncio.get_running_loop().create_task(thread.run(hold))
            await asyncio.to_thread(entered.wait)
            hashing = asyncio.get_running_loop().create_task(identify(thread, root, b"a.mp3", stat))
            await asyncio.sleep(0)  # its first slice is queued
            changing = asyncio.get_running_loop().create_task(thread.run(change))
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.wait({holding, changing, hashing})
        assert isinstance(hashing.exception(), SourceChanged)
        assert "while it was hashed" in str(hashing.exception())


async def test_cancelling_lets_go_of_the_file(tmp_path: Path, thread: FileThread) -> None:
    root, stat, path = make(tmp_path, b"")
    with root:
        os.truncate(path, 8 * 1024**3)
        stat = StatKey.of(path.stat())
        hashing = asyncio.get_running_loop().create_task(identify(thread, root, b"a.mp3", stat))
        await asyncio.sleep(0)
        await thread.run(int)
        hashing.cancel()
        await asyncio.wait({hashing})
        await thread.run(int)
        links = open_files()
        assert str(path) not in links


def open_files() -> set[str]:
    links = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed them
            links.add(os.readlink(f"/proc/self/fd/{fd}"))
    return links
