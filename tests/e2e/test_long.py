"""Recordings in several pieces through the real daemon: whole, resumed, refused in part, filled in, silent.

The server answers what it hears; every second of the recordings says its own number.
"""

from __future__ import annotations

import array
import asyncio
import itertools
import json
import shutil
import signal
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import RATE, Site
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import BAD_AUDIO, SERVER_ERROR, Behaviour, Status
from tnfd.testing.records import Request
from tnfd.testing.seconds import LEAD_S, sound, word_of

SLOTS = 3
SECONDS = 190
NOISY = range(110, 190)


@pytest.fixture
async def listening() -> AsyncIterator[ApiServer]:
    async with ApiServer(listens=True) as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, listening: ApiServer) -> Site:
    site = Site(tmp_path, listening.url)
    arrange(site)
    return site


def arrange(site: Site, after: str = "move", **daemon: Any) -> None:
    site.configure(
        daemon=daemon,
        inbox={"formats": ["txt", "json", "srt", "vtt", "md"], "after": after},
        engine={"max_concurrency": SLOTS},
    )


def talk(site: Site, seconds: range = range(SECONDS), name: str = "talk.wav") -> Path:
    """A recording of these seconds; the later ones in noise."""
    staged = site.stage()
    with staged.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for pcm in sound(seconds, noisy=NOISY):
            file.writeframes(pcm)
    return site.put(staged, name)


