"""Whether the pipeline costs accuracy: word errors of the embedded engine alone, and through all of tnfd.

Through ``tnfd batch`` it gets each recording; and all of them joined again and again into one that is long
enough to be cut (``--minutes``), stitched together afterwards. Alone, the engine gets the same sound whole.

Run: ``python -m benchmarks.accuracy [--audio DIR] [--minutes 11]``. Exit 1 where the pipeline adds more than
0.5 points. Without ``--audio`` the speech is flite's.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import json
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks import speech
from benchmarks.speech import RATE_HZ
from tnfd.engines.sphinx import SphinxEngine
from tnfd.ports.engine import EngineChunk, Hints

_MOST_ADDED = 0.5  # points

Clip: TypeAlias = "tuple[array.array[int], str]"


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words to add, drop or change."""
    row = list(range(len(heard) + 1))
    for n, word in enumerate(said, 1):
        before, row[0] = row[0], n
        for m, other in enumerate(heard, 1):
            before, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, before + (word != other))
    return row[-1]


async def alone(clips: Sequence[Clip], folder: Path) -> tuple[int, int]:
    wrong = count = 0
    async with SphinxEngine() as engine:
        for samples, text in clips:
            path = folder / "alone.pcm"
            path.write_bytes(samples.tobytes())
            chunk = EngineChunk(path, "pcm", len(samples) / RATE_HZ, path.stat().st_size)
            result = await engine.transcribe(chunk, Hints())
            wrong += errors(words(text), words(result.text))
            count += len(words(text))
    return wrong, count


async def through(paths: Sequence[Path], folder: Path) -> list[str]:
    command = [sys.executable, "-m", "tnfd", "batch", *map(str, paths), "--engine", "sphinx", "--yes"]
    process = await asyncio.create_subprocess_exec(
        *command, "--format", "json", env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parent.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(said.decode())
    return [json.loads(path.with_suffix(".json").read_text("utf-8"))["text"] for path in paths]


async def main(audio: Path | None, minutes: float) -> int:
    if audio is not None:
        clips = [(speech.decoded(row.path), row.text) for row in speech.recordings(audio)]
    else:
        clips = [(spoken.samples, spoken.text) for spoken in map(speech.spoken_by_flite, speech.TEXTS)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = []
        for n, (samples, _) in enumerate(clips):
            paths.append(folder / f"clip{n:02}.wav")
            speech.write_wav(paths[-1], samples)
        whole, said = array.array("h"), list[str]()
        chance = random.Random(1)
        while len(whole) < minutes * 60 * RATE_HZ:
            for samples, text in chance.sample(clips, len(clips)):
                whole += speech.noise(0.8, level=20) + samples
                said += words(text)
        paths.append(folder / "joined.wav")
        speech.write_wav(paths[-1], whole)
        wrong, count = await alone(clips, folder)
        wrong_whole, _ = await alone([(whole, " ".join(said))], folder)
        *each, joined = await through(paths, folder)
    wrong_each = sum(errors(words(text), words(heard)) for (_, text), heard in zip(clips, each, strict=True))
    wrong_joined = errors(said, words(joined))
    worst = 0.0
    for title, before, after, total in (
        (f"{len(clips)} recordings", wrong, wrong_each, count),
        (f"joined, {minutes:g} minutes", wrong_whole, wrong_joined, len(said)),
    ):
        rates = 100 * before / total, 100 * after / total
        added = rates[1] - rates[0]
        worst = max(worst, added)
        print(
            f"{title:22} of {total} words wrong: "
            f"alone {rates[0]:.1f} %, pipeline {rates[1]:.1f} % ({added:+.1f})"
        )
    return 0 if worst <= _MOST_ADDED else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, help="a folder of recordings with manifest.json")
    parser.add_argument("--minutes", type=float, default=11.0)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.audio, given.minutes)))
