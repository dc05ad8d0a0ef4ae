"""Folders that others may write to: links, pipes, devices, folders named .mp3, swaps between look and use."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Site, permissions_can_bind, sha256, tone
from tests.hostile import NAMES
from tnfd.testing.api_server import ApiServer

CANARY_S = 7.7


@pytest.fixture
def canary(site: Site) -> Path:
    """A recording outside of every inbox that nobody asked to have transcribed."""
    folder = site.base / "private"
    folder.mkdir()
    return tone(folder / "canary.wav", CANARY_S, seed=99)


def assert_canary_untouched(site: Site, server: ApiServer, canary: Path) -> None:
    assert all(abs(request.audio_s - CANARY_S) > 1 for request in server.requests)
    assert [path.name for path in canary.parent.iterdir()] == [canary.name]


async def test_what_is_no_regular_file_is_never_read(site: Site, server: ApiServer, canary: Path) -> None:
    inbox = site.inbox
    (inbox / "link.wav").symlink_to(canary)
    (inbox / "dangling.wav").symlink_to(site.base / "nowhere.wav")
    (inbox / "loop.wav").symlink_to(inbox / "loop.wav")
    (inbox / "linked").symlink_to(canary.parent)
    (inbox / "up").symlink_to("..")
    (inbox / "proc.wav").symlink_to("/proc/self/environ")
    (inbox / "folder.mp3").mkdir()
    inner = tone(inbox / "folder.mp3" / "inner.wav", 0.75, seed=5)
    os.mkfifo(inbox / "pipe.mp3")
    with socket.socket(socket.AF_UNIX) as talker:
        talker.bind(str(inbox / "socket.mp3"))
        made = ["link.wav", "dangling.wav", "loop.wav", "proc.wav", "pipe.mp3", "socket.mp3"]
        if os.geteuid() == 0:
            os.mknod(inbox / "zero.wav", stat.S_IFCHR | 0o600, os.makedev(1, 5))
            made.append("zero.wav")
        async with site.daemon() as daemon:
            good = site.drop("good.wav")
            assert await daemon.final(site, good, inner) == ["done", "done"]
            for name in made:
                assert not (inbox / name).with_suffix(".txt").exists(), name
            failed = {event["code"] for event in daemon.named("job.failed")}
            assert failed <= {"source.not_regular"}
    assert len(server.requests) == 2
    assert_canary_untouched(site, server, canary)


async def test_names_that_look_like_options_addresses_and_commands(site: Site, server: ApiServer) -> None:
    names = [name for name in NAMES if len(os.fsencode(site.inbox)) + len(name) < 4000]
    async with site.daemon() as daemon:
        for number, name in enumerate(names):
            staged = tone(site.stage(), 0.5, seed=number)
            os.rename(staged, os.path.join(os.fsencode(site.inbox), name))
        await daemon.until(
            lambda: len(daemon.named("job.finished")) + len(daemon.named("job.duplicate")) >= len(names),
            "all names are done", 90,
        )  # fmt: skip
        listed = await site.tnfd("jobs")
        as_json = (await site.tnfd("jobs", "--json", "--limit", "1000")).json
        batch = await site.tnfd("batch", site.inbox, "--dry-run")
    assert {job["state"] for job in as_json} == {"done"}
    assert len(as_json) == len(names)
    for said in (listed.out, batch.out, batch.err, *(str(event) for event in daemon.events)):
        assert "\x1b" not in said
        assert "\u202e" not in said
    assert not list(site.base.rglob("*pwned")), "a name was run as a command"
    assert not [path for path in Path(__file__, "../../..").resolve().glob("pwned*")]


async def test_a_file_swapped_for_a_link_between_look_and_use_leads_nowhere(
    site: Site, server: ApiServer, canary: Path
) -> None:
    """Somebody with write permission swaps names as fast as a thread can, all the while."""
    stop = threading.Event()
    swapped = site.inbox / "swap.wav"
    folder = site.inbox / "sub"
    folder.mkdir()
    tone(folder / "canary.wav", 0.5, seed=3)

    def swap() -> None:
        real = tone(site.base / "real.wav", 0.5, seed=1)
        number = 0
        while not stop.is_set():
            number += 1
            link = site.base / f"link-{number}"
            link.symlink_to(canary)
            os.replace(link, swapped)
            copy = site.base / f"copy-{number}"
            os.link(real, copy)
            os.replace(copy, swapped)
            away = site.base / f"away-{number}"
            os.rename(folder, away)
            folder.symlink_to(canary.parent)
            stop.wait(0.002)
            folder.unlink()
            os.rename(away, folder)
            stop.wait(0.4 if number % 10 == 0 else 0.002)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        async with site.daemon(sound=False) as daemon:
            for number in range(4):
                good = site.drop(f"good-{number}.wav", seed=10 + number)
                assert await daemon.final(site, good) == ["done"]
                await asyncio.sleep(0.5)  # time for the race
            assert not daemon.noise
            assert not [event for event in daemon.events if event["event"] in ("service.crashed", "job.bug")]
    finally:
        stop.set()
        thread.join()
    assert_canary_untouched(site, server, canary)


async def test_an_output_folder_swapped_for_a_link_is_not_written_through(
    site: Site, server: ApiServer
) -> None:
    victim = site.base / "victim"
    victim.mkdir()
    (victim / "talk.txt").write_text("precious")
    (victim / "talk.wav.status.json").write_text("precious")
    server.base_s = 0.5
    async with site.daemon() as daemon:
        site.drop("sub/talk.wav")
        await daemon.until(lambda: any(request.received_at is not None for request in server.requests))
        (site.inbox / "sub").rename(site.base / "sub-away")
        (site.inbox / "sub").symlink_to(victim)
        good = site.drop("good.wav", seed=2)
        assert await daemon.final(site, good) == ["done"]
        await daemon.until(lambda: bool(daemon.named("job.finished", state="vanished")), "the job has ended")
    assert {path.name: path.read_text() for path in victim.iterdir()} == {
        "talk.txt": "precious",
        "talk.wav.status.json": "precious",
    }


async def test_names_of_outputs_that_are_links_or_pipes_are_taken_names(
    site: Site, server: ApiServer
) -> None:
    precious = site.base / "precious"
    precious.write_text("precious")
    (site.inbox / "talk.txt").symlink_to(precious)
    os.mkfifo(site.inbox / "talk.wav.txt")
    (site.inbox / "talk.wav.status.json").symlink_to(precious)
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        await daemon.event("job.finished", state="done")
    assert precious.read_text() == "precious"
    written = [path for path in site.inbox.glob("talk*.txt") if path.is_file() and not path.is_symlink()]
    assert [path.read_text()[:8] for path in written] == ["words of"]


def forged(source: Path, **changed: Any) -> dict[str, Any]:
    words = source.with_suffix(".txt")
    status: dict[str, Any] = {
        "schema": "tnfd.status/1", "job": "01J0000000000000000000000A", "state": "done", "instance": "evil",
        "profile": "0" * 16, "updated_at": "2026-11-23T16:02:11Z",
        "source": {"name": source.name, "size_bytes": source.stat().st_size,
                   "modified_at": "2026-11-23T16:02:11Z", "sha256": sha256(source)},
        "media": None, "engine": {"name": "e", "type": "openai", "model": "m"},
        "progress": {"chunks_done": 1, "chunks_total": 1}, "failures": 0, "waiting": None, "error": None,
        "outputs": {"txt": {"name": words.name, "sha256": hashlib.sha256(b"forged\n").hexdigest()}},
        "timestamps": "none", "languages": ["en"], "speakers": "off", "gaps": [], "flags": [],
        "duplicate_of": None,
        "usage": {"audio_s": 1.0, "requests": 1, "uploaded_bytes": 1, "cost_usd": 0.0},
        "timing": {"seen_at": "2026-11-23T16:02:11Z", "settled_at": None, "started_at": None,
                   "finished_at": "2026-11-23T16:02:11Z"},
    }  # fmt: skip
    return {**status, **changed}


HOSTILE_OUTPUTS = [
    {"txt": {"name": "../private/canary.wav", "sha256": "0" * 64}},
    {"txt": {"name": "/etc/passwd", "sha256": "0" * 64}},
    {"txt": {"name": "\x1b[31m\u0000.txt", "sha256": "0" * 64}},
    {"txt": {"name": "sub/../../x", "sha256": "0" * 64}},
    {f"f{number}": {"name": "a", "sha256": "0" * 64} for number in range(20_000)},
    [],
    {"txt": {"name": "bad.wav", "sha256": None}},
]


async def test_a_forged_status_file_skips_its_own_file_at_most(
    site: Site, server: ApiServer, canary: Path
) -> None:
    talk = tone(site.inbox / "talk.wav", 0.5, seed=1)
    talk.with_suffix(".txt").write_text("forged\n")
    talk.with_name("talk.wav.status.json").write_text(json.dumps(forged(talk)))
    bad = []
    for number, outputs in enumerate(HOSTILE_OUTPUTS):
        source = tone(site.inbox / f"bad-{number}.wav", 0.5, seed=10 + number)
        source.with_name(source.name + ".status.json").write_text(json.dumps(forged(source, outputs=outputs)))
        bad.append(source)
    deep = tone(site.inbox / "deep.wav", 0.5, seed=50)
    deep.with_name("deep.wav.status.json").write_bytes(b"[" * 1_000_000)
    huge = tone(site.inbox / "huge.wav", 0.5, seed=51)
    with huge.with_name("huge.wav.status.json").open("wb") as file:
        file.truncate(3 << 30)
    async with site.daemon() as daemon:
        # The copy has no status file of its own: what was forged for another is not believed for it.
        copy = site.drop("copy.wav", 0.5, seed=1)
        await daemon.until(
            lambda: len(daemon.named("job.finished")) + len(daemon.named("job.duplicate")) >= 4 + len(bad),
            "all have ended",
        )
        assert copy.with_suffix(".txt").read_text().startswith("words of")
        jobs = (await site.tnfd("jobs", "--json")).json
        assert {job["state"] for job in jobs} == {"done"}
        assert "\x1b" not in (await site.tnfd("jobs")).out
    assert talk.with_suffix(".txt").read_text() == "forged\n"
    assert len(server.requests) == 1 + len(bad) + 2  # all but the one that was believed
    assert_canary_untouched(site, server, canary)


@pytest.mark.skipif(os.geteuid() != 0 or not permissions_can_bind(), reason="needs files of two users")
async def test_outputs_in_another_user_s_folder_have_its_group_and_the_source_s_bits(
    site: Site, server: ApiServer
) -> None:
    os.chown(site.inbox, 65534, 65533)
    site.inbox.chmod(0o2775)
    async with site.daemon() as daemon:
        staged = tone(site.stage())
        staged.chmod(0o664)
        talk = site.put(staged, "talk.wav")
        await daemon.final(site, talk)
    found = talk.with_suffix(".txt").stat()
    assert stat.S_IMODE(found.st_mode) & 0o777 == 0o664
    assert found.st_gid == 65533
