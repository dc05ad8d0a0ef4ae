"""tnfd's own ear: a real child, real sound."""

from __future__ import annotations

import array
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tnfd.demo import sample, sample_text
from tnfd.engines.ear import ChildEar
from tnfd.errors import Fault
from tnfd.model import ChunkResult
from tnfd.pipeline.clockwork import timed
from tnfd.ports.engine import EngineChunk
from tnfd.rules.hearing.phrases import hear
from tnfd.testing.whisperer import decoded

RATE = 16_000


@pytest.fixture
async def ear() -> AsyncIterator[ChildEar]:
    async with ChildEar() as one:
        yield one


def pcm(folder: Path, samples: array.array[int]) -> EngineChunk:
    path = folder / "cut.pcm"
    path.write_bytes(samples.tobytes())
    return EngineChunk(path, "pcm", len(samples) / RATE, path.stat().st_size)


def tone(seconds: float, level: int = 8000) -> array.array[int]:
    return array.array(
        "h",
        (
            round(level * math.sin(n * 0.3) * (0.6 + 0.4 * math.sin(n / 900)))
            for n in range(round(seconds * RATE))
        ),
    )


def silence(seconds: float) -> array.array[int]:
    return array.array("h", bytes(2 * round(seconds * RATE)))


def spoken(folder: Path) -> EngineChunk:
    with sample() as path:
        return pcm(folder, decoded(path.read_bytes()))


async def test_levels_show_where_sound_is(ear: ChildEar, tmp_path: Path) -> None:
    chunk = pcm(tmp_path, silence(1) + tone(2) + silence(1))
    found = await ear.levels(chunk)
    assert len(found) == 200
    assert max(found[:49]) == 0
    assert min(found[52:148]) > 70
    (phrase,) = hear(found).phrases
    assert phrase.start_s == pytest.approx(1.0, abs=0.1)
    assert phrase.end_s == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("encoding", ["pcm", "opus", "wav"])
async def test_a_copy_is_a_stretch_of_the_same_sound(ear: ChildEar, tmp_path: Path, encoding: str) -> None:
    chunk = pcm(tmp_path, silence(1) + tone(2) + silence(1))
    if encoding != "pcm":
        whole = tmp_path / f"whole.{encoding}"
        chunk = await ear.copy(chunk, whole, start_s=0, end_s=4, encoding=encoding)  # type: ignore[arg-type]
    path = tmp_path / "copy"
    copy = await ear.copy(chunk, path, start_s=0.75, end_s=3.25, pad_s=0.5)
    assert (copy.path, copy.encoding, copy.size_bytes) == (path, encoding, path.stat().st_size)
    assert copy.duration_s == pytest.approx(3.0)
    (phrase,) = hear(await ear.levels(copy)).phrases
    assert phrase.start_s == pytest.approx(0.75, abs=0.1)
    assert phrase.end_s == pytest.approx(2.8, abs=0.1)


async def test_words_of_the_sample_are_timed(ear: ChildEar, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    chunk = spoken(tmp_path)
    sound = hear(await ear.levels(chunk), chunk.duration_s)
    result = await timed(ear, chunk, ChunkResult(sample_text()), sound)
    assert result.timestamps == "aligned"
    words = [word for segment in result.segments for word in segment.words or ()]
    assert [word.text for word in words] == sample_text().split()
    assert words[0].start_s == pytest.approx(sound.phrases[0].start_s, abs=0.2)
    assert words[-1].end_s == pytest.approx(sound.phrases[-1].end_s, abs=0.4)


async def test_another_language_and_another_text_are_estimated(ear: ChildEar, tmp_path: Path) -> None:
    chunk = spoken(tmp_path)
    sound = hear(await ear.levels(chunk), chunk.duration_s)
    german = "Der Leuchtturm steht dort, wo der Fluss ins Meer geht, und niemand weiß, wie alt er ist."
    result = await timed(ear, chunk, ChunkResult(german), sound)
    assert result.timestamps == "estimated"
    assert result.segments[0].start_s == pytest.approx(sound.phrases[0].start_s)
    none = await timed(ear, chunk, ChunkResult(""), sound)
    assert (none.timestamps, none.segments) == ("none", ())


async def test_words_are_looked_for_between_two_moments(ear: ChildEar, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    chunk = spoken(tmp_path)
    words = [("the", "DH AH"), ("tnfdish", "T IH N F D IH SH")]
    spans = await ear.align(chunk, words, start_s=1.0, end_s=2.5)
    assert all(span is None or 1.0 <= span[0] <= span[1] <= 2.6 for span in spans)
    assert await ear.align(chunk, words, start_s=2.0, end_s=2.0) == [None, None]


async def test_a_file_that_is_none_is_a_fault_and_the_next_one_is_heard(
    ear: ChildEar, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.ogg"
    bad.write_bytes(b"no audio at all")
    with pytest.raises(Fault, match=r"engine\.crashed"):
        await ear.levels(EngineChunk(bad, "opus", 1.0, 15))
    with pytest.raises(Fault, match=r"engine\.crashed"):
        await ear.levels(EngineChunk(tmp_path / "gone.ogg", "opus", 1.0, 15))
    assert len(await ear.levels(pcm(tmp_path, silence(1)))) == 50
