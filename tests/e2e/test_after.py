"""What becomes of recordings once they are done: kept, moved or deleted, by the real process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Site, read_status, sha256
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Ok, Status

MOVE = {"after": "move"}
DELETE = {"after": "delete"}


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def status_at(path: Path) -> dict[str, Any]:
    status = read_status(path.with_name(path.name + ".status.json"))
    assert status is not None
    return status


async def jobs_of(site: Site) -> dict[str, dict[str, Any]]:
    """The newest job of each path."""
    jobs = (await site.tnfd("jobs", "--json")).json
    return {job["path"]: job for job in reversed(jobs)}


async def test_a_finished_recording_is_moved_with_what_lies_beside_it(site: Site, server: ApiServer) -> None:
    site.configure(inbox={**MOVE, "formats": ["txt", "json"]})
    async with site.daemon() as daemon:
        talk = site.drop("2026/talk.wav")
        talk.chmod(0o640)
        was, content = talk.stat(), sha256(talk)
        moved = await daemon.event("job.moved")
        shown = (await site.tnfd("show", site.inbox / "done/2026/talk.wav", "--json")).json
    done = site.inbox / "done/2026"
    assert moved["to"] == str(done / "talk.wav")
    assert tree(site.inbox) == [
        f"done/2026/{name}" for name in ("talk.json", "talk.txt", "talk.wav", "talk.wav.status.json")
    ]
    assert sha256(done / "talk.wav") == content
    now = (done / "talk.wav").stat()
    assert (now.st_mtime_ns, now.st_mode) == (was.st_mtime_ns, was.st_mode)
    status = status_at(done / "talk.wav")
    assert status["state"] == "done"
    assert {output["name"]: output["sha256"] for output in status["outputs"].values()} == {
        name: sha256(done / name) for name in ("talk.txt", "talk.json")
    }
    assert shown["path"] == str(talk)
    assert shown["moved_to"] == str(done / "talk.wav")
    assert [entry["event"] for entry in shown["history"]][-2:] == ["done", "moved"]
    assert not site.litter()


async def test_what_is_moved_is_never_scanned_whatever_is_configured_later(
    site: Site, server: ApiServer
) -> None:
    site.configure(inbox=MOVE)
    async with site.daemon() as daemon:
        site.drop("talk.wav", seed=1)
        await daemon.event("job.moved")
        site.drop("done/by-hand.wav", seed=5)  # what a person puts there is left alone as well
        site.drop("other.wav", seed=2)
        await daemon.event("job.moved", 2)
        await daemon.stop()
    site.configure()  # keep: "done" is now a folder as any other
    async with site.daemon() as daemon:
        by_hand = site.inbox / "done/by-hand.wav"
        assert await daemon.final(site, by_hand) == ["done"]
        assert len(await jobs_of(site)) == 3
    assert len(server.requests) == 3


async def test_names_that_are_taken_give_way_and_the_status_file_says_so(
    site: Site, server: ApiServer
) -> None:
    done = site.inbox / "done"
    done.mkdir()
    for name in ("talk.wav", "talk.txt", "talk (2).txt", "talk.wav.status.json"):
        (done / name).write_text("mine")
    site.configure(inbox=MOVE)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("job.moved")
        moved = done / "talk (2).wav"
        await daemon.until(lambda: status_at(moved)["outputs"]["txt"]["name"] == "talk (3).txt")
    assert status_at(moved)["outputs"]["txt"]["sha256"] == sha256(done / "talk (3).txt")
    assert {(done / name).read_text() for name in ("talk.wav", "talk.txt", "talk (2).txt")} == {"mine"}
    assert (await jobs_of(site))[str(talk)]["moved_to"] == str(moved)
    assert len(tree(site.inbox)) == 4 + 3


async def test_the_same_file_again_is_a_new_job_and_moved_again(site: Site, server: ApiServer) -> None:
    site.configure(inbox=MOVE)
    async with site.daemon() as daemon:
        site.drop("talk.wav", seed=1)
        await daemon.event("job.moved")
        site.drop("talk.wav", seed=1)
        await daemon.event("job.moved", 2)
        site.drop("talk.wav", seed=2)
        await daemon.event("job.moved", 3)
    assert len(server.requests) == 2
    done = [
        f"done/talk{count}.{ext}"
        for count in ("", " (2)", " (3)")
        for ext in ("txt", "wav", "wav.status.json")
    ]
    assert tree(site.inbox) == sorted(done)
    assert status_at(site.inbox / "done/talk (2).wav")["state"] == "duplicate"


async def test_what_failed_is_moved_elsewhere_and_can_be_retried_there(site: Site, server: ApiServer) -> None:
    site.configure(inbox={**MOVE, "failed_dir": "broken/./today"})
    server.script(*[Status(400, "invalid_request_error")] * 2)  # the second is of another encoding
    async with site.daemon() as daemon:
        talk = site.drop("deep/talk.wav")
        await daemon.event("job.moved")
        broken = site.inbox / "broken/today/deep/talk.wav"
        assert status_at(broken)["state"] == "failed"
        assert tree(site.inbox) == ["broken/today/deep/talk.wav", "broken/today/deep/talk.wav.status.json"]
        assert (await site.tnfd("retry", talk)).code == 0
        await daemon.event("job.moved", 2)
        done = site.inbox / "done/deep/talk.wav"
        assert status_at(done)["state"] == "done"
    assert tree(site.inbox) == [
        f"done/deep/{name}" for name in ("talk.txt", "talk.wav", "talk.wav.status.json")
    ]
    assert (await jobs_of(site))[str(talk)]["moved_to"] == str(done)


async def test_a_file_that_cannot_even_be_opened_as_media_is_moved(site: Site, server: ApiServer) -> None:
    site.configure(inbox=MOVE)
    async with site.daemon() as daemon:
        site.put(site.stage(b"this is no recording" * 100), "notes.mp3")
        await daemon.event("job.moved")
    assert tree(site.inbox) == ["failed/notes.mp3", "failed/notes.mp3.status.json"]


async def test_a_finished_recording_is_deleted_and_its_outputs_stay(site: Site, server: ApiServer) -> None:
    site.configure(inbox=DELETE)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=1)
        await daemon.event("job.deleted")
        assert tree(site.inbox) == ["talk.txt", "talk.wav.status.json"]
        site.drop("talk.wav", seed=1)  # the same recording again: a new job, a copy, and gone again
        await daemon.event("job.deleted", 2)
        await daemon.until(lambda: status_at(talk)["state"] == "duplicate")
    assert len(server.requests) == 1
    assert len((await site.tnfd("jobs", "--json")).json) == 2
    assert "talk.wav" not in tree(site.inbox)
    assert not site.litter()


async def test_what_failed_is_never_deleted(site: Site, server: ApiServer) -> None:
    site.configure(inbox=DELETE)
    server.always = Status(400, "invalid_request_error")
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["failed"]
        await daemon.event("job.kept")
    assert tree(site.inbox) == ["talk.wav", "talk.wav.status.json"]


@pytest.mark.parametrize("after", [MOVE, DELETE])
async def test_a_recording_without_speech_stays(site: Site, server: ApiServer, after: dict[str, str]) -> None:
    site.configure(inbox=after)
    server.always = Ok(text="")
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["done"]
        kept = await daemon.event("job.kept")
    assert kept["reason"] == "flagged no_speech"
    assert talk.exists()


async def test_a_copy_is_deleted_only_while_the_transcript_lies_somewhere(
    site: Site, server: ApiServer
) -> None:
    site.configure(inbox={**DELETE, "on_duplicate": "skip"})
    async with site.daemon() as daemon:
        site.drop("talk.wav", seed=1)
        await daemon.event("job.deleted")
        site.drop("copy.wav", seed=1)
        await daemon.event("job.deleted", 2)
        (site.inbox / "talk.txt").unlink()
        last = site.drop("last.wav", seed=1)
        await daemon.event("job.kept")
    assert last.exists()
    assert not (site.inbox / "copy.wav").exists()


async def test_outputs_in_a_tree_of_their_own_stay_there(site: Site, server: ApiServer) -> None:
    texts = site.base / "texts"
    site.configure(inbox={**MOVE, "output_dir": str(texts)})
    async with site.daemon() as daemon:
        site.drop("deep/talk.wav")
        await daemon.event("job.moved")
    assert tree(site.inbox) == ["done/deep/talk.wav"]
    assert tree(texts) == ["deep/talk.txt", "deep/talk.wav.status.json"]


async def test_what_cannot_be_moved_is_tried_again_and_stays_done(site: Site, server: ApiServer) -> None:
    site.configure(inbox=MOVE)
    (site.inbox / "done").symlink_to(site.base / "staging")  # nothing below an inbox is reached by a link
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        put_off = await daemon.event("after.put_off")
        assert site.state_of(talk) == "done"
        (site.inbox / "done").unlink()
        await daemon.event("job.moved")
    assert put_off["code"] == "output.unwritable"
    assert len(daemon.named("after.put_off")) == 1
    assert tree(site.inbox / "done") == ["talk.txt", "talk.wav", "talk.wav.status.json"]


async def test_a_finished_recording_can_be_done_again_where_it_lies_now(
    site: Site, server: ApiServer
) -> None:
    site.configure(inbox=MOVE)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("job.moved")
        redone = await site.tnfd("redo", talk)
        assert redone.code == 0, redone.err
        await daemon.event("job.finished", 2)
        await daemon.event("job.kept")
        done = site.inbox / "done/talk.wav"
        await daemon.until(lambda: status_at(done)["state"] == "done")
    assert len(server.requests) == 2
    assert tree(site.inbox) == ["done/talk.txt", "done/talk.wav", "done/talk.wav.status.json"]


# -- power cuts, and folders on another disk --------------------------------------------------------------

MOVED = ["done/deep/talk.json", "done/deep/talk.txt", "done/deep/talk.wav", "done/deep/talk.wav.status.json"]
DELETED = ["deep/talk.json", "deep/talk.txt", "deep/talk.wav.status.json"]
EACH = range(1, 5)  # the recording, two outputs, the status file
MOVING = [
    "after.planned", *(f"after.{step}:{n}" for step in ("renamed", "recorded") for n in EACH), "after.over"
]  # fmt: skip
DELETING = ["after.planned", "after.hidden", "after.recorded", "after.over"]
ACROSS = [
    "after.planned", "after.hidden",
    *(f"after.{step}:{n}" for step in ("copied", "named", "cleared") for n in (1, 2)),
]  # fmt: skip
MOUNT, UNMOUNT = ["mount", "-t", "tmpfs", "none"], ["umount", "--lazy"]
TOGETHER = 4  # scenarios side by side, so that the waiting of one is the work of another


def groups(points: list[str]) -> list[list[str]]:
    return [points[start : start + TOGETHER] for start in range(0, len(points), TOGETHER)]


@pytest.fixture
def disks() -> Iterator[Callable[[Path], None]]:
    """Mount a file system of its own somewhere."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        folder.mkdir()
        if subprocess.run([*MOUNT, folder], check=False).returncode:
            pytest.skip("may not mount")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run([*UNMOUNT, folder], check=True)


