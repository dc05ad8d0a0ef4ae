"""How near the times come to the truth that tnfd gives to texts which came without: aligned and estimated.

Synthetic speech knows when each word begins. Recordings of people (``--audio DIR``) are joined, with silences
between; known is when each of them begins, and, for the estimate, what the aligner finds in each alone.

A long recording (``--minutes``) is cut, timed and stitched, to see whether anything drifts.

Run: ``python -m benchmarks.timing [--audio DIR]``. Exit 1 where a figure is not reached.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import speech
from benchmarks.speech import RATE_HZ, Spoken
from tnfd.clock import SystemClock
from tnfd.engines.ear import ChildEar
from tnfd.media import ChildMedia
from tnfd.model import ChunkResult, Cut, Word
from tnfd.pipeline.clockwork import timed
from tnfd.ports.engine import EngineChunk
from tnfd.ports.media import PrepareRequest
from tnfd.rules.cuts import limits_for
from tnfd.rules.hearing.phrases import hear
from tnfd.rules.stitch import stitch

_GOALS = {"aligned": (0.15, 0.5), "estimated": (0.8, 2.5)}  # median, 95th percentile; seconds


async def words_of(ear: ChildEar, spoken: Spoken, folder: Path, how: str) -> list[Word] | None:
    path = folder / "cut.pcm"
    path.unlink(missing_ok=True)
    path.write_bytes(spoken.samples.tobytes())
    chunk = EngineChunk(path, "pcm", spoken.duration_s, path.stat().st_size)
    sound = hear(await ear.levels(chunk), spoken.duration_s)
    # Of a text in another language nothing is aligned.
    languages = ("en",) if how == "aligned" else ("xx",)
    result = await timed(ear, chunk, ChunkResult(spoken.text, languages=languages), sound)
    if result.timestamps != how:
        return None
    return [word for segment in result.segments for word in segment.words or ()]


def joined(clips: Sequence[tuple[array.array[int], str, tuple[float, ...]]], seed: int) -> list[Spoken]:
    """Join clips into cuts of at most 30 s, with silences of the recordings' own loudness between."""
    chance = random.Random(seed)
    found: list[Spoken] = []
    samples, texts, starts = array.array("h"), list[str](), list[float]()
    for clip, text, own in clips:
        if texts and (len(samples) + len(clip)) / RATE_HZ > 29:
            found.append(Spoken("joined", samples, " ".join(texts), tuple(starts)))
            samples, texts, starts = array.array("h"), [], []
        samples += speech.noise(chance.uniform(0.3, 1.5), level=20, seed=seed)
        at_s = len(samples) / RATE_HZ
        starts += [at_s + second if second >= 0 else -1.0 for second in own]
        samples += clip
        texts.append(text)
    found.append(Spoken("joined", samples, " ".join(texts), tuple(starts)))
    return found


async def people(ear: ChildEar, audio: Path, folder: Path) -> dict[str, list[Spoken]]:
    known: dict[str, list[tuple[array.array[int], str, tuple[float, ...]]]] = {"aligned": [], "estimated": []}
    for row in speech.recordings(audio):
        samples = speech.decoded(row.path)
        text = row.text.rstrip(".") + "."  # engines punctuate; some of the manifest's texts do not
        alone = Spoken(row.name, samples, text, ())
        words = await words_of(ear, alone, folder, "aligned")
        if words is None:
            print(f"  {row.name}: not aligned")
            continue
        levels = hear(_levels(samples))
        onset_s = levels.phrases[0].start_s
        blank = (-1.0,) * (len(words) - 1)
        known["aligned"].append((samples, text, (onset_s, *blank)))
        known["estimated"].append((samples, text, tuple(word.start_s for word in words)))
    return {
        how: [cut for seed in range(5) for cut in joined(random.Random(seed).sample(clips, len(clips)), seed)]
        for how, clips in known.items()
    }


def _levels(samples: array.array[int]) -> bytes:
    from tnfd.engines.ear_child import levels

    return levels(samples)


