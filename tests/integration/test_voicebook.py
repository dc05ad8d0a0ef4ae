"""Voices of one recording: from the settings, from the first answer, from an earlier run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tnfd.errors import Fault
from tnfd.model import ChunkResult, Encoding, JobSettings, Segment, WaitReason
from tnfd.pipeline.gate import MustWait
from tnfd.pipeline.voicebook import VoiceBook
from tnfd.ports.ear import Span
from tnfd.ports.engine import EngineChunk

SETTINGS = JobSettings((), speakers="engine")


class Ear:
    """Writes down what it is asked to copy."""

    def __init__(self, *, fails: bool = False) -> None:
        self.copied: list[tuple[float, float]] = []
        self.fails = fails

    async def levels(self, chunk: EngineChunk) -> bytes:
        return b""

    async def align(
        self, chunk: EngineChunk, words: Sequence[tuple[str, str]], *, start_s: float, end_s: float
    ) -> list[Span | None]:
        return [None] * len(words)

    async def copy(
        self, chunk: EngineChunk, to: Path, *, start_s: float, end_s: float, pad_s: float = 0.0,
        encoding: Encoding | None = None,
    ) -> EngineChunk:  # fmt: skip
        if self.fails:
            raise Fault("engine.crashed")
        self.copied.append((start_s, end_s))
        data = f"sound from {start_s:.1f}".encode()
        await asyncio.to_thread(to.write_bytes, data)
        return EngineChunk(to, encoding or chunk.encoding, end_s - start_s, len(data))


def answer(*speakers: str) -> ChunkResult:
    return ChunkResult(
        "x", tuple(Segment(5.0 * n, 5.0 * n + 4, f"text {n}", one) for n, one in enumerate(speakers))
    )


@pytest.fixture
def chunk(tmp_path: Path) -> EngineChunk:
    return EngineChunk(tmp_path / "0000.ogg", "opus", 60.0, 1)


async def test_voices_of_the_first_answer_are_known_to_the_next(tmp_path: Path, chunk: EngineChunk) -> None:
    ear = Ear()
    book = VoiceBook(SETTINGS, tmp_path, ear)
    async with book.turn() as voices:
        assert voices == ()
        first = book.named(answer("A", "B"), 0.0)
        await book.learn(chunk, first)
    async with book.turn() as voices:
        assert [(voice.name, voice.sample, voice.media_type) for voice in voices] == [
            ("Speaker A", b"sound from 0.1", "audio/wav"),
            ("Speaker B", b"sound from 5.1", "audio/wav"),
        ]
    later = book.named(answer("Speaker B", "A", "C"), 600.0)
    assert [one.speaker for one in later.segments] == ["Speaker B", "Speaker A", "Speaker C (from 10:00)"]
    again = VoiceBook(SETTINGS, tmp_path, ear)  # after a restart
    async with again.turn() as voices:
        assert [voice.name for voice in voices] == ["Speaker A", "Speaker B"]
    assert [one.speaker for one in again.named(answer("C"), 600.0).segments] == ["Speaker C (from 10:00)"]


async def test_the_first_cut_is_sent_alone(tmp_path: Path, chunk: EngineChunk) -> None:
    book = VoiceBook(SETTINGS, tmp_path, Ear())
    order: list[str] = []
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with book.turn():
            inside.set()
            await go_on.wait()
            order.append("first")
            await book.learn(chunk, book.named(answer("A"), 0.0))

    async def other(number: int) -> None:
        await inside.wait()
        async with book.turn() as voices:
            order.append(f"{number} knows {len(voices)}")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        tasks = [group.create_task(other(number)) for number in (2, 3)]
        await inside.wait()
        await asyncio.wait(tasks, timeout=0.05)
        assert order == []
        go_on.set()
    assert order == ["first", "2 knows 1", "3 knows 1"]


async def test_given_voices_come_first_and_need_their_files(tmp_path: Path, chunk: EngineChunk) -> None:
    sample = tmp_path / "anna.mp3"
    sample.write_bytes(b"anna")
    settings = JobSettings((), speakers="engine", speaker_names=("Anna",), speaker_samples=(str(sample),))
    book = VoiceBook(settings, tmp_path, Ear())
    async with book.turn() as voices:
        assert [(voice.name, voice.sample, voice.media_type) for voice in voices] == [
            ("Anna", b"anna", "audio/mpeg")
        ]
        await book.learn(chunk, book.named(answer("Anna", "A"), 0.0))
    async with VoiceBook(settings, tmp_path, Ear()).turn() as voices:
        assert [voice.name for voice in voices] == ["Anna", "Speaker A"]
    sample.unlink()
    with pytest.raises(MustWait) as wait:
        async with VoiceBook(settings, tmp_path, Ear()).turn():
            pass
    assert wait.value.waiting.reason is WaitReason.CONFIG


async def test_without_samples_names_say_where_they_count(tmp_path: Path, chunk: EngineChunk) -> None:
    book = VoiceBook(SETTINGS, tmp_path, Ear(fails=True))
    async with book.turn():
        await book.learn(chunk, book.named(answer("A"), 0.0))
    assert [one.speaker for one in book.named(answer("A"), 0.0).segments] == ["Speaker A"]
    assert [one.speaker for one in book.named(answer("A"), 60.0).segments] == ["Speaker A (from 01:00)"]


async def test_nobody_is_named_where_nobody_asked(tmp_path: Path) -> None:
    book = VoiceBook(JobSettings(()), tmp_path, Ear())
    async with book.turn() as voices:
        assert voices == ()
    assert book.named(answer("A"), 0.0) == answer("A")