def owed(site: Site) -> int:
    ((errands,),) = site.rows("SELECT count(*) FROM errand")
    ((due,),) = site.rows("SELECT count(*) FROM job WHERE after_at IS NOT NULL")
    return int(errands + due)


async def killed(site: Site, point: str) -> None:
    async with site.daemon(env={"TNFD_TEST_KILL_AT": point}, ready=False, sound=False) as daemon:
        assert await daemon.ended() == -signal.SIGKILL, f"{point} was not reached\n{daemon.log()}"


async def scenario(
    base: Path, inbox: dict[str, str], point: str, expected: list[str], mount: Callable[[Path], None] | None
) -> None:
    async with ApiServer() as server:
        site = Site(base, server.url)
        site.configure(inbox={**inbox, "formats": ["txt", "json"]})
        if mount is not None:
            mount(site.inbox / "done")
        source = site.drop("deep/talk.wav")
        content, was = sha256(source), source.stat()
        await killed(site, point)
        async with site.daemon() as daemon:
            await daemon.until(lambda: not owed(site), "nothing is owed")
            (job,) = (await site.tnfd("jobs", "--json")).json
            await daemon.stop()
        assert len(server.requests) == 1, point
    assert tree(site.inbox) == expected, point
    assert not site.litter(), point
    assert job["state"] == "done"
    moved = site.inbox / "done/deep/talk.wav" if inbox == MOVE else None
    assert job["moved_to"] == (None if moved is None else str(moved))
    if moved is not None:
        now = moved.stat()
        assert (sha256(moved), now.st_mtime_ns, now.st_mode) == (content, was.st_mtime_ns, was.st_mode)
    for output in status_at(moved or source)["outputs"].values():
        assert sha256((moved or source).with_name(output["name"])) == output["sha256"]