async def measure(ear: ChildEar, name: str, cuts: Sequence[Spoken], how: str, folder: Path) -> bool:
    errors: list[float] = []
    failed = 0
    for cut in cuts:
        words = await words_of(ear, cut, folder, how)
        if words is None:
            failed += 1
            continue
        assert [word.text for word in words] == cut.text.split(), cut.name
        errors += [
            abs(word.start_s - start_s)
            for word, start_s in zip(words, cut.starts_s, strict=True)
            if start_s >= 0
        ]
    median = statistics.median(errors) if errors else float("inf")
    late = sorted(errors)[int(0.95 * len(errors))] if errors else float("inf")
    goal = _GOALS[how]
    good = median <= goal[0] and late <= goal[1]
    told = f"median {median:.3f} s, 95 % within {late:.3f} s of {len(errors)} words"
    print(f"{how:10} {name:28} {told}, {failed} of {len(cuts)} cuts not aligned {'ok' if good else 'MISSED'}")
    return good


async def drift(ear: ChildEar, minutes: float, folder: Path) -> bool:
    """A long recording, cut into pieces of at most 30 s by the media child, timed one by one, stitched."""
    whole, texts, starts = array.array("h"), list[str](), list[float]()
    spoken = [speech.spoken_by_flite(text) for text in speech.TEXTS]
    chance = random.Random(7)
    while len(whole) < minutes * 60 * RATE_HZ:
        one = chance.choice(spoken)
        whole += speech.noise(chance.uniform(0.5, 2.0), level=20, seed=len(starts))
        starts += [len(whole) / RATE_HZ + second for second in one.starts_s]
        texts += one.text.split()
        whole += one.samples
    path = folder / "long.wav"
    speech.write_wav(path, whole)
    scratch = folder / "scratch"
    scratch.mkdir()
    cuts: list[Cut] = []
    async with ChildMedia(clock=SystemClock()) as media:
        fd = os.open(path, os.O_RDONLY)
        limits = limits_for("opus", max_s=30.0, max_bytes=24_000_000, slots=5)
        async with media.prepare(fd, PrepareRequest(scratch, "opus", 24_000_000, limits)) as events:
            cuts += [event async for event in events if isinstance(event, Cut)]
        os.close(fd)
    results: dict[int, ChunkResult] = {}
    for cut in cuts:
        said = [
            word
            for word, start_s in zip(texts, starts, strict=True)
            if cut.start_s <= start_s < cut.start_s + cut.duration_s
        ]
        chunk = EngineChunk(scratch / cut.file, "opus", cut.duration_s, cut.size_bytes)
        result = ChunkResult(" ".join(said), languages=("en",))
        if not cut.silent:
            result = await timed(ear, chunk, result, hear(await ear.levels(chunk), cut.duration_s))
        results[cut.index] = result
    transcript = stitch(cuts, results, duration_s=len(whole) / RATE_HZ)
    words = [word for segment in transcript.segments for word in segment.words or ()]
    assert [word.text for word in words] == texts
    late = [word.start_s - start_s for word, start_s in zip(words, starts, strict=True)]
    tenth = len(late) // 10
    moved = statistics.median(late[-tenth:]) - statistics.median(late[:tenth])
    aligned = sum(result.timestamps == "aligned" for result in results.values())
    errors = sorted(map(abs, late))
    print(
        f"{minutes:g} minutes in {len(cuts)} pieces, {aligned} aligned: "
        f"median {statistics.median(errors):.3f} s, "
        f"95 % within {errors[int(0.95 * len(errors))]:.3f} s of {len(words)} words; drift {moved:+.3f} s"
    )
    return abs(moved) <= 0.02  # two of the steps in which times are found


async def main(audio: Path | None, minutes: float) -> int:
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with ChildEar() as ear:
            sets = {
                f"espeak-ng {voice}, {rate} wpm": [
                    speech.spoken_by_espeak(text, voice=voice, words_per_minute=rate) for text in speech.TEXTS
                ]
                for voice, rate in (("en-us", 150), ("en-gb", 170), ("en-us", 200))
            }
            sets["flite, word by word"] = [speech.spoken_by_flite(text) for text in speech.TEXTS]
            real = await people(ear, audio, folder) if audio else {}
            for how in ("aligned", "estimated"):
                for title, cuts in sets.items():
                    good &= await measure(ear, title, cuts, how, folder)
                if real:
                    good &= await measure(ear, "recordings of people", real[how], how, folder)
            good &= await drift(ear, minutes, folder)
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, help="a folder of recordings with manifest.json")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long recording")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.audio, given.minutes)))
