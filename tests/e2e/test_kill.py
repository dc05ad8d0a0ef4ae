"""Power cuts: the real daemon killed at every step that matters, and at moments that nobody chose.

Whatever the moment, the next start ends with one right set of outputs for each recording, nothing lying
around, and nothing paid again whose answer had been stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, Site, sha256
from tnfd.testing.api_server import ApiServer

# Recordings of different lengths, by which their requests are told apart; the last is a copy of the first.
LENGTHS_S = {"a.wav": 0.5, "b.wav": 0.75, "deep/c.wav": 1.0, "deep/copy.wav": 0.5}
CONTENTS = len(set(LENGTHS_S.values()))
SLOTS = 2

POINTS = (
    "store.committed:2", "store.committed:5", "store.committed:9", "store.committed:14",
    "intake.hashed", "intake.claimed",
    "job.begun", "media.forked", "work.cut_saved", "work.prepared",
    "gate.reserved", "server.received", "work.answered",
    "work.chunk_saved", "gate.booked:2", "work.transcript_saved",
    "output.reserved", "output.temp_written", "output.temp_written:3", "output.temp_written:12",
    "output.renamed", "output.renamed:12",
    "output.recorded", "job.finished",
    "status.reserved", "status.written", "status.recorded", "daemon.drained",
)  # fmt: skip
TOGETHER = 4  # scenarios side by side, so that the waiting of one is the work of another
GROUPS = [POINTS[start : start + TOGETHER] for start in range(0, len(POINTS), TOGETHER)]


def fill(site: Site) -> list[Path]:
    return [site.drop(name, seconds, seed=round(seconds * 100)) for name, seconds in LENGTHS_S.items()]


async def run_until_killed(site: Site, server: ApiServer, point: str) -> None:
    """Start it armed, let it die; `server.received`: the moment at which the server has a whole upload."""
    async with site.daemon(env={"TNFD_TEST_KILL_AT": point}, ready=False, sound=False) as daemon:
        if point == "server.received":
            await daemon.until(lambda: any(request.received_at is not None for request in server.requests))
            daemon.send(signal.SIGKILL)
        if point == "daemon.drained":
            await daemon.event("job.queued", len(LENGTHS_S))
            daemon.send(signal.SIGTERM)
        assert await daemon.ended() == -signal.SIGKILL, f"{point} was not reached\n{daemon.log()}"
        assert not daemon.noise


async def run_to_the_end(site: Site, sources: list[Path]) -> Daemon:
    async with site.daemon() as daemon:
        await daemon.final(site, *sources)
        assert await daemon.stop() == 0
    return daemon


def assert_whole(site: Site, server: ApiServer, sources: list[Path]) -> None:
    """Each recording has its outputs, once, with what the server answered for it; the records agree."""
    answers = {
        f"words of {request.sha256[:8]}": request.audio_s for request in server.requests if request.paid
    }
    expected = set()
    for source in sources:
        status = site.status(source)
        assert status is not None, source
        assert status["state"] == ("duplicate" if status["duplicate_of"] else "done"), status
        assert status["source"]["sha256"] == sha256(source)
        assert set(status["outputs"]) == {"txt", "json"}
        for output in status["outputs"].values():
            assert sha256(source.parent / output["name"]) == output["sha256"]
            expected.add(source.parent / output["name"])
        text = (source.parent / status["outputs"]["txt"]["name"]).read_text().strip()
        name = source.relative_to(site.inbox).as_posix()
        assert answers[text] == pytest.approx(LENGTHS_S[name], abs=0.05), f"{name} has another one's words"
        transcript = json.loads((source.parent / status["outputs"]["json"]["name"]).read_bytes())
        assert transcript["text"] == text
        assert transcript["source"]["sha256"] == sha256(source)
        expected |= {source, source.with_name(source.name + ".status.json")}
    assert {path for path in site.inbox.rglob("*") if path.is_file()} == expected  # nothing twice, no litter
    assert sum((site.status(source) or {})["state"] == "duplicate" for source in sources) == 1


def assert_records(site: Site, server: ApiServer) -> None:
    with contextlib.closing(sqlite3.connect(site.state / "tnfd.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        states = {state for (state,) in database.execute("SELECT DISTINCT state FROM job")}
        assert states == {"done", "duplicate"}
        assert database.execute("SELECT count(*) FROM job").fetchone() == (len(LENGTHS_S),)
        assert database.execute("SELECT * FROM reservation").fetchall() == []
        assert database.execute("SELECT * FROM process").fetchall() == []
        (booked,) = database.execute("SELECT coalesce(sum(requests), 0) FROM spend").fetchone()
    # Each request that may have been paid is in the books; those set aside and never sent may be as well.
    assert len(server.requests) <= booked
    assert list((site.state / "scratch").iterdir()) == []
    assert list((site.state / "locks").iterdir()) == []


async def scenario(base: Path, point: str) -> None:
    async with ApiServer(base_s=0.05) as server:
        site = Site(base, server.url)
        site.configure(inbox={"formats": ["txt", "json"]}, engine={"max_concurrency": SLOTS})
        sources = fill(site)
        await run_until_killed(site, server, point)
        sent, stored = len(server.requests), site.stored_answers()
        assert sent - stored <= SLOTS
        await run_to_the_end(site, sources)
        assert_whole(site, server, sources)
        assert_records(site, server)
        assert len(server.requests) == sent + CONTENTS - stored, "something was paid twice, or not at all"
    shutil.rmtree(base)


@pytest.mark.parametrize("points", GROUPS, ids=" ".join)
async def test_killed_at_a_step_nothing_is_lost_doubled_or_paid_again(
    tmp_path: Path, points: tuple[str, ...]
) -> None:
    async with asyncio.TaskGroup() as group:
        for number, point in enumerate(points):
            group.create_task(scenario(tmp_path / str(number), point), name=point)


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_again_and_again_at_random_moments_it_still_arrives(
    tmp_path: Path, server: ApiServer, seed: int
) -> None:
    chance = random.Random(seed)
    server.base_s = 0.05
    site = Site(tmp_path, server.url)
    site.configure(inbox={"formats": ["txt", "json"]}, engine={"max_concurrency": SLOTS})
    sources = fill(site)
    for kills in range(4):
        async with site.daemon(sound=False) as daemon:
            await asyncio.sleep(chance.uniform(0.2, 1.0))  # the moment that nobody chose
            assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        assert len(server.requests) - site.stored_answers() <= SLOTS * (kills + 1)
    sent, stored = len(server.requests), site.stored_answers()
    await run_to_the_end(site, sources)
    assert_whole(site, server, sources)
    assert_records(site, server)
    assert len(server.requests) == sent + CONTENTS - stored