async def together(
    base: Path,
    inbox: dict[str, str],
    points: list[str],
    expected: list[str],
    mount: Callable[[Path], None] | None = None,
) -> None:
    async with asyncio.TaskGroup() as group:
        for number, point in enumerate(points):
            os.mkdir(base / f"{number}")
            group.create_task(scenario(base / f"{number}", inbox, point, expected, mount))


@pytest.mark.parametrize("points", groups(MOVING), ids=" ".join)
async def test_a_move_survives_a_kill_at_every_step(tmp_path: Path, points: list[str]) -> None:
    await together(tmp_path, MOVE, points, MOVED)


@pytest.mark.parametrize("points", groups(DELETING), ids=" ".join)
async def test_a_deletion_survives_a_kill_at_every_step(tmp_path: Path, points: list[str]) -> None:
    await together(tmp_path, DELETE, points, DELETED)


@pytest.mark.parametrize("points", groups(ACROSS), ids=" ".join)
async def test_a_move_to_another_disk_survives_a_kill_at_every_step(
    tmp_path: Path, points: list[str], disks: Callable[[Path], None]
) -> None:
    await together(tmp_path, MOVE, points, MOVED, disks)


async def test_a_taken_name_on_another_disk_gives_way(
    site: Site, server: ApiServer, disks: Callable[[Path], None]
) -> None:
    disks(site.inbox / "done")
    (site.inbox / "done/talk.wav").write_text("mine")
    site.configure(inbox=MOVE)
    async with site.daemon() as daemon:
        content = sha256(site.drop("talk.wav"))
        await daemon.event("job.moved")
    assert sha256(site.inbox / "done/talk (2).wav") == content
    assert (site.inbox / "done/talk.wav").read_text() == "mine"
    assert tree(site.inbox) == [
        f"done/{name}" for name in ("talk (2).wav", "talk (2).wav.status.json", "talk.txt", "talk.wav")
    ]


