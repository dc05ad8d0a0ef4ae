"""Whether anything that was never said gets into a transcript unmarked, and whether anything said is lost.

Recordings with long silences, noise, music and speech go through ``tnfd batch`` against a server that plays
Whisper's failures: closing phrases in silence, loops, echoes of the prompt. Each invented passage that
reaches an output must lie under one of its doubts; each true sentence must be there. Plain speech without
failures shows how often tnfd doubts what it should not.

Run: ``python -m benchmarks.trust [--audio DIR] [--rounds N]``. Exit 1 where a figure is not reached.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import json
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import speech
from benchmarks.speech import RATE_HZ
from tnfd.testing.api_server import ApiServer
from tnfd.testing.whisperer import Failure, Said, Scene, Whisperer

PROMPT = "A conversation about lighthouses, tide tables and the harbour office."


@dataclass
class Figures:
    """What was counted."""

    sentences: int = 0
    lost: list[str] = field(default_factory=list)
    played: int = 0  # failures in answers
    reached: int = 0  # of them in outputs
    unmarked: list[str] = field(default_factory=list)
    doubted: int = 0  # recordings without failures that got a flag
    clean: int = 0


def sentences(audio: Path | None) -> list[tuple[array.array[int], str]]:
    """Sound and text of whole sentences."""
    found = []
    for text in speech.TEXTS:
        for part in text.replace("Mr. ", "Mister ").replace("Mrs. ", "Missus ").split(". "):
            sentence = part.rstrip(".") + "."
            found.append((speech.spoken_by_espeak(sentence, words_per_minute=160).samples, sentence))
    if audio is not None:
        found += [(speech.decoded(row.path), _ended(row.text)) for row in speech.recordings(audio)]
    return found


def _ended(text: str) -> str:
    return text.rstrip(".") + "."


def music(seconds: float, seed: int) -> array.array[int]:
    """Chords that swell and fade."""
    chance = random.Random(seed)
    samples = array.array("h")
    while len(samples) < seconds * RATE_HZ:
        tones = [220 * 2 ** (chance.choice((0, 3, 4, 7, 8, 12)) / 12) for _ in range(3)]
        count = RATE_HZ // 2
        samples.extend(
            round(
                2500 * (0.6 + 0.4 * math.sin(n / count * math.pi))
                * sum(math.sin(2 * math.pi * tone * n / RATE_HZ) for tone in tones) / 3
            )
            for n in range(count)
        )  # fmt: skip
    return samples[: round(seconds * RATE_HZ)]


def scene(known: Sequence[tuple[array.array[int], str]], seed: int) -> tuple[array.array[int], Scene]:
    """Some minutes: sentences in groups, and between them silence, hiss or music."""
    chance = random.Random(seed)
    samples = array.array("h")
    said: list[Said] = []
    for sound, text in chance.sample(list(known), min(len(known), 18)):
        if chance.random() < 0.35:
            length_s = chance.uniform(4, 25)
            kind = chance.choice(("silence", "hiss", "music"))
            if kind == "music":
                samples += music(length_s, seed)
            else:
                samples += speech.noise(length_s, level=4 if kind == "silence" else 60, seed=seed)
        samples += speech.noise(chance.uniform(0.4, 1.0), level=4, seed=seed)
        at_s = len(samples) / RATE_HZ
        samples += sound
        said.append(Said(at_s, len(samples) / RATE_HZ, text))
    samples += speech.noise(chance.uniform(2, 20), level=4, seed=seed)
    return samples, Scene(samples, said, PROMPT)


async def transcribed(
    folder: Path, name: str, samples: array.array[int], url: str, prompt: str
) -> dict[str, object]:
    """Have a recording transcribed by the real program; return its JSON transcript."""
    path = folder / f"{name}.wav"
    speech.write_wav(path, samples)
    command = [
        sys.executable,
        "-m",
        "tnfd",
        "batch",
        str(path),
        "--engine",
        "openai",
        "--yes",
        "--format",
        "json",
    ]
    command += ["--redo", "--concurrency", "4", *(["--prompt", prompt] if prompt else [])]
    environ = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, cwd=Path(__file__).parent.parent, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(said.decode())
    return dict(json.loads(path.with_suffix(".json").read_text("utf-8")))


def count(figures: Figures, play: Whisperer, scenery: Scene, transcript: dict[str, object]) -> None:
    text = str(transcript["text"])
    doubts = [(one["start_s"], one["end_s"]) for one in transcript["doubts"]]  # type: ignore[attr-defined]
    wanted: dict[str, int] = {}
    for said in scenery.said:
        wanted[said.text] = wanted.get(said.text, 0) + 1
        figures.sentences += 1
        if text.count(said.text) < wanted[said.text]:
            figures.lost.append(said.text)
    for played in play.played:
        if not played.invented:
            continue
        figures.played += 1
        passage = " ".join(played.invented)
        end_s = played.offset_s + played.duration_s
        # The same phrase may have reached the text from another cut.
        here = " ".join(
            one["text"]
            for one in transcript["segments"]  # type: ignore[attr-defined]
            if played.offset_s - 1 <= (one["start_s"] + one["end_s"]) / 2 <= end_s + 1
        )
        if passage not in here:
            continue
        figures.reached += 1
        if not any(start_s < end_s and stop_s > played.offset_s for start_s, stop_s in doubts):
            figures.unmarked.append(passage[:60])


async def main(audio: Path | None, rounds: int) -> int:
    known = sentences(audio)
    figures = Figures()
    kinds: list[Sequence[Failure]] = [("closing",), ("loop",), ("echo",), ("closing", "loop", "echo")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(rounds):
            samples, scenery = scene(known, number)
            play = Whisperer(scenery, seed=number, failures=kinds[number % len(kinds)])
            async with ApiServer(keeps=True) as server:
                server.choose = play.choose
                transcript = await transcribed(folder, f"scene{number}", samples, server.url, PROMPT)
            count(figures, play, scenery, transcript)
            quiet = Whisperer(scenery, seed=number, rate=0.0)
            async with ApiServer(keeps=True) as server:
                server.choose = quiet.choose
                transcript = await transcribed(folder, f"clean{number}", samples, server.url, "")
            figures.clean += 1
            figures.doubted += bool(transcript["doubts"])
            count(figures, quiet, scenery, transcript)
    print(f"sentences said {figures.sentences}, lost {len(figures.lost)}")
    print(
        f"failures in answers {figures.played}, in outputs {figures.reached}, "
        f"unmarked {len(figures.unmarked)}"
    )
    print(f"recordings without failures {figures.clean}, doubted {figures.doubted}")
    for what in (*figures.lost, *figures.unmarked):
        print(" ", what)
    return 1 if figures.lost or figures.unmarked else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, help="a folder of recordings with manifest.json")
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.audio, given.rounds)))