def transcript(source: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(source.with_suffix(".json").read_bytes())
    return found


def words(source: Path) -> list[tuple[float, str]]:
    return [
        (word["start_s"], word["text"])
        for segment in transcript(source)["segments"]
        for word in segment["words"]
    ]


def assert_whole(source: Path, seconds: range = range(SECONDS)) -> None:
    """Each second once, in order, at its time."""
    said = words(source)
    assert [text for _, text in said] == [word_of(second) for second in seconds]
    for (at_s, _), second in zip(said, seconds, strict=True):
        assert at_s == pytest.approx(second - seconds.start + LEAD_S, abs=0.2)
    assert source.with_suffix(".txt").read_text().split() == [word_of(second) for second in seconds]


def moved(source: Path) -> Path:
    return source.parent / "done" / source.name


def chunks(site: Site) -> list[tuple[int, int, str | None]]:
    return site.rows("SELECT start_sample, end_sample, file FROM chunk ORDER BY start_sample")


async def test_a_recording_is_cut_sent_in_parallel_and_put_together(
    world: Site, listening: ApiServer
) -> None:
    async def meet(_: Request) -> None:
        await listening.until(lambda now: len(now.requests) >= SLOTS)  # nothing is answered before

    listening.choose = meet
    async with world.daemon() as daemon:
        source = talk(world)
        await daemon.event("job.moved")
        assert await daemon.stop() == 0
    assert_whole(moved(source))
    status = json.loads(moved(source).with_name("talk.wav.status.json").read_bytes())
    assert status["state"] == "done"
    assert status["progress"] == {"chunks_done": 3, "chunks_total": 3}
    assert status["media"]["decoded_s"] == SECONDS
    assert status["usage"]["requests"] == len(listening.requests) == 3
    assert listening.load.peak == SLOTS
    rows = chunks(world)
    assert rows[1][0] == rows[0][1]  # parted where it was quiet
    assert rows[2][0] == rows[1][1] - 2 * RATE  # and in noise
    assert list((world.state / "scratch").iterdir()) == []


async def test_a_piece_refused_for_good_is_a_gap_that_a_retry_fills(
    world: Site, listening: ApiServer
) -> None:
    """The second piece is refused: nothing is moved away, each format marks the gap, one request fills it."""
    refused = itertools.count()

    def choose(request: Request) -> Behaviour | None:
        first = listening.requests[0].sha256
        if request.sha256 != first and (request.sha256 == bad.get("sha256") or next(refused) == 0):
            bad["sha256"] = request.sha256
            return Status(400, "content_filter", message="blocked by the content policy")
        return None

    bad: dict[str, str] = {}
    listening.choose = choose
    async with world.daemon() as daemon:
        source = talk(world)
        assert await daemon.final(world, source) == ["partial"]
        status = world.status(source)
        assert status is not None
        ((gap,), sent) = status["gaps"], len(listening.requests)
        assert gap["error"] == "engine.content_filter"
        assert 40 < gap["end_s"] - gap["start_s"] < 80
        assert status["progress"] == {"chunks_done": 2, "chunks_total": 3}
        assert source.exists()
        for suffix in ("txt", "md", "srt", "vtt"):
            assert "engine.content_filter" in source.with_suffix(f".{suffix}").read_text()
        assert transcript(source)["gaps"] == status["gaps"]
        spoken = {text for _, text in words(source)}
        missing = {word_of(second) for second in range(SECONDS)} - spoken
        assert len(missing) == pytest.approx(gap["end_s"] - gap["start_s"], abs=2)
        listening.choose = None
        assert (await world.tnfd("retry", source)).code == 0
        await daemon.until(lambda: moved(source).with_suffix(".txt").exists())
        assert await daemon.stop() == 0
    assert len(listening.requests) == sent + 1
    assert_whole(moved(source))


async def test_a_recording_that_is_refused_altogether_fails(world: Site, listening: ApiServer) -> None:
    arrange(world, after="keep")
    listening.always = Status(400, "content_filter", message="blocked by the content policy")
    async with world.daemon() as daemon:
        source = talk(world)
        assert await daemon.final(world, source) == ["failed"]
        status = world.status(source)
        assert status is not None
        assert status["error"]["code"] == "engine.content_filter"
        assert status["outputs"] == {}
        assert await daemon.stop() == 0


async def test_what_is_too_long_for_the_server_is_cut_smaller(world: Site, listening: ApiServer) -> None:
    listening.longest_s = 30.0
    async with world.daemon() as daemon:
        source = talk(world)
        await daemon.until(lambda: moved(source).with_suffix(".txt").exists())
        again = talk(world, range(1000, 1070), "again.wav")
        refused = sum(request.outcome == "refused" for request in listening.requests)
        await daemon.until(lambda: moved(again).with_suffix(".txt").exists())
        assert await daemon.stop() == 0
    assert_whole(moved(source))
    assert_whole(moved(again), range(1000, 1070))
    assert 1 <= refused <= SLOTS  # those that were under way when it was learned
    assert sum(request.outcome == "refused" for request in listening.requests) == refused  # and for good
    assert max(request.audio_s for request in listening.requests if request.paid) <= 30.0


async def test_what_is_too_large_for_the_server_is_cut_smaller(world: Site, listening: ApiServer) -> None:
    listening.most_bytes = 80_000
    async with world.daemon() as daemon:
        source = talk(world)
        await daemon.until(lambda: moved(source).with_suffix(".txt").exists())
        assert await daemon.stop() == 0
    assert_whole(moved(source))
    assert any(request.outcome == "refused" for request in listening.requests)


async def test_a_server_that_does_not_understand_opus_gets_wav(world: Site, listening: ApiServer) -> None:
    listening.choose = lambda request: None if request.file_type == "audio/wav" else BAD_AUDIO
    async with world.daemon() as daemon:
        source = talk(world)
        await daemon.until(lambda: moved(source).with_suffix(".txt").exists())
        assert await daemon.stop() == 0
    assert_whole(moved(source))
    assert {request.file_name for request in listening.requests if request.paid} == {"audio.wav"}


async def test_what_nobody_understands_is_encoded_anew_once(world: Site, listening: ApiServer) -> None:
    arrange(world, after="keep")
    listening.always = BAD_AUDIO
    async with world.daemon() as daemon:
        source = talk(world, range(5))
        assert await daemon.final(world, source) == ["failed"]
        status = world.status(source)
        assert status is not None
        assert status["error"]["code"] == "engine.rejected"
        assert await daemon.stop() == 0
    assert [request.file_type for request in listening.requests] == ["audio/ogg", "audio/wav"]


async def test_a_piece_that_keeps_failing_is_a_gap_in_the_end(world: Site, listening: ApiServer) -> None:
    """Failures of the server on one piece alone: tried as often as configured, then the rest is delivered."""
    arrange(world, max_attempts=3)
    listening.choose = lambda request: SERVER_ERROR if request.audio_s > 66 else None
    async with world.daemon() as daemon:
        source = talk(world)
        assert await daemon.final(world, source) == ["partial"]
        status = world.status(source)
        assert status is not None
        assert [gap["error"] for gap in status["gaps"]] == ["engine.server_error"]
        assert await daemon.stop() == 0
    assert sum(request.paid for request in listening.requests) == 2


def silence(site: Site, seconds: int, *, level: int = 0) -> Path:
    """Silence, with the least significant bits of a bad converter, and a constant that nobody hears."""
    staged = site.stage()
    noise = array.array("h", (700 + (n * 7919 % (2 * level + 1)) - level for n in range(RATE)))
    with staged.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(seconds):
            file.writeframes(noise.tobytes())
    return site.put(staged, "quiet.wav")


async def test_silence_is_not_sent(world: Site, listening: ApiServer) -> None:
    async with world.daemon() as daemon:
        source = silence(world, 150, level=8)
        assert await daemon.final(world, source) == ["done"]
        status = world.status(source)
        assert status is not None
        assert status["flags"] == ["no_speech"]
        assert status["usage"]["requests"] == 0
        assert source.with_suffix(".txt").read_bytes() == b""
        assert await daemon.stop() == 0
    assert listening.requests == []


async def test_what_is_hardly_audible_is_sent(world: Site, listening: ApiServer) -> None:
    async with world.daemon() as daemon:
        source = silence(world, 2, level=40)
        assert await daemon.final(world, source) == ["done"]
        assert await daemon.stop() == 0
    assert len(listening.requests) == 1


async def test_stopping_a_long_recording_wastes_nothing(world: Site, listening: ApiServer) -> None:
    """Ctrl-C lets what is in flight come back and begins no more; the next start sends the rest alone."""
    listening.base_s = 1.0
    arrange(world)
    world.configure(inbox={"formats": ["txt", "json"]}, engine={"max_concurrency": 1})
    async with world.daemon() as daemon:
        source = talk(world, range(1300))
        await daemon.until(
            lambda: len(listening.requests) == 1 and listening.requests[0].received_at is not None
        )
        assert await daemon.stop(signal.SIGTERM) == 0
    assert [request.outcome for request in listening.requests] == ["ok"]
    async with world.daemon() as daemon:
        assert await daemon.final(world, source) == ["done"]
        assert await daemon.stop() == 0
    assert_whole(source, range(1300))
    assert len(listening.requests) == len(chunks(world)) == 3


POINTS = (
    "work.cut_saved:2", "work.prepared", "work.answered:2", "work.chunk_saved:2", "gate.booked:3",
    "work.split", "work.split:2", "work.reencode", "work.chunk_lost", "work.transcript_saved",
)  # fmt: skip
TOGETHER = 5


@pytest.mark.parametrize("points", [POINTS[:TOGETHER], POINTS[TOGETHER:]], ids=" ".join)
async def test_killed_at_a_step_of_a_long_recording_nothing_is_lost_or_paid_again(
    tmp_path: Path, points: tuple[str, ...]
) -> None:
    async with asyncio.TaskGroup() as group:
        for number, point in enumerate(points):
            group.create_task(scenario(tmp_path / str(number), point), name=point)


async def scenario(base: Path, point: str) -> None:
    async with ApiServer(base_s=0.1, listens=True) as server:
        site = Site(base, server.url)
        site.configure(inbox={"formats": ["txt", "json"]}, engine={"max_concurrency": SLOTS})
        if point.startswith("work.split"):
            server.longest_s = 40.0
        if point == "work.reencode":
            server.choose = lambda request: None if request.file_type == "audio/wav" else BAD_AUDIO
        if point == "work.chunk_lost":
            server.script(Status(400, "content_filter", message="content_policy"))
        async with site.daemon(env={"TNFD_TEST_KILL_AT": point}, sound=False) as daemon:
            source = talk(site)
            assert await daemon.ended() == -signal.SIGKILL, f"{point} was not reached\n{daemon.log()}"
        sent, stored = len(server.requests), site.stored_answers()
        refused = sum(request.outcome == "refused" for request in server.requests)
        assert sent - stored - refused <= SLOTS
        async with site.daemon() as daemon:
            wanted = "partial" if point == "work.chunk_lost" else "done"
            assert await daemon.final(site, source) == [wanted]
            assert await daemon.stop() == 0
        if wanted == "done":
            assert_whole(source)
        again = sum(request.outcome != "refused" for request in server.requests[sent:])
        answers = [row for row in chunks(site)]
        assert again == len(answers) - stored - (point == "work.chunk_lost"), "paid twice, or not at all"
    shutil.rmtree(base)