async def test_a_twin_that_comes_to_the_new_place_first_is_not_mistaken_for_it(
    site: Site, server: ApiServer
) -> None:
    site.configure(inbox=MOVE)
    talk = site.drop("talk.wav")
    await killed(site, "after.planned")
    for name in ("talk.wav", "talk.txt"):
        shutil.copy2(site.inbox / name, site.inbox / "done" / name)
    async with site.daemon() as daemon:
        await daemon.event("job.moved")
        await daemon.until(lambda: not owed(site))
    twins = [f"done/talk{count}.{ext}" for count in ("", " (2)") for ext in ("txt", "wav")]
    assert tree(site.inbox) == sorted([*twins, "done/talk.wav.status.json"])
    assert not talk.exists()


async def test_another_recording_at_the_old_path_is_not_mistaken_after_a_kill(
    site: Site, server: ApiServer
) -> None:
    site.configure(inbox=DELETE)
    site.drop("talk.wav", seed=1)
    await killed(site, "after.planned")
    content = sha256(site.drop("talk.wav", seed=2))
    async with site.daemon() as daemon:
        await daemon.event("job.finished")
        await daemon.event("job.deleted")
        await daemon.until(lambda: not owed(site))
        jobs = (await site.tnfd("jobs", "--json")).json
    assert [(job["state"], job["usage"]["requests"]) for job in jobs] == [("done", 1), ("done", 1)]
    assert jobs[0]["source"]["sha256"] == content
    assert len(server.requests) == 2  # the second was transcribed before it went
