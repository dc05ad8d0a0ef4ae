"""Disks that are full, read-only, failing or gone: jobs wait or fail with a code, nothing is half-written,
and once the disk is well the daemon goes on, without a restart where that can be.

Small file systems in memory stand for the disks; where none can be mounted the tests are skipped.
"""
# ruff: noqa: S607, ASYNC221 (mount and umount lie where the system has them)

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, Site
from tnfd.testing.api_server import ApiServer

Mount = Callable[[Path, str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a file system in memory with these options; all are unmounted at the end."""
    mounted: list[Path] = []

    def do(folder: Path, options: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "x", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            pytest.skip("mounting is not permitted")
        mounted.append(folder)
        return folder

    yield do
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=False)


def fill(folder: Path) -> Path:
    """Take all that is free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def half_written(site: Site, folder: Path) -> list[str]:
    """Outputs that are not whole."""
    texts = [path for path in folder.rglob("*.txt") if not path.read_text().endswith("\n")]
    return [str(path) for path in texts] + site.litter()


async def well(site: Site, daemon: Daemon) -> None:
    healthy = (await site.tnfd("status", "--json")).json
    assert healthy["running"]
    assert healthy["healthy"], healthy


async def test_a_full_output_disk_makes_jobs_wait_and_they_go_on_when_there_is_room(
    site: Site, server: ApiServer, mount: Mount
) -> None:
    out = mount(site.base / "out", "size=256k")
    site.configure(inbox={"output_dir": str(out)})
    filler = fill(out)
    async with site.daemon() as daemon:
        talks = [site.drop(f"{number}.wav", seed=number) for number in range(3)]
        await daemon.event("job.waiting", 3, reason="disk")
        shown = (await site.tnfd("show", talks[0], "--json")).json
        assert shown["waiting"]["reason"] == "disk"
        assert shown["failures"] == 0
        await well(site, daemon)
        assert half_written(site, out) == []
        filler.unlink()
        assert (await site.tnfd("retry", *talks)).code == 0  # sooner than it would by itself
        await daemon.event("job.finished", 3, 90, state="done")
    assert len(list(out.glob("*.txt"))) == 3
    assert len(server.requests) == 3  # paid once, whatever the disk did
    assert half_written(site, out) == []


async def test_a_full_state_disk_makes_the_store_wait_and_nothing_is_paid_twice(
    site: Site, server: ApiServer, mount: Mount
) -> None:
    mount(site.state, "size=3m,mode=700")
    async with site.daemon() as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.final(site, first)
        filler = fill(site.state)
        talks = [site.drop(f"{number}.wav", seed=10 + number) for number in range(3)]
        await daemon.event("store.waiting", 1, 60)
        filler.unlink()
        await daemon.event("store.writes_again", 1, 60)
        await daemon.until(lambda: all(talk.with_suffix(".txt").exists() for talk in talks), "all done", 90)
        await daemon.final(site, *talks)
    with sqlite3.connect(site.state / "tnfd.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    assert len(server.requests) == 4


async def test_out_of_inodes_is_a_full_disk(site: Site, server: ApiServer, mount: Mount) -> None:
    """What a quota on files does, too."""
    out = mount(site.base / "out", "size=4m,nr_inodes=8")
    site.configure(inbox={"output_dir": str(out)})
    fillers = []
    for number in range(20):
        try:
            filler = out / f"filler-{number}"
            filler.touch()
            fillers.append(filler)
        except OSError:
            break
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("job.waiting", reason="disk")
        for filler in fillers:
            filler.unlink()
        await site.tnfd("retry", talk)
        await daemon.event("job.finished", state="done")
    assert len(server.requests) == 1


async def test_an_output_disk_that_turns_read_only_fails_with_a_code_and_is_tried_again(
    site: Site, server: ApiServer, mount: Mount
) -> None:
    out = mount(site.base / "out", "size=4m")
    site.configure(daemon={"max_attempts": 2}, inbox={"output_dir": str(out)})
    async with site.daemon() as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.event("job.finished", state="done")
        subprocess.run(["mount", "-o", "remount,ro", out], check=True)
        talk = site.drop("talk.wav", seed=2)
        failed = await daemon.event("job.failed")
        assert failed["code"] == "output.unwritable"
        await well(site, daemon)
        subprocess.run(["mount", "-o", "remount,rw", out], check=True)
        assert (await site.tnfd("retry", talk)).code == 0
        await daemon.event("job.finished", 2, state="done")
    assert (out / "first.txt").exists()
    assert (out / "talk.txt").exists()
    assert len(server.requests) == 2
    assert first.exists()


async def test_a_state_folder_on_a_read_only_disk_is_refused_with_a_sentence(
    site: Site, mount: Mount
) -> None:
    mount(site.state, "size=3m,mode=700")
    subprocess.run(["mount", "-o", "remount,ro", site.state], check=True)
    ran = await site.tnfd("run")
    assert ran.code in (1, 75, 78)
    assert "Traceback" not in ran.err
    assert str(site.state) in ran.err


async def test_a_state_folder_deleted_while_running_ends_the_daemon_and_a_restart_pays_nothing_again(
    site: Site, server: ApiServer
) -> None:
    async with site.daemon() as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.final(site, first)
        shutil.rmtree(site.state)
        second = site.drop("second.wav", seed=2)
        await daemon.until(
            lambda: not daemon.alive or second.with_suffix(".txt").exists(), "an end", 60, lives=False
        )
        if daemon.alive:
            await daemon.stop()
    async with site.daemon() as daemon:
        assert await daemon.final(site, first, second) == ["done", "done"]
        third = site.drop("third.wav", seed=3)
        assert await daemon.final(site, third) == ["done"]
    assert len(server.requests) <= 4
    assert first.with_suffix(".txt").exists()
    assert len(list(site.inbox.glob("*.txt"))) == 3


@pytest.mark.parametrize("kind", ["corrupt", "newer", "text"])
async def test_a_database_that_cannot_be_used_is_refused_and_left_alone(site: Site, kind: str) -> None:
    site.state.mkdir(mode=0o700)
    path = site.state / "tnfd.sqlite3"
    if kind == "newer":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 4000")
            database.execute("CREATE TABLE future (a)")
        database.close()
    elif kind == "corrupt":
        path.write_bytes(b"SQLite format 3\x00" + os.urandom(8192))
    else:
        path.write_text("my shopping list\n" * 400)
    before = path.read_bytes()
    for command in (("run",), ("status",), ("jobs",), ("batch", site.inbox)):
        site.drop(f"{command[0]}.wav")
        ran = await site.tnfd(*command)
        assert ran.code != 0
        assert "Traceback" not in ran.err, command
        assert "tnfd.sqlite3" in ran.err, (command, ran.err)
    assert path.read_bytes() == before
    doctor = await site.tnfd("doctor")
    assert "tnfd.sqlite3" in doctor.out + doctor.err
    assert "Traceback" not in doctor.err


async def test_a_page_that_rots_while_it_runs_ends_the_daemon_rather_than_go_on(
    site: Site, server: ApiServer
) -> None:
    async with site.daemon(sound=False) as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.final(site, first)
        assert await daemon.stop() == 0
    path = site.state / "tnfd.sqlite3"
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    ran = await site.tnfd("run")
    assert ran.code not in (0, 130)
    assert "Traceback" not in ran.err
    assert path.read_bytes() == bytes(data)
